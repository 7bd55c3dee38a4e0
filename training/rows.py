"""Rows on disk: a builder keeps a small key of every candidate in memory, and the candidate itself in a file.

The file is a temporary one without a name where the system allows it, so nothing is left behind, however the
process ends. ``TMPDIR`` says on which disk it lies.
"""

from __future__ import annotations

import hashlib
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, BinaryIO, NamedTuple, cast, overload

import orjson

from supercorrect_agent.errors import DataError
from supercorrect_agent.problems import fold_question
from training.manifest import Row, hash_row, hash_texts, line_of

HASH_BYTES = 32
_KEY_PART = 12
_ROW_END = b"}\n"
_PROBLEM, _QUESTION = slice(2 * _KEY_PART, None), slice(3 * _KEY_PART, None)


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
        self.append_line(line_of(row), hash_row(row))

    def append_line(self, line: bytes, content: bytes) -> None:
        """Adds a row that is a line already.

        Args:
            line: The row as `line_of` writes it.
            content: Its `hash_row`.

        Raises:
            DataError: The disk is full.
        """
        try:
            if self._file.tell() != self._end:  # a seek writes what waits
                self._file.seek(self._end)
            self._file.write(content)
            self._file.write(line)
        except OSError as error:
            raise DataError(
                f"Rows cannot be kept in '{tempfile.gettempdir()}' ({error.strerror}). "
                "Free space there, or set TMPDIR to a folder on a larger disk."
            ) from error
        self._starts.append(self._end)
        self._end += len(content) + len(line)

    def take(self, numbers: Iterable[int]) -> Rows:
        """The rows of these numbers in this order, over the same file."""
        taken = object.__new__(Rows)
        taken._file, taken._end = self._file, self._end
        taken._starts = array("Q", (self._starts[number] for number in numbers))
        return taken

    def hashed(self) -> Iterator[tuple[Row, bytes]]:
        """Each row with its `hash_row`."""
        for start in self._starts:
            content, line = self._read(start)
            yield orjson.loads(line), content

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
            return [self._row(start) for start in self._starts[index]]
        return self._row(self._starts[index])

    def __iter__(self) -> Iterator[Row]:
        return map(self._row, self._starts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == two for one, two in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # like a list

    def __repr__(self) -> str:
        return f"Rows({len(self)} rows)"

    def _row(self, start: int) -> Row:
        row: Row = orjson.loads(self._read(start)[1])
        return row

    def _read(self, start: int) -> tuple[bytes, bytes]:
        self._file.seek(start)
        return self._file.read(HASH_BYTES), self._file.readline()


class Draft(NamedTuple):
    """A candidate row, whatever the seed and the split: its line and its facts', and what it is sorted by."""

    row: bytes
    facts: bytes
    content: bytes
    question: bytes
    trace_id: str
    problem_id: str


class Candidates:
    """Rows in the making: spooled as they come, then put in order and chosen.

    A row's place is a hash of the seed and the row alone, not of the others. Trace ids only order equal rows:
    they are drawn anew in every run, and the same run is to give the same order.

    Args:
        seed: Seed of the order.
        test_share: Share of the problems whose rows belong to the split ``test``.
    """

    def __init__(self, seed: int, test_share: float) -> None:
        self._seed, self._test_share = seed, test_share
        self._rows, self._facts = Rows(), Rows()
        self._keys: list[bytes] = []  # place, trace, problem, question: a few bytes each, of a million rows
        self._is_test = bytearray()
        self._kept: list[int] = []

    def put(self, draft: Draft) -> None:
        """Adds a candidate."""
        split = split_of(draft.problem_id, self._test_share)
        place = _hash(f"{self._seed} {draft.content.hex()}")
        parts = (place, _hash(draft.trace_id), _hash(draft.problem_id), draft.question)
        self._kept.append(len(self._keys))
        self._keys.append(b"".join(part[:_KEY_PART] for part in parts))
        self._is_test.append(split == "test")
        end = b',"split":"%b"}\n' % split.encode()
        self._rows.append_line(draft.row[: -len(_ROW_END)] + end, draft.content)
        self._facts.append_line(draft.facts, draft.content)

    def forget_leaks(self) -> int:
        """Forgets test rows whose question is in the training rows too, under another id; says how many."""
        if not any(self._is_test):
            return 0
        trained = {self._keys[number][_QUESTION] for number in self._kept if not self._is_test[number]}
        kept = [n for n in self._kept if not (self._is_test[n] and self._keys[n][_QUESTION] in trained)]
        forgotten = len(self._kept) - len(kept)
        self._kept = kept
        return forgotten

    def ordered(self) -> list[int]:
        """The numbers of the candidates in the final order, which the order of the traces does not change."""
        return sorted(self._kept, key=self._keys.__getitem__)

    def by_problem(self) -> Iterator[list[int]]:
        """The same, one list a problem: of two files, other problems may have one id."""

        def problem(number: int) -> bytes:
            return self._keys[number][_PROBLEM]

        for _, numbers in groupby(sorted(self.ordered(), key=problem), problem):
            yield list(numbers)

    def split(self, number: int) -> str:
        return "test" if self._is_test[number] else "train"

    def facts(self, number: int) -> dict[str, Any]:
        return self._facts[number]

    def rows(self, numbers: Iterable[int]) -> Rows:
        return self._rows.take(numbers)


def draft_of(row: Row, facts: dict[str, Any], *, question: str) -> Draft:
    """A candidate row made ready to be kept.

    Args:
        row: The row.
        facts: What its choice depends on.
        question: That of its problem.
    """
    asked = _hash(fold_question(question))
    return Draft(line_of(row), line_of(facts), hash_row(row), asked, row["trace_id"], row["problem_id"])


def split_of(problem_id: str, test_share: float) -> str:
    """``train`` or ``test``: by a hash of the problem's id alone, so that other problems never move it."""
    digest = hashlib.sha256(b"split\0" + problem_id.encode("utf-8", "replace")).digest()
    return "test" if int.from_bytes(digest[:8], "big") < test_share * 2**64 else "train"


def _hash(text: str) -> bytes:
    return hash_texts([text]).digest()
