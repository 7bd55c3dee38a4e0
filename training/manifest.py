"""What became of every candidate row: kept, or dropped for a counted reason. A manifest says both."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import Field

from supercorrect_agent.inspector import failed_checks
from supercorrect_agent.problems import HeldOut
from supercorrect_agent.prompts import Prompt, PromptSet
from supercorrect_agent.types import Record, Trace

if TYPE_CHECKING:
    from training.rows import Rows

Row = dict[str, Any]


class Manifest(Record):
    """How a dataset was made.

    ``kept`` and ``kept_by_kind`` count the rows of the split ``train``, ``kept_test`` those of ``test``;
    ``dropped`` counts candidate rows by reason; ``tokens`` counts the training rows' and is 0 where nothing
    counted them. ``trace_hash`` covers the ids of the traces that gave a row, ``data_hash`` and ``test_hash``
    the hashes of the rows of each split in order (`hash_row`). ``split`` is the split of the problems that
    the traces are about.
    """

    kind: str
    kept: int
    kept_test: int = 0
    kept_by_kind: dict[str, int]
    dropped: dict[str, int]
    tokens: int = 0
    traces_read: int
    traces_used: int
    trace_hash: str
    data_hash: str
    test_hash: str = ""
    split: str = "train"
    prompts: dict[str, str]
    options: dict[str, Any] = Field(default_factory=dict)


class Ledger:
    """Counts candidates while a builder runs."""

    def __init__(self) -> None:
        self.dropped: Counter[str] = Counter()
        self.traces_read = 0

    def drop(self, reason: str, count: int = 1) -> None:
        if count:
            self.dropped[reason] += count

    def drop_if(self, reason: str | None) -> None:
        """Counts a candidate that was dropped, where there is a reason to drop it."""
        if reason is not None:
            self.drop(reason)

    def close(
        self, kind: str, rows: Rows, *, prompts: PromptSet, tokens: int, options: dict[str, Any]
    ) -> Manifest:
        """The manifest of the rows that were kept, which are read once."""
        kinds: dict[str, Counter[str]] = {"train": Counter(), "test": Counter()}
        hashes = {split: hashlib.sha256() for split in kinds}
        used: set[str] = set()
        for row, content in rows.hashed():
            split = row["split"]
            kinds[split][row["kind"]] += 1
            hashes[split].update(content)
            used.add(row["trace_id"])
        kept_test = kinds["test"].total()
        return Manifest(
            kind=kind,
            kept=kinds["train"].total(),
            kept_test=kept_test,
            kept_by_kind=dict(sorted(kinds["train"].items())),
            dropped=dict(sorted(self.dropped.items())),
            tokens=tokens,
            traces_read=self.traces_read,
            traces_used=len(used),
            trace_hash=hash_texts(sorted(used)).hexdigest(),
            data_hash=hashes["train"].hexdigest(),
            test_hash=hashes["test"].hexdigest() if kept_test else "",
            prompts=prompt_versions(prompts),
            options=options,
        )


def prompt_versions(prompts: PromptSet) -> dict[str, str]:
    """``{name: id@version}`` of every prompt in the set."""
    named = {name: getattr(prompts, name) for name in type(prompts).model_fields}
    return {n.rstrip("_"): f"{p.id}@{p.version}" for n, p in named.items() if isinstance(p, Prompt)}


def unusable(trace: Trace, held_out: HeldOut) -> str | None:
    """Why a whole trace may not be trained on, or None."""
    if trace.problem.split != "train":
        return "split"
    if trace.problem.question in held_out:
        return "held out"
    if trace.status == "quarantined" and not trace.rounds and not failed_checks(trace.template_inspections):
        return "quarantined"  # and nothing on it says for what; a round's quarantine is that round's alone
    return "error" if trace.status == "error" else None


def hash_texts(texts: Iterable[str]) -> hashlib._Hash:
    """SHA-256 over texts, one a line."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(_line(text))
    return digest


def hash_row(row: Row) -> bytes:
    """SHA-256 of what a row says: not its split, nor its trace's id, which every collection draws anew."""
    content = {name: value for name, value in row.items() if name not in ("split", "trace_id")}
    return hashlib.sha256(line_of(content, orjson.OPT_SORT_KEYS)).digest()


def line_of(row: Row, option: int = 0) -> bytes:
    """A row as a line of JSON; characters that no file can hold become "?".

    Args:
        row: The row.
        option: More options of ``orjson.dumps``.
    """
    try:
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE | option)
    except TypeError:  # lone surrogates
        clean = json.dumps(row, ensure_ascii=False).encode("utf-8", "replace")
        return orjson.dumps(orjson.loads(clean), option=orjson.OPT_APPEND_NEWLINE | option)


def _line(text: str) -> bytes:
    return text.encode("utf-8", "replace") + b"\n"
