"""The model card: the Hub's metadata, every number of the run, and how to load what is in the folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from training.cards import write_card
from training.config import DpoConfig, SftConfig, TrainConfig

LENGTHS = {"p50": 221, "p95": 443, "longest": 579, "kept": 90, "dropped": 1}


def make_run(folder: Path, config: TrainConfig, *, rank: int | None = 20, **extra: Any) -> Path:
    folder.mkdir()
    run = {
        "config": config.model_dump(mode="json"),
        "commit": "abc123", "versions": {"torch": "2.13.0", "trl": "1.16.0"}, "python": "3.11.7",
        "machine": "x86_64",
        "data": {
            "kept": 90, "kept_test": 9, "kept_by_kind": {"solve": 60, "review": 30},
            "dropped": {"duplicate": 4}, "traces_read": 50, "traces_used": 45, "data_hash": "f00d",
            "prompts": {"solve": "sandbox-solve@1", "review": "sandbox-review@2", "judge": "unused@1"},
        },
        "lengths": {"train": LENGTHS}, "results": {"train_loss": 0.12345, "eval_loss": 0.5},
        "global_batch": 32, "alarms": [], "probe": [], **extra,
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(run))
    if rank is not None:
        (folder / "adapter_config.json").write_text(json.dumps({"r": rank, "rank_pattern": {}}))
    return folder


def read(folder: Path) -> tuple[dict[str, Any], str]:
    from huggingface_hub import ModelCard

    path = write_card(folder)
    assert path == folder / "README.md"
    card = ModelCard.load(path)
    return card.data.to_dict(), card.text


def test_an_adapter_of_a_model_on_the_hub(tmp_path: Path) -> None:
    config = SftConfig(model="Qwen/Qwen2.5-Math-7B-Instruct", lora_r=20)
    data, text = read(make_run(tmp_path / "my-sft", config))
    assert data["base_model"] == "Qwen/Qwen2.5-Math-7B-Instruct"
    assert data["library_name"] == "peft"
    assert data["tags"] == ["supercorrect", "trl", "sft", "lora"]
    assert "datasets" not in data
    assert text.strip().startswith("# my-sft")
    for part in (
        "60 solve, 30 review", "9 held out", "4 duplicate", "`f00d`", "45 of 50", "longest 579",
        "1 rows were", "| global_batch | 32 |", "| lora_r | 20 |", "| learning_rate | 0.0002 |",
        "mean training loss: 0.1235", "loss on held-out rows, last: 0.5", "No alarm was raised.",
        "**Not evaluated**", "solve: sandbox-solve@1", "review: sandbox-review@2",
        "`abc123`", "torch 2.13.0", "x86_64", "arXiv:2410.09008",
        'PeftModel.from_pretrained(base, "THIS_FOLDER")',
        # vLLM takes 8, 16, 32, ...: the smallest that holds 20 is 32
        "vllm serve Qwen/Qwen2.5-Math-7B-Instruct --enable-lora --max-lora-rank 32",
    ):  # fmt: skip
        assert part in text, part
    assert "unused@1" not in text
    assert "![" not in text  # there is no picture
    assert "Greedy replies" not in text  # and no probe


def test_a_whole_model_of_stage_2_with_probe_alarm_and_picture(tmp_path: Path) -> None:
    base = tmp_path / "secret" / "sft"
    base.mkdir(parents=True)
    config = DpoConfig(model=str(base), full=True, beta=0.4, probe="sandbox:dev", probe_n=16)
    probe = {"step": 7, "accuracy": 0.25, "format_valid": 1.0, "unfinished": 0.125, "tokens": 119.4}
    alarm = {"kind": "length", "step": 7, "message": "the replies grow"}
    folder = make_run(tmp_path / "dpo", config, rank=None, probe=[probe], alarms=[alarm])
    (folder / "training.png").write_bytes(b"")
    data, text = read(folder)
    assert "base_model" not in data  # a folder of this machine is no name on the Hub
    assert str(tmp_path) not in text
    assert data["library_name"] == "transformers"
    assert data["tags"] == ["supercorrect", "trl", "dpo"]
    for part in (
        "full fine-tune of `sft`", "cross-model DPO", "| beta | 0.4 |", "| loss_type | sigmoid, sft |",
        "Greedy replies to 16 problems", "| 7 | 25.0% | 100.0% | 12.5% | 119 |", "- step 7: the replies grow",
        "](training.png)", 'AutoModelForCausalLM.from_pretrained("THIS_FOLDER"',
    ):  # fmt: skip
        assert part in text, part
    assert "lora_r" not in text
    assert "PeftModel" not in text


def test_a_card_replaces_the_one_that_a_library_left(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "sft", SftConfig())
    (folder / "README.md").write_text("# Something else")
    _, text = read(folder)
    assert "Something else" not in text
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "adapter_config.json", "run.json"]


@pytest.mark.parametrize("rank", [16, 600])
def test_a_rank_that_cannot_be_served_does_not_spoil_the_card(tmp_path: Path, rank: int) -> None:
    _, text = read(make_run(tmp_path / "sft", SftConfig(model="a/b"), rank=rank))
    assert ("--max-lora-rank 16" in text) is (rank == 16)
    assert ("Merge it" in text) is (rank == 600)
