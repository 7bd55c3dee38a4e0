"""Locks on files that the system gives back when their process ends, however it ends."""

from __future__ import annotations

import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows knows no such locks: there, files are written without
    fcntl = None  # type: ignore[assignment]

HAS_LOCKS = fcntl is not None


def lock(descriptor: int, *, wait: bool = True) -> bool:
    """Locks an open file against everybody else; False if it is locked and one does not wait."""
    if fcntl:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
    return True


def unlock(descriptor: int) -> None:
    """Gives the lock back before the file is closed."""
    if fcntl:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def is_locked(path: Path) -> bool:
    """Whether another open file holds the lock of this one. A file that is gone is not locked."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not lock(descriptor, wait=False)
    finally:
        os.close(descriptor)
