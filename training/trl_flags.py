"""The arguments of TRL's own configurations: which there are, of which type, and which have no effect here.

YAML reads ``1e-4`` as a text and a flag is one to begin with, so a value is converted to its field's type.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from functools import cache
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from supercorrect_agent.errors import ConfigError

OWN_NAMES = {"output_dir": "output"}
_TOKENISED = "the stage tokenises the rows itself, with the model's own chat template"
_NO_EFFECT = {
    "chat_template_path": _TOKENISED,
    "eos_token": _TOKENISED,
    "dataset_text_field": _TOKENISED,
    "dataset_kwargs": _TOKENISED,
    "resume_from_checkpoint": "the same command goes on from the last whole checkpoint in `output`",
}


@cache
def trl_types(kind: type[BaseModel]) -> dict[str, Any]:
    """Names and types that TRL's configuration of this stage takes (imports TRL); empty for other stages."""
    name: str | None = getattr(kind, "trl_config", None)
    if not name:
        return {}
    import trl

    config = getattr(trl, name)
    hints = typing.get_type_hints(config)
    return {field.name: hints[field.name] for field in dataclasses.fields(config) if field.init}


def trl_value(name: str, value: Any, kind: Any, *, where: str = "") -> Any:
    """A value as the type ``kind`` of TRL's argument ``name``.

    Raises:
        ConfigError: It is not of that type, or the argument would change nothing here.
    """
    reason = _NO_EFFECT.get(name)
    if name == "completion_only_loss" and value is False:
        reason = "the loss falls on completions only (paper eq. 5)"
    if reason is not None and value is not None:
        raise ConfigError(f"`{where}{name}` has no effect: {reason}. Leave it out.")
    adapter, message = TypeAdapter(kind), ""
    for candidate in _candidates(value):
        try:
            # Strict for booleans: a flag without its value is no number.
            return adapter.validate_python(candidate, strict=isinstance(candidate, bool))
        except ValidationError as error:
            message = message or error.errors()[0]["msg"]
    raise ConfigError(f"`{where}{name}={value!r}` is not valid: {message}. See TRL's documentation.")


def _candidates(value: Any) -> Iterator[Any]:
    """The value, and what else it may mean: no value, a text that looks like a number, a list of one."""
    yield value
    if isinstance(value, str) and value.lower() in {"none", "null"}:
        yield None
    if not isinstance(value, str | bool | list | dict | None):
        yield str(value)
    if not isinstance(value, bool | list | dict | None):
        yield [value]
