"""The card of a dataset folder: what its rows are, how many were kept and why others were not."""

from __future__ import annotations

from collections.abc import Mapping

from training.manifest import Manifest

_COLUMNS = {
    "sft": {
        "prompt": "what the student is asked: messages of one turn",
        "completion": "what it is to write: one message of the assistant",
        "kind": "`solve`: a verified solution; `review`: a correction trace of an attempt",
        "problem_id": "content hash of the question, or the id that the problem came with",
        "trace_id": "the trace that gave the row",
    },
    "preference": {
        "prompt": "what the student is asked, without any reference solution: messages of one turn",
        "chosen": "one message of the assistant: `prefix`, then the better words",
        "rejected": "one message of the assistant: `prefix`, then the student's own, wrong ones",
        "prefix": "the text that both sides begin with",
        "ends": "whether the chosen side completes the answer",
        "kind": "`correction`, `missed`, `false alarm`, `solve` or `whole`",
        "problem_id": "content hash of the question, or the id that the problem came with",
        "step": "number of the step that the pair is about",
        "trace_id": "the trace that gave the row",
    },
}
_ABOUT = {
    "sft": "Rows for hierarchical-thought supervised fine-tuning (arXiv 2410.09008, section 4.1).",
    "preference": (
        "Pairs for cross-model DPO (arXiv 2410.09008, section 4.2): at the first wrong step of a student's "
        "solution, better words over its own."
    ),
}
_STOCK_DPO = """
Stock TRL trains on the prefix too: both sides begin with it, so the sigmoid loss cancels it, but an added SFT
term does not. And it ends every side with the end of the turn, although a correction stops in the middle of a
solution. `python -m training.dpo --data FOLDER` puts the prefix on the prompt's side and ends only what
completes an answer.
"""
_CARD = """---
tags:
- supercorrect
- trl
- math
configs:
- config_name: default
  data_files:
{files}
---
# {kept} rows of kind {kind}

{about}
Built from {used} of {read} traces by `python -m training.data`. Only problems of split `{split}` gave
rows{test}.

{columns}

## Kept

{kinds}

## Dropped

{dropped}

## Where they come from

{origin}

## Training

```
trl {command} --model_name_or_path MODEL --dataset_name FOLDER --output_dir OUTPUT
```
{stock}"""


def dataset_card(manifest: Manifest) -> str:
    """The README.md of a dataset folder; its YAML header names the file of each split."""
    splits = ("train", "test") if manifest.kept_test else ("train",)
    files = "\n".join(f"  - split: {split}\n    path: {split}.parquet" for split in splits)
    is_pairs = manifest.kind == "preference"
    return _CARD.format(
        files=files,
        kept=manifest.kept,
        kind=manifest.kind,
        about=_ABOUT[manifest.kind],
        used=manifest.traces_used,
        read=manifest.traces_read,
        split=manifest.split,
        test="; no problem is in both splits" if manifest.kept_test else "",
        columns=_table(("column", "what"), {f"`{k}`": v for k, v in _COLUMNS[manifest.kind].items()}),
        kinds=_table(("kind", "rows"), _counts(manifest)),
        dropped=_table(("reason", "candidates"), manifest.dropped) if manifest.dropped else "Nothing.",
        origin=_table(("what", "version or hash"), _origin(manifest)),
        command="dpo" if is_pairs else "sft",
        stock=_STOCK_DPO if is_pairs else "",
    )


def _counts(manifest: Manifest) -> dict[str, object]:
    counts: dict[str, object] = dict(manifest.kept_by_kind)
    return {
        **counts,
        "all": manifest.kept,
        **({"test split": manifest.kept_test} if manifest.kept_test else {}),
    }


def _origin(manifest: Manifest) -> dict[str, object]:
    prompts = {f"prompt `{name}`": f"`{version}`" for name, version in manifest.prompts.items()}
    hashes = {"traces": manifest.trace_hash, "rows": manifest.data_hash, "test rows": manifest.test_hash}
    options = {f"option `{name}`": f"`{value}`" for name, value in manifest.options.items()}
    return {**prompts, **{name: f"`{digest}`" for name, digest in hashes.items() if digest}, **options}


def _table(head: tuple[str, str], lines: Mapping[str, object]) -> str:
    rows = (f"| {name} | {value} |" for name, value in lines.items())
    return "\n".join([f"| {head[0]} | {head[1]} |", "|---|---|", *rows])
