"""What a collection would spoil or lose is refused before the first call: its problems, its summary."""

from __future__ import annotations

import glob
import os
import tempfile
from pathlib import Path

from supercorrect_agent.errors import ConfigError
from supercorrect_agent.store.places import LocalPlace, find_place, in_reading_order
from training.config import CollectionConfig


def check_outputs(config: CollectionConfig) -> None:
    """Checks that the store is not among the problems, and that the summary spoils neither.

    Raises:
        ConfigError: It is, or it does, or it cannot be written.
    """
    place = find_place(config.store)
    sources = [("problems", config.problems), *(("held_out", source) for source in config.held_out)]
    if isinstance(place, LocalPlace):
        for argument, source in sources:
            if place.is_file and _holds(source, place.path):
                raise ConfigError(
                    f"`store={config.store}` is a file of `{argument}={source}`: traces would be appended to "
                    "the problems. Pass another `--store`, such as a folder."
                )
            if os.path.isdir(source) and _holds(source, place.path):
                raise ConfigError(
                    f"`store={config.store}` lies in `{argument}={source}`: traces would be read as "
                    "problems. Pass another `--store`."
                )
    if config.summary is not None:
        spoiled = [f"{name}={source}" for name, source in sources if _holds(source, config.summary)]
        if isinstance(place, LocalPlace) and _is_of_store(place, config.summary):
            spoiled.append(f"store={config.store}")
        if spoiled:
            raise ConfigError(
                f"`summary={config.summary}` is a file of `{spoiled[0]}`, which it would spoil. Pass another."
            )
        _check_summary(config.summary)


def _is_of_store(place: LocalPlace, file: Path) -> bool:
    """Whether a file of this name holds traces there."""
    if place.is_file:
        return file.resolve() == place.path.resolve()
    return file.parent.resolve() == place.path.resolve() and bool(in_reading_order([file.name]))


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
