"""Merging: the merged weights compute what base and adapter compute, and the folder is whole or not there."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from supercorrect_agent.errors import ConfigError, ModelError
from supercorrect_agent.models import load_chat_model
from tests.tiny import build_tiny_model
from tests.tiny_adapter import build_tiny_adapter
from training import export
from training.export import ExportConfig, run_export

pytestmark = pytest.mark.integration
QUESTION = "What is 7*8?"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build_tiny_model(tmp_path_factory.mktemp("export") / "base")
    (folder / "prompts.toml").write_text('[solve]\ntext = "Q: {problem}"\nversion = "7"\n')
    return folder


@pytest.fixture(scope="module")
def adapter(base: Path) -> Path:
    return build_tiny_adapter(base, base.with_name("adapter"), seed=1)


@pytest.fixture
def config(base: Path, adapter: Path, tmp_path: Path) -> ExportConfig:
    return ExportConfig(model=str(base), adapter=adapter, output=tmp_path / "merged")


def quiet(line: str) -> None:
    pass


def test_merged_weights_give_the_logits_of_base_and_adapter(config: ExportConfig) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    run_export(config, say=quiet)
    merged = AutoModelForCausalLM.from_pretrained(config.output, dtype="auto")
    plain = AutoModelForCausalLM.from_pretrained(config.model)
    ids = torch.arange(6, 38)[None]
    with torch.no_grad():
        alone = plain(ids).logits
        adapted = PeftModel.from_pretrained(plain, str(config.adapter))(ids).logits
        found = merged(ids).logits
    assert merged.dtype == torch.float32  # the base's
    torch.testing.assert_close(found, adapted, rtol=0, atol=1e-4)
    assert (found - alone).abs().max() > 0.1


def test_the_folder_serves_as_a_student(config: ExportConfig) -> None:
    run_export(config, say=quiet)
    names = {path.name for path in config.output.iterdir()}
    assert {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json"} <= names
    assert {"chat_template.jinja", "prompts.toml", "export.json"} <= names
    assert not {name for name in names if name.startswith("adapter")}
    texts = []
    for spec in (f"local:{config.output}", f"local:{config.model}+{config.adapter}", f"local:{config.model}"):
        model = load_chat_model(spec, max_tokens=40)
        texts.append(model.invoke(QUESTION).content)
        model.close()  # type: ignore[attr-defined]
    assert texts[0] == texts[1] != texts[2]


def test_another_dtype(config: ExportConfig) -> None:
    import torch
    from safetensors.torch import load_file

    run_export(config.model_copy(update={"dtype": "bfloat16"}), say=quiet)
    weights = load_file(config.output / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}


def test_a_finished_export_is_left_alone_and_another_is_refused(
    config: ExportConfig, base: Path, tmp_path: Path
) -> None:
    run_export(config, say=quiet)
    before = (config.output / "model.safetensors").stat().st_mtime_ns
    lines: list[str] = []
    run_export(config, say=lines.append)
    assert lines == [f"export: {config.output} is there already"]
    assert (config.output / "model.safetensors").stat().st_mtime_ns == before
    other = build_tiny_adapter(base, tmp_path / "other", seed=2)
    with pytest.raises(ConfigError, match="holds something else"):
        run_export(config.model_copy(update={"adapter": other}), say=quiet)


def test_a_folder_with_something_else_is_refused_before_anything_is_loaded(config: ExportConfig) -> None:
    config.output.mkdir()
    (config.output / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"`output=.*merged` holds something else"):
        run_export(config, say=quiet)
    assert [path.name for path in config.output.iterdir()] == ["notes.txt"]


def test_a_run_that_was_killed_leaves_no_half_folder(
    config: ExportConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the weights are written: the next run starts over, and what is left of the first goes."""

    def killed() -> dict[str, object]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(export, "provenance", killed)
        with pytest.raises(KeyboardInterrupt):
            run_export(config, say=quiet)
    assert not config.output.exists()
    config.output.mkdir()  # an empty folder is no obstacle
    run_export(config, say=quiet)
    assert [path.name for path in config.output.parent.iterdir()] == [config.output.name]


def test_a_quantised_base_is_refused(config: ExportConfig, tmp_path: Path) -> None:
    quantised = shutil.copytree(config.model, tmp_path / "quantised")
    settings = json.loads((quantised / "config.json").read_text())
    settings["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (quantised / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match="is quantised, and merging into rounded weights"):
        run_export(config.model_copy(update={"model": str(quantised)}), say=quiet)


def test_an_adapter_of_another_base_is_refused(config: ExportConfig) -> None:
    with pytest.raises(ModelError, match=r"cannot be merged into .*student.*Pass the base it was trained on"):
        run_export(config.model_copy(update={"model": "sandbox"}), say=quiet)


def test_a_torn_adapter_is_refused(config: ExportConfig, tmp_path: Path) -> None:
    torn = shutil.copytree(config.adapter, tmp_path / "torn")
    os.truncate(torn / "adapter_model.safetensors", 100)
    with pytest.raises(ModelError, match=r"cannot be merged into .* \(Error while deserializing header"):
        run_export(config.model_copy(update={"adapter": torn}), say=quiet)


def test_a_whole_model_is_no_adapter(config: ExportConfig, base: Path) -> None:
    with pytest.raises(ModelError, match=r"`adapter=.*base` is not a LoRA adapter folder"):
        run_export(config.model_copy(update={"adapter": base}), say=quiet)
