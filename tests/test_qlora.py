"""QLoRA: an adapter trained on a 4-bit base, which any base can carry, and stage 2 on top of it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from supercorrect_agent.errors import ConfigError
from tests.tiny import build_tiny_model
from tests.training_runs import losses, pair_rows, run, settings, sft_rows
from training.config import SftConfig
from training.student import four_bits, load_student


def test_nothing_is_quantised_by_default() -> None:
    assert four_bits(SftConfig()) == {}


def test_all_weights_cannot_be_trained_in_four_bits() -> None:
    with pytest.raises(ConfigError, match=r"`load_in_4bit=true` does not go with `full=true`"):
        load_student(SftConfig(load_in_4bit=True, full=True))


def test_a_missing_bitsandbytes_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'supercorrect-agent\[qlora\]'"):
        load_student(SftConfig(load_in_4bit=True))


@pytest.mark.integration
def test_both_stages_train_on_a_four_bit_base(tmp_path: Path) -> None:
    """And the probe, which evaluates in between, leaves 4-bit weights through which gradients pass."""
    pytest.importorskip("bitsandbytes")
    from peft import PeftModel
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    model = build_tiny_model(tmp_path / "tiny", context=2048)
    shared: dict[str, Any] = {
        "load_in_4bit": True,
        "bf16": True,  # as on a GPU
        "num_train_epochs": 3,
        **{"probe": "sandbox:dev", "probe_n": 2, "probe_max_new_tokens": 4},
    }
    rows, pairs = sft_rows(tmp_path / "rows"), pair_rows(tmp_path / "pairs")
    first, _ = run("sft", settings("sft", model, rows, tmp_path / "sft", **shared))
    second, _ = run("dpo", settings("dpo", model, pairs, tmp_path / "dpo", **shared, adapter=first))
    for folder, measure, falls in ((first, "loss", True), (second, "rewards/margins", False)):
        values = losses(folder, measure)
        assert (values[-1] < values[0]) is falls
        saved = json.loads((folder / "adapter_config.json").read_text())
        assert saved["modules_to_save"] is None  # vLLM refuses both
        names = load_file(folder / "adapter_model.safetensors")
        assert not [name for name in names if "lora_" not in name or "lm_head" in name]
        assert len(names) == 2 * 2 * 7  # A and B, two layers, seven projections
    base = AutoModelForCausalLM.from_pretrained(model)
    assert PeftModel.from_pretrained(base, str(second)).active_adapter == "default"  # on full precision
