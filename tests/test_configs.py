"""Settings: every file parses, flags override the file, and a mistake is named with its remedy."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from supercorrect_agent.errors import ConfigError
from training.config import CollectionConfig, DpoConfig, EvaluationConfig, LoopConfig, Loss, SftConfig
from training.flags import make_config, parse_config, read_yaml
from training.metrics import mcnemar_exact

CONFIGS = sorted((Path(__file__).parent.parent / "training" / "configs").rglob("*.yaml"))


def parse(kind, *flags: str):  # type: ignore[no-untyped-def]
    return parse_config(kind, flags, program="training.test")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_config_file_is_a_valid_loop(path: Path) -> None:
    config = make_config(LoopConfig, read_yaml(path))
    assert config.sft.num_train_epochs > 0


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_a_stage_alone_reads_its_own_section(path: Path) -> None:
    loop = make_config(LoopConfig, read_yaml(path))
    for kind, section in ((SftConfig, loop.sft), (DpoConfig, loop.dpo)):
        alone = parse(kind, "--config", str(path), "--data", "rows", "--output", "out")
        moved = {"model": loop.model, "data": Path("rows"), "output": Path("out")}
        assert alone == section.model_copy(update=moved)


def test_the_papers_settings_are_the_papers() -> None:
    paper = make_config(LoopConfig, read_yaml(next(path for path in CONFIGS if path.name == "paper.yaml")))
    assert (paper.sft.learning_rate, paper.sft.num_train_epochs, paper.sft.warmup_ratio) == (2e-5, 4, 0.02)
    assert (paper.dpo.learning_rate, paper.dpo.num_train_epochs, paper.dpo.warmup_ratio) == (1e-6, 8, 0.05)
    assert paper.dpo.per_device_train_batch_size * paper.dpo.gradient_accumulation_steps * 8 == 128
    assert paper.sft.trl == {"optim": "adamw_torch"}


def read_loop(name: str) -> LoopConfig:
    return make_config(LoopConfig, read_yaml(next(path for path in CONFIGS if path.name == name)))


def test_the_papers_batches_and_steps() -> None:
    """5.1: 128 rows a step; 100,000 rows x 4 epochs / 128 = 3,125 steps, 10,000 pairs x 8 / 128 = 625."""
    paper = read_loop("paper.yaml")
    assert (paper.accelerate, paper.num_processes) == ("fsdp2", 8)
    for rows, stage, steps in ((paper.rows, paper.sft, 3125), (paper.pairs, paper.dpo, 625)):
        batch = paper.num_processes * stage.per_device_train_batch_size * stage.gradient_accumulation_steps
        assert batch == 128
        assert rows.max_rows is not None
        assert rows.max_rows * stage.num_train_epochs / batch == steps


# in, out of q, k, v, o, gate, up, down of Qwen2.5-Math-7B: hidden 3,584; 4 key-value heads of 128; MLP 18,944
QWEN_7B = [(3584, 3584), (3584, 512), (3584, 512), (3584, 3584)] + [(3584, 18944)] * 2 + [(18944, 3584)]


@pytest.mark.parametrize("name", ["lora_7b.yaml", "qlora_7b.yaml"])
def test_the_figures_of_the_7b_files(name: str) -> None:
    """16 x 7,168 = 114,688 for q and o; 16 x 4,096 = 65,536 for k and v; 16 x 22,528 = 360,448 thrice."""
    loop = read_loop(name)
    text = next(path for path in CONFIGS if path.name == name).read_text()
    layer = sum(loop.sft.lora_r * (inner + outer) for inner, outer in QWEN_7B)
    assert layer == 2 * 114_688 + 2 * 65_536 + 3 * 360_448 == 1_441_792
    assert f"{28 * layer:,} weights" in text
    assert "40,370,176" in text
    for stage in (loop.sft, loop.dpo):
        assert stage.per_device_train_batch_size * stage.gradient_accumulation_steps == 32
    rows = loop.sft.per_device_train_batch_size
    assert rows == 2 * loop.dpo.per_device_train_batch_size  # a pair is two rows
    assert f"a batch of {rows * 2048:,} tokens" in text
    assert loop.gate is not None
    assert (loop.gate.problems, loop.gate.n) == ("dev.jsonl", 500)
    assert mcnemar_exact(39, 61) <= loop.gate.alpha < mcnemar_exact(40, 60)


def test_qlora_saves_where_it_can() -> None:
    loop = read_loop("qlora_7b.yaml")
    for stage in (loop.sft, loop.dpo):
        assert stage.load_in_4bit
        assert stage.trl == {"gradient_checkpointing": True, "optim": "paged_adamw_8bit"}


@pytest.mark.integration
def test_peft_adds_as_many_weights_to_a_layer_of_the_7b_student() -> None:
    """One layer of the student's shape, without storage."""
    import torch
    from peft import get_peft_model
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from training.student import lora_config

    shape = Qwen2Config(
        vocab_size=152_064, hidden_size=3584, intermediate_size=18_944, num_hidden_layers=1,
        num_attention_heads=28, num_key_value_heads=4,
    )  # fmt: skip
    with torch.device("meta"):
        model = Qwen2ForCausalLM(shape)
        adapted = get_peft_model(model, lora_config(read_loop("lora_7b.yaml").sft))
    assert adapted.get_nb_trainable_parameters()[0] == 1_441_792


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


def test_trl_values_are_converted_to_the_type_of_their_field() -> None:
    """YAML 1.1 reads `1e-3` as a text; a list takes one word or several; `none` is a name for `report_to`."""
    flags = ["--weight_decay", "1e-3", "--gradient_checkpointing", "true", "--no-bf16", "--run_name", "5"]
    flags += ["--report_to", "none", "--optim_target_modules", "a", "b", "--dataset_num_proc", "none"]
    flags += ["--lr_scheduler_kwargs", "{min_lr_rate: 0.1}", "--label_names", "labels"]
    assert parse(SftConfig, *flags).trl == {
        "weight_decay": 0.001,
        "gradient_checkpointing": True,
        "bf16": False,
        "run_name": "5",
        "report_to": "none",
        "optim_target_modules": ["a", "b"],
        "dataset_num_proc": None,
        "lr_scheduler_kwargs": {"min_lr_rate": 0.1},
        "label_names": ["labels"],
    }


def test_a_boolean_takes_its_value_as_trls_do() -> None:
    """Argparse would hand the word `true` to the flag of TRL's that stands before it."""
    config = parse(SftConfig, "--logging_steps", "1", "--full", "true", "--packing", "false")
    assert (config.full, config.packing, config.trl) == (True, False, {"logging_steps": 1})
    assert parse(SftConfig, "--full", "--no_packing").full is True


def test_trls_output_folder_is_the_stages() -> None:
    config = parse(DpoConfig, "--output_dir", "here")
    assert (config.output, config.trl) == (Path("here"), {})


def test_the_mapping_of_trls_arguments_is_checked_like_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("trl: {weight_decay: 1e-4, learning_rate: 0.5}\n")
    config = parse(DpoConfig, "--config", str(file))
    assert (config.learning_rate, config.trl) == (0.5, {"weight_decay": 0.0001})
    assert parse(DpoConfig, "--config", str(file), "--learning_rate", "0.1").learning_rate == 0.1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trl: {weight_decy: 1}", "Did you mean `weight_decay`"),
        ("trl: some", "`trl='some'` is not a mapping"),
        ("trl: [1, 2]", "`trl=[1, 2]` is not a mapping"),
        ("{sft: {trl: {loging_steps: 1}}, learning_rate: 1}", "`sft` is not a key"),
        ("eos_token: x", "`eos_token` has no effect"),
        ("dataset_num_proc: many", "`dataset_num_proc='many'` is not valid"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        make_config(SftConfig, read_yaml(file))
    assert message in str(error.value)


def test_a_loops_file_without_the_section_gives_the_stages_defaults(tmp_path: Path) -> None:
    file = tmp_path / "loop.yaml"
    file.write_text("folder: runs/x\nmodel: models/base\nrows: {reviews: false}\n")
    assert parse(SftConfig, "--config", str(file)) == SftConfig(model="models/base")
    with pytest.raises(ConfigError, match=r"`--section pairs` is not a section of"):
        parse(SftConfig, "--config", str(file), "--section", "pairs")


def test_the_losses_are_those_of_trl() -> None:
    """TRL names its losses in the sentence that refuses any other."""
    import inspect

    from trl import DPOTrainer

    text = inspect.getsource(DPOTrainer._compute_loss)
    listed = text[text.index("Should be one of") :].partition("]")[0]
    assert re.findall(r"'(\w+)'", listed) == list(get_args(Loss))


@pytest.mark.parametrize(
    ("kind", "flags", "message"),
    [
        (SftConfig, ["--weight_decay"], "`weight_decay=True` is not valid"),
        (SftConfig, ["--logging_steps", "abc"], "`logging_steps='abc'` is not valid"),
        (SftConfig, ["--weight_decay", "{a"], "`weight_decay='{a'` is not valid"),
        (SftConfig, ["--completion_only_loss", "false"], "`completion_only_loss` has no effect"),
        (LoopConfig, ["--serve.name", ""], "`serve.name=''` is not valid"),
        (SftConfig, ["--full", "stray"], "`full='stray'` is not valid"),
        (DpoConfig, ["--loss_type", "sigmod"], "`loss_type.0='sigmod'` is not valid"),
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


@pytest.mark.parametrize(
    ("kind", "flags", "start"),
    [
        (CollectionConfig, ["--part", "3/2"], "`part=3/2`: there is no part 3 of 2; pass 1/2 to 2/2."),
        (CollectionConfig, ["--max_cost", "1"], "`max_cost=1` needs prices; pass `student_price`"),
        (CollectionConfig, ["--student_price", "-1", "2"], "`student_price=(-1.0, 2.0)` is negative; pass"),
        (LoopConfig, ["--collect.part", "3/2"], "In `collect`, `part=3/2`: there is no part 3 of 2"),
        (
            DpoConfig,
            ["--loss_type", "sft", "--loss_weights", "1", "2"],
            "`loss_type` and `loss_weights` have 1",
        ),
    ],
)
def test_fields_that_do_not_fit_are_named_first(kind, flags, start) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError) as error:
        parse(kind, *flags)
    assert str(error.value).startswith(start)


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


def test_a_collection_without_a_teacher_has_the_one_that_can_judge_its_problems() -> None:
    assert CollectionConfig().teacher == "sandbox"
    assert CollectionConfig(problems="sample:gsm8k").teacher == "reference"
    assert parse(CollectionConfig, "--problems", "sandbox:dev", "--teacher", "auto").teacher == "sandbox"
    assert parse(CollectionConfig, "--problems", "a.jsonl", "--teacher", "openai:m").teacher == "openai:m"
