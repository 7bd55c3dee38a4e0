"""Traces to files elsewhere: JSON Lines, Parquet, or a session file each. A path may be an fsspec address."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from supercorrect_agent.errors import ConfigError, StoreError
from supercorrect_agent.store.columns import record_row
from supercorrect_agent.store.lines import format_line, parse_record
from supercorrect_agent.store.parquet import TraceWriter
from supercorrect_agent.store.places import is_address, open_address, unwritable
from supercorrect_agent.store.sts import format_session
from supercorrect_agent.types import Trace

_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")


def check_output(store: str, output: str, *, force: bool) -> None:
    """Refuses an output that would be read as a part of the store, or replace what is there.

    Args:
        store: Where the traces are.
        output: Where they are to go.
        force: What is there may be replaced.

    Raises:
        ConfigError: It would, and ``force`` does not allow it. Nothing allows an output in the store.
    """
    with _refusing(output):
        root, target = _plain_path(store), _plain_path(output)
        if target == root or target.startswith(f"{root}/"):
            raise ConfigError(
                f"`--output {output}` is in the store '{store}', which would hold these traces twice. "
                "Pass a path outside of it."
            )
        if not force and _is_there(output):
            raise ConfigError(
                f"`--output {output}` is there already. Pass another path, or --force to replace it."
            )


def _plain_path(path: str) -> str:
    """A local path with links followed, or an address without a slash at its end."""
    scheme, _, rest = path.partition("://")
    if is_address(path) and scheme.lower() not in ("file", "local"):
        return path.rstrip("/")
    return os.path.realpath(rest if is_address(path) else path)


def _is_there(output: str) -> bool:
    """Whether there is a file, or a folder with anything in it."""
    if is_address(output):
        system, path = open_address(output)
        return bool(system.find(path))
    return bool(os.listdir(output)) if os.path.isdir(output) else os.path.lexists(output)


def export_jsonl(traces: Iterable[Trace], output: str | Path) -> int:
    """Writes traces to one file, a JSON object a line, and says how many there were.

    Raises:
        StoreError: The file cannot be written.
    """
    with new_file(output) as file:
        return sum(1 for trace in traces if file.write(format_line(trace)))


def export_parquet(traces: Iterable[Trace], output: str | Path) -> int:
    """Writes traces to one Parquet file with the columns of a compacted store, and says how many there were.

    Raises:
        StoreError: The file cannot be written, or pyarrow is not installed.
    """
    with new_file(output) as file:
        writer = TraceWriter(file)
        for trace in traces:
            text = format_line(trace)
            row = record_row(cast(dict[str, Any], parse_record(text)), text.decode().rstrip("\n"))
            writer.add(cast(dict[str, Any], row))  # a trace has all that a row needs
        writer.close()
    return writer.rows


def export_sessions(traces: Iterable[Trace], output: str | Path) -> int:
    """Writes a file a trace for Hugging Face's trace viewer, ``TRACE-ID.jsonl`` in a folder.

    Raises:
        StoreError: The folder cannot be written.
    """
    numbers: dict[str, int] = {}
    write = _folder_writer(output)
    written = 0
    for trace in traces:
        name = id_name = _UNSAFE.sub("-", trace.id).strip(".-")[:100] or "trace"
        while name in numbers:
            numbers[id_name] += 1
            name = f"{id_name}-{numbers[id_name]}"
        numbers[name] = 1
        write(f"{name}.jsonl", format_session(trace).encode())
        written += 1
    return written


@contextmanager
def new_file(output: str | Path) -> Iterator[BinaryIO]:
    """A file that takes its name when it is whole; one that was there before stays until then.

    Raises:
        StoreError: It cannot be written.
    """
    if is_address(output):
        system, path = open_address(str(output))
        with _refusing(output):
            try:
                with system.open(f"{path}.part", "wb") as file:
                    yield cast(BinaryIO, file)
                system.mv(f"{path}.part", path)
            finally:
                if system.exists(f"{path}.part"):
                    system.rm_file(f"{path}.part")
        return
    final, part = Path(output), Path(f"{output}.part")
    with _refusing(output):
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.is_dir():
            raise IsADirectoryError(21, "Is a directory")
        try:
            with part.open("wb") as file:
                yield file
            os.replace(part, final)
        finally:
            part.unlink(missing_ok=True)


def _folder_writer(output: str | Path) -> Callable[[str, bytes], None]:
    if is_address(output):
        system, root = open_address(str(output))

        def put(name: str, data: bytes) -> None:
            with _refusing(output):
                system.makedirs(root, exist_ok=True)
                system.pipe_file(f"{root}/{name}", data)

        return put

    def write(name: str, data: bytes) -> None:
        with _refusing(output):
            os.makedirs(output, exist_ok=True)
            (Path(output) / name).write_bytes(data)

    return write


@contextmanager
def _refusing(output: str | Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        if isinstance(error, StoreError | ConfigError):
            raise
        raise unwritable(str(output), error) from error
