"""The folders and files that stages write: tried before the work starts, whole or not there after a crash."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from supercorrect_agent.errors import ConfigError


def make_folder(path: Path, *, argument: str) -> Path:
    """Makes a folder and writes to it once: a result that cannot be saved is lost work.

    Args:
        path: The folder.
        argument: What the user calls it, for the message.

    Raises:
        ConfigError: It cannot be made or written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise ConfigError(
            f"`{argument}={path}` cannot be written ({error.strerror}). Choose another folder."
        ) from error


def replace_text(path: Path, text: str) -> None:
    """Writes a file in one step: a process that is killed leaves the old one or the new one, nothing between.

    Raises:
        OSError: It cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def hold_folder(path: Path, *, argument: str) -> Iterator[tuple[int, ...]]:
    """Keeps other runs out of a folder until the end, or until this process and its children are gone.

    Yields:
        The file descriptor of the lock, for children that work on after a crash of this process; nothing
        where the platform has no such locks.

    Raises:
        ConfigError: Another run is at work there.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield ()
        return
    with (path / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                f"Another run is at work in `{argument}={path}`. Wait for its end, or choose another folder."
            ) from error
        yield (file.fileno(),)
