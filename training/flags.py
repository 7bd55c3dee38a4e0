"""A YAML file and flags to one record: flags override the file, a misspelt key fails with the nearest name.

Nested records are written as mappings in the file and with a dot in a flag (``--sft.learning_rate 1e-4``).
A stage that ends in a TRL trainer also takes every argument of TRL's own configuration, under TRL's name.
A stage that is given the file of a whole loop takes its own section of it, with the loop's model and teacher.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from supercorrect_agent.errors import ConfigError, SuperCorrectError
from training.config import LoopConfig
from training.sources import chat_name
from training.trl_flags import OWN_NAMES, trl_types, trl_value

C = TypeVar("C", bound=BaseModel)

EXIT_MISUSE = 2
EXIT_INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message[0].upper()}{message[1:]}. Run with --help for the names and defaults.")


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a mapping from a YAML file with the safe loader.

    Raises:
        ConfigError: The file is missing, is not YAML or does not hold a mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"`--config {path}` cannot be read ({error.strerror}). Pass a YAML file."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = str(error).splitlines()[0]
        raise ConfigError(f"`--config {path}` is not YAML ({where}). Write `name: value` lines.") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise ConfigError(f"`--config {path}` holds a {kind}. Write a mapping, one `name: value` a line.")
    return content


def make_config(kind: type[C], values: Mapping[str, Any]) -> C:
    """Validates ``values`` as a ``kind``; keys of TRL's configuration move into its ``trl`` field.

    Raises:
        ConfigError: A key is unknown (the nearest valid one is named) or a value is out of bounds.
    """
    checked = _checked_keys(kind, values, "")
    try:
        return kind.model_validate(checked)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        message, value = first["msg"].removeprefix("Value error, "), first.get("input")
        if first["type"] == "missing":
            raise ConfigError(
                f"`{name}` is missing. Pass --{name} or write it in the --config file."
            ) from None
        if first["type"] == "value_error" and isinstance(value, Mapping):  # fields that do not fit together
            where = f"In `{name}`, " if name else ""
            raise ConfigError(f"{where}{message}. Run with --help for bounds.") from None
        raise ConfigError(
            f"`{name}={value!r}` is not valid: {message}. Run with --help for bounds."
        ) from None


def parse_config(kind: type[C], arguments: Sequence[str], *, program: str) -> C:
    """Reads ``--config FILE`` and the flags that override it.

    Raises:
        ConfigError: As for `make_config`.
    """
    prog = program if " " in program else f"python -m {program}"
    parser = _Parser(prog=prog, description=kind.__doc__, allow_abbrev=False)
    parser.add_argument("--config", metavar="FILE", help="YAML file; flags override it")
    section = getattr(kind, "section", None)
    if section:
        text = f"which section of a loop's file is meant (default {section})"
        parser.add_argument("--section", metavar="NAME", help=text)
    _add_flags(parser, kind, "")
    known, rest = parser.parse_known_args(list(arguments))
    flags = vars(known)
    path, named = flags.pop("config"), flags.pop("section", None)
    values = read_yaml(Path(path)) if path else {}
    if named and not isinstance(values.get(named), dict):
        raise ConfigError(f"`--section {named}` is not a section of `--config {path}`. Name one of a loop's.")
    if section and _is_loop(kind, values, named or section):
        values = _own_section(kind, values, named or section)
    for name, value in [*flags.items(), *_extra_flags(rest)]:
        _assign(values, name.split("."), value)
    return make_config(kind, values)


def run_main(
    kind: type[C], run: Callable[[C], object], *, program: str, arguments: Sequence[str] | None = None
) -> int:
    """The `main` of every stage: parse, run, and end misuse or Ctrl-C with one sentence and an exit code."""
    try:
        run(parse_config(kind, sys.argv[1:] if arguments is None else arguments, program=program))
    except SuperCorrectError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_MISUSE
    except KeyboardInterrupt:
        print(
            "interrupted: what was finished is saved; the same command continues from there.", file=sys.stderr
        )
        return EXIT_INTERRUPTED
    return 0


def _is_loop(kind: type[BaseModel], values: Mapping[str, Any], section: str) -> bool:
    """Whether a file is a whole loop's: it has the section, or nothing but keys that only a loop has."""
    if isinstance(values.get(section), dict):
        return True
    return set(values) <= set(LoopConfig.model_fields) and not set(values) <= set(kind.model_fields)


def _own_section(kind: type[BaseModel], loop: Mapping[str, Any], section: str) -> dict[str, Any]:
    """The section of a loop's file that a single stage reads; the loop's model and teacher go with it."""
    shared = {name: loop[name] for name in ("model", "teacher") if name in loop}
    if "model" in loop:
        shared |= {"tokenizer": loop["model"], "student": chat_name(str(loop["model"]))}
    if section == "pairs":
        shared["kind"] = "preference"
    return {
        **{name: shared[name] for name in shared if name in kind.model_fields},
        **(loop.get(section) or {}),
    }


def _checked_keys(kind: type[BaseModel], values: Mapping[str, Any], where: str) -> dict[str, Any]:
    checked: dict[str, Any] = {}
    passed_on: dict[str, Any] = {}
    for key, value in _without_trl(kind, values, where).items():
        name = OWN_NAMES.get(key, key) if hasattr(kind, "trl_config") else key
        field = kind.model_fields.get(name)
        if field is None:
            types = trl_types(kind)
            if name not in types:
                raise ConfigError(_unknown(kind, name, where))
            passed_on[name] = trl_value(name, value, types[name], where=where)
            continue
        nested = _record(field.annotation)
        is_section = nested is not None and isinstance(value, Mapping)
        checked[name] = _checked_keys(nested, value, f"{where}{name}.") if nested and is_section else value
    if passed_on:
        checked["trl"] = passed_on
    return checked


def _without_trl(kind: type[BaseModel], values: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """The values with those of the mapping ``trl`` beside them; what stands outside, as flags do, wins."""
    if "trl" not in kind.model_fields or "trl" not in values:
        return values
    inner = {} if values["trl"] is None else values["trl"]
    if not isinstance(inner, Mapping):
        raise ConfigError(f"`{where}trl={inner!r}` is not a mapping. Write TRL's arguments as `name: value`.")
    return {**inner, **{name: value for name, value in values.items() if name != "trl"}}


def _record(annotation: Any) -> type[BaseModel] | None:
    """The record that a field holds, also where it may be none; None for other fields."""
    kinds = [annotation, *get_args(annotation)] if type(None) in get_args(annotation) else [annotation]
    return next((each for each in kinds if isinstance(each, type) and issubclass(each, BaseModel)), None)


def _unknown(kind: type[BaseModel], name: str, where: str) -> str:
    valid = sorted({*kind.model_fields, *trl_types(kind)})
    near = difflib.get_close_matches(str(name), valid, n=1, cutoff=0.0)
    return f"`{where}{name}` is not a key of {kind.__name__}. Did you mean `{where}{near[0]}`?"


def _add_flags(parser: argparse.ArgumentParser, kind: type[BaseModel], where: str) -> None:
    for name, field in kind.model_fields.items():
        annotation = field.annotation
        if name == "trl":  # filled from TRL's own names
            continue
        nested = _record(annotation)
        if nested is not None:
            _add_flags(parser, nested, f"{where}{name}.")
            continue
        spellings = dict.fromkeys([f"--{where}{name}", f"--{where}{name}".replace("_", "-")])
        default = (
            "required" if field.is_required() else f"default {field.get_default(call_default_factory=True)}"
        )
        text = f"{field.description or name} ({default})".replace("%", "%%")
        shape: dict[str, Any] = {"metavar": "VALUE"}
        if annotation is bool:
            shape = {"metavar": "BOOL", "nargs": "?", "const": True}
            off = dict.fromkeys([f"--no-{where}{name}", f"--no-{where}{name}".replace("_", "-")])
            parser.add_argument(
                *off,
                dest=f"{where}{name}",
                action="store_false",
                default=argparse.SUPPRESS,
                help="the opposite",
            )
        elif get_origin(annotation) is tuple:
            shape = {"nargs": "*", "metavar": "VALUE"}
        parser.add_argument(*spellings, dest=f"{where}{name}", default=argparse.SUPPRESS, help=text, **shape)


def _extra_flags(rest: Sequence[str]) -> list[tuple[str, Any]]:
    """Flags that are not fields (perhaps TRL's), as names with YAML-typed values; a bare flag is true."""
    found: list[tuple[str, list[Any]]] = []
    for word in rest:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            found.append((name.replace("-", "_"), [_yaml_typed(value)] if equals else []))
        elif found:
            found[-1][1].append(_yaml_typed(word))
        else:
            raise ConfigError(f"`{word}` is not a flag. Write `--name value`.")
    return [_named(name, words) for name, words in found]


def _named(name: str, words: list[Any]) -> tuple[str, Any]:
    if not words:
        return (name.removeprefix("no_"), not name.startswith("no_"))
    return (name, words if len(words) > 1 else words[0])


def _yaml_typed(word: str) -> Any:
    try:
        return yaml.safe_load(word)
    except yaml.YAMLError:
        return word


def _assign(values: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for part in path[:-1]:
        inner = values.get(part)
        if inner is None:
            inner = values[part] = {}
        if not isinstance(inner, dict):
            raise ConfigError(
                f"`{part}={inner!r}` in the --config file is not a mapping, but --{'.'.join(path)} needs one."
            )
        values = inner
    values[path[-1]] = value
