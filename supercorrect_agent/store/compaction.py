"""Shards to Parquet, so that a kill at any moment loses nothing and shows nothing twice.

A Parquet file is written under another name, forced onto the disk and renamed. Its footer says what of which
files it holds, and readers leave that out of them: the rename is the moment at which traces move. The files
they came from are removed afterwards; a compaction that was killed before is completed by the next.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson

from supercorrect_agent.errors import StoreError
from supercorrect_agent.store.columns import record_row
from supercorrect_agent.store.derived import Derives, installed
from supercorrect_agent.store.lines import format_line, parse_line, parse_record
from supercorrect_agent.store.locks import lock
from supercorrect_agent.store.migrations import migrate
from supercorrect_agent.store.moving import Files, files_of
from supercorrect_agent.store.parquet import Span, TraceWriter, import_pyarrow
from supercorrect_agent.store.places import LocalPlace, RemotePlace, find_place, unwritable
from supercorrect_agent.store.protocol import TraceKey
from supercorrect_agent.store.reading import Line, Reading, Row, Spans, is_parquet
from supercorrect_agent.store.writers import is_shard_name, time_stamp, unique_name
from supercorrect_agent.types import Record

MAX_BYTES = 2**29
"""JSON of a Parquet file; behind it another one is begun."""


class Compaction(Record):
    """What a compaction did.

    ``superseded`` counts traces of failed runs that were left out because the run succeeded later; ``broken``
    lines that are no traces, which now lie in a file ``broken-*.jsonl``; ``live`` shards that are being
    written and were left alone. Sizes are the bytes of all files of traces.
    """

    traces: int
    superseded: int
    broken: int
    live: int
    files: tuple[str, ...]
    bytes_before: int
    bytes_after: int


def compact_store(
    path: str | Path, *, max_bytes: int = MAX_BYTES, derive: Sequence[Derives] | None = None
) -> Compaction:
    """Moves the traces of finished shards into Parquet files, and small Parquet files together.

    Args:
        path: A store's folder or address. At an address nothing locks: compact when nobody writes there.
        max_bytes: JSON, before compression, of one Parquet file.
        derive: Further columns; None: those of the installed packages, such as candidates of training rows.

    Raises:
        StoreError: The store is a single file, cannot be written, or is being compacted already; or pyarrow
            is not installed.
    """
    import_pyarrow()
    place = find_place(path)
    if isinstance(place, LocalPlace) and place.is_file:
        raise StoreError(f"'{path}' is a single file. Pass the folder of a collection, or export the file.")
    if not place.names():
        raise StoreError(f"There are no traces at '{path}'. Pass the folder of a collection.")
    with _alone(place):
        try:
            return _Compactor(place, max_bytes, installed() if derive is None else derive).run()
        except OSError as error:
            raise unwritable(place.address, error) from error


class _Output:
    """A Parquet file in the making, what of which files it holds, and the broken lines of these."""

    def __init__(self, files: Files, derive: Sequence[Derives]) -> None:
        stamp = f"{time_stamp()}-{secrets.token_hex(3)}"
        self.name, self._broken_name = f"traces-{stamp}.parquet", f"broken-{stamp}.jsonl"
        self._files, self._file = files, files.create(self.name)
        self._writer = TraceWriter(self._file, derive)
        self._spans: list[Span] = []
        self._inherited: set[Span] = set()
        self._broken: list[bytes] = []

    @property
    def size(self) -> int:
        """Bytes of JSON so far."""
        return self._writer.bytes

    def add(self, row: dict[str, Any]) -> None:
        self._writer.add(row)

    def add_broken(self, line: bytes) -> None:
        self._broken.append(line.rstrip(b"\n") + b"\n")

    def hold(self, name: str, start: int, end: int) -> None:
        """Notes that the file holds what lies between two places of another."""
        if self._spans and self._spans[-1][0] == name:
            start = self._spans.pop()[1]
        self._spans.append((name, start, end))

    def inherit(self, spans: list[Span]) -> None:
        self._inherited.update(spans)

    def commit(self) -> None:
        if self._broken:
            file = self._files.create(self._broken_name)
            file.write(b"".join(self._broken))
            self._files.commit(file, self._broken_name)
        self._writer.close([*sorted(self._inherited), *self._spans])
        self._files.commit(self._file, self.name)


class _Compactor:
    """One compaction."""

    def __init__(self, place: LocalPlace | RemotePlace, max_bytes: int, derive: Sequence[Derives]) -> None:
        self._place, self._files, self._most, self._derive = place, files_of(place), max_bytes, derive
        self._reading = Reading(place)
        self._done: set[TraceKey] = set()
        self._output: _Output | None = None
        self._written: list[str] = []
        self._traces = self._superseded = self._broken = 0

    def run(self) -> Compaction:
        self._files.remove_unfinished()
        before = self._size()
        self._remove_held()
        self._name_apart()
        names = self._place.names()  # what others begin from here on is left alone
        self._done = self._reading.done()
        live = {name for name in names if self._place.is_live(name)}
        held = self._reading.covered(names)
        for name in self._inputs([name for name in names if name not in live]):
            self._take(name, held)
        self._commit()
        self._remove_held()
        return Compaction(
            traces=self._traces, superseded=self._superseded, broken=self._broken, live=len(live),
            files=tuple(self._written), bytes_before=before, bytes_after=self._size(),
        )  # fmt: skip

    def _name_apart(self) -> None:
        """Gives files whose names may come again, such as traces.jsonl, names that will not.

        Footers name what they hold: a later file of that name would be taken for it.
        """
        for name in self._place.names():
            if not (is_parquet(name) or is_shard_name(name) or self._place.is_live(name)):
                self._files.rename(name, unique_name())

    def _inputs(self, names: list[str]) -> list[str]:
        """All shards, and the Parquet files that are small or hold what a later run superseded."""
        shards = {name for name in names if not is_parquet(name)}
        stale = {name for name in names if is_parquet(name) and self._is_stale(name)}
        small = {
            name for name in names if is_parquet(name) and self._reading.footer(name).size < self._most // 4
        }
        wanted = shards | stale | small
        return [name for name in names if name in wanted] if wanted - small or len(small) > 1 else []

    def _is_stale(self, name: str) -> bool:
        rows = self._reading.rows(name, ("key", "status"), {})
        return any(row.columns["status"] == "error" and row.columns["key"] in self._done for row in rows)

    def _take(self, name: str, held: Spans) -> None:
        """Moves the records of a file to the output, or to more than one."""
        items: Iterator[Line | Row]
        if is_parquet(name):
            footer = self._reading.footer(name)
            size = footer.rows
            there = set(self._place.names())
            spans = [span for span in footer.spans if span[0] in there]
            items = self._reading.rows(name, ("record",), held)
        else:
            spans, size = [], self._place.size(name)
            items = self._reading.lines(name, held)
        start = 0
        for item in items:
            output = self._open(spans)
            if isinstance(item, Row):
                text, end = item.columns["record"].encode(), item.offset + 1
            else:
                text, end = item.text, item.offset + len(item.text)
            self._move(text, output, self._place.where(name))
            output.hold(name, start, end)
            start = end
            if output.size >= self._most:
                self._commit()
        if start < size:  # blank lines
            self._open(spans).hold(name, start, size)

    def _move(self, text: bytes, output: _Output, where: str) -> None:
        row = _row(text, where)
        if row is None:
            trace = parse_line(text, where=where)  # which takes more than we write, such as "2" for 2
            row = None if trace is None else _row(format_line(trace), where)
        if row is None:
            output.add_broken(text)
            self._broken += 1
        elif row["status"] == "error" and row["key"] in self._done:
            self._superseded += 1
        else:
            output.add(row)
            self._traces += 1

    def _open(self, spans: list[Span]) -> _Output:
        """The output, which holds what an input held in its turn, as long as that is still there."""
        if self._output is None:
            self._output = _Output(self._files, self._derive)
        self._output.inherit(spans)
        return self._output

    def _commit(self) -> None:
        if self._output is not None:
            self._output.commit()
            self._written.append(self._output.name)
            self._output = None

    def _remove_held(self) -> None:
        """Removes files of which everything lies in others."""
        names = self._place.names()
        held = self._reading.covered(names)
        for name in names:
            size = self._reading.footer(name).rows if is_parquet(name) else self._place.size(name)
            if _reach(held.get(name, ())) >= size and not self._place.is_live(name):
                self._files.remove(name, self._place.size(name))

    def _size(self) -> int:
        return sum(map(self._place.size, self._place.names()))


def _row(line: bytes, where: str) -> dict[str, Any] | None:
    record = parse_record(line)
    if record is None:
        return None
    current = migrate(record, where=where)
    return record_row(current, _text(line, record, current))


def _text(line: bytes, record: dict[str, Any], current: dict[str, Any]) -> str:
    """The JSON of a record: as it was written, unless that was by another version."""
    if current is record:
        with suppress(UnicodeDecodeError):  # lone surrogates, not escaped
            return line.decode().strip()
    try:
        return orjson.dumps(current).decode()
    except TypeError:  # lone surrogates
        return json.dumps(current)


def _reach(spans: Iterable[tuple[int, int]]) -> int:
    """How far a file is held from its beginning without a gap."""
    reach = 0
    for start, end in sorted(spans):
        if start > reach:
            break
        reach = max(reach, end)
    return reach


@contextmanager
def _alone(place: LocalPlace | RemotePlace) -> Iterator[None]:
    """Keeps other compactions of a local store out."""
    if not isinstance(place, LocalPlace):
        yield
        return
    try:
        descriptor = os.open(place.path / ".compact.lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise unwritable(place.address, error) from error
    try:
        if not lock(descriptor, wait=False):
            raise StoreError(
                f"'{place.address}' is being compacted by another process. Wait until it is done."
            )
        yield
    finally:
        os.close(descriptor)
