"""A real loop with the packaged student, killed in every stage and started again, against one left alone."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]

SETTINGS: dict[str, Any] = {
    "rounds": 1,
    # Greedy: a sampled attempt may differ after a restart, and so would all that is learnt from it.
    "collect": {"n": 24, "temperature": 0.0, "student_review": False, "max_new_tokens": 320},
    "collect_pairs": {
        "n": 24,
        "seed": 500,
        "temperature": 0.0,
        "write_template": False,
        "max_new_tokens": 320,
    },
    "pairs": {"solve_pairs": True},
    "gate": {"n": 12},
    "evaluate": {"n": 12, "arms": ["single", "review"], "max_new_tokens": 320},
}
TRAINING = {"full": True, "num_train_epochs": 2, "per_device_train_batch_size": 4, "save_steps": 2}
SETTINGS |= {stage: {**TRAINING, "learning_rate": 1e-4} for stage in ("sft", "dpo")}
# A line of the loop's in the middle, or right at the end, of a stage; or a file that it leaves on its way.
KILLED_AT = (
    "collect: ",
    "data: ",
    "round1/sft/checkpoint-2",
    "round1/dpo/checkpoint-2",
    "evaluate: review",
    "loop: round1: ",
)


def run_to(folder: Path, file: Path, mark: str | None) -> str:
    """Runs the loop, and kills it as soon as ``mark`` is among its lines or its files."""
    command = [sys.executable, "-m", "training.loop", "--config", str(file), "--folder", str(folder)]
    log = folder.with_suffix(".log")
    with log.open("w") as output:
        loop = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        while mark is not None and loop.poll() is None:
            if mark in log.read_text() or (folder / mark).exists():
                loop.kill()
            time.sleep(0.02)
        code = loop.wait()
    assert code == (0 if mark is None else -9), log.read_text()[-3000:]
    return log.read_text()


def test_a_loop_killed_in_every_stage_ends_like_one_left_alone(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    file = tmp_path / "loop.yaml"
    file.write_text(json.dumps(SETTINGS))  # JSON is YAML
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_to(whole, file, None)
    for mark in KILLED_AT:
        run_to(killed, file, mark)
    last = run_to(killed, file, None)
    assert "round1/sft/run.json is there already" in last

    reports = [json.loads((folder / "report.json").read_text()) for folder in (whole, killed)]
    assert reports[0]["arms"] == reports[1]["arms"]
    assert reports[0]["rounds"][1]["accuracy"] == reports[1]["rounds"][1]["accuracy"]
    assert reports[0]["rounds"][1]["data"] == reports[1]["rounds"][1]["data"]
    for stage in ("sft", "dpo"):
        one, two = (load_file(folder / "round1" / stage / "model.safetensors") for folder in (whole, killed))
        for name in one:
            torch.testing.assert_close(one[name], two[name], atol=1e-5, rtol=1e-4)
