"""Traces in Parquet: typed columns to look through without reading the rest, and the whole record as JSON.

pyarrow is imported when it is needed; it comes with ``supercorrect-agent[data]``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

from supercorrect_agent.errors import StoreError
from supercorrect_agent.store.columns import COLUMNS
from supercorrect_agent.store.derived import Derives

_SPANS = "supercorrect_spans"
"""The footer's entry: what of which shards a file holds, as ``[[shard, start, end], ...]`` in bytes."""
_VERSIONS = "supercorrect_columns"
"""The footer's entry: by what each derived column was worked out."""
FILTERS = ("status", "split", "sample", "right_first", "right_final", "has_template", "n_rounds")
"""Columns by which rows may be wanted."""
_ROWS = 1024
"""Rows that are decoded at a time."""
_GROUP_BYTES = 16 * 2**20
"""JSON of a row group, which is held in memory while it is written."""

Span = tuple[str, int, int]


def import_pyarrow() -> Any:
    """pyarrow, with its Parquet part.

    Raises:
        StoreError: It is not installed.
    """
    try:
        import pyarrow  # type: ignore[import-untyped]
        import pyarrow.compute  # type: ignore[import-untyped]
        import pyarrow.parquet  # type: ignore[import-untyped]
    except ImportError as missing:
        raise StoreError(
            "Parquet needs pyarrow. Install it: pip install 'supercorrect-agent[data]'."
        ) from missing
    return pyarrow


def trace_schema(derived: Iterable[str] = ()) -> Any:
    """The columns of a trace, and those derived from it, as an Arrow schema."""
    arrow = import_pyarrow()
    kinds = {
        "text": arrow.string(),
        "whole": arrow.int64(),
        "number": arrow.float64(),
        "yes or no": arrow.bool_(),
        "key": arrow.binary(16),
    }
    more = [(name, arrow.large_binary()) for name in derived]
    return arrow.schema([*((name, kinds[kind]) for name, kind in COLUMNS.items()), *more])


class TraceWriter:
    """Writes rows of traces to an open file, a group of rows at a time.

    Args:
        file: Takes the bytes; it stays open.
        derive: Further columns.
    """

    def __init__(self, file: BinaryIO, derive: Sequence[Derives] = ()) -> None:
        self._derive = derive
        self._versions = {name: version for each in derive for name, version in each.versions.items()}
        self._arrow, self._schema = import_pyarrow(), trace_schema(self._versions)
        self._writer = self._arrow.parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []
        self._waiting = 0
        self.rows = self.bytes = 0

    def add(self, row: dict[str, Any]) -> None:
        """Adds the columns of a trace."""
        for each in self._derive:
            row |= each.columns(row["record"])
        self._rows.append(row)
        self._waiting += len(row["record"])
        self.rows += 1
        self.bytes += len(row["record"])
        if self._waiting >= _GROUP_BYTES:
            self._write()

    def close(self, spans: Sequence[Span] = ()) -> None:
        """Writes what waits and the footer.

        Args:
            spans: What of which shards the file holds.
        """
        self._write()
        self._writer.add_key_value_metadata(
            {_SPANS: json.dumps(spans), _VERSIONS: json.dumps(self._versions)}
        )
        self._writer.close()

    def _write(self) -> None:
        if self._rows:
            self._writer.write_table(self._arrow.Table.from_pylist(self._rows, self._schema))
        self._rows, self._waiting = [], 0


def read_batches(file: BinaryIO, columns: Sequence[str], where: str, *, rows: int = _ROWS) -> Iterator[Any]:
    """The rows of an open Parquet file as Arrow batches, of which only some columns are read.

    Raises:
        StoreError: It is no Parquet file of traces.
    """
    with _reading(where):
        opened = import_pyarrow().parquet.ParquetFile(file, pre_buffer=False)
        missing = [name for name in columns if name not in opened.schema_arrow.names]
        if missing:
            raise StoreError(
                f"'{where}' has no column '{missing[0]}', so it holds no traces. Remove it from the store."
            )
        yield from opened.iter_batches(rows, columns=list(columns), use_threads=False)


def read_rows(file: BinaryIO, columns: Sequence[str], where: str) -> Iterator[dict[str, Any]]:
    """The same as one mapping a row.

    Raises:
        StoreError: It is no Parquet file of traces.
    """
    for batch in read_batches(file, columns, where):
        yield from batch.to_pylist()


def read_wanted(file: BinaryIO, wanted: Callable[[Any], Any], where: str) -> Iterator[tuple[int, bytes]]:
    """Number and record of the wanted rows of an open Parquet file.

    Args:
        file: The file.
        wanted: Which rows of an Arrow batch: an array of yes and no.
        where: Its address, for messages.

    Raises:
        StoreError: It is no Parquet file of traces.
    """
    arrow, start = import_pyarrow(), 0
    for batch in read_batches(file, (*FILTERS, "record"), where):
        numbers = arrow.compute.indices_nonzero(wanted(batch))
        texts = batch.column("record").take(numbers).to_pylist()
        for number, text in zip(numbers.to_pylist(), texts, strict=True):
            yield start + number, text.encode()
        start += batch.num_rows


class Footer(NamedTuple):
    """What the footer of a Parquet file says.

    ``spans``: what of which files it holds; ``size``: bytes of its rows before compression; ``versions``: by
    what each derived column was worked out.
    """

    spans: list[Span]
    rows: int
    size: int
    versions: dict[str, str]


def read_footer(file: BinaryIO, where: str) -> Footer:
    """The footer of an open Parquet file.

    Raises:
        StoreError: It is no Parquet file.
    """
    with _reading(where):
        metadata = import_pyarrow().parquet.read_metadata(file)
        entries = metadata.metadata or {}
        spans = json.loads(entries.get(_SPANS.encode(), b"[]"))
        groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
        return Footer(
            [(name, start, end) for name, start, end in spans],
            metadata.num_rows,
            sum(group.total_byte_size for group in groups),
            json.loads(entries.get(_VERSIONS.encode(), b"{}")),
        )


@contextmanager
def _reading(where: str) -> Iterator[None]:
    arrow = import_pyarrow()
    try:
        yield
    except arrow.ArrowException as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise StoreError(
            f"'{where}' is no whole Parquet file ({reason}). Remove it from the store, or restore it."
        ) from error
