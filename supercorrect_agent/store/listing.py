"""What each file of a store holds, without building the traces."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from supercorrect_agent.store.jsonl import JsonlTraceStore
from supercorrect_agent.store.lines import parse_record
from supercorrect_agent.store.reading import Reading, Spans, is_parquet
from supercorrect_agent.types import Record


class StoreFile(Record):
    """One file.

    ``traces`` leaves out what was compacted to another file already. ``versions`` counts them by schema
    version. ``torn`` is the byte at which a last line without an end begins; ``broken`` counts the lines that
    are no traces, that one included. ``live``: a process is at work that appends to it.
    """

    name: str
    kind: Literal["jsonl", "parquet"]
    traces: int
    bytes: int
    versions: dict[str, int]
    broken: int = 0
    torn: int | None = None
    live: bool = False


def list_files(store: JsonlTraceStore) -> list[StoreFile]:
    """The files of a store in reading order.

    Raises:
        StoreError: One cannot be read.
    """
    reading = store.reading()
    names = store.place.names()
    held = reading.covered(names)
    return [
        _parquet(reading, name, held) if is_parquet(name) else _shard(reading, name, held) for name in names
    ]


def _parquet(reading: Reading, name: str, held: Spans) -> StoreFile:
    rows = reading.rows(name, ("schema_version",), held)
    versions = Counter(str(row.columns["schema_version"]) for row in rows)
    return StoreFile(
        name=name, kind="parquet", traces=versions.total(), bytes=reading.size(name), versions=versions
    )


def _shard(reading: Reading, name: str, held: Spans) -> StoreFile:
    versions: Counter[str] = Counter()
    broken, torn, live = 0, None, reading.place.is_live(name)
    for line in reading.lines(name, held):
        record = parse_record(line.text)
        if record is not None:
            versions[str(record.get("schema_version", 1))] += 1
        elif not (live and not line.text.endswith(b"\n")):
            broken += 1
            torn = None if line.text.endswith(b"\n") else line.offset
    return StoreFile(
        name=name, kind="jsonl", traces=versions.total(), bytes=reading.size(name), versions=versions,
        broken=broken, torn=torn, live=live,
    )  # fmt: skip
