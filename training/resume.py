"""A run folder: which run it holds, whether that is done, and the checkpoint to go on from."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from supercorrect_agent.errors import ConfigError
from training.config import DpoConfig, TrainConfig
from training.dataset_folder import load_manifest
from training.folders import replace_text
from training.sources import model_path

RUN_FILE = "run.json"
STARTED_FILE = "run.started.json"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
# Where a run writes, how often it saves and how a batch is shared out: they may change when it goes on.
_FREE = {
    "output",
    "data",
    "replay",
    "learn_chosen",
    "save_steps",
    "device",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
}


def describe_run(config: TrainConfig, *, data_hash: str, global_batch: int) -> dict[str, Any]:
    """What makes a run this run and no other: settings, rows, and the student it starts from."""
    settings = config.model_dump(mode="json", exclude=_FREE)
    started = {"model": Path(model_path(config.model)) / RUN_FILE}
    if config.adapter is not None:
        started["adapter"] = config.adapter / "adapter_model.safetensors"
    hashes = {f"content of {name}": _hash(file) for name, file in started.items() if file.is_file()}
    if isinstance(config, DpoConfig):
        beside = {"replay": config.replay, "learn_chosen": config.learn_chosen}
        hashes |= {f"{name} hash": load_manifest(rows).data_hash for name, rows in beside.items() if rows}
    return {**settings, "global batch": global_batch, "data hash": data_hash, **hashes}


def claim_folder(output: Path, run: Mapping[str, Any], *, write: bool) -> bool:
    """Sees to it that the folder belongs to this run; a start that came to nothing leaves it free.

    Args:
        output: The run folder.
        run: From `describe_run`.
        write: Whether to leave the record of the start; the main process does.

    Returns:
        Whether the run is finished already.

    Raises:
        ConfigError: The folder holds another run, or one that cannot be told.
    """
    record = output / STARTED_FILE
    finished = (output / RUN_FILE).is_file()
    trained = finished or bool(_checkpoints(output))
    try:
        before = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        if trained:
            raise ConfigError(
                f"`output={output}` holds a run without `{STARTED_FILE}`, so it cannot be continued. "
                "Choose another folder, or delete this one."
            ) from None
        before = {}
    now = json.loads(json.dumps(run))
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if changed and trained:
        told = "; ".join(f"`{name}` was {before.get(name)} and is {now.get(name)}" for name in changed[:3])
        more = f", and {len(changed) - 3} more differ" if len(changed) > 3 else ""
        raise ConfigError(
            f"`output={output}` holds another run: {told}{more}. Choose another folder, or delete this one."
        )
    if changed and write:
        replace_text(record, json.dumps(run, indent=2) + "\n")
    return finished


def last_checkpoint(output: Path, *, clean: bool) -> Path | None:
    """The newest whole checkpoint; ``clean`` removes those that a killed process left torn."""
    for folder in _checkpoints(output):
        if is_whole(folder):
            return folder
        if clean:
            shutil.rmtree(folder)
    return None


def is_whole(checkpoint: Path) -> bool:
    """Whether every file of a checkpoint is there to its end; the trainer's state is written last."""
    from safetensors import SafetensorError, safe_open

    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        for file in checkpoint.rglob("*.safetensors"):
            with safe_open(file, "pt"):
                pass
    except (OSError, ValueError, SafetensorError):
        return False
    saved = [file for end in ("*.pt", "*.pth", "*.bin") for file in checkpoint.rglob(end)]
    weights = [*checkpoint.glob("*.safetensors"), *checkpoint.glob("*.bin"), *checkpoint.glob("*/")]
    return bool(weights) and all(zipfile.is_zipfile(file) for file in saved)


def _checkpoints(output: Path) -> list[Path]:
    """Newest first."""
    found = {folder: _CHECKPOINT.fullmatch(folder.name) for folder in output.glob("checkpoint-*/")}
    numbered = [(int(match[1]), folder) for folder, match in found.items() if match]
    return [folder for _, folder in sorted(numbered, reverse=True)]


def _hash(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
