"""Where traces are kept: append-only JSON Lines that survive crashes, and counts over them.

A line is written whole under a file lock, so that several processes may append to one store. What a crash
tore off is skipped when reading and closed with a newline before the next line is written.
"""

from __future__ import annotations

import json
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pydantic import ValidationError

from supercorrect_agent.errors import StoreError
from supercorrect_agent.types import SCHEMA_VERSION, Call, Trace, Verdict

try:
    import fcntl
except ImportError:  # Windows appends without a lock
    fcntl = None  # type: ignore[assignment]

_FILE_NAME = "traces.jsonl"
_ROLES = ("student", "teacher", "inspector")


@runtime_checkable
class TraceStore(Protocol):
    """An append-only collection of traces."""

    def append(self, trace: Trace) -> None:
        """Adds a trace; when this returns, the trace is kept.

        Raises:
            StoreError: The store cannot be written.
        """
        ...

    def __iter__(self) -> Iterator[Trace]:
        """The traces in the order in which they were appended."""
        ...

    def keys(self) -> set[tuple[str, int]]:
        """(problem id, sample) of every trace: what a resumed collection need not do again."""
        ...


class JsonlTraceStore:
    """Traces in one .jsonl file or in a folder, where all traces*.jsonl are read and traces.jsonl is written.

    Nothing is created before the first trace is appended.

    Args:
        path: A folder, or a file whose name ends in ``.jsonl``.
        sync: Whether every append waits until the disk has the line (fsync). Without it a power cut may
            cost the last lines, a crash of this process none.

    Attributes:
        skipped: Broken lines met by the last reading.
    """

    def __init__(self, path: str | Path, *, sync: bool = True) -> None:
        self.path = Path(path)
        self.skipped = 0
        self._sync = sync
        self._is_file = self.path.suffix == ".jsonl" and not os.path.isdir(path)
        if not self._is_file and os.path.isfile(path):
            raise StoreError(
                f"The store path '{self.path}' is a file, but no .jsonl file. Pass a folder or a .jsonl file."
            )

    @property
    def file(self) -> Path:
        """The file that is appended to."""
        return self.path if self._is_file else self.path / _FILE_NAME

    def append(self, trace: Trace) -> None:
        """Adds one line, whole or not at all.

        Raises:
            StoreError: The path cannot be written, or the disk is full.
        """
        # ASCII only: model text may hold lone surrogates, which UTF-8 cannot
        line = json.dumps(trace.model_dump(), ensure_ascii=True, default=str) + "\n"
        self._write(line.encode("ascii"))

    def ensure_writable(self) -> None:
        """Creates the file if need be: call this before hours of work depend on it.

        Raises:
            StoreError: The path cannot be written.
        """
        self._write(b"")

    def __iter__(self) -> Iterator[Trace]:
        """The readable traces; broken lines are counted in ``skipped``.

        Raises:
            StoreError: A file cannot be read, or a newer version of this package wrote it.
        """
        for record in self._records():
            try:
                yield Trace.model_validate(record)
            except ValidationError:
                self.skipped += 1

    def keys(self) -> set[tuple[str, int]]:
        """(problem id, sample) of every trace, without building the traces."""
        return {(record["problem"]["id"], record.get("sample", 0)) for record in self._records()}

    def _write(self, line: bytes) -> None:
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0))
            try:
                self._write_locked(descriptor, line)
            finally:
                os.close(descriptor)  # and releases the lock
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            reason = getattr(error, "strerror", None) or error
            raise StoreError(
                f"Traces cannot be written to '{self.file}': {reason}. {_remedy(error)}"
            ) from error

    def _write_locked(self, descriptor: int, line: bytes) -> None:
        if fcntl:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = os.lseek(descriptor, 0, os.SEEK_END)
        if size and line:
            os.lseek(descriptor, size - 1, os.SEEK_SET)
            if os.read(descriptor, 1) != b"\n":
                warnings.warn(f"'{self.file}' ended in a torn line; it was closed.", stacklevel=4)
                line = b"\n" + line
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            if self._sync:
                os.fsync(descriptor)
        except BaseException:  # Ctrl-C too: no half line stays behind
            os.ftruncate(descriptor, size)
            raise

    def _records(self) -> Iterator[dict[str, Any]]:
        self.skipped = 0
        files = [self.path] if self._is_file else sorted(self.path.glob("traces*.jsonl"))
        for file in files:
            yield from self._file_records(file)

    def _file_records(self, file: Path) -> Iterator[dict[str, Any]]:
        try:
            with file.open("rb") as lines:
                for line in lines:
                    record = _parse(line)
                    if record is not None:
                        _refuse_future(record, file)
                        yield record
                    elif line.strip():
                        self.skipped += 1
                        if not line.endswith(b"\n"):
                            warnings.warn(f"The last line of '{file}' is torn and was skipped.", stacklevel=2)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(
                f"Traces cannot be read from '{file}': {error.strerror}. {_remedy(error)}"
            ) from error


def open_store(path: str | Path, *, must_exist: bool = False) -> JsonlTraceStore:
    """Opens the store at a path (a folder or a .jsonl file).

    Args:
        path: Where the traces are or will be.
        must_exist: For readers: a path without any traces is an error, not an empty store.

    Raises:
        StoreError: The path cannot be a store, or is missing although it must exist.
    """
    store = JsonlTraceStore(path)
    if must_exist and not (store.file.is_file() or any(store.path.glob("traces*.jsonl"))):
        raise StoreError(
            f"There are no traces at '{path}'. Pass a .jsonl file or the folder of a collection."
        )
    return store


def summarize_traces(traces: Iterable[Trace]) -> dict[str, Any]:
    """Counts over traces, as plain JSON.

    Returns:
        ``traces``, ``problems``; ``status`` (traces by ending); ``first`` and ``final`` with ``scored``,
        ``correct`` and ``accuracy`` (unscored answers excluded, unreadable ones wrong; None when nothing was
        scored); ``rounds`` and ``first_error_step`` (histograms with string keys); ``usage`` by role with
        ``calls``, ``input_tokens``, ``output_tokens`` and ``seconds``.
    """
    first: list[Verdict | None] = []
    final: list[Verdict | None] = []
    problems: set[str] = set()
    status: Counter[str] = Counter()
    rounds: Counter[int] = Counter()
    error_steps: Counter[int] = Counter()
    calls: list[Call] = []
    for trace in traces:
        problems.add(trace.problem.id)
        status[trace.status] += 1
        first.append(trace.verdict)
        final.append(_final_verdict(trace))
        rounds[len(trace.rounds)] += 1
        if trace.rounds and trace.rounds[0].critique.step is not None:
            error_steps[trace.rounds[0].critique.step] += 1
        calls.extend(trace.calls)
    return {
        "traces": len(first),
        "problems": len(problems),
        "status": dict(sorted(status.items())),
        "first": _accuracy(first),
        "final": _accuracy(final),
        "rounds": {str(count): rounds[count] for count in sorted(rounds)},
        "first_error_step": {str(step): error_steps[step] for step in sorted(error_steps)},
        "usage": {role: _usage(calls, role) for role in _ROLES if any(call.role == role for call in calls)},
    }


def _final_verdict(trace: Trace) -> Verdict | None:
    return trace.verdict if trace.chosen.index == 0 else trace.rounds[trace.chosen.index - 1].verdict


def _accuracy(verdicts: Iterable[Verdict | None]) -> dict[str, Any]:
    scored = [verdict for verdict in verdicts if verdict is not None and verdict.status != "unscored"]
    correct = sum(verdict.correct for verdict in scored)
    return {
        "scored": len(scored),
        "correct": correct,
        "accuracy": correct / len(scored) if scored else None,
    }


def _usage(calls: Iterable[Call], role: str) -> dict[str, Any]:
    own = [call for call in calls if call.role == role]
    return {
        "calls": len(own),
        "input_tokens": sum(call.input_tokens for call in own),
        "output_tokens": sum(call.output_tokens for call in own),
        "seconds": sum(call.seconds for call in own),
    }


def _parse(line: bytes) -> dict[str, Any] | None:
    """The record of a line; None when it is no JSON object with a problem."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not isinstance(record.get("problem"), dict):
        return None
    return record if "id" in record["problem"] else None


def _refuse_future(record: dict[str, Any], file: Path) -> None:
    version = record.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise StoreError(
            f"'{file}' holds traces of schema version {version}; this supercorrect-agent reads up "
            f"to {SCHEMA_VERSION}. Upgrade it."
        )


def _remedy(error: Exception) -> str:
    if isinstance(error, NotADirectoryError | FileExistsError):
        return "A part of the path is a file; pass a folder or a .jsonl file somewhere else."
    if isinstance(error, IsADirectoryError):
        return "Pass the folder itself, or another file name."
    return "Pass a path that you may write to, or free space and permissions there."
