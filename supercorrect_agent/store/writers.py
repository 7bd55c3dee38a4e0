"""Appending lines: to a local file in place, or as parts to where nothing can be appended in place."""

from __future__ import annotations

import os
import re
import secrets
import socket
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from math import inf
from pathlib import Path

from supercorrect_agent.store.locks import lock, unlock
from supercorrect_agent.store.places import LocalPlace, RemotePlace, unwritable
from supercorrect_agent.store.sync import Syncing, sync_folder

_APPEND = os.O_RDWR | os.O_APPEND | getattr(os, "O_BINARY", 0)
_SHARD = re.compile(r"traces-(0-)?\d{8}T\d{12}-.*[0-9a-f]{6}\.jsonl")
_PART_BYTES = 64 * 2**20
"""A part is written when so much waits for it, whatever the policy says."""


def shard_name() -> str:
    """The name of a new file of this process; names sort by time."""
    host = re.sub(r"[^A-Za-z0-9]+", "-", socket.gethostname())[:40].strip("-") or "host"
    return f"traces-{time_stamp()}-{host}-{os.getpid()}-{secrets.token_hex(3)}.jsonl"


def is_shard_name(name: str) -> bool:
    """Whether a file's name is of a shard, so that no other file will ever have it."""
    return _SHARD.fullmatch(name) is not None


def unique_name() -> str:
    """The name of a shard for lines that came under another; it is read before those of all processes."""
    return f"traces-0-{time_stamp()}-{secrets.token_hex(3)}.jsonl"


def time_stamp() -> str:
    """The time of day in UTC, to the microsecond, as a part of file names."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")


class LocalWriter:
    """Appends to one local file; each line whole or not at all, whoever else appends to it.

    Args:
        place: The store. Of a folder, this process has a shard of its own, whose lock it holds while it is
            open; a single file is shared with others and locked for each line.
        seconds: How long a line may wait for the disk.
    """

    def __init__(self, place: LocalPlace, seconds: float) -> None:
        self._place, self._seconds = place, seconds
        self._descriptor: int | None = None
        self._name: str | None = None
        self._whole = -1  # where the last whole line ended, as far as we know
        self._pid = os.getpid()
        self._syncing = Syncing(self._fsync, seconds)

    def __del__(self) -> None:
        if self._descriptor is not None:
            with suppress(OSError):
                if self._syncing.waiting and os.getpid() == self._pid:
                    os.fsync(self._descriptor)
                os.close(self._descriptor)

    @property
    def is_open(self) -> bool:
        return self._descriptor is not None

    @property
    def file(self) -> Path:
        if self._name is None:
            self._name = shard_name()
        return self._place.file(self._name)

    def ensure(self) -> None:
        try:
            self._open()
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            raise unwritable(str(self.file), error) from error

    def append(self, line: bytes) -> None:
        try:
            self._syncing.raise_failure()
            descriptor = self._open()
            while not self._append(descriptor, line):
                self._forget()  # somebody removed the file
                descriptor = self._open()
        except (OSError, ValueError) as error:
            raise unwritable(str(self.file), error) from error

    def flush(self) -> None:
        self._syncing.stop()
        try:
            self._syncing.raise_failure()
            self._fsync()
        except OSError as error:
            raise unwritable(str(self.file), error) from error

    def close(self) -> None:
        """Gives the file back; an empty shard is removed, and the next line begins a new one."""
        try:
            if self._seconds < inf:
                self.flush()
        finally:
            self._syncing.stop()
            if self._descriptor is not None:
                if not self._place.is_file and os.fstat(self._descriptor).st_size == 0:
                    self.file.unlink(missing_ok=True)
                self._forget()

    def _open(self) -> int:
        if self._descriptor is not None and os.getpid() != self._pid:
            self._forget()  # it is the parent's, which still holds its lock
            self._syncing = Syncing(self._fsync, self._seconds)
        if self._descriptor is None:
            self._descriptor, self._pid = self._create(), os.getpid()
        return self._descriptor

    def _forget(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor, self._name, self._whole = None, None, -1

    def _create(self) -> int:
        folder = self.file.parent
        folder.mkdir(parents=True, exist_ok=True)
        if not self._place.is_file:
            close_torn_lines(self._place)
        is_new = not self.file.exists()
        descriptor = os.open(self.file, _APPEND | os.O_CREAT, 0o666)
        if not self._place.is_file:
            lock(descriptor)
        if is_new and self._seconds < inf:
            sync_folder(folder)
        return descriptor

    def _append(self, descriptor: int, line: bytes) -> bool:
        """Adds a line; False if the file is none of the folder any more."""
        if not self._place.is_file:
            return self._append_locked(descriptor, line)
        lock(descriptor)
        try:
            return self._append_locked(descriptor, line)
        finally:
            unlock(descriptor)

    def _append_locked(self, descriptor: int, line: bytes) -> bool:
        found = os.fstat(descriptor)
        if not found.st_nlink:
            return False
        size = found.st_size
        if size not in (self._whole, 0) and not _ends_whole(descriptor, size):
            start = torn_start(descriptor, size)
            _warn(f"'{self.file}' ended in a torn line (from byte {start}); it was closed.")
            line = b"\n" + line
        try:
            written = os.write(descriptor, line)
            while written < len(line):
                written += os.write(descriptor, memoryview(line)[written:])
            if self._seconds == 0:
                os.fsync(descriptor)
        except BaseException:  # Ctrl-C too: no half line stays behind
            os.ftruncate(descriptor, size)
            raise
        self._whole = size + len(line)
        if self._seconds:
            self._syncing.written()
        return True

    def _fsync(self) -> None:
        if self._descriptor is not None:
            os.fsync(self._descriptor)


class RemoteWriter:
    """Writes what was appended as one new file at a time: object stores cannot append.

    Args:
        place: The store.
        seconds: How long a line may wait; longer if nothing is appended in the meantime.
    """

    def __init__(self, place: RemotePlace, seconds: float) -> None:
        self._place, self._seconds = place, seconds
        self._waiting: list[bytes] = []
        self._name = ""
        self._bytes = 0
        self._since = 0.0

    def ensure(self) -> None:
        probe = self._place.path(f".probe-{secrets.token_hex(3)}")

        def write() -> None:
            self._place.system.makedirs(self._place.root, exist_ok=True)
            self._place.system.pipe_file(probe, b"")
            self._place.system.rm_file(probe)

        self._try(write)

    def append(self, line: bytes) -> None:
        if not self._waiting:
            self._since, self._name = time.monotonic(), shard_name()
        self._waiting.append(line)
        self._bytes += len(line)
        if self._bytes >= _PART_BYTES or time.monotonic() - self._since >= self._seconds:
            self.flush()

    def flush(self) -> None:
        """Writes what waits; what cannot be written goes on waiting, for the same file.

        A write that fails may have arrived: another name would show its traces twice.
        """
        if not self._waiting:
            return
        path, data = self._place.path(self._name), b"".join(self._waiting)

        def write() -> None:
            self._place.system.makedirs(self._place.root, exist_ok=True)
            self._place.system.pipe_file(path, data)

        self._try(write)
        self._waiting, self._bytes = [], 0

    def close(self) -> None:
        self.flush()

    def _try(self, write: Callable[[], None]) -> None:
        try:
            write()
        except Exception as error:  # every file system has errors of its own
            raise unwritable(self._place.address, error) from error


def close_torn_lines(place: LocalPlace) -> None:
    """Ends the last lines of shards whose writers died in the middle of one, so that each is one line."""
    for name in place.names():
        if name.endswith(".jsonl"):
            try:
                _close_torn_line(place.file(name))
            except OSError:  # not ours to write; readers report the line
                continue


def _close_torn_line(path: Path) -> None:
    descriptor = os.open(path, _APPEND)
    try:
        size = os.fstat(descriptor).st_size
        if not size or _ends_whole(descriptor, size):
            return
        if not lock(descriptor, wait=False):  # its writer is at work
            return
        size = os.fstat(descriptor).st_size
        if size and not _ends_whole(descriptor, size):
            os.write(descriptor, b"\n")
            _warn(f"'{path}' ended in a torn line (from byte {torn_start(descriptor, size)}); it was closed.")
    finally:
        os.close(descriptor)


def torn_start(descriptor: int, size: int) -> int:
    """The byte at which the last line of a file begins."""
    end = size
    while end:
        start = max(0, end - 2**16)
        found = _read_at(descriptor, start, end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _ends_whole(descriptor: int, size: int) -> bool:
    return _read_at(descriptor, size - 1, 1) == b"\n"


def _read_at(descriptor: int, start: int, count: int) -> bytes:
    os.lseek(descriptor, start, os.SEEK_SET)  # appending does not look at the position
    return os.read(descriptor, count)


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=6)
