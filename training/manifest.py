"""What became of every candidate row: kept, or dropped for a counted reason. A manifest says both."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import Field

from supercorrect_agent.prompts import Prompt, PromptSet
from supercorrect_agent.types import Record, Trace

Row = dict[str, Any]


class Manifest(Record):
    """How a dataset was made.

    ``dropped`` counts candidate rows by reason; ``tokens`` is 0 where nothing counted them; ``trace_hash``
    covers the ids of the traces that gave a row, ``data_hash`` the rows themselves in order.
    """

    kind: str
    kept: int
    kept_by_kind: dict[str, int]
    dropped: dict[str, int]
    tokens: int = 0
    traces_read: int
    traces_used: int
    trace_hash: str
    data_hash: str
    split: str = "train"
    prompts: dict[str, str]
    options: dict[str, Any] = Field(default_factory=dict)


class Ledger:
    """Counts candidates while a builder runs; refuses what was seen before."""

    def __init__(self) -> None:
        self.dropped: Counter[str] = Counter()
        self.traces_read = 0
        self._seen: set[str] = set()

    def drop(self, reason: str, count: int = 1) -> None:
        if count:
            self.dropped[reason] += count

    def is_new(self, *parts: str) -> bool:
        """Whether this combination (white space and case folded) is new; counts a duplicate."""
        folded = "\0".join(" ".join(part.lower().split()) for part in parts)
        key = hashlib.sha256(folded.encode("utf-8", "replace")).hexdigest()
        if key in self._seen:
            self.drop("duplicate")
            return False
        self._seen.add(key)
        return True

    def close(
        self, kind: str, rows: Sequence[Row], *, prompts: PromptSet, tokens: int, options: dict[str, Any]
    ) -> Manifest:
        """The manifest of the rows that were kept."""
        used = sorted({row["trace_id"] for row in rows})
        return Manifest(
            kind=kind,
            kept=len(rows),
            kept_by_kind=dict(sorted(Counter(row["kind"] for row in rows).items())),
            dropped=dict(sorted(self.dropped.items())),
            tokens=tokens,
            traces_read=self.traces_read,
            traces_used=len(used),
            trace_hash=_hash(used),
            data_hash=hash_rows(rows),
            prompts=prompt_versions(prompts),
            options=options,
        )


def hash_rows(rows: Iterable[Row]) -> str:
    """SHA-256 over the rows' canonical JSON, in order."""
    return _hash(json.dumps(row, sort_keys=True, ensure_ascii=True) for row in rows)


def prompt_versions(prompts: PromptSet) -> dict[str, str]:
    """``{name: id@version}`` of every prompt in the set."""
    named = {name: getattr(prompts, name) for name in type(prompts).model_fields}
    return {n.rstrip("_"): f"{p.id}@{p.version}" for n, p in named.items() if isinstance(p, Prompt)}


def unusable(trace: Trace, held_out: frozenset[str]) -> str | None:
    """Why a whole trace may not be trained on, or None."""
    if trace.problem.split != "train":
        return "split"
    if fold_question(trace.problem.question) in held_out:
        return "held out"
    return "error" if trace.status == "error" else None


def fold_question(text: str) -> str:
    """A question reduced to its lower-case letters and digits, to compare it with evaluation sets."""
    return "".join(c for c in text.lower() if c.isalnum())


def stable_order(rows: Iterable[Row], seed: int) -> list[Row]:
    """The rows in an order that depends on the seed and on each row alone, not on the others.

    Trace ids are left out: they are drawn anew in every run, and the same run is to give the same order.
    """

    def place(row: Row) -> str:
        content = {name: value for name, value in row.items() if name != "trace_id"}
        return _hash([str(seed), json.dumps(content, sort_keys=True, ensure_ascii=True)])

    return sorted(rows, key=place)


def _hash(parts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode("utf-8", "replace") + b"\n")
    return digest.hexdigest()
