"""Traces to dataset folders: ``python -m training.data --kind sft --store traces --output runs/rows``.

A folder holds ``train.parquet`` (the rows), ``test.parquet`` where ``test_share`` asks for it,
``manifest.json`` (what was kept, what was dropped and why) and a ``README.md`` that lets
``datasets.load_dataset`` and ``trl sft --dataset_name FOLDER`` read it as it is. No torch is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path

from supercorrect_agent.errors import ConfigError
from supercorrect_agent.problems import evaluation_questions
from supercorrect_agent.store import open_store
from training.config import DatasetConfig
from training.dataset_folder import load_manifest, load_rows, save_dataset
from training.flags import run_main
from training.pairs import build_preference_dataset
from training.progress import Say, print_line
from training.sft_rows import build_sft_dataset
from training.sources import model_path, resolve_prompts

__all__ = [
    "build_preference_dataset",
    "build_sft_dataset",
    "load_manifest",
    "load_rows",
    "run_data",
    "save_dataset",
]


def run_data(config: DatasetConfig, *, say: Say = print_line) -> Path:
    """Builds the dataset that a configuration describes and returns its folder.

    Raises:
        SuperCorrectError: A store, a file or an option is unusable, or no training row is left.
    """
    if config.kind == "preference" and config.max_tokens is not None:
        raise ConfigError(
            f"`max_tokens={config.max_tokens}` limits rows of kind sft only. Pass `max_rows` for pairs."
        )
    prompts = resolve_prompts(config.prompts, config.tokenizer)
    stores = [open_store(store, must_exist=True) for store in config.store]
    traces = chain.from_iterable(stores)
    held_out = chain.from_iterable(
        evaluation_questions(file, argument="held_out") for file in config.held_out
    )
    if config.kind == "preference":
        rows, manifest = build_preference_dataset(
            traces, prompts=prompts, pair_format=config.pair_format, chosen_source=config.chosen_source,
            pair_scope=config.pair_scope, solve_pairs=config.solve_pairs,
            max_length_ratio=config.max_length_ratio, near_duplicate=config.near_duplicate,
            max_per_problem=config.max_per_problem,
            test_share=config.test_share, max_rows=config.max_rows,
            trusted_authors=config.trusted_authors, held_out=held_out,
            held_out_words=config.held_out_words, seed=config.seed,
        )  # fmt: skip
    else:
        rows, manifest = build_sft_dataset(
            traces, prompts=prompts, style=config.style, reviews=config.reviews,
            review_share=config.review_share, no_error_share=config.no_error_share,
            own_solutions=config.own_solutions, test_share=config.test_share,
            max_rows=config.max_rows, max_tokens=config.max_tokens,
            count_tokens=token_counter(config.tokenizer), trusted_authors=config.trusted_authors,
            held_out=held_out, held_out_words=config.held_out_words, seed=config.seed,
        )  # fmt: skip
    folder = save_dataset(config.output, rows, manifest)
    dropped = ", ".join(f"{count} {reason}" for reason, count in manifest.dropped.items()) or "none"
    test = f" and {manifest.kept_test} test rows" if manifest.kept_test else ""
    say(f"data: {manifest.kept} rows {manifest.kept_by_kind}{test} in {folder}; dropped: {dropped}")
    for store in stores:
        if store.skipped:
            say(f"data: {store.skipped} lines of '{store.path}' cannot be read and were skipped")
    return folder


def token_counter(model: str) -> Callable[[str], int]:
    """A function that counts the tokens of a text with the model's own tokenizer, without special ones."""
    from training.student import load_tokenizer

    tokenizer = load_tokenizer(model_path(model))
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])


def main() -> int:
    return run_main(DatasetConfig, run_data, program="training.data")


if __name__ == "__main__":
    sys.exit(main())
