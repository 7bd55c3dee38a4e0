"""Settings: every file parses, flags override the file, and a mistake is named with its remedy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from supercorrect_agent.errors import ConfigError
from training.config import CollectionConfig, DpoConfig, EvaluationConfig, LoopConfig, SftConfig
from training.flags import make_config, parse_config, read_yaml

CONFIGS = sorted((Path(__file__).parent.parent / "training" / "configs").rglob("*.yaml"))


def parse(kind, *flags: str):  # type: ignore[no-untyped-def]
    return parse_config(kind, flags, program="training.test")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_config_file_is_a_valid_loop(path: Path) -> None:
    config = make_config(LoopConfig, read_yaml(path))
    assert config.sft.num_train_epochs > 0


def test_the_papers_settings_are_the_papers() -> None:
    paper = make_config(LoopConfig, read_yaml(next(path for path in CONFIGS if path.name == "paper.yaml")))
    assert (paper.sft.learning_rate, paper.sft.num_train_epochs, paper.sft.warmup_ratio) == (2e-5, 4, 0.02)
    assert (paper.dpo.learning_rate, paper.dpo.num_train_epochs, paper.dpo.warmup_ratio) == (1e-6, 8, 0.05)
    assert paper.dpo.per_device_train_batch_size * paper.dpo.gradient_accumulation_steps * 8 == 128
    assert paper.sft.trl == {"optim": "adamw_torch"}


def test_flags_override_the_file_and_reach_into_sections(tmp_path: Path) -> None:
    file = tmp_path / "loop.yaml"
    file.write_text("rounds: 2\nsft:\n  learning_rate: 2e-5\n  full: true\n")
    config = parse(LoopConfig, "--config", str(file), "--rounds", "3", "--sft.lora-r", "8", "--no-sft.full")
    assert (config.rounds, config.sft.lora_r, config.sft.full) == (3, 8, False)
    assert config.sft.learning_rate == 2e-5  # YAML reads this as a text


def test_lists_booleans_and_none_on_the_command_line() -> None:
    config = parse(EvaluationConfig, "--arms", "single", "retry", "--n", "none")
    assert (config.arms, config.n) == (("single", "retry"), None)
    assert parse(CollectionConfig, "--no-attempt").attempt is False


def test_trl_arguments_are_passed_on_under_their_own_names() -> None:
    config = parse(DpoConfig, "--weight_decay", "0.1", "--label-smoothing=0.05", "--beta", "0.2")
    assert config.trl == {"weight_decay": 0.1, "label_smoothing": 0.05}
    assert config.beta == 0.2


@pytest.mark.parametrize(
    ("kind", "flags", "message"),
    [
        (
            SftConfig,
            ["--learning_rat", "1"],
            "`learning_rat` is not a key of SftConfig. Did you mean `learning_rate`?",
        ),
        (DpoConfig, ["--weight_decy", "1"], "Did you mean `weight_decay`"),
        (LoopConfig, ["--dpo.bta", "1"], "`dpo.bta` is not a key of DpoConfig. Did you mean `dpo.beta`"),
        (SftConfig, ["--lora_r", "0"], "`lora_r='0'` is not valid"),
        (SftConfig, ["--config", "nowhere.yaml"], "cannot be read"),
        (SftConfig, ["stray"], "`stray` is not a flag"),
        (DpoConfig, ["--loss_type", "sigmoid", "sft", "--loss_weights", "1"], "2 losses but 1 weights"),
        (EvaluationConfig, ["--arms", "both"], "`arms.0='both'` is not valid"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(kind, flags, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError) as error:
        parse(kind, *flags)
    assert message in str(error.value)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1\n", "42"])
def test_a_file_that_is_not_a_mapping_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        read_yaml(file)


def test_the_command_ends_a_mistake_with_one_sentence_and_exit_code_2() -> None:
    command = [sys.executable, "-m", "training.sft", "--lerning_rate", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: `lerning_rate` is not a key")
    assert "Traceback" not in done.stderr
