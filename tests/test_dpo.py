"""Stage 2 on a tiny random model: which weights are the reference, and what the first step must look like."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from supercorrect_agent.errors import ConfigError, DataError
from tests.training_runs import log_of, losses, pair_rows, run, settings, sft_rows
from training.config import DpoConfig
from training.data import load_manifest, load_rows
from training.dpo import create_dpo_trainer, dpo_arguments
from training.flags import make_config
from training.reference import CheckReference, compare
from training.student import load_tokenizer
from training.tokens import tokenize_pair, tokenize_rows

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def adapter(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that clearly differs from its base."""
    folder = tmp_path_factory.mktemp("stage1")
    rows = sft_rows(folder / "rows")
    return run("sft", settings("sft", model, rows, folder / "adapter", num_train_epochs=4))[0]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pair_rows(tmp_path_factory.mktemp("pairs"))


def make_trainer(model: Path, data: Path, output: Path, **changes: Any) -> tuple[Any, Any]:
    """The trainer as `run_dpo` makes it, and its rows before TRL has touched them."""
    from training.run import quiet

    config = make_config(DpoConfig, settings("dpo", model, data, output, **changes))
    tokenizer = load_tokenizer(str(model))
    rows = {"train": tokenize_rows(load_rows(data)[0], tokenizer, tokenize_pair, None)[0]}
    manifest = load_manifest(data)
    if manifest.kept_test:
        rows["test"] = tokenize_rows(load_rows(data, "test")[0], tokenizer, tokenize_pair, None)[0]
    with quiet():
        return create_dpo_trainer(config, dpo_arguments(config, manifest), dict(rows), tokenizer), rows


def sum_of_logps(model: Any, row: dict[str, Any], side: str) -> float:
    """log p(side | prompt) of one row by a plain forward pass, without TRL."""
    import torch

    ids = torch.tensor([row["prompt_ids"] + row[f"{side}_ids"]])
    with torch.no_grad():
        logps = model(ids).logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[:, 0]
    return float(logps[len(row["prompt_ids"]) - 1 :].sum())


def students(model: Path, adapter: Path) -> tuple[Any, Any]:
    """The base, and the base with the adapter merged in: two models of their own."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base, other = (AutoModelForCausalLM.from_pretrained(model).eval() for _ in range(2))
    return base, PeftModel.from_pretrained(other, str(adapter)).merge_and_unload().eval()


@pytest.mark.parametrize("case", ["adapter", "fresh lora", "full", "full from adapter"])
def test_the_reference_is_the_student_that_training_starts_from(
    model: Path, adapter: Path, tmp_path: Path, case: str
) -> None:
    """Any reference that equals the policy gives ln 2, so log-probabilities are compared, on both splits."""
    data = pair_rows(tmp_path / "rows", test_share=0.3)
    changes: dict[str, Any] = {"full": True} if "full" in case else {}
    changes |= {"adapter": str(adapter)} if "adapter" in case else {}
    trainer, rows = make_trainer(model, data, tmp_path / "out", **changes)
    base, tuned = students(model, adapter)
    student, other = (tuned, base) if "adapter" in case else (base, tuned)
    for split, found in (("train", trainer.train_dataset), ("test", trainer.eval_dataset)):
        assert len(rows[split]) == len(found) > 0
        for row, reference in zip(rows[split], found, strict=True):
            for side in ("chosen", "rejected"):
                logp = reference[f"ref_{side}_logps"]
                assert logp == pytest.approx(sum_of_logps(student, row, side), abs=1e-2)
                assert abs(logp - sum_of_logps(other, row, side)) > 0.5


def test_trl_takes_our_rows_as_they_are(model: Path, data: Path, tmp_path: Path) -> None:
    """Its own preparation would append EOS and open a new assistant turn (decision B1)."""
    trainer, rows = make_trainer(model, data, tmp_path)
    batch = trainer.data_collator([trainer.train_dataset[0]])
    row = rows["train"][0]
    ends = batch["attention_mask"].sum(1).tolist()
    assert batch["input_ids"][0, : ends[0]].tolist() == row["prompt_ids"] + row["chosen_ids"]
    assert batch["input_ids"][1, : ends[1]].tolist() == row["prompt_ids"] + row["rejected_ids"]
    assert batch["completion_mask"].sum(1).tolist() == [len(row["chosen_ids"]), len(row["rejected_ids"])]
    assert trainer.processing_class.eos_token_id not in row["chosen_ids"] + row["rejected_ids"]


@pytest.mark.parametrize(
    ("case", "precompute"),
    [
        ("adapter", True),
        ("adapter", False),
        ("fresh lora", True),
        ("fresh lora", False),
        ("full", True),
        ("full from adapter", True),
    ],
)
def test_the_first_loss_is_ln_2_and_training_separates_the_sides(
    model: Path, adapter: Path, data: Path, tmp_path: Path, case: str, precompute: bool
) -> None:
    changes: dict[str, Any] = {"full": True} if "full" in case else {}
    changes |= {"adapter": str(adapter)} if "adapter" in case else {}
    changes |= {"loss_type": "sigmoid", "precompute_ref_log_probs": precompute, "num_train_epochs": 3}
    folder, _ = run("dpo", settings("dpo", model, data, tmp_path / "out", **changes))
    log = log_of(folder)
    assert log[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert log[0]["rewards/margins"] == pytest.approx(0.0, abs=1e-3)
    steps = [entry for entry in log if "rewards/margins" in entry]
    assert steps[-1]["rewards/margins"] > steps[0]["rewards/margins"]
    assert (folder / "adapter_config.json").is_file() is ("full" not in case)
    assert not (folder / "ref").exists()


def test_the_sft_term_adds_the_mean_negative_log_likelihood_of_the_chosen_side(
    model: Path, data: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    changes = {"loss_weights": [1.0, 0.5], "per_device_train_batch_size": 8, "max_steps": 1}
    folder, _ = run("dpo", settings("dpo", model, data, tmp_path / "out", **changes))
    tokenizer = load_tokenizer(str(model))
    tokenized, _ = tokenize_rows(load_rows(data)[0], tokenizer, tokenize_pair, None)
    student = AutoModelForCausalLM.from_pretrained(model).eval()
    total = sum(sum_of_logps(student, row, "chosen") for row in tokenized)
    tokens = sum(len(row["chosen_ids"]) for row in tokenized)
    assert losses(folder)[0] == pytest.approx(math.log(2) - 0.5 * total / tokens, abs=1e-3)


@pytest.mark.parametrize(
    ("losses_", "options", "first"),
    [
        ("ipo", {}, (1 / (2 * 0.4)) ** 2),  # (0 - 1/(2 beta))^2
        ("apo_zero", {}, 1.0),  # 1 - s(0) + s(0)
        ("hinge", {}, 1.0),  # max(0, 1 - 0)
        (["sigmoid", "hinge"], {}, math.log(2) + 1.0),  # one weight of 1 each by default
        (["sigmoid", "ipo"], {"loss_weights": [0.5, 2.0]}, 0.5 * math.log(2) + 2 * (1 / 0.8) ** 2),
        # (-(1 - e) ln s(0) + e ln s(-0)) / (1 - 2e) = ln 2 (1 - 2e) / (1 - 2e)
        ("robust", {"label_smoothing": 0.1}, math.log(2)),
    ],
    ids=str,
)
def test_any_of_trls_losses(
    model: Path, data: Path, tmp_path: Path, losses_: Any, options: dict[str, Any], first: float
) -> None:
    """With the policy still at the reference every log-ratio is 0, which gives the first loss by hand."""
    changes = {"loss_type": losses_, "max_steps": 1, **options}
    folder, _ = run("dpo", settings("dpo", model, data, tmp_path / "out", **changes))
    assert losses(folder)[0] == pytest.approx(first, abs=1e-3)


def test_a_loss_that_trl_refuses_is_one_sentence(model: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="TRL refuses these settings: Label smoothing must be greater"):
        run("dpo", settings("dpo", model, data, tmp_path / "out", loss_type="exo_pair"))


def test_a_reference_that_is_not_the_starting_student_stops_the_run_before_its_first_step(
    model: Path, adapter: Path, data: Path, tmp_path: Path
) -> None:
    """Without precomputed numbers and without its frozen copy, TRL would take the base for the reference."""
    trainer, _ = make_trainer(
        model, data, tmp_path, adapter=str(adapter), precompute_ref_log_probs=False, max_steps=1
    )
    trainer.accelerator.unwrap_model(trainer.model).delete_adapter("ref")
    with pytest.raises(DataError, match="it is another model"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_a_resumed_run_is_not_compared_with_its_reference() -> None:
    from transformers import TrainerState

    CheckReference(None).on_train_begin(None, TrainerState(global_step=3), None)  # would fail on None


def test_sixteen_bit_sums_may_differ_a_little() -> None:
    compare("chosen", [-100.0], [-101.0], rough=True)  # 0.5 + 2 % of 100 = 2.5
    with pytest.raises(DataError, match=r"chosen side of a pair the log-probability -103\.000"):
        compare("chosen", [-100.0], [-103.0], rough=True)
    with pytest.raises(DataError, match="rejected"):
        compare("rejected", [-100.0], [-101.0], rough=False)  # 0.01 + 0.01 % of 100 = 0.02
    with pytest.raises(DataError, match="nan"):
        compare("rejected", [-100.0], [float("nan")], rough=False)


def test_weights_of_sixteen_bits_are_their_own_reference(
    model: Path, adapter: Path, data: Path, tmp_path: Path
) -> None:
    """Their sums depend on the padding by more than float32's do; that is no other model."""
    values = settings("dpo", model, data, tmp_path / "out", adapter=adapter, dtype="bfloat16", max_steps=2)
    folder, _ = run("dpo", values)
    assert losses(folder)[0] > 0
