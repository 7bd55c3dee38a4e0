"""Reading a store's files: shards line by line, Parquet batch by batch, nothing twice."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

from supercorrect_agent.errors import StoreError
from supercorrect_agent.store.lines import parse_line, parse_record
from supercorrect_agent.store.migrations import migrate
from supercorrect_agent.store.places import Place, unreadable
from supercorrect_agent.store.protocol import BrokenLine, TraceKey, key_of
from supercorrect_agent.types import Trace

if TYPE_CHECKING:
    from supercorrect_agent.store.parquet import Footer

_NAMED = 100
"""So many broken lines are named; the others are only counted."""
_BUFFER = 2**20

Spans = dict[str, list[tuple[int, int]]]
"""By file: what of it lies in another file: bytes of a shard, or rows of a Parquet file written anew."""


class Line(NamedTuple):
    """A line of a shard, its newline included, and the byte at which it begins."""

    file: str
    offset: int
    text: bytes


class Row(NamedTuple):
    """Columns of a row of a Parquet file, and its number."""

    file: str
    offset: int
    columns: dict[str, Any]


class Reading:
    """One reading of a store, and what it met that could not be read.

    Args:
        place: Where the files are.
        own: The file that this process appends to, whose torn end nobody else will complete.
    """

    def __init__(self, place: Place, own: Collection[str] = ()) -> None:
        self.place, self._own = place, own
        self.skipped = 0
        self.broken: list[BrokenLine] = []

    def traces(self) -> Iterator[Trace]:
        """Every trace.

        Raises:
            StoreError: A file cannot be read, or a newer version of this package wrote it.
        """
        return self._parsed(self.records())

    def traces_where(self, wanted: Callable[[Any], Any]) -> Iterator[Trace]:
        """The traces of every shard, and of Parquet files those in wanted rows; others are not looked into.

        Args:
            wanted: Which rows of an Arrow batch, which has `parquet.FILTERS`: an array of yes and no.
        """
        return self._parsed(self.records_where(wanted))

    def derived(self, column: str, version: str) -> list[str]:
        """The Parquet files that have a derived column of this version, of which all rows count."""
        footers = {name: self.footer(name) for name in self.place.names() if is_parquet(name)}
        covered = {held for footer in footers.values() for held, _, _ in footer.spans}
        ready = (name for name, footer in footers.items() if footer.versions.get(column) == version)
        return [name for name in ready if name not in covered]

    def records_where(self, wanted: Callable[[Any], Any], but: Collection[str] = ()) -> Iterator[Line]:
        """The records of `traces_where` as lines, not looked into, without those of some files."""
        names = self.place.names()
        covered = self.covered(names)
        for name in names:
            if name in but:
                continue
            if not is_parquet(name):
                yield from self.lines(name, covered)
            elif covered.get(name):  # its rows are numbered
                rows = self.rows(name, ("record",), covered)
                yield from (Line(name, row.offset, row.columns["record"].encode()) for row in rows)
            else:
                from supercorrect_agent.store.parquet import read_wanted

                with self._open(name) as file:
                    for number, text in read_wanted(file, wanted, self.place.where(name)):
                        yield Line(name, number, text)

    def _parsed(self, lines: Iterable[Line]) -> Iterator[Trace]:
        for line in lines:
            trace = parse_line(line.text, where=self.place.where(line.file))
            if trace is None:
                self.note_broken(line)
            else:
                yield trace

    def records(self, but: Collection[str] = ()) -> Iterator[Line]:
        """Every record as the line it was written as, not looked into, without those of some files."""
        for item in self._all(("record",), but):
            if isinstance(item, Row):
                yield Line(item.file, item.offset, item.columns["record"].encode())
            else:
                yield item

    def keys(self) -> set[tuple[str, int]]:
        """(problem id, sample) of every trace."""
        found: set[tuple[str, int]] = set()
        for item in self._all(("problem_id", "sample")):
            if isinstance(item, Row):
                found.add((item.columns["problem_id"], item.columns["sample"]))
            elif (record := self.record(item)) is not None:
                found.add((record["problem"]["id"], record.get("sample", 0)))
        return found

    def done(self) -> set[TraceKey]:
        """The keys of the runs that need not be made again."""
        return {key for key, status in self.endings() if status != "error"}

    def endings(self) -> Iterator[tuple[TraceKey, str]]:
        """Key and status of every trace, in reading order."""
        for item in self._all(("key", "status")):
            if isinstance(item, Row):
                yield TraceKey(item.columns["key"]), item.columns["status"]
            elif (record := self.record(item)) is not None:
                key = _key_of(record)
                if key is not None:
                    yield key, record["status"]

    def record(self, line: Line) -> dict[str, Any] | None:
        """The JSON object of a line, of this version's schema but not validated; a broken one is noted."""
        record = parse_record(line.text)
        if record is None:
            self.note_broken(line)
            return None
        return migrate(record, where=self.place.where(line.file))

    def lines(self, name: str, covered: Spans) -> Iterator[Line]:
        """The lines of a shard that are not blank, without those that lie in Parquet already."""
        spans = sorted(covered.get(name, ()), reverse=True)
        with self._open(name) as opened, io.BufferedReader(cast(Any, opened), _BUFFER) as file:
            offset = 0
            while True:
                while spans and spans[-1][0] <= offset:
                    offset = max(offset, spans.pop()[1])
                    file.seek(offset)
                text = file.readline()
                if not text:
                    return
                if text.strip():
                    yield Line(name, offset, text)
                offset += len(text)

    def covered(self, names: Iterable[str]) -> Spans:
        """What of the files lies in others, to which it was compacted."""
        spans: Spans = {}
        for name in filter(is_parquet, names):
            for held, start, end in self.footer(name).spans:
                spans.setdefault(held, []).append((start, end))
        return spans

    def footer(self, name: str) -> Footer:
        """What the footer of a Parquet file says."""
        from supercorrect_agent.store.parquet import read_footer

        with self._open(name) as file:
            return read_footer(file, self.place.where(name))

    def note_broken(self, line: Line) -> None:
        """Counts a line that is no trace, unless its writer is still at work on it."""
        torn = not is_parquet(line.file) and not line.text.endswith(b"\n")
        if torn and line.file not in self._own and self.place.is_live(line.file):
            return
        self.skipped += 1
        if len(self.broken) < _NAMED:
            self.broken.append(BrokenLine(self.place.where(line.file), line.offset, torn))
        if torn:
            where = self.place.where(line.file)
            warnings.warn(
                f"The last line of '{where}' is torn (from byte {line.offset}) and was skipped.", stacklevel=4
            )

    def rows(self, name: str, columns: Sequence[str], covered: Spans) -> Iterator[Row]:
        """The rows of a Parquet file, without those that were compacted again."""
        from supercorrect_agent.store.parquet import read_rows

        spans = covered.get(name, ())
        with self._open(name) as file:
            for number, row in enumerate(read_rows(file, columns, self.place.where(name))):
                if not any(start <= number < end for start, end in spans):
                    yield Row(name, number, row)

    def _all(self, columns: Sequence[str], but: Collection[str] = ()) -> Iterator[Line | Row]:
        """The lines of every shard, and of every Parquet file the rows, of which these columns are read."""
        names = self.place.names()
        covered = self.covered(names)
        for name in names:
            if name in but:
                continue
            if is_parquet(name):
                yield from self.rows(name, columns, covered)
            else:
                yield from self.lines(name, covered)

    def size(self, name: str) -> int:
        """The bytes of a file."""
        with self._refusing(name):
            return self.place.size(name)

    @contextmanager
    def _open(self, name: str) -> Iterator[BinaryIO]:
        with self._refusing(name), self.place.open(name) as file:
            yield file

    @contextmanager
    def _refusing(self, name: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise StoreError(
                f"'{self.place.where(name)}' went away while the store was read, as it does when it is "
                "compacted. Read it again."
            ) from error
        except OSError as error:
            raise unreadable(self.place.where(name), error) from error


def is_parquet(name: str) -> bool:
    return name.endswith(".parquet")


def _key_of(record: dict[str, Any]) -> TraceKey | None:
    """The key of a record; None when it can be no trace."""
    problem, sample = record["problem"], record.get("sample", 0)
    parts = (problem["id"], problem.get("question"), record.get("status"))
    if not all(isinstance(part, str) for part in parts) or not isinstance(sample, int):
        return None
    return key_of(problem["id"], problem["question"], sample)
