"""Watching a run: a probe of what the model writes, and alarms where it goes wrong (`training.alarms`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from training.alarms import Alarm, chosen_alarm, probe_alarms, probes
from training.config import DpoConfig, TrainConfig
from training.probe import Probe, ProbeResult
from training.progress import Say


class Watch(TrainerCallback):  # type: ignore[misc]
    """Probes the model before the first step, each ``probe_steps`` (or epoch) and at the end; raises alarms.

    What it finds goes into the trainer's own log, so that it is saved and resumed with the checkpoints and
    reaches ``log.jsonl``. Under several processes the main one probes while the others wait, if it holds the
    weights whole; where they are sharded (FSDP, ZeRO-3) it says once that there is no probe.

    Args:
        config: The stage's settings.
        tokenizer: The student's tokenizer.
        say: Takes the lines for people.

    Raises:
        DataError: The probe's problems are unusable.
    """

    def __init__(self, config: TrainConfig, tokenizer: Any, say: Say) -> None:
        self._config, self._say = config, say
        self._probe = Probe(config.probe, config, tokenizer) if config.probe else None
        self._trainer: Trainer | None = None
        self._log: list[dict[str, Any]] = []
        self._probed: set[int] = set()  # the same in every process, unlike the log: all of them wait
        self._chosen_tokens: float | None = None

    def attach(self, trainer: Trainer) -> None:
        """Adds itself to a trainer whose reports (``report_to``) are to hold the probe as well."""
        self._trainer = trainer
        trainer.add_callback(self)

    def record(self) -> dict[str, Any]:
        """What belongs into ``run.json``.

        Returns:
            ``probe``, a list of results with ``step``; ``alarms``, a list of `Alarm` as dicts; with a probe
            also ``probe_problems``, how many; after stage 2 ``chosen_tokens``, the mean of a chosen side.
        """
        found = [{"step": step, **result.model_dump()} for step, result in probes(self._log)]
        alarms = [entry["alarm"] for entry in self._log if "alarm" in entry]
        sides = {} if self._chosen_tokens is None else {"chosen_tokens": self._chosen_tokens}
        asked = {} if self._probe is None else {"probe_problems": len(self._probe.problems)}
        return {"probe": found, "alarms": alarms, **asked, **sides}

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        train_dataloader: Any = None,
        **_: Any,
    ) -> None:
        self._log = state.log_history
        self._probed = {step for step, _ in probes(self._log)}  # of the run that is resumed
        if isinstance(self._config, DpoConfig):
            self._chosen_tokens = mean_length(train_dataloader.dataset, "chosen_ids")
        if self._probe is not None and is_sharded(model):
            self._probe = None
            if state.is_world_process_zero:
                self._say(
                    f"probe: none, because the weights are sharded; `probe={self._config.probe}` is unused"
                )
        self._run_probe(args, state, control, model)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **_: Any,
    ) -> None:
        if self._config.probe_steps and state.global_step % self._config.probe_steps == 0:
            self._run_probe(args, state, control, model)

    def on_epoch_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **_: Any,
    ) -> None:
        # The last epoch, complete or not, always ends here; at `on_train_end` the reports are closed already.
        ends = control.should_training_stop or state.global_step >= state.max_steps
        if ends or not self._config.probe_steps:
            self._run_probe(args, state, control, model)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if isinstance(self._config, DpoConfig) and self._chosen_tokens and "rewards/chosen" in (logs or {}):
            self._ring(state, chosen_alarm(self._config, state.log_history, self._chosen_tokens))

    def _run_probe(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any
    ) -> None:
        if self._probe is None or state.global_step in self._probed:
            return
        self._probed.add(state.global_step)
        if state.is_world_process_zero:
            result = self._probe(model)
            self._say(f"probe: step {state.global_step}, {result}")
            self._enter(args, state, control, result)
            if isinstance(self._config, DpoConfig):
                for alarm in probe_alarms(self._config, self._log):
                    self._ring(state, alarm)
        from accelerate import PartialState

        PartialState().wait_for_everyone()

    def _enter(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, result: ProbeResult
    ) -> None:
        numbers = {f"probe/{name}": value for name, value in result.model_dump().items()}
        state.log_history.append({"epoch": state.epoch or 0.0, **numbers, "step": state.global_step})
        if self._trainer is not None:
            wanted = control.should_log  # the handler takes the next log for done
            self._trainer.callback_handler.on_log(args, state, control, dict(numbers))
            control.should_log = wanted

    def _ring(self, state: TrainerState, alarm: Alarm | None) -> None:
        known = {entry["alarm"]["kind"] for entry in state.log_history if "alarm" in entry}
        if alarm is None or alarm.kind in known:
            return
        state.log_history.append({"alarm": alarm.model_dump(), "step": state.global_step})
        if state.is_world_process_zero:
            self._say(f"ALARM: {alarm.message}")


def is_sharded(model: Any) -> bool:
    """Whether this process holds only parts of the weights: FSDP, FSDP2, tensor parallelism or ZeRO-3."""
    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.distributed.tensor import DTensor

    if FullyShardedDataParallel.fsdp_modules(model):
        return True
    return any(isinstance(weight, DTensor) or hasattr(weight, "ds_id") for weight in model.parameters())


def mean_length(dataset: Any, column: str) -> float:
    """The mean length of the lists in a column of a ``datasets.Dataset``."""
    batches = dataset.select_columns(column).with_format("arrow").iter(batch_size=1000)
    total = sum(len(chunk.flatten()) for batch in batches for chunk in batch[column].chunks)
    return total / len(dataset)
