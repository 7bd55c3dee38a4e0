"""A store in the memory of this process, for tests and notebooks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from supercorrect_agent.store.protocol import TraceKey, trace_key
from supercorrect_agent.types import Trace


class MemoryTraceStore:
    """Traces in a list; they go with the process."""

    def __init__(self) -> None:
        self.skipped = 0
        self._traces: list[Trace] = []
        self._lock = threading.Lock()

    def append(self, trace: Trace) -> None:
        """Adds a trace."""
        with self._lock:
            self._traces.append(trace)

    def __iter__(self) -> Iterator[Trace]:
        return iter(tuple(self._traces))

    def keys(self) -> set[tuple[str, int]]:
        """(problem id, sample) of every trace."""
        return {(trace.problem.id, trace.sample) for trace in self}

    def done(self) -> set[TraceKey]:
        """The keys of the runs that need not be made again."""
        return {trace_key(trace.problem, trace.sample) for trace in self if trace.status != "error"}

    def flush(self) -> None:
        """Has nothing to do."""

    def close(self) -> None:
        """Has nothing to do."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
