"""The rows of a file, one after the other: JSON Lines, JSON arrays, CSV and Parquet."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from supercorrect_agent.errors import DataError, SuperCorrectError
from supercorrect_agent.problems.files import format_of, load_extra, open_file
from supercorrect_agent.problems.mapping import Number
from supercorrect_agent.problems.report import Fault

Row = tuple[str, Any] | Fault
"""Place and value of a row, or why there is none."""

Columns = Callable[[list[str], str], list[str]]
"""Chooses the needed ones of a table's columns; takes them and the table's name."""

_DECODER = json.JSONDecoder(parse_int=Number, parse_float=Number, parse_constant=lambda name: None)
_LINE_BYTES = 16 << 20
_BATCH_BYTES = 8 << 20
_BATCH_ROWS = 256
_FORMAT_HINT = "Pass JSON Lines, CSV or Parquet, or sandbox:train."


def read_rows(path: str, columns: Columns, *, argument: str, max_characters: int | None) -> Iterator[Row]:
    """The rows of one file; memory is bounded by its longest rows.

    Args:
        path: A path or an fsspec address.
        columns: Asked once for the columns of CSV and Parquet.
        argument: What the user calls the source.
        max_characters: Length a text may have; lines that are much longer are not even taken in.

    Raises:
        DataError: The file as a whole cannot be read, or a column is missing.
    """
    limit = sys.maxsize - 1 if max_characters is None else max(_LINE_BYTES, 16 * max_characters)
    kind = format_of(path)
    try:
        with open_file(path) as file:
            if kind == "parquet":
                yield from _parquet(file, path, columns)
            elif kind in ("csv", "tsv"):
                yield from _csv(file, path, columns, "\t" if kind == "tsv" else ",", limit)
            elif kind == "json" and _begins_a_list(file):
                yield from _json_list(file, path)
            else:
                yield from _json_lines(file, path, limit)
    except SuperCorrectError:
        raise
    except Exception as error:  # every file system and codec raises its own
        raise unreadable(argument, path, error) from error


def unreadable(argument: str, source: str, error: Exception) -> DataError:
    """The error for a source that cannot be read at all, or not to its end."""
    words = str(error).split("\n", 1)[0][:300] or type(error).__name__
    return DataError(f"`{argument}={source}` cannot be read ({words}). {_FORMAT_HINT}")


def _json_lines(file: BinaryIO, path: str, limit: int) -> Iterator[Row]:
    for number, line in enumerate(_lines(file, limit), 1):
        where = f"{path}:{number}"
        if line is None:
            yield _long_line(where, limit)
        elif line.strip():
            yield _parse(line.removeprefix(b"\xef\xbb\xbf"), where)


def _lines(file: BinaryIO, limit: int) -> Iterator[bytes | None]:
    """Lines with their ends; None for one that is longer than ``limit`` bytes."""
    while line := file.readline(limit + 1):
        if len(line) <= limit or line.endswith(b"\n"):
            yield line
            continue
        while (rest := file.readline(_LINE_BYTES)) and not rest.endswith(b"\n"):
            pass
        yield None


def _long_line(where: str, limit: int) -> Fault:
    return Fault(
        "too long",
        where,
        f"{where} is longer than {limit} bytes. Write one problem a line, or raise `max_characters`.",
    )


def _parse(line: bytes, where: str) -> Row:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        return Fault("not UTF-8", where, f"{where} is not UTF-8 ({error.reason}). Save the file as UTF-8.")
    try:
        return where, _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        return Fault("not JSON", where, f"{where} is not JSON ({error}). Write one JSON object a line.")


def _begins_a_list(file: BinaryIO) -> bool:
    start: bytes = file.peek(64)[:64]  # type: ignore[attr-defined]
    return start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")


def _json_list(file: BinaryIO, path: str) -> Iterator[Row]:
    """The members of one JSON array; the whole file is in memory."""
    parsed = _parse(file.read().removeprefix(b"\xef\xbb\xbf"), path)
    if isinstance(parsed, Fault):
        yield parsed
        return
    for number, row in enumerate(parsed[1], 1):
        yield f"{path}:{number}", row


def _csv(file: BinaryIO, path: str, columns: Columns, mark: str, limit: int) -> Iterator[Row]:
    csv.field_size_limit(max(csv.field_size_limit(), min(limit, 1 << 30)))  # one for the whole process
    skipped: list[bool] = []
    reader = csv.reader(_csv_lines(file, limit, skipped), delimiter=mark, strict=True)
    header: list[str] = []
    while True:
        begun = reader.line_num + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            why = f"is not CSV ({error}). Put texts in double quotes, and quotes in them twice."
            for number in range(begun, reader.line_num + 1):  # a quote that is never closed takes them all
                yield Fault("not CSV", f"{path}:{number}", f"{path}:{number} {why}")
            continue
        where = f"{path}:{begun}"
        if skipped:
            skipped.clear()
            yield _long_line(where, limit)
        elif any(values) and not header:
            header = [name.removeprefix("\ufeff").strip() for name in values]
            columns(header, path)
        elif any(values) and len(values) != len(header):
            counts = f"{len(values)} fields, the header {len(header)}"
            yield Fault("not CSV", where, f"{where} has {counts}. Put texts with commas in double quotes.")
        elif any(values):
            yield where, dict(zip(header, values, strict=True))


def _csv_lines(file: BinaryIO, limit: int, skipped: list[bool]) -> Iterator[str]:
    for line in _lines(file, limit):
        if line is None:
            skipped.append(True)
        yield "" if line is None else line.decode("utf-8", "surrogateescape")


def _parquet(file: BinaryIO, path: str, columns: Columns) -> Iterator[Row]:
    parquet = load_extra("pyarrow.parquet", f"'{path}'").ParquetFile(file, buffer_size=1 << 20)
    needed = columns(list(parquet.schema_arrow.names), path)
    number = 0
    for group in range(parquet.num_row_groups):
        about = parquet.metadata.row_group(group)
        size = max(1, min(_BATCH_ROWS, _BATCH_BYTES * about.num_rows // max(1, about.total_byte_size)))
        for batch in parquet.iter_batches(size, row_groups=[group], columns=needed):
            for row in batch.to_pylist():
                number += 1
                yield f"{path}:{number}", row
