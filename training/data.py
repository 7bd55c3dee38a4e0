"""Traces to dataset folders: ``python -m training.data --kind sft --store traces --output runs/rows``.

A folder holds ``train.parquet`` (the rows), ``manifest.json`` (what was kept, what was dropped and why) and a
``README.md`` that lets ``datasets.load_dataset`` and ``trl sft --dataset_name FOLDER`` read it as it is.
No torch is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from supercorrect_agent.errors import DataError
from supercorrect_agent.store import open_store
from supercorrect_agent.types import Trace
from training.config import DatasetConfig
from training.flags import run_main
from training.manifest import Manifest, Row
from training.pairs import build_preference_dataset
from training.progress import Say, print_line
from training.sft_rows import build_sft_dataset
from training.sources import load_problems, model_path, resolve_prompts

__all__ = ["build_preference_dataset", "build_sft_dataset", "load_rows", "run_data", "save_dataset"]

_CARD = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: train.parquet
---
# {kept} rows of kind {kind}

Built from {used} traces by `python -m training.data`; `manifest.json` says what was dropped and why.
"""


def save_dataset(folder: Path, rows: Sequence[Row], manifest: Manifest) -> Path:
    """Writes rows, manifest and card.

    Raises:
        DataError: There are no rows, or the folder cannot be written.
    """
    if not rows:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in manifest.dropped.items()) or "no traces"
        raise DataError(
            f"No row is left for '{folder}' ({reasons}). Collect more traces, or relax the options."
        )
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        folder.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), folder / "train.parquet")
        card = _CARD.format(kept=manifest.kept, kind=manifest.kind, used=manifest.traces_used)
        (folder / "README.md").write_text(card, encoding="utf-8")
        (folder / "manifest.json").write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"`output={folder}` cannot be written ({error.strerror}). Choose another folder."
        ) from error
    return folder


def load_rows(folder: Path) -> tuple[list[Row], Manifest]:
    """Reads a dataset folder.

    Raises:
        DataError: It is missing or incomplete.
    """
    import pyarrow.parquet

    try:
        manifest = Manifest.model_validate_json((folder / "manifest.json").read_text(encoding="utf-8"))
        rows: list[dict[str, Any]] = pyarrow.parquet.read_table(folder / "train.parquet").to_pylist()
    except (OSError, ValueError) as error:
        raise DataError(
            f"`data={folder}` is not a dataset folder ({error}). Build one with `python -m training.data`."
        ) from error
    return rows, manifest


def run_data(config: DatasetConfig, *, say: Say = print_line) -> Path:
    """Builds the dataset that a configuration describes and returns its folder."""
    prompts = resolve_prompts(config.prompts, config.tokenizer)
    held_out = [problem.question for file in config.held_out for problem in load_problems(file)]
    if config.kind == "preference":
        rows, manifest = build_preference_dataset(
            _traces(config.store), prompts=prompts,
            pair_format=config.pair_format, solve_pairs=config.solve_pairs,
            max_length_ratio=config.max_length_ratio, max_rows=config.max_rows,
            trusted_authors=config.trusted_authors, held_out=held_out, seed=config.seed,
        )  # fmt: skip
    else:
        rows, manifest = build_sft_dataset(
            _traces(config.store), prompts=prompts, style=config.style, reviews=config.reviews,
            review_share=config.review_share, no_error_share=config.no_error_share,
            own_solutions=config.own_solutions, max_rows=config.max_rows, max_tokens=config.max_tokens,
            count_tokens=token_counter(config.tokenizer), trusted_authors=config.trusted_authors,
            held_out=held_out, seed=config.seed,
        )  # fmt: skip
    folder = save_dataset(config.output, rows, manifest)
    dropped = ", ".join(f"{count} {reason}" for reason, count in manifest.dropped.items()) or "none"
    say(f"data: {manifest.kept} rows {manifest.kept_by_kind} in {folder}; dropped: {dropped}")
    return folder


def token_counter(model: str) -> Callable[[str], int]:
    """A function that counts the tokens of a text with the model's own tokenizer, without special ones."""
    from training.student import load_tokenizer

    tokenizer = load_tokenizer(model_path(model))
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])


def _traces(stores: Sequence[Path]) -> Iterator[Trace]:
    for store in stores:
        yield from open_store(store, must_exist=True)


def main() -> int:
    return run_main(DatasetConfig, run_data, program="training.data")


if __name__ == "__main__":
    sys.exit(main())
