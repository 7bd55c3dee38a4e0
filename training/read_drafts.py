"""Candidate rows as lines: so they go between processes, and wait in the columns of a store."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, cast

import orjson

from supercorrect_agent.store.lines import parse_line
from supercorrect_agent.types import Trace
from training.drafts import DraftReader
from training.manifest import Ledger
from training.rows import Candidates, Draft

Answer = tuple[dict[str, Any], list[bytes]]
"""What became of some traces, and two lines a candidate: its row and its facts."""


def read_chunk(reader: DraftReader, texts: Iterable[bytes], where: str) -> Answer:
    """The candidate rows of some records."""
    return read_traces(reader, (parse_line(text, where=where) for text in texts))


def read_traces(reader: DraftReader, traces: Iterable[Trace | None]) -> Answer:
    """The candidate rows of some traces; None stands for a record that is none."""
    ledger, rows = Ledger(), list[bytes]()
    broken: list[int] = []
    keys: list[tuple[str, str, str, str]] = []
    for number, trace in enumerate(traces):
        if trace is None:
            broken.append(number)
            continue
        for draft in reader.read(trace, ledger):
            keys.append((draft.content.hex(), draft.question.hex(), draft.trace_id, draft.problem_id))
            rows += (draft.row, draft.facts)
    return {"read": ledger.traces_read, "dropped": ledger.dropped, "broken": broken, "keys": keys}, rows


def take(counts: dict[str, Any], rows: list[bytes], candidates: Candidates, ledger: Ledger) -> None:
    """Keeps what was read of a chunk."""
    ledger.traces_read += counts["read"]
    for reason, count in counts["dropped"].items():
        ledger.drop(reason, count)
    for number, (content, question, *ids) in enumerate(counts["keys"]):
        row, facts = rows[2 * number : 2 * number + 2]
        candidates.put(Draft(row, facts, bytes.fromhex(content), bytes.fromhex(question), *ids))


def pack(answer: Answer) -> bytes:
    """An answer as one value."""
    return b"".join([json_line(answer[0]), *answer[1]])


def unpack(value: bytes) -> Answer:
    """An answer that was packed."""
    header, *lines = value.split(b"\n")
    return read_json(header), [line + b"\n" for line in lines[:-1]]


def read_json(line: bytes) -> dict[str, Any]:
    """What `json_line` wrote."""
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:  # lone surrogates
        found = json.loads(line)
    return cast(dict[str, Any], found)


def json_line(value: Any) -> bytes:
    """A value as a line of ASCII."""
    return json.dumps(value).encode("ascii") + b"\n"  # lone surrogates are kept
