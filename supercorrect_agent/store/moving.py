"""New files beside a store's others, and the removal of those that are not needed any more."""

from __future__ import annotations

import os
from typing import BinaryIO, Protocol, cast

from supercorrect_agent.store.locks import lock
from supercorrect_agent.store.places import LocalPlace, RemotePlace
from supercorrect_agent.store.sync import sync_folder

_PART = ".part"


class Files(Protocol):
    """The files of a store, as a compaction changes them."""

    def create(self, name: str) -> BinaryIO:
        """Opens a new file under another name."""
        ...

    def commit(self, file: BinaryIO, name: str) -> None:
        """Closes it and gives it its name, at one moment."""
        ...

    def remove(self, name: str, size: int) -> None:
        """Removes a file if nobody writes to it and it has this size still."""
        ...

    def rename(self, name: str, to: str) -> None:
        """Gives a file another name; who has it open goes on with it."""
        ...

    def remove_unfinished(self) -> None:
        """Removes what was created and not committed."""
        ...


class LocalFiles:
    """Those of a local folder."""

    def __init__(self, place: LocalPlace) -> None:
        self._folder = place.path

    def create(self, name: str) -> BinaryIO:
        return open(self._folder / f".{name}{_PART}", "wb")

    def commit(self, file: BinaryIO, name: str) -> None:
        file.flush()
        os.fsync(file.fileno())
        file.close()
        os.replace(self._folder / f".{name}{_PART}", self._folder / name)
        sync_folder(self._folder)

    def remove(self, name: str, size: int) -> None:
        path = self._folder / name
        descriptor = os.open(path, os.O_RDWR)
        try:
            if lock(descriptor, wait=False) and os.fstat(descriptor).st_size == size:
                os.unlink(path)  # under the lock: who waits for it sees that the file is gone
        finally:
            os.close(descriptor)

    def rename(self, name: str, to: str) -> None:
        os.rename(self._folder / name, self._folder / to)
        sync_folder(self._folder)

    def remove_unfinished(self) -> None:
        for name in os.listdir(self._folder):
            if _is_unfinished(name):
                os.unlink(self._folder / name)


class RemoteFiles:
    """Those of a folder at an address."""

    def __init__(self, place: RemotePlace) -> None:
        self._place, self._system = place, place.system

    def create(self, name: str) -> BinaryIO:
        return cast(BinaryIO, self._system.open(self._place.path(f".{name}{_PART}"), "wb"))

    def commit(self, file: BinaryIO, name: str) -> None:
        file.close()
        self._system.mv(self._place.path(f".{name}{_PART}"), self._place.path(name))

    def remove(self, name: str, size: int) -> None:
        if self._place.size(name) == size:
            self._system.rm_file(self._place.path(name))

    def rename(self, name: str, to: str) -> None:
        self._system.mv(self._place.path(name), self._place.path(to))

    def remove_unfinished(self) -> None:
        for path in self._system.ls(self._place.root, detail=False):
            if _is_unfinished(str(path).rpartition("/")[2]):
                self._system.rm_file(path)


def files_of(place: LocalPlace | RemotePlace) -> Files:
    return LocalFiles(place) if isinstance(place, LocalPlace) else RemoteFiles(place)


def _is_unfinished(name: str) -> bool:
    return name.startswith((".traces", ".broken")) and name.endswith(_PART)
