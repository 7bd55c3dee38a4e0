"""Claims: several processes on one local store share the work, and nothing is done twice.

A process claims a run before it makes it. The claims lie in an SQLite table beside the traces; who is alive
is told by a lock on a file that each process holds, which the system gives back however the process ends. A
claim of a process that died is another's to take over, unless its trace is in the store: so nothing is lost.
"""

from __future__ import annotations

import errno
import os
import secrets
import socket
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from supercorrect_agent.errors import StoreError
from supercorrect_agent.store.jsonl import open_store
from supercorrect_agent.store.locks import HAS_LOCKS, is_locked, lock
from supercorrect_agent.store.places import LocalPlace, find_place
from supercorrect_agent.store.protocol import TraceKey

T = TypeVar("T")
_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
_WAIT = 60.0
"""Seconds that a claim waits for others' claims."""


class Claims:
    """The runs that this process has taken, out of all processes of this machine on one store.

    Args:
        path: The store: a local folder or ``.jsonl`` file. The claims lie in its subfolder ``claims`` (of a
            file, beside it).

    Raises:
        StoreError: The store is at an address, or its folder cannot be written, or the system has no locks
            that end with their process.
    """

    def __init__(self, path: str | Path) -> None:
        place = find_place(path)
        if not isinstance(place, LocalPlace) or not HAS_LOCKS:
            what = "is at an address" if HAS_LOCKS else "is on a system without file locks"
            raise StoreError(
                f"The store '{path}' {what}, where runs cannot be claimed. Give each process a part of the "
                "problems of its own: `--part 1/2` and `--part 2/2`."
            )
        self._path = path
        self._folder = (
            place.path.with_name(f"{place.path.name}.claims") if place.is_file else place.path / "claims"
        )
        self._owner = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._lock = threading.Lock()
        self._dead: set[str] = set()
        self._finished: set[TraceKey] = set()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._alive = self._hold(self._owner)
            self._database = _connect(self._folder / "claims.sqlite")
        except (OSError, ValueError, sqlite3.Error) as error:
            raise self._unusable(error) from error

    def claim(self, key: TraceKey) -> bool:
        """Takes a run, for good: whoever holds it stores its trace, or gives it back.

        Returns:
            False if it is taken, by another process or this one, or was finished by one that is gone.

        Raises:
            StoreError: The claims cannot be written.
        """
        with self._lock:
            while True:
                owner = self._try(lambda: self._take(key, ""))
                if owner is None:
                    return True
                if owner == self._owner or self._is_alive(owner) or key in self._finished:
                    return False
                if self._try(lambda owner=owner: self._take(key, owner)) is None:  # type: ignore[misc]
                    return True

    def release(self, key: TraceKey) -> None:
        """Gives a run back that was not finished: its trace is not stored, and another process may make it.

        A run whose trace was stored stays claimed, so that nobody makes it again.

        Raises:
            StoreError: The claims cannot be written.
        """
        delete = "DELETE FROM claims WHERE key = ? AND owner = ?"
        with self._lock:
            self._try(lambda: self._database.execute(delete, (key, self._owner)))

    def close(self) -> None:
        """Ends this process's work. What it stored stays claimed; others may take the rest over."""
        with self._lock:
            self._database.close()
            if self._alive is not None:
                with suppress(OSError):
                    os.unlink(self._owner_file(self._owner))
                os.close(self._alive)
                self._alive = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take(self, key: TraceKey, dead: str) -> str | None:
        """Makes a claim ours if nobody's, or of the owner who is known to be dead; else says whose it is."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            row = self._database.execute("SELECT owner FROM claims WHERE key = ?", (key,)).fetchone()
            if row is None or row[0] == dead:
                self._database.execute("INSERT OR REPLACE INTO claims VALUES (?, ?)", (key, self._owner))
            self._database.execute("COMMIT")
        except BaseException:
            self._database.rollback()
            raise
        return None if row is None or row[0] == dead else str(row[0])

    def _is_alive(self, owner: str) -> bool:
        """Whether a process is at work; what those finished that are not is read from the store, at once."""
        if owner in self._dead:
            return False
        if is_locked(self._owner_file(owner)):
            return True
        others = (file.stem for file in self._folder.glob("*.alive") if not is_locked(file))
        self._dead |= {owner, *others}
        self._finished |= open_store(self._path).done()  # after their death, so nothing of them is missing
        return False

    def _hold(self, owner: str) -> int | None:
        """Takes the lock that says that this process is alive, before it claims anything."""
        file = self._owner_file(owner)
        unlocked = file.with_suffix(".new")  # under its own name, others would take it for dead
        descriptor = os.open(unlocked, os.O_RDWR | os.O_CREAT, 0o666)
        lock(descriptor)
        os.rename(unlocked, file)
        return descriptor

    def _owner_file(self, owner: str) -> Path:
        return self._folder / f"{owner}.alive"

    def _try(self, act: Callable[[], T]) -> T:
        try:
            return act()
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> StoreError:
        remedy = "Make it writable, or remove it if no process works on this store."
        if _is_full(error):
            remedy = "Free space there; a limit on the size of files (`ulimit -f`) counts too."
        return StoreError(f"Runs cannot be claimed in '{self._folder}': {error}. {remedy}")


def _is_full(error: Exception) -> bool:
    """Whether no more can be written. SQLite calls a file that may not grow a failed write."""
    if isinstance(error, OSError):
        return error.errno in _FULL
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)


def _connect(file: Path) -> sqlite3.Connection:
    database = sqlite3.connect(file, timeout=_WAIT, isolation_level=None, check_same_thread=False)
    with file.with_name("claims.lock").open("ab") as guard:
        lock(guard.fileno())  # SQLite does not wait for another process that turns the log on
        database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")  # a power cut ends all owners anyway
    database.execute("CREATE TABLE IF NOT EXISTS claims (key BLOB PRIMARY KEY, owner TEXT) WITHOUT ROWID")
    return database
