"""What both TRL stages share: arguments, one progress line instead of bars, and the record of a run."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
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
from transformers.trainer_utils import get_last_checkpoint

from supercorrect_agent.errors import ConfigError, DataError
from supercorrect_agent.types import Record
from training.config import TrainConfig
from training.progress import Pace, Say
from training.provenance import provenance
from training.student import copy_prompts, on_cpu

RUN_FILE = "run.json"
LOG_FILE = "log.jsonl"


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
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        "lr_scheduler_type": config.lr_scheduler_type,
        "warmup_steps": config.warmup_ratio,  # transformers 5 reads a value below 1 as a share of the steps
        # Rows that are too long were dropped whole, so nothing is cut; packing needs the size of a piece.
        "max_length": config.max_length if config.trl.get("packing") else None,
        "train_sampling_strategy": "group_by_length",
        "remove_unused_columns": False,  # it would take away the lengths that the sampler groups by
        "save_strategy": "steps" if config.save_steps else "no",
        "save_steps": config.save_steps or 500,
        "save_total_limit": 2,
        "logging_first_step": True,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": cpu,
        "bf16": not cpu,
        "gradient_checkpointing": not cpu,
        "dataloader_pin_memory": not cpu,
        **config.trl,
    }


def make_arguments(kind: type[Any], values: Mapping[str, Any]) -> Any:
    """TRL's configuration object.

    Raises:
        ConfigError: TRL refuses a value.
    """
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{kind.__name__} refuses its arguments: {error}. See TRL's documentation."
        ) from error


def train(trainer: Trainer, *, name: str, say: Say) -> dict[str, float]:
    """Trains, from the last checkpoint in the output folder if there is one, and saves the result.

    Returns:
        The numbers logged last, with ``train_loss``, ``train_runtime`` (seconds) and the step count.
    """
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(ProgressLine(name, say))
    output = Path(trainer.args.output_dir)
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(output)))
    model = trainer.accelerator.unwrap_model(trainer.model)
    if "ref" in getattr(model, "peft_config", {}):  # TRL's frozen copy would be saved beside the adapter
        model.delete_adapter("ref")
    trainer.save_model(str(output))
    history = trainer.state.log_history
    (output / LOG_FILE).write_text("".join(json.dumps(entry) + "\n" for entry in history), encoding="utf-8")
    last: dict[str, float] = {}
    for entry in history:
        last.update({key: value for key, value in entry.items() if isinstance(value, int | float)})
    return last


class ProgressLine(TrainerCallback):  # type: ignore[misc]
    """One plain line every few seconds, and each logged number kept for it."""

    def __init__(self, name: str, say: Say) -> None:
        self._name, self._say, self._pace = name, say, Pace()
        self._loss: float | None = None

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
        if not state.is_world_process_zero or not self._pace.due(force=state.global_step == state.max_steps):
            return
        left = self._pace.elapsed / state.global_step * (state.max_steps - state.global_step)
        loss = "" if self._loss is None else f", loss {self._loss:.4f}"
        self._say(f"{self._name}: step {state.global_step}/{state.max_steps}{loss}, {left:.0f} s left")


class CheckReference(TrainerCallback):  # type: ignore[misc]
    """Stops a DPO run whose reference is not the policy it starts from: the first rewards are zero (B18)."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        if state.global_step != 1 or logs is None:
            return
        tolerance = 0.5 if args.bf16 else 0.01  # the sums of bf16 log-probabilities depend on the padding
        for name in ("rewards/chosen", "rewards/rejected"):
            if abs(logs.get(name, 0.0)) > tolerance:
                raise DataError(
                    f"`{name}={logs[name]:.4f}` before the first step: the reference is not the student that "
                    "training starts from. Pass stage 1's adapter as `--adapter`, its base as `--model`."
                )


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


def save_run(output: Path, config: TrainConfig, record: Mapping[str, Any]) -> None:
    """Writes ``run.json``: resolved settings, data hash, commit, seed, versions, results. Marks the end."""
    copy_prompts(config, output)
    content = {"config": config.model_dump(mode="json"), **provenance(), **record}
    text = json.dumps(content, indent=2, default=_plain) + "\n"
    (output / RUN_FILE).write_text(text, encoding="utf-8")


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, Record) else str(value)
