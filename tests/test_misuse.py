"""What a training stage says to folders and settings that it cannot train with: one sentence."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from supercorrect_agent.errors import ConfigError, ModelError, SuperCorrectError
from tests.tiny import build_tiny_model
from tests.tiny_adapter import build_tiny_adapter
from tests.training_runs import pair_rows, run, settings, sft_rows
from training.config import SftConfig
from training.student import load_student

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with rows, pairs and an adapter."""
    folder = tmp_path_factory.mktemp("misuse")
    build_tiny_adapter(build_tiny_model(folder / "model", context=2048), folder / "adapter")
    sft_rows(folder / "rows")
    pair_rows(folder / "pairs")
    return folder


def refusal(stage: str, here: Path, output: Path, kind: type[SuperCorrectError], **changes: Any) -> str:
    data = here / ("rows" if stage == "sft" else "pairs")
    with pytest.raises(kind) as error:
        run(stage, settings(stage, here / "model", data, output, max_steps=1, **changes))
    assert "\n" not in str(error.value)
    return str(error.value)


def spoil(adapter: Path, how: str) -> None:
    weights, config = adapter / "adapter_model.safetensors", adapter / "adapter_config.json"
    if how == "no weights":
        weights.unlink()
    elif how == "torn weights":
        os.truncate(weights, 100)
    elif how == "no JSON":
        config.write_text("{")
    else:  # of a base with other shapes
        config.write_text(json.dumps({**json.loads(config.read_text()), "r": 4}))


@pytest.mark.parametrize("how", ["no weights", "torn weights", "no JSON", "other shapes"])
def test_an_adapter_that_does_not_fit_or_is_not_whole(here: Path, tmp_path: Path, how: str) -> None:
    adapter = shutil.copytree(here / "adapter", tmp_path / "adapter")
    spoil(adapter, how)
    told = refusal("dpo", here, tmp_path / "out", ModelError, adapter=str(adapter))
    assert told.startswith(f"`adapter={adapter}` cannot be put on `model={here / 'model'}` (")
    assert told.endswith("Pass the base it was trained on, and a folder that is whole.")


@pytest.mark.parametrize("names", ["q_proj,q_prj", "q_prj"])
def test_a_misspelt_target_module_is_not_passed_over(here: Path, tmp_path: Path, names: str) -> None:
    """PEFT trains the rest without a word where one of several names is wrong."""
    told = refusal("sft", here, tmp_path / "out", ConfigError, lora_target_modules=names)
    assert "the model has no `q_prj`" in told
    assert "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj" in told


def test_what_a_reporter_or_the_trainer_refuses(here: Path, tmp_path: Path) -> None:
    told = refusal("sft", here, tmp_path / "out", ConfigError, report_to="no_such_reporter")
    assert told.startswith("TRL refuses these settings: no_such_reporter is not supported")
    told = refusal("dpo", here, tmp_path / "other", ConfigError, loss_type="exo_pair")
    assert "Label smoothing must be greater than 0.0" in told


def test_arguments_of_the_model_that_it_does_not_have(here: Path, tmp_path: Path) -> None:
    unknown = {"model_init_kwargs": {"no_such_argument": 1}}
    told = refusal("sft", here, tmp_path / "out", ModelError, **unknown)
    assert "no_such_argument" in told
    config = SftConfig(model=str(here / "model"), device="cpu", trl={"model_init_kwargs": None})
    assert load_student(config).device.type == "cpu"


def test_an_evaluation_without_rows_is_said(here: Path, tmp_path: Path) -> None:
    values = settings("sft", here / "model", here / "rows", tmp_path / "out", max_steps=1, eval_steps=1)
    _, said = run("sft", values)
    assert sum("`eval_steps=1` is unused" in line for line in said) == 1


def test_the_card_counts_the_problems_that_were_there(here: Path, tmp_path: Path) -> None:
    problems = tmp_path / "problems.jsonl"
    problems.write_text('{"question": "What is 1+1?", "answer": 2}\n')
    changes = {"probe": str(problems), "probe_n": 50, "probe_max_new_tokens": 4, "max_steps": 1}
    folder, _ = run("sft", settings("sft", here / "model", here / "rows", tmp_path / "out", **changes))
    assert "Greedy replies to 1 problems" in (folder / "README.md").read_text()
