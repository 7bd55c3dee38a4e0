"""The typed columns of a trace in Parquet, read off its JSON record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from supercorrect_agent.store.protocol import key_of

Json = dict[str, Any]

_TEXT, _WHOLE, _NUMBER, _YES, _KEY = "text", "whole", "number", "yes or no", "key"
COLUMNS = {
    "key": _KEY,
    "schema_version": _WHOLE, "id": _TEXT, "created": _TEXT,
    "problem_id": _TEXT, "question": _TEXT, "answer": _TEXT, "source": _TEXT, "split": _TEXT,
    "sample": _WHOLE, "status": _TEXT, "error": _TEXT, "model": _TEXT, "teacher": _TEXT,
    "right_first": _YES, "right_final": _YES, "final_answer": _TEXT,
    "has_template": _YES, "n_rounds": _WHOLE, "first_error_step": _WHOLE, "chosen": _WHOLE,
    "n_calls": _WHOLE, "input_tokens": _WHOLE, "output_tokens": _WHOLE, "seconds": _NUMBER,
    "record": _TEXT,
}  # fmt: skip
"""Name and kind."""

_TYPES: dict[str, Any] = {_TEXT: str, _WHOLE: int, _NUMBER: (int, float), _YES: bool, _KEY: bytes}
_NOT_NULL = ("id", "problem_id", "question", "sample", "status")


def record_row(record: Json, text: str) -> Json | None:
    """The columns of a record of this version's schema; None where it can be no trace.

    Args:
        record: The JSON object.
        text: The same as text: the column ``record``.
    """
    try:
        row: Json = {
            **_of_problem(record),
            **_of_run(record),
            **_of_calls(record.get("calls", ())),
            "record": text,
        }
    except (KeyError, TypeError, AttributeError, IndexError):
        return None
    for name, kind in COLUMNS.items():
        value = row[name]
        if kind is _WHOLE and isinstance(value, float) and value.is_integer():  # orjson's for many digits
            value = row[name] = int(value)
        if value is None:
            if name in _NOT_NULL:
                return None
        elif not isinstance(value, _TYPES[kind]):
            return None
        elif kind is _WHOLE and not -(2**63) <= value < 2**63:
            if name in _NOT_NULL:
                return None
            row[name] = None  # more than a column holds; the record has it
        elif kind is _TEXT and not value.isascii():
            row[name] = value.encode("utf-8", "replace").decode()  # no lone surrogates in Parquet
    return row


def right(verdict: Json | None) -> bool | None:
    """Whether an answer is right; None where nothing was scored."""
    if verdict is None or verdict["status"] == "unscored":
        return None
    return bool(verdict["status"] == "correct")


def _of_problem(record: Json) -> Json:
    problem, sample = record["problem"], record.get("sample", 0)
    return {
        "key": key_of(problem["id"], problem["question"], sample),
        "problem_id": problem["id"], "question": problem["question"], "answer": problem.get("answer"),
        "source": problem.get("source", "user"), "split": problem.get("split", "train"), "sample": sample,
    }  # fmt: skip


def _of_run(record: Json) -> Json:
    rounds, chosen = record.get("rounds") or (), (record.get("chosen") or {}).get("index", 0)
    last = rounds[chosen - 1] if chosen else record
    solution, final = record.get("solution"), last.get("solution")
    return {
        "schema_version": record["schema_version"], "id": record["id"], "created": record.get("created", ""),
        "status": record["status"], "error": record.get("error"),
        "model": (solution and solution.get("model")) or None,
        "teacher": (rounds and rounds[0]["critique"].get("author")) or None,
        "right_first": right(record.get("verdict")), "right_final": right(last.get("verdict")),
        "final_answer": final.get("answer") if final else None,
        "has_template": record.get("template") is not None, "n_rounds": len(rounds), "chosen": chosen,
        "first_error_step": rounds[0]["critique"].get("step") if rounds else None,
    }  # fmt: skip


def _of_calls(calls: Sequence[Json]) -> Json:
    return {
        "n_calls": len(calls),
        "input_tokens": sum(call.get("input_tokens", 0) for call in calls),
        "output_tokens": sum(call.get("output_tokens", 0) for call in calls),
        "seconds": float(sum(call.get("seconds", 0.0) for call in calls)),
    }
