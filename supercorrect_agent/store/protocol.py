"""What a trace store is, and the key by which a run is known."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple, NewType, Protocol, Self, runtime_checkable

from supercorrect_agent.types import Problem, Trace, content_id

TraceKey = NewType("TraceKey", bytes)
"""16 bytes for one run (problem id, content of the question, sample), so that a set holds millions."""


def trace_key(problem: Problem, sample: int) -> TraceKey:
    """The key of one attempt at a problem.

    The question is part of it, because of two problem files, other problems may have one id.
    """
    return key_of(problem.id, problem.question, sample)


def key_of(problem_id: str, question: str, sample: int) -> TraceKey:
    """The same, from the parts."""
    text = f"{sample}\0{content_id(question)}\0{problem_id}"
    return TraceKey(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest())


class BrokenLine(NamedTuple):
    """A line that is no trace: its file, the byte at which it begins, and whether its end is missing."""

    file: str
    offset: int
    torn: bool


@runtime_checkable
class TraceStore(Protocol):
    """An append-only collection of traces. `tests/conformance/trace_store.py` tests an implementation.

    Attributes:
        skipped: Broken lines that the last reading met.
    """

    skipped: int

    def append(self, trace: Trace) -> None:
        """Adds a trace, whole or not at all; when this returns, no crash of this process can take it away.

        (A store that cannot append in place, such as one on an object store, keeps it from ``flush`` on.)

        Raises:
            StoreError: The store cannot be written.
        """
        ...

    def __iter__(self) -> Iterator[Trace]:
        """The traces; those of one writer in the order in which they were appended."""
        ...

    def keys(self) -> set[tuple[str, int]]:
        """(problem id, sample) of every trace, failed ones included."""
        ...

    def done(self) -> set[TraceKey]:
        """The keys of the runs that need not be made again: all but those that ended in ``error``."""
        ...

    def flush(self) -> None:
        """Returns when everything that was appended is where a power cut cannot take it away.

        Raises:
            StoreError: The store cannot be written.
        """
        ...

    def close(self) -> None:
        """Flushes, and gives back files and locks. A closed store can be read, and appended to again."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
