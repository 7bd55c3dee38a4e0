"""Packed rows must not see each other: models that keep to that pass, one that does not is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from supercorrect_agent.errors import ConfigError
from tests.tiny import build_tiny_model
from training.config import SftConfig
from training.packing import check_packing

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


def load(folder: Path, **settings: Any) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM

    from training.student import load_tokenizer

    return AutoModelForCausalLM.from_pretrained(folder, **settings), load_tokenizer(str(folder))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_attention_that_follows_positions_is_safe(folder: Path, attention: str, dtype: str) -> None:
    import torch

    model, tokenizer = load(folder, attn_implementation=attention, dtype=dtype)
    model.train()
    model.model.layers[1].eval()
    state = torch.get_rng_state()
    check_packing(model, tokenizer)
    assert model.training
    assert not model.model.layers[1].training
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_attention_that_ignores_positions_is_refused(
    folder: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.models.llama import modeling_llama

    make_mask = modeling_llama.create_causal_mask
    monkeypatch.setattr(
        modeling_llama, "create_causal_mask", lambda **given: make_mask(**{**given, "position_ids": None})
    )
    model, tokenizer = load(folder, dtype=dtype)
    with pytest.raises(ConfigError, match=r"`attn_implementation=sdpa`.*Turn `packing` off"):
        check_packing(model, tokenizer)


def test_the_attention_that_the_message_names_can_be_chosen(folder: Path) -> None:
    from training.student import load_student

    chosen = {"model_init_kwargs": {"attn_implementation": "eager"}}
    model = load_student(SftConfig(model=str(folder), device="cpu", trl=chosen))
    assert model.config._attn_implementation == "eager"


def test_sharded_weights_are_refused(folder: Path) -> None:
    model, tokenizer = load(folder)
    model.lm_head.weight.ds_id = 0  # as DeepSpeed marks the pieces of ZeRO-3
    with pytest.raises(ConfigError, match="sharded"):
        check_packing(model, tokenizer)


def test_packed_rows_have_the_loss_of_the_rows_alone(folder: Path, tmp_path: Path) -> None:
    """Five rows, three to seven learnt tokens each, in one batch or packed: the same mean over tokens."""
    import datasets
    from trl import SFTConfig, SFTTrainer

    from training.run import quiet

    tokenizer = load(folder)[1]
    rows = []
    for number in range(5):
        ids = tokenizer(f"What is {number} and {number}? It is {'so ' * number}{2 * number}.")["input_ids"]
        given = len(ids) - 3 - number
        rows.append({"input_ids": ids, "labels": [-100] * given + ids[given:]})
    losses, batches = [], []
    for packing in (False, True):
        arguments = SFTConfig(
            output_dir=str(tmp_path),
            packing=packing,
            max_length=64 if packing else None,
            per_device_train_batch_size=5,
            max_steps=1,
            learning_rate=1e-9,
            logging_steps=1,
            report_to="none",
            save_strategy="no",
            use_cpu=True,
            bf16=False,
        )
        with quiet():
            trainer = SFTTrainer(
                model=load(folder)[0],
                args=arguments,
                train_dataset=datasets.Dataset.from_list(rows),
                processing_class=tokenizer,
            )
            batches.append(next(iter(trainer.get_train_dataloader())))
            trainer.train()
        losses.append(trainer.state.log_history[0]["loss"])
    assert "attention_mask" in batches[0]
    assert "attention_mask" not in batches[1]
    assert batches[1]["input_ids"].shape == (1, sum(len(row["input_ids"]) for row in rows))
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
