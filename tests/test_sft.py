"""Stage 1 on a tiny random model: what TRL is given, what it saves, and what the run's record holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from supercorrect_agent.errors import ModelError
from tests.tiny import build_tiny_model
from tests.training_traces import QUESTION, TEMPLATE, make_round, make_trace
from training.config import SftConfig
from training.data import load_rows, save_dataset
from training.sft import run_sft
from training.sft_rows import build_sft_dataset
from training.tokens import tokenize_completion

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"), context=2048)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    questions = [QUESTION.replace("47", str(number)) for number in range(4)]
    traces = [make_trace(make_round(), question=question, template=TEMPLATE) for question in questions]
    return save_dataset(tmp_path_factory.mktemp("rows"), *build_sft_dataset(traces))


def train(model: Path, data: Path, output: Path, **settings: object) -> tuple[Path, list[str]]:
    said: list[str] = []
    base = {"model": str(model), "data": data, "output": output, "device": "cpu", "max_length": None}
    config = SftConfig.model_validate(
        {**base, "per_device_train_batch_size": 4, "learning_rate": 1e-2, **settings}
    )
    return run_sft(config, say=said.append), said


def losses(folder: Path) -> list[float]:
    entries = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [entry["loss"] for entry in entries if "loss" in entry]


def test_an_adapter_is_trained_saved_and_described(model: Path, data: Path, tmp_path: Path) -> None:
    settings = {"num_train_epochs": 3, "seed": 5, "trl": {"logging_steps": 1}}
    folder, said = train(model, data, tmp_path / "adapter", **settings)
    assert losses(folder)[-1] < losses(folder)[0]
    record = json.loads((folder / "run.json").read_text())
    assert record["config"]["seed"] == 5
    assert record["data"]["data_hash"] == load_rows(data)[1].data_hash
    assert record["lengths"]["kept"] == 8
    assert record["versions"]["trl"]
    assert any("step 6/6" in line for line in said)
    adapter = json.loads((folder / "adapter_config.json").read_text())
    # All linear layers except the head, whose adapter TRL could not train and vLLM could not serve.
    projections = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert {name.rpartition(".")[2] for name in adapter["target_modules"]} == projections


def test_full_fine_tuning_saves_a_model_that_answers(model: Path, data: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder, _ = train(model, data, tmp_path / "full", full=True, num_train_epochs=2)
    before, after = (AutoModelForCausalLM.from_pretrained(path) for path in (model, folder))
    changed = [
        name
        for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True)
        if not old.equal(new)
    ]
    assert len(changed) == len(list(before.parameters()))
    assert (folder / "tokenizer.json").is_file()


def test_our_tokens_are_the_ones_trl_makes_of_the_same_rows(model: Path, data: Path, tmp_path: Path) -> None:
    """Pins our one-pass tokenisation to TRL's own: same ids, same labels."""
    import datasets
    from trl import SFTConfig as SftArguments
    from trl import SFTTrainer

    from training.run import quiet
    from training.student import load_tokenizer

    rows, _ = load_rows(data)
    tokenizer = load_tokenizer(str(model))
    bare = [{"prompt": row["prompt"], "completion": row["completion"]} for row in rows]
    arguments = SftArguments(output_dir=str(tmp_path), max_length=None, use_cpu=True, bf16=False)
    with quiet():
        stock = SFTTrainer(
            model=str(model),
            args=arguments,
            train_dataset=datasets.Dataset.from_list(bare),
            processing_class=tokenizer,
        )
    for row, theirs in zip(rows, stock.train_dataset, strict=True):
        ours = tokenize_completion(row, tokenizer)
        assert (ours["input_ids"], ours["labels"]) == (theirs["input_ids"], theirs["labels"])


def test_a_run_resumes_from_its_checkpoint(model: Path, data: Path, tmp_path: Path) -> None:
    settings = {"max_steps": 4, "trl": {"logging_steps": 1}, "save_steps": 2}
    whole, _ = train(model, data, tmp_path / "whole", **settings)
    cut = tmp_path / "cut"
    train(model, data, cut, **settings)
    import shutil

    shutil.rmtree(cut / "checkpoint-4")  # as if it had stopped between steps 2 and 4
    (cut / "run.json").unlink()
    resumed, said = train(model, data, cut, **settings)
    assert not any("step 1/4" in line for line in said)
    assert losses(resumed) == pytest.approx(losses(whole), abs=1e-6)


@pytest.mark.parametrize(("name", "lacking"), [("nowhere", "No tokenizer"), ("bare", "No tokenizer")])
def test_a_checkpoint_that_cannot_be_loaded_is_one_sentence(
    model: Path, data: Path, tmp_path: Path, name: str, lacking: str
) -> None:
    folder = tmp_path / name
    if name == "bare":
        folder.mkdir()
        for file in ("config.json", "model.safetensors"):
            (folder / file).write_bytes((model / file).read_bytes())
    with pytest.raises(ModelError, match=lacking) as error:
        train(folder, data, tmp_path / "out")
    assert "\n" not in str(error.value)
