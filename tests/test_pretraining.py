"""The packaged student and the script that made it."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from supercorrect_agent.sandbox import sandbox_prompts, student_path
from supercorrect_agent.sandbox.world import read_story, story_split

LARGEST = 12 * 2**20


def test_the_packaged_student_is_complete_and_small() -> None:
    folder = student_path()
    assert {"config.json", "tokenizer.json", "chat_template.jinja", "prompts.toml"} <= {
        path.name for path in folder.iterdir()
    }
    assert (folder / "model.safetensors").stat().st_size < LARGEST


def test_the_script_builds_the_packaged_tokenizer() -> None:
    from training.pretrain_sandbox import build_tokenizer

    seed = json.loads((student_path() / "pretraining.json").read_text())["seed"]
    built = json.loads(build_tokenizer(random.Random(seed + 1)).backend_tokenizer.to_str())
    packaged = json.loads((student_path() / "tokenizer.json").read_text())
    assert built["model"]["vocab"] == packaged["model"]["vocab"]
    assert built["added_tokens"] == packaged["added_tokens"]


def test_rows_show_training_stories_only_and_use_the_students_own_prompts() -> None:
    from training.pretrain_sandbox import plain_row, review_row, solve_row

    rng = random.Random(4)
    for kind, prompt in (
        (solve_row, sandbox_prompts().solve),
        (plain_row, sandbox_prompts().plain),
        (review_row, sandbox_prompts().review),
    ):
        for _ in range(100):
            row = kind(rng)
            request, question = row.prompt.split("\n")[:2]
            assert request == prompt.text.split("\n")[0]
            assert story_split(read_story(question)) == "train"


def test_the_base_never_sees_columns_inside_a_solution() -> None:
    from training.pretrain_sandbox import plain_row, solve_row

    rng = random.Random(5)
    assert not any("<Key>" in kind(rng).text for kind in (solve_row, plain_row) for _ in range(300))


@pytest.mark.integration
def test_pretraining_runs_with_two_workers_and_leaves_a_student(tmp_path: Path) -> None:
    command = ["--out", str(tmp_path), "--tokens", "8192", "--workers", "2", "--seed", "1", "--port", "29617"]
    done = subprocess.run(
        [sys.executable, "-m", "training.pretrain_sandbox", *command],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "935,040 parameters" in done.stdout
    (tmp_path / "prompts.toml").write_bytes((student_path() / "prompts.toml").read_bytes())

    from supercorrect_agent.models import load_chat_model

    assert load_chat_model(f"local:{tmp_path}", max_tokens=4).invoke("Solve.").usage_metadata
