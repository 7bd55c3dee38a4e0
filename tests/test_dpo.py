"""Stage 2 on a tiny random model: which weights are the reference, and what the first step must look like."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from supercorrect_agent.errors import DataError
from tests.tiny import build_tiny_model
from tests.training_traces import QUESTION, STUDENT, TEMPLATE, make_round, make_trace
from training.config import DpoConfig, SftConfig
from training.data import load_rows, save_dataset
from training.dpo import create_dpo_trainer, run_dpo
from training.pairs import build_preference_dataset
from training.sft import run_sft
from training.sft_rows import build_sft_dataset
from training.student import load_tokenizer
from training.tokens import tokenize_pair, tokenize_rows

pytestmark = pytest.mark.integration

QUESTIONS = [QUESTION.replace("47", str(number)) for number in range(4)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"), context=2048)


@pytest.fixture(scope="module")
def adapter(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that clearly differs from its base."""
    folder = tmp_path_factory.mktemp("stage1")
    rows = build_sft_dataset([make_trace(question=each, template=TEMPLATE) for each in QUESTIONS])
    settings = {"learning_rate": 1e-2, "num_train_epochs": 4, "per_device_train_batch_size": 4}
    config = SftConfig.model_validate(
        {
            "model": str(model),
            "data": save_dataset(folder / "rows", *rows),
            "output": folder / "adapter",
            "device": "cpu",
            **settings,
        }
    )
    return run_sft(config, say=lambda line: None)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rounds = [make_round(student=STUDENT.replace("Carry", "Carry " * n)) for n in range(1, 5)]
    traces = [make_trace(round_, question=each) for round_, each in zip(rounds, QUESTIONS, strict=True)]
    return save_dataset(tmp_path_factory.mktemp("pairs"), *build_preference_dataset(traces, solve_pairs=True))


def make_config(model: Path, data: Path, output: Path, **settings: Any) -> DpoConfig:
    base = {"model": str(model), "data": data, "output": output, "device": "cpu", "learning_rate": 1e-3}
    batch = {"per_device_train_batch_size": 4, "trl": {"logging_steps": 1}}
    return DpoConfig.model_validate({**base, **batch, **settings})


def log_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def sum_of_logps(model: Any, row: dict[str, Any], side: str) -> float:
    """log p(side | prompt) of one row by a plain forward pass, without TRL."""
    import torch

    ids = torch.tensor([row["prompt_ids"] + row[f"{side}_ids"]])
    with torch.no_grad():
        logps = model(ids).logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[:, 0]
    return float(logps[len(row["prompt_ids"]) - 1 :].sum())


def test_the_reference_is_adapter_a_and_not_the_base(
    model: Path, adapter: Path, data: Path, tmp_path: Path
) -> None:
    """Any reference that equals the policy gives ln 2, so the log-probabilities are compared as well."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    config = make_config(model, data, tmp_path, adapter=adapter)
    tokenizer = load_tokenizer(str(model))
    tokenized, _ = tokenize_rows(load_rows(data)[0], tokenizer, tokenize_pair, None)
    trainer = create_dpo_trainer(config, tokenized, tokenizer)

    base = AutoModelForCausalLM.from_pretrained(model).eval()
    from_base = [sum_of_logps(base, row, "chosen") for row in tokenized]
    student = PeftModel.from_pretrained(base, str(adapter)).eval()
    for row, reference, base_logp in zip(tokenized, trainer.train_dataset, from_base, strict=True):
        assert reference["ref_chosen_logps"] == pytest.approx(sum_of_logps(student, row, "chosen"), abs=1e-2)
        assert reference["ref_rejected_logps"] == pytest.approx(
            sum_of_logps(student, row, "rejected"), abs=1e-2
        )
        assert abs(reference["ref_chosen_logps"] - base_logp) > 1.0  # and not the base's


def test_trl_takes_our_rows_as_they_are(model: Path, data: Path, tmp_path: Path) -> None:
    """Its own preparation would append EOS and open a new assistant turn (decision B1)."""
    tokenizer = load_tokenizer(str(model))
    tokenized, _ = tokenize_rows(load_rows(data)[0], tokenizer, tokenize_pair, None)
    trainer = create_dpo_trainer(make_config(model, data, tmp_path), tokenized, tokenizer)
    batch = trainer.data_collator([trainer.train_dataset[0]])
    row = tokenized[0]
    ends = batch["attention_mask"].sum(1).tolist()
    assert batch["input_ids"][0, : ends[0]].tolist() == row["prompt_ids"] + row["chosen_ids"]
    assert batch["input_ids"][1, : ends[1]].tolist() == row["prompt_ids"] + row["rejected_ids"]
    assert batch["completion_mask"].sum(1).tolist() == [len(row["chosen_ids"]), len(row["rejected_ids"])]
    assert tokenizer.eos_token_id not in row["chosen_ids"] + row["rejected_ids"]


@pytest.mark.parametrize("case", ["adapter", "fresh lora", "full", "full from adapter"])
def test_the_first_loss_is_ln_2_and_training_separates_the_sides(
    model: Path, adapter: Path, data: Path, tmp_path: Path, case: str
) -> None:
    settings = {
        "adapter": {"adapter": adapter},
        "fresh lora": {},
        "full": {"full": True},
        "full from adapter": {"adapter": adapter, "full": True},
    }[case]
    config = make_config(
        model,
        data,
        tmp_path / "out",
        num_train_epochs=4,
        loss_type=("sigmoid",),
        loss_weights=(1.0,),
        **settings,
    )
    folder = run_dpo(config, say=lambda line: None)
    log = log_of(folder)
    assert log[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert log[0]["rewards/margins"] == pytest.approx(0.0, abs=1e-3)
    steps = [entry for entry in log if "rewards/margins" in entry]
    assert steps[-1]["rewards/margins"] > steps[0]["rewards/margins"]
    assert (folder / "adapter_config.json").is_file() is not config.full
    assert not (folder / "ref").exists()


def test_the_sft_term_adds_the_mean_negative_log_likelihood_of_the_chosen_side(
    model: Path, data: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    config = make_config(
        model, data, tmp_path, loss_weights=(1.0, 0.5), per_device_train_batch_size=8, max_steps=1
    )
    log = log_of(run_dpo(config, say=lambda line: None))
    tokenized, _ = tokenize_rows(load_rows(data)[0], load_tokenizer(str(model)), tokenize_pair, None)
    student = AutoModelForCausalLM.from_pretrained(model).eval()
    total = sum(sum_of_logps(student, row, "chosen") for row in tokenized)
    tokens = sum(len(row["chosen_ids"]) for row in tokenized)
    assert log[0]["loss"] == pytest.approx(math.log(2) - 0.5 * total / tokens, abs=1e-3)


def test_a_reference_that_is_not_the_starting_student_stops_the_run() -> None:
    from transformers import TrainerState, TrainingArguments

    from training.run import CheckReference

    state = TrainerState(global_step=1)
    arguments = TrainingArguments(use_cpu=True)
    CheckReference().on_log(arguments, state, None, logs={"rewards/chosen": 0.001})
    with pytest.raises(DataError, match="rewards/rejected=-3"):
        CheckReference().on_log(
            arguments, state, None, logs={"rewards/chosen": 0.0, "rewards/rejected": -3.0}
        )
