"""Where a store's files lie: a local folder, one local file, or a folder at any address that fsspec knows."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, cast

from supercorrect_agent.errors import StoreError
from supercorrect_agent.store.locks import is_locked

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem  # type: ignore[import-untyped]

_KINDS = (".parquet", ".jsonl")  # compacted traces are read first: they are older
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.I)
_FOLDED = re.compile(r"([a-z][a-z0-9+.-]+):/(?!/)", re.I)
_BUFFER = 2**20


class Place(Protocol):
    """The files of one store, by name."""

    @property
    def address(self) -> str:
        """Where it is, as it was given."""
        ...

    def names(self) -> list[str]:
        """The files that hold traces, in reading order."""
        ...

    def open(self, name: str) -> BinaryIO:
        """Opens one of them for reading."""
        ...

    def size(self, name: str) -> int:
        """Its bytes."""
        ...

    def where(self, name: str) -> str:
        """Its address, for messages."""
        ...

    def is_live(self, name: str) -> bool:
        """Whether a process is at work that appends to it, so that a torn end may still be completed."""
        ...


class LocalPlace:
    """A folder whose ``traces*`` files are read, or one ``.jsonl`` file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_file = path.suffix == ".jsonl" and not os.path.isdir(path)
        if not self.is_file and os.path.isfile(path):
            raise StoreError(
                f"The store path '{path}' is a file, but no .jsonl file. Pass a folder or a .jsonl file."
            )

    @property
    def address(self) -> str:
        return str(self.path)

    def names(self) -> list[str]:
        if self.is_file:
            return [self.path.name] if os.path.exists(self.path) else []
        try:
            return in_reading_order(os.listdir(self.path))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return []
        except OSError as error:
            raise unreadable(self.address, error) from error

    def file(self, name: str) -> Path:
        return self.path if self.is_file else self.path / name

    def open(self, name: str) -> BinaryIO:
        return open(self.file(name), "rb", buffering=_BUFFER)

    def size(self, name: str) -> int:
        return os.stat(self.file(name)).st_size

    def where(self, name: str) -> str:
        return str(self.file(name))

    def is_live(self, name: str) -> bool:
        return is_locked(self.file(name))


class RemotePlace:
    """A folder at an address such as ``s3://bucket/traces`` or ``memory://traces``."""

    def __init__(self, address: str) -> None:
        self._address = address.rstrip("/")
        self.system, self.root = open_address(self._address)

    @property
    def address(self) -> str:
        return self._address

    def names(self) -> list[str]:
        try:
            self.system.invalidate_cache(self.root)
            found = self.system.ls(self.root, detail=False)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise unreadable(self._address, error) from error
        return in_reading_order([str(path).rstrip("/").rpartition("/")[2] for path in found])

    def path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def open(self, name: str) -> BinaryIO:
        return cast(BinaryIO, self.system.open(self.path(name), "rb"))

    def size(self, name: str) -> int:
        return int(self.system.size(self.path(name)) or 0)

    def where(self, name: str) -> str:
        return f"{self._address}/{name}"

    def is_live(self, name: str) -> bool:
        return False  # a part is written whole


def find_place(path: str | os.PathLike[str]) -> LocalPlace | RemotePlace:
    """The place at a path or an address.

    Raises:
        StoreError: Nothing can be there: a file of another kind, or a scheme that is not installed.
    """
    text = str(path)
    if not isinstance(path, str):  # a Path folds `s3://bucket` to `s3:/bucket`, and `file:///x` to `file:/x`
        text = _FOLDED.sub(r"\1:///" if text[:5].lower() in ("file:", "local") else r"\1://", text, count=1)
    if not is_address(text):
        return LocalPlace(Path(text))
    scheme, _, rest = text.partition("://")
    return LocalPlace(Path(rest)) if scheme.lower() in ("file", "local") else RemotePlace(text)


def is_address(path: str | os.PathLike[str]) -> bool:
    """Whether fsspec opens this path, not the system."""
    return bool(_ADDRESS.match(str(path)))


def open_address(address: str) -> tuple[AbstractFileSystem, str]:
    """The file system of an address, and the path in it.

    Raises:
        StoreError: fsspec, or what it needs for this scheme, is not installed.
    """
    try:
        from fsspec.core import url_to_fs  # type: ignore[import-untyped]
    except ImportError as missing:
        raise StoreError(
            f"'{address}' needs fsspec. Install it: pip install 'supercorrect-agent[data]'."
        ) from missing
    try:
        system, root = url_to_fs(address)
    except (ImportError, ValueError, OSError) as error:
        raise StoreError(
            f"'{address}' cannot be opened: {error}. Install its file system, or pass a folder."
        ) from error
    return system, str(root).rstrip("/")


def in_reading_order(names: list[str]) -> list[str]:
    """The names of trace files: Parquet, then a single writer's file of old, then shards by their time."""
    found = [name for name in names if name.startswith("traces") and name.endswith(_KINDS)]
    return sorted(found, key=lambda name: (name.endswith(".jsonl"), name != "traces.jsonl", name))


def unreadable(where: str, error: Exception) -> StoreError:
    reason = getattr(error, "strerror", None) or error
    return StoreError(f"Traces cannot be read from '{where}': {reason}. {remedy(error)}")


def unwritable(where: str, error: Exception) -> StoreError:
    reason = getattr(error, "strerror", None) or error
    return StoreError(f"Traces cannot be written to '{where}': {reason}. {remedy(error)}")


def remedy(error: Any) -> str:
    if isinstance(error, NotADirectoryError | FileExistsError):
        return "A part of the path is a file; pass a folder or a .jsonl file somewhere else."
    if isinstance(error, IsADirectoryError):
        return "Pass the folder itself, or another file name."
    return "Pass a path that you may write to, or free space and permissions there."
