"""Files by name: a path, a folder, a pattern or any fsspec address, compressed or not."""

from __future__ import annotations

import glob
import gzip
import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, cast

from supercorrect_agent.errors import DataError

_COMPRESSED: dict[str, Callable[[Any], Any]] = {
    ".gz": lambda raw: gzip.GzipFile(fileobj=raw),
    ".bz2": lambda raw: import_module("bz2").BZ2File(raw),
    ".xz": lambda raw: import_module("lzma").LZMAFile(raw),
    ".zst": lambda raw: load_extra("pyarrow", "zstd").CompressedInputStream(raw, "zstd"),
}
_ROWS = (".jsonl", ".ndjson", ".parquet", ".pq", ".csv", ".tsv")
_SPLITS = {
    "train": "train", "training": "train", "test": "test", "testing": "test", "dev": "dev", "val": "dev",
    "valid": "dev", "validation": "dev", "eval": "dev", "evaluation": "dev",
}  # fmt: skip
_SPLIT_WORD = re.compile(rf"(?<![a-z])(?:{'|'.join(_SPLITS)})(?![a-z])")


def load_extra(module: str, what: str) -> Any:
    """Imports a library of the extra `data`.

    Args:
        module: Its name.
        what: What needs it, such as ``'x.parquet'``.

    Raises:
        DataError: It is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise DataError(
            f"{what} needs {module.partition('.')[0]} ({error}). "
            "Install it: pip install 'supercorrect-agent[data]'."
        ) from error


def find_files(source: str, split: str) -> list[str]:
    """The files that a name stands for, in the order of their names.

    Of a folder whose files or folders are named after splits (``train-00000.parquet``, ``test.jsonl``) only
    those of ``split`` are taken.

    Raises:
        DataError: A folder has no such split, or nothing that can be read.
        OSError: Nothing is there.
    """
    if "::" in source:  # a file within a file
        return [source]
    if "://" in source:
        system, path = load_extra("fsspec.core", f"'{source}'").url_to_fs(source)
        is_folder = system.isdir(path)
        found = (
            system.find(path) if is_folder else sorted(system.glob(path)) if glob.has_magic(path) else [path]
        )
        if not (is_folder or glob.has_magic(path)):
            return [source]
        root, files = path, [system.unstrip_protocol(each) for each in found]
    else:
        is_folder = os.path.isdir(source)
        if not is_folder and (os.path.exists(source) or not glob.has_magic(source)):
            return [source]
        root = os.path.normpath(source)
        walked = (os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names)
        files = sorted(path for path in (walked if is_folder else glob.iglob(source)) if os.path.isfile(path))
    if is_folder:
        files = _of_split(source, root, _with_rows(files, root), split)
    if not files:
        raise DataError(f"`{source}` has no files that can be read. Pass JSON Lines, Parquet or CSV.")
    return files


def canonical_split(name: str) -> str:
    """``validation``, ``val`` and the like are one split, ``dev``."""
    return _SPLITS.get(name.lower(), name.lower())


@contextmanager
def open_file(path: str) -> Iterator[BinaryIO]:
    """Opens a file for reading, and unpacks it by its last suffix."""
    with ExitStack() as opened:
        raw: Any
        if "://" in path:
            system, inside = load_extra("fsspec.core", f"'{path}'").url_to_fs(path)
            raw = opened.enter_context(system.open(inside, "rb"))
        else:
            raw = opened.enter_context(open(path, "rb"))
        suffix = Path(path).suffix.lower()
        if suffix in _COMPRESSED:
            raw = opened.enter_context(_COMPRESSED[suffix](raw))
        yield cast(BinaryIO, raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(raw))


def format_of(path: str) -> str:
    """``parquet``, ``csv``, ``tsv``, ``json`` or, for every other suffix, ``jsonl``."""
    suffix = Path(_unpacked(path)).suffix.lower().removeprefix(".")
    return {"pq": "parquet"}.get(suffix, suffix if suffix in ("parquet", "csv", "tsv", "json") else "jsonl")


def stem_of(path: str) -> str:
    """A file's or folder's name without its suffixes for format and compression."""
    return Path(_unpacked(path.rstrip("/"))).stem


def _unpacked(path: str) -> str:
    return path[: -len(Path(path).suffix)] if Path(path).suffix.lower() in _COMPRESSED else path


def _with_rows(files: list[str], root: str) -> list[str]:
    """Files with rows; ``.json`` only where there are no others, for it is mostly about the data."""
    shown = [each for each in files if not re.search(r"/[._]", each[each.find(root) + len(root) :])]
    for suffixes in (_ROWS, (".json",)):
        kept = [each for each in shown if _unpacked(each).lower().endswith(suffixes)]
        if kept:
            return kept
    return []


def _of_split(source: str, root: str, files: list[str], split: str) -> list[str]:
    splits: dict[str, list[str]] = {}
    for each in files:
        inside = each[each.find(root) + len(root) :]
        words = _SPLIT_WORD.findall(inside.lower())
        splits.setdefault(_SPLITS[words[-1]] if words else "", []).append(each)
    if set(splits) <= {""}:
        return files
    if canonical_split(split) not in splits:
        raise DataError(
            f"`{source}` has no files of split '{split}', only of {', '.join(sorted(filter(None, splits)))}. "
            "Pass one of these, or the files themselves."
        )
    return splits[canonical_split(split)]
