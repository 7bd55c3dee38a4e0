"""Traces to one file of training rows: what ``supercorrect traces export --format sft | preference`` writes.

Everything streams: traces are read once, candidate rows wait in a temporary file, and no tokenizer is needed.
`training.data` has all the options, and writes a dataset folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import orjson

from supercorrect_agent.errors import ConfigError, DataError
from supercorrect_agent.prompts import DEFAULT_PROMPTS, PromptSet
from supercorrect_agent.store import JsonlTraceStore
from supercorrect_agent.store.export import new_file
from supercorrect_agent.store.places import is_address
from supercorrect_agent.types import Trace
from training.dataset_folder import save_dataset, write_rows
from training.manifest import Manifest
from training.pairs import build_preference_dataset
from training.row_workers import StoredTraces
from training.rows import Rows
from training.sft_rows import build_sft_dataset

Kind = Literal["sft", "preference"]
_BUILD: dict[Kind, Callable[..., tuple[Rows, Manifest]]] = {
    "sft": build_sft_dataset,
    "preference": build_preference_dataset,
}


def export_rows(
    traces: Iterable[Trace],
    output: str | Path,
    kind: Kind,
    *,
    prompts: PromptSet = DEFAULT_PROMPTS,
    workers: int | None = None,
    **options: Any,
) -> Manifest:
    """Builds rows of one kind and writes them.

    Args:
        traces: What the collecting graph recorded.
        output: A ``.jsonl`` or ``.parquet`` file, or a folder for a dataset with manifest and card.
        kind: Rows for ``trl sft``, or pairs for ``trl dpo``.
        prompts: The prompts that the student is used with.
        workers: Processes that read a large store; None: one a core.
        options: Those of `build_sft_dataset` or `build_preference_dataset` but ``test_share``.

    Raises:
        ConfigError: The output is a folder at an address.
        DataError: There is no row, or the output cannot be written.
    """
    name = str(output)
    if is_address(output) and not name.endswith((".jsonl", ".parquet")):
        raise ConfigError(
            f"`output={output}` is a folder at an address, where no data set is written. End it with .jsonl "
            "or .parquet, or pass a local folder."
        )
    rows, manifest = build_rows(traces, kind, workers=workers, prompts=prompts, **options)
    if not len(rows):
        reasons = ", ".join(f"{reason}: {count}" for reason, count in manifest.dropped.items()) or "no traces"
        raise DataError(f"No training row is left for '{output}' ({reasons}). Collect more traces.")
    if name.endswith(".jsonl"):
        _write_jsonl(output, rows)
    elif name.endswith(".parquet"):
        with new_file(output) as file:
            write_rows(file, rows)
    else:
        save_dataset(Path(output), rows, manifest)
    return manifest


def count_rows(traces: Iterable[Trace], kind: Kind) -> Manifest:
    """What `export_rows` would keep and drop."""
    return build_rows(traces, kind)[1]


def build_rows(
    traces: Iterable[Trace], kind: Kind, *, workers: int | None = None, **options: Any
) -> tuple[Rows, Manifest]:
    """Rows and manifest; traces in Parquet that can give no row are counted, but not looked into.

    Args:
        traces: What the collecting graph recorded.
        kind: Rows for ``trl sft``, or pairs for ``trl dpo``.
        workers: Processes that read a large store; None: one a core.
        options: Those of the builder.
    """
    if not isinstance(traces, JsonlTraceStore):
        return _BUILD[kind](traces, **options)
    workers = workers or os.cpu_count() or 1
    if options.get("own_solutions"):
        return _BUILD[kind](StoredTraces(traces, None, workers), **options)
    passed = 0

    def may_give_rows(batch: Any) -> Any:
        import pyarrow.compute as compute  # type: ignore[import-untyped]

        nonlocal passed
        # failed runs and other splits are dropped for a reason, which is counted
        named = compute.or_(
            compute.equal(batch["status"], "error"), compute.equal(batch["status"], "quarantined")
        )
        found = compute.or_(named, compute.not_equal(batch["split"], "train"))
        found = compute.or_(found, compute.greater(batch["n_rounds"], 0))
        if kind == "sft":
            found = compute.or_(found, batch["has_template"])
        passed += batch.num_rows - (compute.sum(found).as_py() or 0)
        return found

    held_out = tuple(options.pop("held_out", ()))  # what is held out is counted too
    wanted = StoredTraces(traces, None if held_out else may_give_rows, workers)
    rows, manifest = _BUILD[kind](wanted, held_out=held_out, **options)
    return rows, manifest.model_copy(update={"traces_read": manifest.traces_read + passed})


def _write_jsonl(output: str | Path, rows: Rows) -> None:
    with new_file(output) as file:
        for row in rows:
            del row["split"]  # all are of one
            file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
