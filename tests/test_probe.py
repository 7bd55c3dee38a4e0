"""The generation probe: what it counts, and that the model comes back as it was."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from supercorrect_agent.errors import DataError
from tests.tiny import build_tiny_model
from training.config import SftConfig
from training.probe import Probe, ProbeResult, undisturbed

QUESTIONS = [f"Ann has {n} beads and buys 5. How many?" for n in range(4)]
REPLY = "<Step1>Ad</Step1><Answer>7</Answer>"  # no token twice


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"), context=2048)


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    """Answers 5 to 8; a student that always says 7 has one of four right."""
    path = tmp_path / "problems.jsonl"
    lines = [json.dumps({"question": each, "answer": str(n + 5)}) for n, each in enumerate(QUESTIONS)]
    path.write_text("\n".join(lines))
    return path


def load(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM

    from training.student import load_tokenizer

    return AutoModelForCausalLM.from_pretrained(folder), load_tokenizer(str(folder))


def make_probe(folder: Path, problems: Path, tokenizer: Any = None, **settings: Any) -> Probe:
    values = {"model": str(folder), "probe": str(problems), "probe_max_new_tokens": 24, **settings}
    return Probe(str(problems), SftConfig.model_validate(values), tokenizer)


def teach(model: Any, tokenizer: Any, reply: str = REPLY) -> None:
    """Makes the model say ``reply``, in which no token may occur twice, and end its turn.

    Attention and MLPs are silenced, so the last token's embedding alone decides; it points at the next token.
    """
    import torch

    ids = [5, *tokenizer(reply, add_special_tokens=False)["input_ids"], 2]  # <|assistant|> ... </s>
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.zero_()
        model.lm_head.weight.zero_()
        for place, (token, after) in enumerate(pairwise(ids)):
            model.model.embed_tokens.weight[token, place] = 1.0
            model.lm_head.weight[after, place] = 1.0


@pytest.mark.integration
def test_a_probe_counts_answers_layout_tokens_and_ends(folder: Path, problems: Path) -> None:
    model, tokenizer = load(folder)
    teach(model, tokenizer)
    # <Step1> A d </Step1> <Answer> 7 </Answer> </s>: eight tokens; 7 is right for one of four problems.
    expected = ProbeResult(accuracy=0.25, format_valid=1.0, tokens=8, unfinished=0)
    assert make_probe(folder, problems, tokenizer)(model) == expected
    # With room for seven tokens the answer is complete, but the turn does not end.
    cut = make_probe(folder, problems, tokenizer, probe_max_new_tokens=7)(model)
    assert cut == ProbeResult(accuracy=0.25, format_valid=1.0, tokens=7, unfinished=1.0)


@pytest.mark.integration
def test_the_model_is_given_back_as_it_was(folder: Path, problems: Path) -> None:
    import torch

    model, tokenizer = load(folder)
    teach(model, tokenizer)
    model.train()
    model.model.layers[0].eval()  # every module's own mode counts
    model.config.use_cache = False  # as gradient checkpointing leaves it
    model.gradient_checkpointing_enable()
    model.enable_input_require_grads()
    settings, state, python = model.generation_config, torch.get_rng_state(), random.getstate()
    assert make_probe(folder, problems, tokenizer)(model).tokens == 8  # as without all this
    with undisturbed(model, tokenizer) as lent:
        assert not any(module.training for module in lent.modules())
        torch.rand(1)
    assert model.training
    assert not model.model.layers[0].training
    assert model.model.layers[1].training
    assert model.config.use_cache is False
    assert model.generation_config is settings
    assert torch.equal(torch.get_rng_state(), state)
    assert random.getstate() == python


@pytest.mark.integration
def test_an_error_gives_the_model_back_too(folder: Path, problems: Path) -> None:
    model, tokenizer = load(folder)
    model.train()
    model.generate = None  # such as out of memory
    with pytest.raises(TypeError):
        make_probe(folder, problems, tokenizer)(model)
    assert model.training


@pytest.mark.integration
def test_the_active_adapter_is_probed_and_not_the_reference_or_the_base(folder: Path, problems: Path) -> None:
    """After DPO's preparation: a patched LM head, and a frozen adapter ``ref`` beside the trained one."""
    import torch
    from peft import LoraConfig, get_peft_model
    from trl.trainer.utils import add_fused_lm_head

    model, tokenizer = load(folder)
    teach(model, tokenizer)
    lora = LoraConfig(r=1, target_modules=["o_proj"], task_type="CAUSAL_LM")
    adapted = get_peft_model(model, lora)
    adapted.add_adapter("ref", lora)
    add_fused_lm_head(adapted.get_base_model())
    probe = make_probe(folder, problems, tokenizer)
    assert probe(adapted).tokens == 8
    torch.manual_seed(0)
    with torch.no_grad():  # the trained adapter now drowns what the base says; `ref` stays silent
        for name, weight in adapted.named_parameters():
            if ".default." in name:
                weight.copy_(torch.randn_like(weight) * 100)
    assert probe(adapted).accuracy == 0.0
    assert adapted.active_adapter == "default"
    adapted.set_adapter("ref")
    assert probe(adapted).tokens == 8


def test_problems_without_an_answer_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "open.jsonl"
    path.write_text('{"question": "Why?"}\n{"question": "How many?", "answer": "3"}\n')
    with pytest.raises(DataError, match=r"1 of 2 problems of `probe=.*open.jsonl` have no `answer`"):
        make_probe(tmp_path, path)
