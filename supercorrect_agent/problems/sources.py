"""The rows of a source, whatever it is: a file, a folder, a data set or a sample of the package."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.resources import files
from itertools import chain

from supercorrect_agent.errors import DataError, SuperCorrectError
from supercorrect_agent.problems.files import find_files, stem_of
from supercorrect_agent.problems.hub import PREFIX, is_data_set, is_named, read_data_set
from supercorrect_agent.problems.mapping import Fields
from supercorrect_agent.problems.report import Fault, Found
from supercorrect_agent.problems.rows import Row, read_rows, unreadable

SAMPLES = ("gsm8k", "math")


def read_source(
    source: str, fields: Fields, *, split: str, max_characters: int | None, argument: str
) -> Iterator[Found | Fault]:
    """A problem or a fault for every row of a source that is not the sandbox.

    Raises:
        DataError: The source cannot be read, or does not have a column that is needed.
    """
    if source.startswith("sample:"):
        source = _sample(source)
    if is_data_set(source):
        rows, own = read_data_set(source, split, fields.check_columns, argument=argument)
        name = source.removeprefix(PREFIX).split(":")[0].rstrip("/") if is_named(source) else ""
        return _problems(rows, fields, name or stem_of(source), own, max_characters)
    try:
        found = find_files(source, split)
    except SuperCorrectError:
        raise
    except Exception as error:  # every file system raises its own
        raise unreadable(argument, source, error) from error
    name = stem_of(source) if os.path.isdir(source) else ""
    return chain.from_iterable(
        _problems(
            read_rows(each, fields.check_columns, argument=argument, max_characters=max_characters),
            fields, name or stem_of(each), split, max_characters,
        )
        for each in found
    )  # fmt: skip


def _problems(
    rows: Iterator[Row], fields: Fields, source: str, split: str, max_characters: int | None
) -> Iterator[Found | Fault]:
    for row in rows:
        if isinstance(row, Fault):
            yield row
            continue
        where, value = row
        made = fields.problem(value, where, source=source, split=split, max_characters=max_characters)
        yield made if isinstance(made, Fault) else Found(where, made)


def _sample(source: str) -> str:
    name = source.removeprefix("sample:")
    if name not in SAMPLES:
        raise DataError(f"`{source}` does not ship with the package. Choose one of {', '.join(SAMPLES)}.")
    return str(files("supercorrect_agent.problems") / "samples" / f"{name}.jsonl")
