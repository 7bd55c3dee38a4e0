"""What a collection would spoil or lose is refused before the first call: its problems, its summary."""

from __future__ import annotations

import glob
import os
import tempfile
from pathlib import Path

from supercorrect_agent.errors import ConfigError
from supercorrect_agent.store.places import LocalPlace, find_place
from training.config import CollectionConfig


def check_outputs(config: CollectionConfig) -> None:
    """Checks that the store is none of the problem files, and that the summary can be written.

    Raises:
        ConfigError: It is one, or it cannot.
    """
    place = find_place(config.store)
    if isinstance(place, LocalPlace) and place.is_file:
        for argument, source in [("problems", config.problems), *(("held_out", s) for s in config.held_out)]:
            if _holds(source, place.path):
                raise ConfigError(
                    f"`store={config.store}` is a file of `{argument}={source}`: traces would be appended to "
                    "the problems. Pass another `--store`, such as a folder."
                )
    if config.summary is not None:
        _check_summary(config.summary)


def _holds(source: str, file: Path) -> bool:
    """Whether a file is read where these problems are."""
    try:
        if os.path.isdir(source):
            return file.resolve().is_relative_to(Path(source).resolve())
        local = find_place(source.partition("::")[0])
        found = [local.path] if isinstance(local, LocalPlace) else []
        named = [*found, *(map(Path, glob.glob(source)) if glob.has_magic(source) else ())]
        return any(each.resolve() == file.resolve() for each in named)
    except Exception:  # no place of a store, so not this one: reading the problems says what is wrong
        return False


def _check_summary(path: Path) -> None:
    try:
        if path.is_dir():
            raise IsADirectoryError(21, "Is a directory")
        with tempfile.TemporaryFile(dir=path.parent):
            return
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"`summary={path}` cannot be written ({reason}). Pass a file in a folder that you may write to."
        ) from error
