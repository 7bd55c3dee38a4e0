"""What both TRL stages share: arguments, rows, one progress line instead of bars, and the record of a run."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from supercorrect_agent.errors import ConfigError
from supercorrect_agent.types import Record
from training.config import TrainConfig
from training.data import load_rows
from training.folders import replace_text
from training.manifest import Manifest
from training.order import global_batch
from training.progress import Pace, Say
from training.provenance import provenance
from training.resume import RUN_FILE, claim_folder, describe_run, last_checkpoint
from training.sources import model_path
from training.student import copy_prompts, first_line, load_tokenizer, on_cpu
from training.tokens import Lengths, Tokenized, read_tokens, tokenize_rows

LOG_FILE = "log.jsonl"
TOKEN_FOLDER = "tokens"  # noqa: S105


def common_arguments(config: TrainConfig, output: Path) -> dict[str, Any]:
    """Arguments of TRL's configuration that both stages set; the caller's ``trl`` arguments win."""
    cpu = on_cpu(config)
    return {
        "output_dir": str(output),
        "seed": config.seed,
        "learning_rate": config.learning_rate,
        "num_train_epochs": config.num_train_epochs,
        "max_steps": config.max_steps,
        "per_device_train_batch_size": config.per_device_train_batch_size,
        "per_device_eval_batch_size": config.per_device_train_batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        "lr_scheduler_type": config.lr_scheduler_type,
        "warmup_steps": config.warmup_ratio,  # transformers 5 reads a value below 1 as a share of the steps
        "max_length": None,  # rows that are too long were dropped whole, so nothing is cut
        "train_sampling_strategy": "group_by_length",
        "remove_unused_columns": False,  # it would take away the lengths that the sampler groups by
        "save_strategy": "steps" if config.save_steps else "no",
        "save_steps": config.save_steps or 500,
        "save_total_limit": 2,
        "eval_strategy": "steps" if config.eval_steps else "epoch",
        "eval_steps": config.eval_steps,
        "prediction_loss_only": True,  # else the test split's logits are gathered, and nobody reads them
        "logging_first_step": True,
        "include_num_input_tokens_seen": "non_padding",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": cpu,
        "bf16": not cpu,
        "gradient_checkpointing": not cpu,
        "dataloader_pin_memory": not cpu,
        **config.trl,
        "push_to_hub": False,  # once, at the end: `publish`
    }


def make_arguments(kind: type[Any], values: Mapping[str, Any], manifest: Manifest) -> Any:
    """TRL's configuration object; without a split ``test`` there is no evaluation.

    Raises:
        ConfigError: TRL refuses a value.
    """
    try:
        return kind(**(values if manifest.kept_test else {**values, "eval_strategy": "no"}))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{kind.__name__} refuses its arguments: {first_line(error)}. See TRL's documentation."
        ) from error


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Around the making of a trainer: what TRL, PEFT or a reporter refuses, in one sentence.

    Raises:
        ConfigError: Something was refused.
    """
    try:
        yield
    except (ValueError, NotImplementedError, RuntimeError, ImportError) as error:
        raise ConfigError(
            f"TRL refuses these settings: {first_line(error)}. Change them, or see TRL's documentation."
        ) from error


def is_finished(config: TrainConfig, arguments: Any, manifest: Manifest) -> bool:
    """Claims the output folder for this run; says whether a run with these settings has ended there.

    Raises:
        ConfigError: The folder holds another run.
    """
    run = describe_run(config, data_hash=manifest.data_hash, global_batch=global_batch(arguments))
    with arguments.main_process_first(local=False):
        return claim_folder(config.output, run, write=arguments.process_index == 0)


def tokenize_splits(
    config: TrainConfig,
    arguments: Any,
    manifest: Manifest,
    tokenizer: Any,
    tokenize: Callable[[dict[str, Any], Any], Tokenized],
) -> dict[str, tuple[Any, Lengths]]:
    """The rows of each split as ids, with their lengths; the main process writes them, the others map them.

    Raises:
        DataError: A split is unusable.
    """
    splits = ("train", "test") if manifest.kept_test else ("train",)
    return {
        split: tokenize_file(
            config, arguments, config.data, split, tokenizer, tokenize, name=split,
            **({"max_dropped": 1.0} if split == "test" else {}),
        )
        for split in splits
    }  # fmt: skip


def tokenize_file(
    config: TrainConfig,
    arguments: Any,
    folder: Path,
    split: str,
    tokenizer: Any,
    tokenize: Callable[[dict[str, Any], Any], Tokenized],
    *,
    name: str,
    **options: Any,
) -> tuple[Any, Lengths]:
    """The rows of one split of a dataset folder as ids, kept in the run's folder as ``name``, with lengths.

    Raises:
        DataError: They are unusable.
    """
    file = config.output / TOKEN_FOLDER / f"{name}.arrow"
    with arguments.main_process_first(local=False):
        if arguments.process_index:
            return read_tokens(file)
        file.parent.mkdir(exist_ok=True)
        return tokenize_rows(
            load_rows(folder, split)[0], tokenizer, tokenize, config.max_length,
            file=file, num_proc=arguments.dataset_num_proc, **options,
        )  # fmt: skip


def announce(name: str, config: TrainConfig, lengths: Mapping[str, Lengths], say: Say) -> None:
    """Says what the rows are like, and that an evaluation that was asked for has none."""
    say(f"{name}: {lengths['train']}")
    if config.eval_steps is not None and "test" not in lengths:
        say(
            f"{name}: `eval_steps={config.eval_steps}` is unused, because `data={config.data}` has no split "
            "`test`. Build the rows with `--test_share`."
        )


def run_stage(
    config: TrainConfig,
    arguments: Any,
    manifest: Manifest,
    tokenize: Callable[[dict[str, Any], Any], Tokenized],
    create_trainer: Callable[..., Trainer],
    *,
    say: Say,
) -> None:
    """What both stages do once TRL's arguments are settled: tokenise, train under watch, write it all down.

    Args:
        config: The stage's settings.
        arguments: TRL's.
        manifest: Of the dataset folder.
        tokenize: The stage's own of `training.tokens`.
        create_trainer: Makes the trainer of ``config``, ``arguments``, rows by split, and the tokenizer.
        say: Takes progress lines.

    Raises:
        SuperCorrectError: The data or the model is unusable, or the folder holds another run.
    """
    from training.watch import Watch

    name, say = config.section, only_main(say, arguments)
    if is_finished(config, arguments, manifest):
        say(f"{name}: {config.output} is finished already")
        return
    tokenizer = load_tokenizer(model_path(config.model))
    splits = tokenize_splits(config, arguments, manifest, tokenizer, tokenize)
    lengths = {split: found for split, (_, found) in splits.items()}
    announce(name, config, lengths, say)
    rows = {split: found for split, (found, _) in splits.items()}
    trainer = create_trainer(config, arguments, rows, tokenizer)
    watch = Watch(config, tokenizer, say)
    watch.attach(trainer)
    spent = train(trainer, name=name, say=say)
    finish(trainer, config, {"data": manifest, "lengths": lengths, **spent, **watch.record()})


def train(trainer: Trainer, *, name: str, say: Say) -> dict[str, Any]:
    """Trains, from the last whole checkpoint in the output folder if there is one, and saves the result.

    Returns:
        ``results``: the numbers logged last; and what the run took, in tokens and seconds.
    """
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(ProgressLine(name, say))
    output = Path(trainer.args.output_dir)
    with trainer.args.main_process_first(local=False):
        checkpoint = last_checkpoint(output, clean=trainer.args.process_index == 0)
        if checkpoint is not None:  # transformers would load TRL's copy of the reference and leave the policy
            shutil.rmtree(checkpoint / "ref", ignore_errors=True)
    if checkpoint is not None:
        say(f"{name}: goes on from {checkpoint}")
    seconds = trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint)).metrics["train_runtime"]
    model = trainer.accelerator.unwrap_model(trainer.model)
    if "ref" in getattr(model, "peft_config", {}):  # TRL's frozen copy would be saved beside the adapter
        model.delete_adapter("ref")
    trainer.save_model(str(output))
    last: dict[str, Any] = {}
    for entry in trainer.state.log_history:
        last.update({key: value for key, value in entry.items() if isinstance(value, int | float)})
    tokens = trainer.state.num_input_tokens_seen
    here = tokens - trainer._initial_num_input_tokens_seen
    return {
        "results": last,
        "processes": trainer.args.world_size,
        "global_batch": global_batch(trainer.args),
        "tokens_seen": tokens,
        "seconds": seconds,  # since the last start
        "tokens_per_second": round(here / max(seconds, 1e-6), 1),
    }


class ProgressLine(TrainerCallback):  # type: ignore[misc]
    """One plain line every few seconds, and each logged number kept for it."""

    def __init__(self, name: str, say: Say) -> None:
        self._name, self._say, self._pace = name, say, Pace()
        self._loss: float | None = None
        self._first = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._pace, self._first = Pace(), state.global_step

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        self._loss = (logs or {}).get("loss", self._loss)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if not self._pace.due(force=state.global_step == state.max_steps):
            return
        each = self._pace.elapsed / (state.global_step - self._first)
        left = each * (state.max_steps - state.global_step)
        loss = "" if self._loss is None else f", loss {self._loss:.4f}"
        self._say(f"{self._name}: step {state.global_step}/{state.max_steps}{loss}, {left:.0f} s left")


def only_main(say: Say, arguments: Any) -> Say:
    """``say`` in the main process, silence in the others."""
    return (lambda line: None) if arguments.process_index else say


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences the bars and notices of the training libraries; warnings about the data stay."""
    import datasets
    from transformers.utils import logging as hub_logging

    loggers = [logging.getLogger(name) for name in ("transformers", "trl", "accelerate", "peft")]
    levels = [logger.level for logger in loggers]
    bars = os.environ.get("TQDM_DISABLE")
    os.environ["TQDM_DISABLE"] = "1"  # TRL asks for this one
    datasets.disable_progress_bars()
    hub_logging.disable_progress_bar()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        os.environ.pop("TQDM_DISABLE")
        if bars is not None:
            os.environ["TQDM_DISABLE"] = bars
        datasets.enable_progress_bars()
        hub_logging.enable_progress_bar()


def finish(trainer: Trainer, config: TrainConfig, record: Mapping[str, Any]) -> None:
    """Main process only: log, ``run.json`` (which marks the end), picture, card; on request the Hub."""
    if not trainer.is_world_process_zero():
        return
    from training.cards import write_card
    from training.plots import plot_run

    history = trainer.state.log_history
    replace_text(config.output / LOG_FILE, "".join(json.dumps(entry) + "\n" for entry in history))
    save_run(config.output, config, record)
    plot_run(config.output)
    write_card(config.output)
    shutil.rmtree(config.output / TOKEN_FOLDER, ignore_errors=True)
    if config.trl.get("push_to_hub"):
        publish(config.output, trainer.args)


def publish(output: Path, arguments: Any) -> str:
    """Uploads a run folder without its checkpoints to ``hub_model_id`` (or the folder's name)."""
    from huggingface_hub import HfApi

    api = HfApi(token=arguments.hub_token)
    name = arguments.hub_model_id or output.resolve().name
    target = api.create_repo(name, private=arguments.hub_private_repo, exist_ok=True).repo_id
    api.upload_folder(
        repo_id=target, folder_path=str(output), ignore_patterns=["checkpoint-*", f"{TOKEN_FOLDER}/*"]
    )
    return str(target)


def save_run(output: Path, config: TrainConfig, record: Mapping[str, Any]) -> None:
    """Writes ``run.json``: resolved settings, data hash, commit, seed, versions, results. Marks the end."""
    copy_prompts(config, output)
    content = {"config": config.model_dump(mode="json"), **provenance(), **record}
    replace_text(output / RUN_FILE, json.dumps(content, indent=2, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, Record) else str(value)
