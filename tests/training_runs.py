"""Tiny training runs: the model, the rows and the settings that the training tests share."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.training_traces import QUESTION, STUDENT, TEMPLATE, make_round, make_trace
from training.config import DpoConfig, SftConfig
from training.data import save_dataset
from training.dpo import run_dpo
from training.pairs import build_preference_dataset
from training.sft import run_sft
from training.sft_rows import build_sft_dataset

ROOT = Path(__file__).parent.parent
QUESTIONS = [QUESTION.replace("47", str(number)) for number in range(4)]
SHARED = {
    "device": "cpu",
    "max_length": None,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-2,
    "logging_steps": 1,
}


def sft_rows(folder: Path, **options: Any) -> Path:
    """Eight rows: a solution and a review for each of four questions."""
    traces = [make_trace(make_round(), question=each, template=TEMPLATE) for each in QUESTIONS]
    return save_dataset(folder, *build_sft_dataset(traces, **options))


def pair_rows(folder: Path, **options: Any) -> Path:
    """Eight pairs of different lengths on four questions."""
    rounds = [make_round(student=STUDENT.replace("Carry", "Carry " * n)) for n in range(1, 5)]
    traces = [make_trace(round_, question=each) for round_, each in zip(rounds, QUESTIONS, strict=True)]
    return save_dataset(folder, *build_preference_dataset(traces, **{"solve_pairs": True, **options}))


def settings(stage: str, model: Path, data: Path, output: Path, **changes: Any) -> dict[str, Any]:
    """One stage's settings with TRL's own names beside ours, as a YAML file holds them."""
    slower = {"learning_rate": 1e-3} if stage == "dpo" else {}
    return {**SHARED, **slower, "model": str(model), "data": str(data), "output": str(output), **changes}


def run(stage: str, values: Mapping[str, Any]) -> tuple[Path, list[str]]:
    """Trains in this process; returns the folder and what was said."""
    from training.flags import make_config

    said: list[str] = []
    if stage == "sft":
        return run_sft(make_config(SftConfig, values), say=said.append), said
    return run_dpo(make_config(DpoConfig, values), say=said.append), said


def start(
    stage: str, values: Mapping[str, Any], *launcher: str, sharded: bool = False
) -> subprocess.Popen[str]:
    """Trains in a process of its own (or several, with a launcher; then the weights may be sharded)."""
    file = Path(values["output"]).with_suffix(".yaml")
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
    file.write_text(yaml.safe_dump(plain))
    module = ["tests.sharded", stage] if sharded else [f"training.{stage}"]
    command = [sys.executable, *launcher, "-m", *module, "--config", str(file)]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str], *, seconds: float = 240) -> str:
    """Waits for a process, which must end well; returns what it printed."""
    try:
        printed, _ = process.communicate(timeout=seconds)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 0, printed
    return printed


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def losses(folder: Path, name: str = "loss") -> list[float]:
    return [entry[name] for entry in log_of(folder) if name in entry]


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    name = "adapter_model" if (folder / "adapter_model.safetensors").is_file() else "model"
    return load_file(folder / f"{name}.safetensors")


def largest_difference(one: Path, other: Path) -> float:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)
