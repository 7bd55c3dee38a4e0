"""Stage 1 on a tiny random model: what TRL is given, what it saves, and what the run's record holds."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from supercorrect_agent.errors import ConfigError, ModelError
from tests.training_runs import log_of, losses, run, settings, sft_rows
from training.data import load_manifest, load_rows

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sft_rows(tmp_path_factory.mktemp("rows"))


def train(model: Path, data: Path, output: Path, **changes: Any) -> tuple[Path, list[str]]:
    return run("sft", settings("sft", model, data, output, **changes))


def test_an_adapter_is_trained_saved_and_described(model: Path, data: Path, tmp_path: Path) -> None:
    folder, said = train(model, data, tmp_path / "adapter", num_train_epochs=3, seed=5)
    assert losses(folder)[-1] < losses(folder)[0]
    record = json.loads((folder / "run.json").read_text())
    assert record["config"]["seed"] == 5
    assert record["data"]["data_hash"] == load_manifest(data).data_hash
    assert record["lengths"]["train"]["kept"] == 8
    assert (record["processes"], record["global_batch"]) == (1, 4)
    assert record["versions"]["trl"]
    assert record["results"]["loss"] == losses(folder)[-1]
    assert record["seconds"] > 0
    assert record["tokens_per_second"] > 0
    assert any("step 6/6" in line for line in said)
    adapter = json.loads((folder / "adapter_config.json").read_text())
    # All linear layers except the head, whose adapter TRL could not train and vLLM could not serve.
    projections = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert {name.rpartition(".")[2] for name in adapter["target_modules"]} == projections
    assert not (folder / "tokens").exists()


def test_the_tokens_seen_are_those_of_every_epoch(model: Path, data: Path, tmp_path: Path) -> None:
    from training.student import load_tokenizer
    from training.tokens import tokenize_completion

    folder, _ = train(model, data, tmp_path / "run", num_train_epochs=2)
    tokenizer = load_tokenizer(str(model))
    once = sum(len(tokenize_completion(row, tokenizer)["input_ids"]) for row in load_rows(data)[0])
    assert json.loads((folder / "run.json").read_text())["tokens_seen"] == 2 * once


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


@pytest.mark.parametrize(("changes", "evaluations"), [({}, 2), ({"eval_steps": 1}, 4)])
def test_the_loss_on_the_split_test_is_in_the_log(
    model: Path, tmp_path: Path, changes: dict[str, Any], evaluations: int
) -> None:
    """Two epochs of two steps: after each epoch, or after each step."""
    data = sft_rows(tmp_path / "rows", test_share=0.3)
    manifest = load_manifest(data)
    assert 0 < manifest.kept == 8 - manifest.kept_test < 8
    per_step = (manifest.kept + 1) // 2
    folder, _ = train(
        model, data, tmp_path / "run", num_train_epochs=2, per_device_train_batch_size=per_step, **changes
    )
    assert len(losses(folder)) == 4
    assert len(losses(folder, "eval_loss")) == evaluations
    record = json.loads((folder / "run.json").read_text())
    assert record["lengths"]["test"]["kept"] == manifest.kept_test


def test_a_packed_run_asks_whether_it_is_safe_and_keeps_the_loss(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All rows in one step: the mean over their tokens is the same, however they are laid side by side."""
    from training import packing

    with pytest.raises(ConfigError, match="`packing=true` needs the size of a sequence"):
        train(model, data, tmp_path / "one", packing=True)
    asked: list[Any] = []
    check = packing.check_packing
    monkeypatch.setattr(packing, "check_packing", lambda *what: (asked.append(what), check(*what)))
    whole = {"max_length": 2048, "per_device_train_batch_size": 8, "num_train_epochs": 1}
    packed, _ = train(model, data, tmp_path / "packed", packing=True, **whole)
    plain, _ = train(model, data, tmp_path / "plain", **whole)
    assert len(asked) == 1
    assert losses(packed) == pytest.approx(losses(plain), rel=1e-5)


def test_publishing_is_asked_for_and_leaves_checkpoints_out(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []

    class Hub:
        def __init__(self, token: str | None = None) -> None:
            pass

        def create_repo(self, name: str, **options: Any) -> Any:
            calls.append(("create", {"name": name, **options}))
            return SimpleNamespace(repo_id=f"me/{name}")

        def upload_folder(self, **options: Any) -> None:
            assert (tmp_path / "mine" / "run.json").is_file()
            calls.append(("upload", options))

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    train(model, data, tmp_path / "quiet", max_steps=1)
    assert calls == []
    train(model, data, tmp_path / "mine", max_steps=1, push_to_hub=True, hub_private_repo=True)
    assert calls[0] == ("create", {"name": "mine", "private": True, "exist_ok": True})
    assert calls[1][1]["repo_id"] == "me/mine"
    assert "checkpoint-*" in calls[1][1]["ignore_patterns"]


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


def test_every_logged_step_has_a_number(model: Path, data: Path, tmp_path: Path) -> None:
    folder, _ = train(model, data, tmp_path / "run", max_steps=3)
    assert [entry["step"] for entry in log_of(folder) if "loss" in entry] == [1, 2, 3]
