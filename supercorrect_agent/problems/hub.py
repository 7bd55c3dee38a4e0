"""Data sets of Hugging Face: of the hub, by name, or a folder that `datasets` saved or can load."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from supercorrect_agent.errors import DataError, SuperCorrectError
from supercorrect_agent.problems.files import canonical_split, load_extra
from supercorrect_agent.problems.rows import Columns, Row, unreadable

PREFIX = "hf:"
_SPLIT_NAMES = ("train", "test", "dev")


def is_data_set(source: str) -> bool:
    """Whether a source names a data set: by ``hf:``, or as a folder of ``save_to_disk``."""
    return is_named(source) or _is_saved(source)


def is_named(source: str) -> bool:
    """Whether a source is ``hf:NAME``; ``hf://...`` is an address of a file."""
    return source.startswith(PREFIX) and not source.startswith(f"{PREFIX}//")


def _is_saved(source: str) -> bool:
    return any(os.path.isfile(f"{source}/{name}") for name in ("dataset_dict.json", "state.json"))


def read_data_set(source: str, split: str, columns: Columns, *, argument: str) -> tuple[Iterator[Row], str]:
    """The rows of a data set, and the name of their split.

    Args:
        source: ``hf:NAME[:CONFIG][:SPLIT]``, where NAME may be a folder, or a folder of ``save_to_disk``.
            ``hf:NAME::SPLIT`` leaves the configuration open.
        split: Which split is taken where the source names none.
        columns: Asked for the columns.
        argument: What the user calls the source.

    Returns:
        The rows, read as they are asked for, and the split: the one that was asked for, or what the data
        set calls itself where it has no splits.

    Raises:
        DataError: It cannot be loaded, or has no such split.
    """
    name, config, own = _parts(source)
    try:
        datasets = load_extra("datasets", f"'{source}'")
        if _is_saved(name):
            loaded = datasets.load_from_disk(name)
        else:
            loaded = datasets.load_dataset(name, config, streaming=True)
        chosen = _choose(loaded, own or split, source) if isinstance(loaded, dict) else loaded
    except SuperCorrectError:
        raise
    except Exception as error:  # the library, the hub and the file system raise their own
        raise unreadable(argument, source, error) from error
    kind = own or (split if isinstance(loaded, dict) else str(chosen.split or split))
    return _rows(chosen, source, columns, argument), kind


def _rows(data: Any, source: str, columns: Columns, argument: str) -> Iterator[Row]:
    try:
        if data.column_names:
            data = data.select_columns(columns(list(data.column_names), source))
        for number, row in enumerate(data, 1):
            yield f"{source}:{number}", row
    except SuperCorrectError:
        raise
    except Exception as error:  # as above
        raise unreadable(argument, source, error) from error


def _parts(source: str) -> tuple[str, str | None, str | None]:
    if not source.startswith(PREFIX):
        return source, None, None
    parts = source.removeprefix(PREFIX).split(":")
    if len(parts) > 3 or not parts[0]:
        raise DataError(f"`{source}` is no data set. Write hf:NAME, hf:NAME:CONFIG or hf:NAME:CONFIG:SPLIT.")
    if len(parts) == 1:
        return parts[0], None, None
    if len(parts) == 2 and canonical_split(parts[1]) in _SPLIT_NAMES:
        return parts[0], None, parts[1]
    return parts[0], parts[1] or None, (parts[2] or None) if len(parts) == 3 else None


def _choose(splits: dict[str, Any], split: str, source: str) -> Any:
    wanted = canonical_split(split)
    found = [name for name in splits if name == split] or [
        name for name in splits if canonical_split(name) == wanted
    ]
    if not found:
        raise DataError(
            f"`{source}` has no split '{split}', only {', '.join(splits)}. Name one of these: "
            f"{PREFIX}NAME:CONFIG:SPLIT, or as `split`."
        )
    return splits[found[0]]
