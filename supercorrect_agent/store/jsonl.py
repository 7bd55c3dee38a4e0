"""The store: append-only JSON Lines that survive crashes, and the Parquet files they were compacted to."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from supercorrect_agent.errors import StoreError
from supercorrect_agent.store.lines import format_line, is_json, parse_record
from supercorrect_agent.store.places import LocalPlace, RemotePlace, find_place
from supercorrect_agent.store.protocol import BrokenLine, TraceKey
from supercorrect_agent.store.reading import Reading
from supercorrect_agent.store.sync import DEFAULT_SYNC, sync_seconds
from supercorrect_agent.store.writers import LocalWriter, RemoteWriter
from supercorrect_agent.types import Trace


class JsonlTraceStore:
    """Traces in a folder, in one ``.jsonl`` file, or in a folder at an address that fsspec knows.

    In a folder all ``traces*.jsonl`` and ``traces*.parquet`` files are read, and each process writes a shard
    of its own. One ``.jsonl`` file is shared: a lock lets one process write at a time. Nothing is created
    before the first trace is appended.

    Args:
        path: A folder, a file whose name ends in ``.jsonl``, or an address such as ``s3://bucket/traces``.
        sync: When lines are forced onto the disk: with every append (``always``), in the background after at
            most so many seconds (``interval:SECONDS``), or when the system likes (``never``). A crash of
            this process costs no line that was appended; a power cut those that were not forced yet. At an
            address, where nothing can be appended to a file, it says when a file is written instead, and a
            crash costs what waits: flush or close the store.

    Attributes:
        path: Where the store is.
        skipped: Broken lines met by the last reading.
        broken: The first 100 of them, with file and byte.

    Raises:
        StoreError: Nothing can be stored there.
        ConfigError: ``sync`` is no policy.
    """

    def __init__(self, path: str | Path, *, sync: str | bool = DEFAULT_SYNC) -> None:
        self.place = find_place(path)
        self.path = self.place.path if isinstance(self.place, LocalPlace) else self.place.address
        self.skipped = 0
        self.broken: tuple[BrokenLine, ...] = ()
        self._lock = threading.RLock()
        seconds = sync_seconds(sync)
        self._writer: LocalWriter | RemoteWriter
        if isinstance(self.place, RemotePlace):
            self._writer = RemoteWriter(self.place, seconds)
        else:
            self._writer = LocalWriter(self.place, seconds)

    @property
    def file(self) -> Path:
        """The local file that is appended to.

        Raises:
            StoreError: The store is at an address.
        """
        if isinstance(self._writer, RemoteWriter):
            raise StoreError(f"'{self.path}' has no file that is appended to: each flush writes another.")
        return self._writer.file

    def append(self, trace: Trace) -> None:
        """Adds a trace, whole or not at all.

        Raises:
            StoreError: The path cannot be written, or the disk is full.
        """
        line = format_line(trace)
        with self._lock:
            self._writer.append(line)

    def ensure_writable(self) -> None:
        """Creates the file if need be: call this before hours of work depend on it.

        Raises:
            StoreError: The path cannot be written, or is a file of something else, such as problems.
        """
        if isinstance(self.place, LocalPlace) and self.place.is_file:
            _check_is_of_traces(self.place)
        with self._lock:
            self._writer.ensure()

    def flush(self) -> None:
        """Forces what was appended onto the disk.

        Raises:
            StoreError: The disk refuses.
        """
        with self._lock:
            self._writer.flush()

    def close(self) -> None:
        """Flushes (a store that never syncs does not) and gives the file and its lock back."""
        with self._lock:
            self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Trace]:
        """The readable traces; broken lines are counted in ``skipped``.

        Raises:
            StoreError: A file cannot be read, or a newer version of this package wrote it.
        """
        reading = self.reading()
        try:
            yield from reading.traces()
        finally:
            self.note(reading)

    def where(self, wanted: Callable[[Any], Any]) -> Iterator[Trace]:
        """The traces, but of those in Parquet only some, chosen by columns: the others are never parsed.

        Args:
            wanted: Takes an Arrow batch with the columns of `parquet.FILTERS`, and gives an array of yes and
                no. Traces in JSON Lines are not asked about.

        Raises:
            StoreError: A file cannot be read, or a newer version of this package wrote it.
        """
        reading = self.reading()
        try:
            yield from reading.traces_where(wanted)
        finally:
            self.note(reading)

    def keys(self) -> set[tuple[str, int]]:
        """(problem id, sample) of every trace, without building the traces."""
        reading = self.reading()
        found = reading.keys()
        self.note(reading)
        return found

    def done(self) -> set[TraceKey]:
        """The keys of the runs that need not be made again, without building the traces."""
        reading = self.reading()
        found = reading.done()
        self.note(reading)
        return found

    def reading(self) -> Reading:
        """A reading of the store as it is now, with what was appended here so far."""
        own: tuple[str, ...] = ()
        with self._lock:
            if isinstance(self._writer, RemoteWriter):
                self._writer.flush()
            elif self._writer.is_open:
                own = (self._writer.file.name,)
        return Reading(self.place, own)

    def note(self, reading: Reading) -> None:
        """Takes over what a reading of this store could not read."""
        self.skipped, self.broken = reading.skipped, tuple(reading.broken)


def _check_is_of_traces(place: LocalPlace) -> None:
    """Looks at the first line of a file; one that is no JSON may be a trace that was torn."""
    try:
        with place.open(place.path.name) as file:
            first = next((line for line in file if line.strip()), b"")
    except OSError:  # it is not there, or writing to it says why
        return
    if not first or parse_record(first) is not None or not is_json(first):
        return
    raise StoreError(
        f"The store '{place.path}' is a file of JSON lines that are no traces, such as problems: they "
        "would be appended to. Pass another file, or a folder."
    )


def open_store(
    path: str | Path, *, must_exist: bool = False, sync: str | bool = DEFAULT_SYNC
) -> JsonlTraceStore:
    """Opens the store at a path (a folder or a .jsonl file) or an address.

    Args:
        path: Where the traces are or will be.
        must_exist: For readers: a path without any traces is an error, not an empty store.
        sync: When appended lines are forced onto the disk (see `JsonlTraceStore`).

    Raises:
        StoreError: The path cannot be a store, or is missing although it must exist.
        ConfigError: ``sync`` is no policy.
    """
    store = JsonlTraceStore(os.fspath(path) if isinstance(path, str) else path, sync=sync)
    if must_exist and not store.place.names():
        raise StoreError(
            f"There are no traces at '{path}'. Pass a .jsonl file or the folder of a collection."
        )
    return store
