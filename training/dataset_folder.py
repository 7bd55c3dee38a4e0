"""Dataset folders: rows as Parquet, a manifest, and a card with which `datasets` and TRL read them as is.

``manifest.json`` is written last and removed before anything else is replaced, so a folder that has one is
whole.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from supercorrect_agent.errors import DataError
from training.dataset_card import dataset_card
from training.folders import replace_text
from training.manifest import Manifest, Row

if TYPE_CHECKING:
    from datasets import Dataset

_SPLITS = ("train", "test")
_BATCH = 1000
"""Rows in memory while writing."""


def save_dataset(folder: Path, rows: Sequence[Row], manifest: Manifest) -> Path:
    """Writes rows (a file a split), card and manifest; what an earlier run left there goes first.

    Args:
        folder: Where to; made if need be.
        rows: Rows of one builder. Their key ``split`` says which file they go to and is left out there.
        manifest: The builder's.

    Raises:
        DataError: There is no training row, or the folder cannot be written.
    """
    if not manifest.kept:
        counts = {**manifest.dropped, **({"split test": manifest.kept_test} if manifest.kept_test else {})}
        reasons = ", ".join(f"{reason}: {count}" for reason, count in counts.items()) or "no traces"
        raise DataError(
            f"No training row is left for '{folder}' ({reasons}). Collect more traces, or relax the options."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_splits(folder, rows, _SPLITS if manifest.kept_test else _SPLITS[:1])
        replace_text(folder / "README.md", dataset_card(manifest))
        replace_text(folder / "manifest.json", manifest.model_dump_json(indent=2) + "\n")
    except OSError as error:
        raise DataError(
            f"`output={folder}` cannot be written ({error.strerror}). Choose another folder."
        ) from error
    return folder


def load_rows(folder: Path, split: str = "train") -> tuple[Dataset, Manifest]:
    """Reads one split of a dataset folder, mapped from disk by way of the cache of `datasets` (``HF_HOME``).

    The cache's entry carries the hashes of rows and traces: rows that were written anew are never taken from
    it.

    Raises:
        DataError: The folder or the split is missing or incomplete.
    """
    manifest = load_manifest(folder)
    counts = {"train": manifest.kept, "test": manifest.kept_test}
    if not counts.get(split):
        raise DataError(
            f"`data={folder}` has no split `{split}`. "
            "Build it with a share of the problems in it: `python -m training.data --test_share 0.1`."
        )
    import datasets

    path, digest = folder / f"{split}.parquet", manifest.test_hash if split == "test" else manifest.data_hash
    try:
        with path.open("rb"), _no_progress_bars():
            name = f"{split}-{digest[:16]}-{manifest.trace_hash[:8]}"
            rows = datasets.Dataset.from_parquet(glob.escape(str(path)), split=split, config_name=name)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"'{path}' cannot be read ({_first_line(error)}). Build it anew with `python -m training.data`; "
            "if it is the cache that cannot be written, set HF_HOME to a folder that can."
        ) from error
    if len(rows) != counts[split]:
        raise DataError(
            f"'{path}' holds {len(rows)} rows, but its manifest counts {counts[split]}. "
            "Build it anew with `python -m training.data`."
        )
    return rows, manifest


def load_manifest(folder: Path) -> Manifest:
    """Reads the manifest of a dataset folder.

    Raises:
        DataError: There is none, or it is none of this version.
    """
    try:
        return Manifest.model_validate_json((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"`data={folder}` is not a dataset folder ({_first_line(error)}). "
            "Build one with `python -m training.data`."
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _write_splits(folder: Path, rows: Sequence[Row], splits: Iterable[str]) -> None:
    parts = {split: folder / f".{split}.parquet.part" for split in splits}
    try:
        _write_parquet(parts, rows)
        (folder / "manifest.json").unlink(missing_ok=True)
        for split in _SPLITS:
            (folder / f"{split}.parquet").unlink(missing_ok=True)
        for split, part in parts.items():
            part.replace(folder / f"{split}.parquet")
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def write_rows(file: BinaryIO, rows: Sequence[Row]) -> None:
    """Writes rows of one split, of which there is at least one, as Parquet to an open file."""
    _write_parquet({"train": file}, rows)


def _write_parquet(paths: Mapping[str, Path | BinaryIO], rows: Sequence[Row]) -> None:
    """Writes each split's rows to its file, a batch at a time."""
    import pyarrow  # type: ignore[import-untyped]
    from pyarrow.parquet import ParquetWriter  # type: ignore[import-untyped]

    schema = _schema(rows[0])
    waiting: dict[str, list[Row]] = {split: [] for split in paths}
    with ExitStack() as files:
        writers = {
            split: files.enter_context(ParquetWriter(path, schema, compression="zstd"))
            for split, path in paths.items()
        }

        def write(split: str) -> None:
            columns = [_column([row[field.name] for row in waiting[split]], field.type) for field in schema]
            writers[split].write_table(pyarrow.Table.from_arrays(columns, schema=schema))
            waiting[split].clear()

        for row in rows:
            split = row.get("split", "train")
            waiting[split].append(row)
            if len(waiting[split]) == _BATCH:
                write(split)
        for split in paths:
            write(split)


def _schema(row: Row) -> Any:
    """The columns of a row: messages, whole numbers, yes or no, and texts."""
    import pyarrow

    messages = pyarrow.list_(pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())]))
    kinds = {list: messages, bool: pyarrow.bool_(), int: pyarrow.int64(), str: pyarrow.string()}
    return pyarrow.schema([(name, kinds[type(value)]) for name, value in row.items() if name != "split"])


def _column(values: list[Any], kind: Any) -> Any:
    """One column; of messages piece by piece, which takes a fraction of the time of `Table.from_pylist`."""
    import pyarrow

    if not pyarrow.types.is_list(kind):
        return pyarrow.array(values, kind)
    ends = accumulate(map(len, values), initial=0)
    fields = [[message[name] for messages in values for message in messages] for name in ("role", "content")]
    texts = [pyarrow.array(each, pyarrow.string()) for each in fields]
    messages = pyarrow.StructArray.from_arrays(texts, fields=list(kind.value_type))
    return pyarrow.ListArray.from_arrays(pyarrow.array(list(ends), pyarrow.int32()), messages, type=kind)


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
