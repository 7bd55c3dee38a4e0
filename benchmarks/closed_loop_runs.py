"""What one seed of the closed-loop experiment runs: the loop with its controls, and the loop in rounds.

Both chains skip what is there, so they go on after an interruption.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.closed_loop_layout import COMPARED, CONTROLS, HSFT, ROUNDS, Control
from training.config import DpoConfig, LoopConfig
from training.demo import CONFIG, load_loop
from training.folders import hold_folder, make_folder
from training.loop import run_loop
from training.progress import Say
from training.stages import Stages, Student, read_json, trained_student

SEED_STEP = 10_000
PAIR_PROBLEMS = 4000
"""Problems of the main chain's collection for pairs; otherwise it is the demo's recipe."""

LOOP_CONFIG = CONFIG.with_name("sandbox_loop.yaml")
ARMS = ("single", "review", "teacher")


def main_config(folder: Path, seed: int, n: int) -> LoopConfig:
    """The demo's round with the plain control, with more pairs; the test problems are the seed's own."""
    config = _config(CONFIG, folder / "main", seed, n, ARMS)
    collect_pairs = config.collect_pairs.model_copy(update={"n": PAIR_PROBLEMS})
    return config.model_copy(update={"rounds": 1, "collect_pairs": collect_pairs})


def rounds_config(folder: Path, seed: int, n: int) -> LoopConfig:
    """All rounds, whatever the gate says of one, on the first of the main chain's test problems."""
    changes = {"rounds": ROUNDS, "patience": ROUNDS, "evaluate_stage1": False}
    config = _config(LOOP_CONFIG, folder / "rounds", seed, side_size(n), (*ARMS, "asked"))
    return config.model_copy(update=changes)


def side_size(n: int) -> int:
    """Test problems a seed of unseen shapes, of critique against retry and of the rounds."""
    return max(1, n // 2)


def _config(path: Path, folder: Path, seed: int, n: int, arms: tuple[str, ...]) -> LoopConfig:
    config = load_loop(path, folder, SEED_STEP * seed)
    evaluate = config.evaluate.model_copy(update={"n": n, "arms": arms, "max_rounds": 1})
    return config.model_copy(update={"evaluate": evaluate})


def run_rounds_chain(folder: Path, seed: int, n: int, say: Say) -> None:
    """The loop in rounds, in a seed's folder."""
    run_loop(rounds_config(folder, seed, n), say=say)


def run_main_chain(folder: Path, seed: int, n: int, say: Say) -> None:
    """The loop, the controls of its stage 2, unseen shapes, critique against retry, in a seed's folder."""
    config = main_config(folder, seed, n)
    run_loop(config, say=say)
    make_folder(folder, argument="--folder")
    with hold_folder(folder, argument="--folder") as lock:
        stages = Stages(config.model_copy(update={"folder": folder}), say, lock)
        run = read_json(config.folder / "round1" / "dpo" / "run.json")
        for control in CONTROLS:
            _run_control(stages, run, control)
        final = DpoConfig.model_validate(run["config"])
        start, end = Student(final.model, final.adapter), trained_student(final)
        side = side_size(n)
        for name, stem in COMPARED.items():
            student = start if name == HSFT else end
            unseen = {"problems": "sandbox:unseen", "arms": ARMS, "n": side}
            stages.evaluate(student, folder / "unseen" / f"{stem}.json", **unseen)
            stages.evaluate(
                student, folder / "critique" / f"{stem}.json", arms=("teacher", "retry"), max_rounds=2, n=side
            )


def _run_control(stages: Stages, run: Mapping[str, Any], control: Control) -> None:
    config = stages.config
    folder, main = config.folder / control.folder, config.folder / "main" / "round1"
    pairs = main / "pairs"
    if control.pairs:
        changes = {"kind": "preference", "tokenizer": run["config"]["model"], **control.pairs}
        pairs = stages.build(config.pairs, folder / "pairs", (main / "pair_traces",), **changes)
    student = stages.train(control_config(run, control, pairs=pairs, output=folder / "dpo"))
    stages.evaluate(student, folder / "evaluation.json")


def control_config(run: Mapping[str, Any], control: Control, *, pairs: Path, output: Path) -> DpoConfig:
    """A control's settings: those that the main run resolved to, with the control's changes.

    Args:
        run: The main run's ``run.json``: its start, replay, seed and rates are the control's, and as many
            optimiser steps, however many pairs the control has.
        control: What it changes.
        pairs: Its dataset folder.
        output: Its run folder.
    """
    steps = int(run["results"]["step"])
    changes = {"data": pairs, "output": output, "max_steps": steps, **control.dpo}
    return DpoConfig.model_validate({**run["config"], **changes})
