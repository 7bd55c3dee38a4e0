"""A trace as one line of JSON, and back.

orjson does both where it can. What it refuses or would change (lone surrogates, integers over 64 bits, NaN)
goes through the standard library, so that nothing a model or a caller produced is lost.
"""

from __future__ import annotations

import json
from math import isfinite
from operator import attrgetter
from typing import Any

import orjson
from pydantic import ValidationError

from supercorrect_agent.store.migrations import migrate
from supercorrect_agent.types import SCHEMA_VERSION, Trace

_FIELDS = attrgetter("__dict__")  # the fields of a frozen record, in their order, without validating again
_CURRENT = tuple(f'{{"schema_version":{space}{SCHEMA_VERSION},'.encode() for space in ("", " "))


def format_line(trace: Trace) -> bytes:
    """The line of a trace, its newline included."""
    if _is_plain(trace):
        try:
            return orjson.dumps(trace, default=_FIELDS, option=orjson.OPT_APPEND_NEWLINE)
        except TypeError:  # of which orjson's own errors are
            pass
    return json.dumps(trace.model_dump(), ensure_ascii=True, default=str).encode("ascii") + b"\n"


def parse_line(line: bytes, *, where: str) -> Trace | None:
    """The trace of a line; None when the line is broken.

    Raises:
        StoreError: A newer version of this package wrote it.
    """
    trace = _parse(line, where)
    if trace is None or not 0 <= trace.chosen.index <= len(trace.rounds):  # it chose what it does not have
        return None
    return trace


def _parse(line: bytes, where: str) -> Trace | None:
    if line.startswith(_CURRENT):
        try:
            return Trace.model_validate_json(line)
        except ValidationError:
            pass
    record = parse_record(line)
    if record is None:
        return None
    try:
        return Trace.model_validate(migrate(record, where=where))
    except ValidationError:
        return None


def parse_record(line: bytes) -> dict[str, Any] | None:
    """The JSON object of a line; None when it is none, or has no problem with an id."""
    try:
        record = orjson.loads(line)
    except ValueError:
        record = _parse_slowly(line)
    if not isinstance(record, dict) or not isinstance(record.get("problem"), dict):
        return None
    return record if "id" in record["problem"] else None


def is_json(line: bytes) -> bool:
    """Whether a line is JSON of any kind."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _parse_slowly(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _is_plain(trace: Trace) -> bool:
    """Whether orjson keeps the numbers of a trace as they are. (Loops, because every append waits for it.)"""
    for call in trace.calls:
        if not isfinite(call.seconds):
            return False
        for value in call.sampling.values():
            if type(value) is not str and not _keeps(value):
                return False
    return True


def _keeps(value: Any) -> bool:
    kind = type(value)
    if kind is float:
        return isfinite(value)
    if kind is int:
        return bool(-(2**63) <= value < 2**63)
    if kind is list or kind is tuple:
        return all(type(one) is str or _keeps(one) for one in value)
    return kind is str or kind is bool or value is None
