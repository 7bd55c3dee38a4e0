"""A model inspector's verdict (decision B12): the JSON object asked for, and the checks it amounts to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from pydantic import BaseModel, ValidationInfo, field_validator

from supercorrect_agent.calls import storable
from supercorrect_agent.teachers.verdict import as_number, in_solution, read_reply
from supercorrect_agent.types import Critique, Inspection

FIELDS: Final = ("format", "step", "cause", "correction", "answer")
TEMPLATE_FIELDS: Final = ("format", "step", "answer")
_STEP: Final = {"anyOf": [{"type": "integer"}, {"type": "null"}]}


def _schema(flags: dict[str, Any], fields: tuple[str, ...]) -> dict[str, Any]:
    """A verdict's schema: in the order in which the prompt asks, every key required and no others."""
    complaint = {"step": _STEP, "field": {"type": "string", "enum": list(fields)}, "note": {"type": "string"}}
    items = _object(complaint)
    return _object({**flags, "problems": {"type": "array", "items": items}})


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


_FLAG: Final = {"type": "boolean"}
VERDICT_SCHEMA: Final[dict[str, Any]] = _schema(
    {
        "format_ok": _FLAG,
        "first_error_step": _STEP,
        "cause_ok": _FLAG,
        "correction_ok": _FLAG,
        "answer_ok": _FLAG,
    },
    FIELDS,
)
TEMPLATE_SCHEMA: Final[dict[str, Any]] = _schema(
    {"format_ok": _FLAG, "first_error_step": _STEP, "answer_ok": _FLAG}, TEMPLATE_FIELDS
)

_BADLY_PUT = "The inspector finds the critique badly put."
_BADLY_LAID_OUT = "The inspector finds the solution badly laid out."
_WRONG_ANSWER = "The inspector finds the answer wrong."
_NO_CAUSE = "The inspector finds that the cause does not name what is wrong."
_WRONG = "The inspector finds the corrected step wrong."
_LEADS_ELSEWHERE = "The inspector finds that the corrected step does not lead to the true answer."


class Complaint(BaseModel):
    """Something that the teacher has to change."""

    field: str = "format"
    note: str = ""


class InspectorReply(BaseModel):
    """The verdict an inspector is asked for. ``first_error_step`` is null when every step holds."""

    format_ok: bool
    first_error_step: int | None
    cause_ok: bool = True
    correction_ok: bool = True
    answer_ok: bool = True
    problems: list[Complaint] = []

    @field_validator("first_error_step", mode="before")
    @classmethod
    def _is_a_number(cls, value: Any) -> Any:
        return as_number(value)

    @field_validator("first_error_step")
    @classmethod
    def _is_a_step(cls, step: int | None, info: ValidationInfo) -> int | None:
        return in_solution(step, info)


def read_inspection(text: str, *, steps: int) -> InspectorReply:
    """Reads an inspector's JSON verdict out of a reply, as ``teachers.verdict.read_verdict`` does.

    Raises:
        ValueError: No such object, or its values are out of bounds; the message says which.
    """
    return read_reply(InspectorReply, text, key="first_error_step", steps=steps)


def as_checks(reply: InspectorReply, critique: Critique) -> tuple[Inspection, ...]:
    """The checks that a verdict amounts to.

    A check fails where its flag is off, and where the inspector lists a problem with its field whatever the
    flag says: what has to change is not fine. Of a critique that found no error only the step and the format
    are checked.

    Returns:
        ``inspector_format``, ``inspector_step`` (the inspector finds the same first wrong step), and for a
        critique with a step ``inspector_cause``, ``inspector_correction`` and ``inspector_answer``.
    """
    return tuple(_checks(reply, critique))


def as_template_checks(reply: InspectorReply) -> tuple[Inspection, ...]:
    """The checks that a verdict on a teacher's own solution amounts to, failing as those of ``as_checks``.

    Returns:
        ``inspector_format``, ``inspector_step`` (the inspector finds no wrong step) and ``inspector_answer``.
    """
    notes, k = _notes(reply, TEMPLATE_FIELDS), reply.first_error_step
    return (
        _check("format", reply.format_ok, _BADLY_LAID_OUT, notes),
        _check("step", k is None, _first_wrong(k), notes),
        _check("answer", reply.answer_ok, _WRONG_ANSWER, notes),
    )


def _notes(reply: InspectorReply, fields: tuple[str, ...]) -> dict[str, list[str]]:
    notes: dict[str, list[str]] = {}
    for one in reply.problems:
        field = one.field if one.field in fields else "format"
        notes.setdefault(field, []).append(" ".join(one.note.split()))
    return notes


def _first_wrong(step: int | None) -> str:
    return f"The inspector finds {'no step wrong' if step is None else f'step {step} wrong first'}."


def _checks(reply: InspectorReply, critique: Critique) -> Iterator[Inspection]:
    notes, k = _notes(reply, FIELDS), reply.first_error_step
    yield _check("format", reply.format_ok, _BADLY_PUT, notes)
    yield _check("step", k == critique.step, _first_wrong(k), notes)
    if critique.step is not None:
        yield _check("cause", reply.cause_ok, _NO_CAUSE, notes)
        yield _check("correction", reply.correction_ok, _WRONG, notes)
        yield _check("answer", reply.answer_ok, _LEADS_ELSEWHERE, notes)


def _check(field: str, fine: bool, fault: str, notes: dict[str, list[str]]) -> Inspection:
    passed = fine and field not in notes
    said = [note for note in notes.get(field, ()) if note]
    note = " ".join(said if fine and said else [fault, *said])
    return Inspection(check=f"inspector_{field}", passed=passed, note="" if passed else storable(note))
