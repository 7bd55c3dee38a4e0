"""The folder a stage writes to, tried before the work starts: a result that cannot be saved is lost work."""

from __future__ import annotations

import tempfile
from pathlib import Path

from supercorrect_agent.errors import ConfigError


def make_folder(path: Path, *, argument: str) -> Path:
    """Makes a folder and writes to it once.

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
