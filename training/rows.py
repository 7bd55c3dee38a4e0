"""Rows on disk: a builder keeps a small key of every candidate in memory, and the candidate itself in a file.

The file is a temporary one without a name where the system allows it, so nothing is left behind, however the
process ends. ``TMPDIR`` says on which disk it lies.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, BinaryIO, NamedTuple, cast, overload

import orjson

from supercorrect_agent.errors import DataError
from supercorrect_agent.problems import fold_question
from training.manifest import Row, canonical_json, hash_texts


class Rows(Sequence[Row]):
    """A sequence of rows in a temporary file, which goes when the last sequence over it does, or is closed.

    Equal to any sequence of the same rows. Characters that no file can hold (lone surrogates) become "?".
    """

    def __init__(self) -> None:
        self._file = cast(BinaryIO, tempfile.TemporaryFile(prefix="supercorrect-"))  # noqa: SIM115
        self._starts = array("Q")
        self._end = 0

    def append(self, row: Row) -> None:
        """Adds a row at the end of the file.

        Raises:
            DataError: The disk is full.
        """
        self.append_line(line_of(row))

    def append_line(self, line: bytes) -> None:
        """Adds a row that is a line already.

        Raises:
            DataError: The disk is full.
        """
        try:
            self._file.seek(self._end)
            self._file.write(line)
        except OSError as error:
            raise DataError(
                f"Rows cannot be kept in '{tempfile.gettempdir()}' ({error.strerror}). "
                "Free space there, or set TMPDIR to a folder on a larger disk."
            ) from error
        self._starts.append(self._end)
        self._end += len(line)

    def take(self, numbers: Iterable[int]) -> Rows:
        """The rows of these numbers in this order, over the same file."""
        taken = object.__new__(Rows)
        taken._file, taken._end = self._file, self._end
        taken._starts = array("Q", (self._starts[number] for number in numbers))
        return taken

    def close(self) -> None:
        """Gives the file back at once; the rows cannot be read any more."""
        self._file.close()

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self._read(start) for start in self._starts[index]]
        return self._read(self._starts[index])

    def __iter__(self) -> Iterator[Row]:
        return map(self._read, self._starts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == two for one, two in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # like a list

    def __repr__(self) -> str:
        return f"Rows({len(self)} rows)"

    def _read(self, start: int) -> Row:
        self._file.seek(start)
        row: Row = orjson.loads(self._file.readline())
        return row


class Draft(NamedTuple):
    """A candidate row as it is kept: what it sorts by, and the lines of the row and of its facts."""

    place: bytes
    trace_id: str
    problem_id: str
    question: bytes
    split: str
    row: bytes
    facts: bytes


class _Key(NamedTuple):
    """What stays in memory of a candidate; candidates sort by it."""

    place: bytes
    trace_id: str
    problem_id: str
    question: bytes
    split: str
    number: int


class Candidates:
    """Rows in the making: spooled as they come, then ordered and chosen."""

    def __init__(self) -> None:
        self._rows, self._facts = Rows(), Rows()
        self._keys: list[_Key] = []

    def put(self, draft: Draft) -> None:
        """Adds a candidate; all are made with one seed and one share."""
        self._keys.append(_Key(*draft[:5], len(self._rows)))
        self._rows.append_line(draft.row)
        self._facts.append_line(draft.facts)

    def forget_leaks(self) -> int:
        """Forgets test rows whose question is in the training rows too, under another id; says how many."""
        trained = {key.question for key in self._keys if key.split == "train"}
        kept = [key for key in self._keys if key.split == "train" or key.question not in trained]
        forgotten = len(self._keys) - len(kept)
        self._keys = kept
        return forgotten

    def ordered(self) -> list[int]:
        """The numbers of the candidates in the final order, which the order of the traces does not change."""
        return [key.number for key in sorted(self._keys)]

    def by_problem(self) -> Iterator[list[int]]:
        """The same, one list a problem: of two files, other problems may have one id."""

        def problem(key: _Key) -> tuple[str, bytes]:
            return key.problem_id, key.question

        for _, keys in groupby(sorted(self._keys, key=lambda key: (problem(key), key)), problem):
            yield [key.number for key in keys]

    def facts(self, number: int) -> dict[str, Any]:
        return self._facts[number]

    def rows(self, numbers: Iterable[int]) -> Rows:
        return self._rows.take(numbers)


def draft_of(
    row: Row, facts: dict[str, Any], *, content: Row, question: str, seed: int, test_share: float
) -> Draft:
    """A candidate row made ready to be kept.

    Args:
        row: The row.
        facts: What its choice depends on.
        content: What gives it its place.
        question: That of its problem.
        seed: Seed of the order.
        test_share: Share of the problems whose rows belong to the split ``test``.
    """
    problem, trace = row["problem_id"], row["trace_id"]
    split = split_of(problem, test_share)
    return Draft(
        place_of(content, seed),
        trace,
        problem,
        hash_texts([fold_question(question)]).digest(),
        split,
        line_of({**row, "split": split}),
        line_of({**facts, "split": split}),
    )


def line_of(row: Row) -> bytes:
    """A row as a line of JSON; characters that no file can hold become "?"."""
    try:
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # lone surrogates
        return json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def place_of(content: Row, seed: int) -> bytes:
    """A row's place in the order: a hash of the seed and of the row alone, not of the others.

    Trace ids are left out: they are drawn anew in every run, and the same run is to give the same order.
    """
    named = {name: value for name, value in content.items() if name != "trace_id"}
    return hash_texts([str(seed), canonical_json(named)]).digest()


def split_of(problem_id: str, test_share: float) -> str:
    """``train`` or ``test``: by a hash of the problem's id alone, so that other problems never move it."""
    digest = hashlib.sha256(b"split\0" + problem_id.encode("utf-8", "replace")).digest()
    return "test" if int.from_bytes(digest[:8], "big") < test_share * 2**64 else "train"
