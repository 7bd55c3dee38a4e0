"""Our stages against the stock trainers of TRL: same rows, model, seed and order give the same loss curve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.training_runs import losses, pair_rows, run, settings, sft_rows
from training.data import load_rows

pytestmark = pytest.mark.integration

STEPS = 6
TOLERANCE = 1e-4
# Both take the rows in the order of the file, so ours must not sort them: `sequential` needs equal lengths or
# a batch of all rows. Here every step sees all rows, and the order within a step does not matter.
ROWS = 8


def stock(kind: str, model: Path, rows: Any, output: Path, *, full: bool, **options: Any) -> list[float]:
    """The loss curve of TRL's trainer, given conversational rows and nothing of ours."""
    import trl
    from peft import LoraConfig

    from training.run import quiet

    arguments = getattr(trl, f"{kind}Config")(
        output_dir=str(output), seed=0, max_steps=STEPS, per_device_train_batch_size=ROWS, logging_steps=1,
        train_sampling_strategy="sequential", lr_scheduler_type="cosine", warmup_steps=0.05, max_length=None,
        report_to="none", use_cpu=True, bf16=False, gradient_checkpointing=False, save_strategy="no",
        disable_tqdm=True, **options,
    )  # fmt: skip
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    with quiet():
        trainer = getattr(trl, f"{kind}Trainer")(
            model=str(model), args=arguments, train_dataset=rows, peft_config=None if full else lora
        )
        trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def changes(full: bool) -> dict[str, Any]:
    return {
        "full": full,
        "max_steps": STEPS,
        "per_device_train_batch_size": ROWS,
        "train_sampling_strategy": "sequential",
    }


@pytest.mark.parametrize("full", [False, True], ids=["lora", "full"])
def test_stage_one_is_stock_sft(model: Path, tmp_path: Path, full: bool) -> None:
    data = sft_rows(tmp_path / "rows")
    rows = load_rows(data)[0].select_columns(["prompt", "completion"])
    assert len(rows) == ROWS
    folder, _ = run("sft", settings("sft", model, data, tmp_path / "ours", **changes(full)))
    theirs = stock("SFT", model, rows, tmp_path / "theirs", full=full, learning_rate=1e-2)
    assert losses(folder) == pytest.approx(theirs, rel=TOLERANCE)
    assert theirs[-1] < theirs[0]


@pytest.mark.parametrize("full", [False, True], ids=["lora", "full"])
def test_stage_two_is_stock_dpo_on_whole_answers(model: Path, tmp_path: Path, full: bool) -> None:
    """Pairs without a prefix whose sides end in ``</Answer>``: TRL's own tokenisation is right for them."""
    data = pair_rows(tmp_path / "rows", pair_format="whole_answer", solve_pairs=False)
    rows = load_rows(data)[0]
    assert all(row["prefix"] == "" for row in rows)
    assert all(
        row[side][0]["content"].endswith("</Answer>") for row in rows for side in ("chosen", "rejected")
    )
    rows = rows.select_columns(["prompt", "chosen", "rejected"])
    assert 2 <= len(rows) <= ROWS
    folder, _ = run("dpo", settings("dpo", model, data, tmp_path / "ours", **changes(full)))
    theirs = stock(
        "DPO", model, rows, tmp_path / "theirs", full=full, learning_rate=1e-3, beta=0.4,
        loss_type=["sigmoid", "sft"], loss_weights=[1.0, 1.0], precompute_ref_log_probs=full,
    )  # fmt: skip
    assert losses(folder) == pytest.approx(theirs, rel=TOLERANCE)
    assert theirs[-1] < theirs[0]
