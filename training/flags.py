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
from training.sources import chat_name

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
        raise ConfigError(
            f"`{name}={value!r}` is not valid: {message}. Run with --help for bounds."
        ) from None


def parse_config(kind: type[C], arguments: Sequence[str], *, program: str) -> C:
    """Reads ``--config FILE`` and the flags that override it.

    Raises:
        ConfigError: As for `make_config`.
    """
    parser = _Parser(prog=f"python -m {program}", description=kind.__doc__, allow_abbrev=False)
    parser.add_argument("--config", metavar="FILE", help="YAML file; flags override it")
    section = getattr(kind, "section", None)
    if section:
        text = f"which section of a loop's file is meant (default {section})"
        parser.add_argument("--section", metavar="NAME", default=section, help=text)
    _add_flags(parser, kind, "")
    known, rest = parser.parse_known_args(list(arguments))
    flags = vars(known)
    path, section = flags.pop("config"), flags.pop("section", None)
    values = read_yaml(Path(path)) if path else {}
    if section and isinstance(values.get(section), dict):
        values = _own_section(kind, values, section)
    for name, value in [*flags.items(), *_extra_flags(rest)]:
        _assign(values, name.split("."), value)
    return make_config(kind, values)


def run_main(kind: type[C], run: Callable[[C], object], *, program: str) -> int:
    """The `main` of every stage: parse, run, and end misuse or Ctrl-C with one sentence and an exit code."""
    try:
        run(parse_config(kind, sys.argv[1:], program=program))
    except SuperCorrectError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_MISUSE
    except KeyboardInterrupt:
        print(
            "interrupted: what was finished is saved; the same command continues from there.", file=sys.stderr
        )
        return EXIT_INTERRUPTED
    return 0


def trl_fields(kind: type[BaseModel]) -> frozenset[str]:
    """Names that TRL's configuration of this stage takes (imports TRL); empty for other stages."""
    name: str | None = getattr(kind, "trl_config", None)
    if name is None:
        return frozenset()
    import dataclasses

    import trl

    return frozenset(field.name for field in dataclasses.fields(getattr(trl, name)) if field.init)


def _own_section(kind: type[BaseModel], loop: Mapping[str, Any], section: str) -> dict[str, Any]:
    """The section of a loop's file that a single stage reads; the loop's model and teacher go with it."""
    shared = {name: loop[name] for name in ("model", "teacher") if name in loop}
    if "model" in loop:
        shared |= {"tokenizer": loop["model"], "student": chat_name(str(loop["model"]))}
    if section == "pairs":
        shared["kind"] = "preference"
    return {**{name: shared[name] for name in shared if name in kind.model_fields}, **loop[section]}


def _checked_keys(kind: type[BaseModel], values: Mapping[str, Any], where: str) -> dict[str, Any]:
    checked: dict[str, Any] = {}
    passed_on: dict[str, Any] = dict(values.get("trl") or {}) if "trl" in kind.model_fields else {}
    for name, value in values.items():
        field = kind.model_fields.get(name)
        if field is None:
            if name not in trl_fields(kind):
                raise ConfigError(_unknown(kind, name, where))
            passed_on[name] = value
            continue
        nested = _record(field.annotation)
        is_section = nested is not None and isinstance(value, Mapping)
        checked[name] = _checked_keys(nested, value, f"{where}{name}.") if nested and is_section else value
    if passed_on:
        checked["trl"] = passed_on
    return checked


def _record(annotation: Any) -> type[BaseModel] | None:
    """The record that a field holds, also where it may be none; None for other fields."""
    kinds = [annotation, *get_args(annotation)] if type(None) in get_args(annotation) else [annotation]
    return next((each for each in kinds if isinstance(each, type) and issubclass(each, BaseModel)), None)


def _unknown(kind: type[BaseModel], name: str, where: str) -> str:
    valid = sorted({*kind.model_fields, *trl_fields(kind)})
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
            shape = {"action": argparse.BooleanOptionalAction}
        elif get_origin(annotation) is tuple:
            shape = {"nargs": "*", "metavar": "VALUE"}
        parser.add_argument(*spellings, dest=f"{where}{name}", default=argparse.SUPPRESS, help=text, **shape)


def _extra_flags(rest: Sequence[str]) -> list[tuple[str, Any]]:
    """Flags that are not fields (perhaps TRL's), as names with YAML-typed values; a bare flag is true."""
    found: list[tuple[str, Any]] = []
    for word in rest:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            found.append((name.replace("-", "_"), yaml.safe_load(value) if equals else True))
        elif found:
            found[-1] = (found[-1][0], yaml.safe_load(word))
        else:
            raise ConfigError(f"`{word}` is not a flag. Write `--name value`.")
    return found


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
