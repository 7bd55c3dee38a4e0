"""A judge's verdict: the JSON object that is asked for, and how it is read out of whatever was written."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar

from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator, model_validator

from supercorrect_agent.calls import storable
from supercorrect_agent.grammar import answer_start, read_tags
from supercorrect_agent.types import Critique

ReplyT = TypeVar("ReplyT", bound=BaseModel)

READ_LIMIT = 20_000  # characters of a reply, from its end, in which the verdict is looked for
_ESCAPE = re.compile(r'\\(\\|["/]|u[0-9a-fA-F]{4}|n|[bfrt](?![A-Za-z]))?')
_THOUGHT = re.compile(r"</?\s{0,3}think(?:ing)?\s{0,3}>", re.IGNORECASE)
_OPENING = re.compile("<|&lt;|\uff1c")

# The verdict once more, for models that can be held to a schema: in the order in which the prompt asks, every
# key required and no others. What else makes it usable is checked here.
VERDICT_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "first_wrong_step": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "cause": {"type": "string"},
        "correction": {"type": "string"},
        "confidence": {"type": "number"},
    },
    "required": ["first_wrong_step", "cause", "correction", "confidence"],
    "additionalProperties": False,
}


class JudgeReply(BaseModel):
    """The verdict a judge is asked for. ``first_wrong_step`` is null when every step holds."""

    first_wrong_step: int | None
    cause: str = ""
    correction: str = ""
    confidence: float | None = Field(default=None, ge=0, le=1)

    @field_validator("cause", "correction", mode="before")
    @classmethod
    def _null_is_empty(cls, text: Any) -> Any:
        return "" if text is None else text

    @field_validator("first_wrong_step", "confidence", mode="before")
    @classmethod
    def _is_a_number(cls, value: Any) -> Any:
        return as_number(value)

    @field_validator("first_wrong_step")
    @classmethod
    def _is_a_step(cls, step: int | None, info: ValidationInfo) -> int | None:
        return in_solution(step, info)

    @model_validator(mode="after")
    def _says_why(self) -> JudgeReply:
        if self.first_wrong_step is not None and not (self.cause.strip() and self.correction.strip()):
            raise ValueError("a wrong step needs both `cause` and `correction`")
        return self


def read_verdict(text: str, *, steps: int) -> JudgeReply:
    """Reads a judge's JSON verdict out of a reply, which may wrap it in prose or a code fence.

    What a model thought before its reply does not count. Objects with the key ``first_wrong_step`` that name
    different steps are no verdict: one of them may be a quotation of what the student wrote. LaTeX in a
    string that was not escaped for JSON (``"\\frac"``) is read as it was meant.

    Args:
        text: The reply; its last ``READ_LIMIT`` characters are looked at.
        steps: How many steps the judged solution has.

    Raises:
        ValueError: No such object, two that contradict each other, or values out of bounds; the message says
            which.
    """
    return read_reply(JudgeReply, text, key="first_wrong_step", steps=steps)


def read_reply(kind: type[ReplyT], text: str, *, key: str, steps: int) -> ReplyT:
    """Reads the JSON object that has a key out of a reply, as ``read_verdict`` does.

    Args:
        kind: The model that checks the object; its validators find ``steps`` in their context.
        text: The reply; its last ``READ_LIMIT`` characters are looked at.
        key: The key that tells the object from others; two objects must not differ in it.
        steps: How many steps the judged solution has.

    Raises:
        ValueError: No such object, two that contradict each other, or values out of bounds; the message says
            which.
    """
    text = text[-READ_LIMIT:]
    found = _objects(text[answer_start(text) :], key) or _objects(text, key)
    if not found:
        raise ValueError(f"no JSON object with the key `{key}` was found")
    if any(one[key] != found[-1][key] for one in found):
        raise ValueError("two JSON objects name different steps; write one")
    try:
        return kind.model_validate(found[-1], context={"steps": steps})
    except ValidationError as invalid:
        faults = (f"{'.'.join(map(str, e['loc'])) or 'verdict'}: {e['msg']}" for e in invalid.errors())
        raise ValueError("; ".join(faults)) from None


def as_number(value: Any) -> Any:
    """A number or null as it is.

    Raises:
        ValueError: A truth value, which is no number although Python takes it for one.
    """
    if isinstance(value, bool):
        raise ValueError(f"{json.dumps(value)} is not a number")
    return value


def in_solution(step: int | None, info: ValidationInfo) -> int | None:
    """A step number that the judged solution has, or null as it is.

    Raises:
        ValueError: The solution has no such step.
    """
    last: int = info.context["steps"] if info.context else sys.maxsize
    if step is not None and not 1 <= step <= last:
        raise ValueError(f"{step} is not a step: the solution has steps 1 to {last}")
    return step


def as_critique(verdict: JudgeReply, *, author: str, raw: str) -> Critique:
    """The critique that a verdict amounts to; ``raw`` is the reply that it was read from."""
    step = verdict.first_wrong_step
    found: dict[str, Any] = {}
    if step is not None:
        correction = without_tags(storable(verdict.correction)).strip()
        found = {"cause": storable(verdict.cause).strip(), "correction": correction}
        found |= {"cause_step": step, "correction_step": step}
    return Critique(step=step, author=author, raw=raw, confidence=verdict.confidence, **found)


def without_tags(text: str) -> str:
    """The text of a step without tags, except a Key's: they would end the step that it is put into."""
    if not _OPENING.search(text):
        return text
    bare = _cut_tags(text)
    return (
        bare if bare == text or bare == _cut_tags(bare) else _OPENING.sub(" ", bare)
    )  # a tag was hidden inside another


def _cut_tags(text: str) -> str:
    pieces, at, text = [], 0, _THOUGHT.sub("", text)
    for tag in read_tags(text):
        if tag.kind != "key":
            pieces.append(text[at : tag.start])
            at = tag.end
    return "".join([*pieces, text[at:]])


def _keep_escape(match: re.Match[str]) -> str:
    return match[0] if match[1] else r"\\"


def _objects(text: str, key: str) -> list[dict[str, Any]]:
    text = _ESCAPE.sub(_keep_escape, text)
    decode: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder(strict=False).raw_decode
    found, at = list[dict[str, Any]](), text.find("{")
    while at != -1:
        end = at + 1
        try:
            value, end = decode(text, at)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict) and key in value:
            found.append(value)
        at = text.find("{", end)
    return found
