"""When what was appended is forced onto the disk (fsync)."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from math import inf
from weakref import WeakMethod

from supercorrect_agent.errors import ConfigError

DEFAULT_SYNC = "interval:1"


def sync_seconds(policy: str | bool) -> float:
    """The longest time that a line may wait for the disk, in seconds: 0 with every append, infinite: never.

    Args:
        policy: ``always``, ``interval:SECONDS`` or ``never``; True and False are the first and the last.

    Raises:
        ConfigError: It is none of them.
    """
    if policy in ("always", True):
        return 0.0
    if policy in ("never", False):
        return inf
    name, _, text = str(policy).partition(":")
    try:
        seconds = float(text) if name == "interval" else -1.0
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < inf:
        raise ConfigError(
            f"`sync={policy!r}` is no policy. Pass 'always', 'interval:SECONDS' (such as {DEFAULT_SYNC!r}) "
            "or 'never'."
        )
    return seconds


class Syncing:
    """Forces a file onto the disk in the background, some time after it was first written to.

    Appends never wait. A failure is kept, and raised by the next `raise_failure`.

    Args:
        sync: Does it: a method, whose object may go.
        seconds: How long a write may wait.
    """

    def __init__(self, sync: Callable[[], None], seconds: float) -> None:
        self._sync, self._seconds = WeakMethod(sync), seconds  # a forgotten store gives its lock back
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._failure: OSError | None = None

    @property
    def waiting(self) -> bool:
        """Whether something was written and not forced yet."""
        return self._timer is not None

    def written(self) -> None:
        """Notes that something was written."""
        if self._timer is None and self._seconds < inf:
            timer = threading.Timer(self._seconds, self._run)
            timer.daemon = True
            self._timer = timer
            timer.start()

    def raise_failure(self) -> None:
        """Raises what a sync in the background failed with, once."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def stop(self) -> None:
        """Ends the waiting; the caller syncs itself, or does not want it."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        with self._lock:  # one that is under way ends before the file is closed
            pass

    def _run(self) -> None:
        with self._lock:
            if self._timer is not threading.current_thread():
                return
            self._timer = None
            sync = self._sync()
            try:
                if sync is not None:
                    sync()
            except OSError as error:
                self._failure = error


def sync_folder(path: str | os.PathLike[str]) -> None:
    """Forces a folder's list of names onto the disk, so that a new file is found after a power cut."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        os.fsync(descriptor)
    except OSError:  # some file systems have no such thing
        pass
    finally:
        os.close(descriptor)
