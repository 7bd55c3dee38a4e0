"""Watching a run: alarms fed by hand, when probes are made, that training is the same with and without."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.test_two_processes import launcher
from tests.training_runs import (
    finish,
    largest_difference,
    log_of,
    losses,
    pair_rows,
    run,
    settings,
    sft_rows,
    start,
)
from training.alarms import chosen_alarm, probe_alarms
from training.config import DpoConfig, SftConfig
from training.watch import Watch, is_sharded, mean_length

CONFIG = DpoConfig(beta=0.4, alarm_chosen_drop=0.5, alarm_length_ratio=1.5, alarm_no_end_share=0.1)


def probing(**changes: Any) -> dict[str, Any]:
    return {"probe": "sandbox:dev", "probe_n": 3, "probe_max_new_tokens": 8, **changes}


def rewards(*values: float) -> list[dict[str, Any]]:
    return [{"rewards/chosen": value, "step": step} for step, value in enumerate(values, 1)]


def probed(step: int, *, tokens: float = 100.0, unfinished: float = 0.0) -> dict[str, Any]:
    shares = {"probe/accuracy": 0.5, "probe/format_valid": 1.0}
    return {**shares, "probe/tokens": tokens, "probe/unfinished": unfinished, "step": step}


@pytest.mark.parametrize(
    ("values", "rings"),
    [
        # beta 0.4 and 20 tokens: a reward of -4 is -4/0.4/20 = -0.5 nats per token, the threshold itself.
        ([0.0, -4.0, -4.0, -4.0, -4.0, -4.0], False),
        ([0.0, -4.0, -4.0, -4.0, -4.0, -4.1], True),  # mean of the last five: -4.02
        ([0.0, -1.0, -1.0, -1.0, -1.0, -15.0], False),  # one batch of other rows: mean -3.8
        ([-9.0, -9.0], False),  # too few logged steps to tell
        ([-9.0, -9.0, -9.0], True),
        ([0.0, 9.0, 9.0, 9.0], False),  # rising is no harm
    ],
)
def test_falling_chosen_log_probabilities_ring(values: list[float], rings: bool) -> None:
    alarm = chosen_alarm(CONFIG, [{"loss": 0.7, "step": 1}, *rewards(*values)], chosen_tokens=20)
    assert (alarm is not None) is rings


def test_an_alarm_names_value_threshold_and_remedy() -> None:
    alarm = chosen_alarm(CONFIG, rewards(-8.0, -8.0, -8.0), chosen_tokens=20)
    assert alarm is not None
    assert (alarm.kind, alarm.step, alarm.value, alarm.threshold) == ("chosen_drop", 3, 1.0, 0.5)
    for part in (
        "1.00 nats per token",
        "`alarm_chosen_drop=0.5`",
        "`loss_weights`",
        "`learning_rate`",
        "`beta`",
    ):
        assert part in alarm.message


@pytest.mark.parametrize(
    ("last", "kinds"),
    [
        ({"tokens": 150.0}, []),
        ({"tokens": 151.0}, ["length"]),
        ({"tokens": 67.0}, []),  # 100/1.5 = 66.7
        ({"tokens": 66.0}, ["length"]),
        ({"unfinished": 0.3}, []),  # 0.1 more than the first
        ({"unfinished": 0.31}, ["no_end"]),
        ({"tokens": 500.0, "unfinished": 1.0}, ["length", "no_end"]),
    ],
)
def test_probe_replies_that_drift_ring(last: dict[str, float], kinds: list[str]) -> None:
    first = probed(0, unfinished=0.2)
    between = probed(5, tokens=1000.0)  # only the last counts, against the first
    log = [first, {"loss": 0.1, "step": 3}, between, probed(9, **{"unfinished": 0.2, **last})]
    assert [alarm.kind for alarm in probe_alarms(CONFIG, log)] == kinds


def test_the_first_probe_alone_rings_nothing() -> None:
    assert probe_alarms(CONFIG, [probed(0, tokens=9000.0, unfinished=1.0)]) == []


class State:
    """As much of a trainer's state as a watch looks at."""

    is_world_process_zero = True

    def __init__(self) -> None:
        self.log_history: list[dict[str, Any]] = []
        self.global_step = 0


def test_an_alarm_rings_once_even_after_a_resumption() -> None:
    import datasets

    class Loader:
        dataset = datasets.Dataset.from_dict({"chosen_ids": [[1] * 10, [1] * 30]})  # 20 tokens on average

    said: list[str] = []
    state: Any = State()
    for watch in (Watch(CONFIG, None, said.append), Watch(CONFIG, None, said.append)):
        watch.on_train_begin(None, state, None, train_dataloader=Loader)  # type: ignore[arg-type]
        for _ in range(4):
            state.global_step += 1
            logs = {"rewards/chosen": -8.0}
            state.log_history.append({**logs, "step": state.global_step})
            watch.on_log(None, state, None, logs)  # type: ignore[arg-type]
        assert [alarm["kind"] for alarm in watch.record()["alarms"]] == ["chosen_drop"]
        assert watch.record()["alarms"][0]["step"] == 3
        assert watch.record()["chosen_tokens"] == 20
    assert len(said) == 1


def test_mean_length_counts_the_selected_rows_only() -> None:
    import datasets

    rows = datasets.Dataset.from_dict({"chosen_ids": [[1], [2, 2], [3] * 6], "other": [1, 2, 3]})
    assert mean_length(rows, "chosen_ids") == 3
    assert mean_length(rows.select([1, 2]), "chosen_ids") == 4


def test_sharded_weights_are_recognised() -> None:
    """By their kind: FSDP2 and tensor parallelism leave DTensors, ZeRO-3 marks what it has taken apart."""
    import torch
    from torch.distributed import HashStore, destroy_process_group, init_process_group
    from torch.distributed.fsdp import fully_shard

    model = torch.nn.Linear(2, 2)
    assert not is_sharded(model)
    model.weight.ds_id = 0  # type: ignore[assignment]
    assert is_sharded(model)
    init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        assert is_sharded(fully_shard(torch.nn.Linear(2, 2)))
    finally:
        destroy_process_group()


def test_sharded_weights_are_not_probed_and_that_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import training.watch

    said: list[str] = []
    watch = Watch(SftConfig.model_validate(probing(probe_steps=1)), None, said.append)
    monkeypatch.setattr(training.watch, "is_sharded", lambda model: True)
    state: Any = State()
    watch.on_train_begin(None, state, None)  # type: ignore[arg-type]
    state.global_step = 1
    watch.on_step_end(None, state, None)  # type: ignore[arg-type]
    assert len(said) == 1
    assert "the weights are sharded" in said[0]
    assert watch.record()["probe"] == []


@pytest.mark.integration
@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_a_run_with_a_probe_is_the_run_without_it_bit_for_bit(
    model: Path, tmp_path: Path, stage: str
) -> None:
    """With dropout and gradient checkpointing; stage 2 has its frozen reference beside the adapter."""
    data = (sft_rows if stage == "sft" else pair_rows)(tmp_path / "rows")
    values: dict[str, Any] = {"lora_dropout": 0.2, "gradient_checkpointing": True, "num_train_epochs": 2}
    if stage == "dpo":
        first = settings("sft", model, sft_rows(tmp_path / "first"), tmp_path / "adapter", max_steps=2)
        values |= {"adapter": run("sft", first)[0], "precompute_ref_log_probs": False}
    bare, _ = run(stage, settings(stage, model, data, tmp_path / "bare", **values))
    watched, said = run(
        stage, settings(stage, model, data, tmp_path / "watched", **values, **probing(probe_steps=1))
    )
    assert largest_difference(bare, watched) == 0.0
    assert losses(bare) == losses(watched)
    assert len(losses(bare)) == 4
    assert sum(line.startswith("probe:") for line in said) == 5  # before the first step and after each


@pytest.mark.integration
@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({"max_steps": 3}, [0, 2, 3]),  # eight rows in batches of four; the second epoch is cut short
        ({"num_train_epochs": 2, "probe_steps": 3}, [0, 3, 4]),
    ],
)
def test_probes_are_made_before_between_and_at_the_end(
    model: Path, tmp_path: Path, changes: dict[str, int], steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    import training.run

    reported: list[dict[str, Any]] = []

    class Report(training.run.ProgressLine):
        """Is told what ``report_to`` would be told."""

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **rest: Any) -> None:
            reported.append(dict(logs))

    monkeypatch.setattr(training.run, "ProgressLine", Report)
    values = settings("sft", model, sft_rows(tmp_path / "rows"), tmp_path / "out", **probing(**changes))
    folder, said = run("sft", {**values, "logging_steps": 2})
    record = json.loads((folder / "run.json").read_text())
    assert [probe["step"] for probe in record["probe"]] == steps
    assert [line.split(",")[0] for line in said if line.startswith("probe")] == [
        f"probe: step {n}" for n in steps
    ]
    entries = [entry for entry in log_of(folder) if "probe/tokens" in entry]
    assert [(entry["step"], entry["probe/tokens"]) for entry in entries] == [
        (probe["step"], probe["tokens"]) for probe in record["probe"]
    ]
    assert sum("probe/unfinished" in logs for logs in reported) == len(steps)
    # A probe takes no log away from its step.
    assert [entry["step"] for entry in log_of(folder) if "loss" in entry] == [
        step for step in (1, 2, 4) if step <= steps[-1]
    ]


@pytest.mark.integration
def test_under_two_processes_the_main_one_probes_while_the_other_waits(model: Path, tmp_path: Path) -> None:
    values = settings(
        "sft",
        model,
        sft_rows(tmp_path / "rows"),
        tmp_path / "out",
        **probing(num_train_epochs=2, probe_steps=1),
    )
    lines = finish(start("sft", values, *launcher("ddp"))).splitlines()
    probes = json.loads((tmp_path / "out" / "run.json").read_text())["probe"]
    assert [probe["step"] for probe in probes] == [0, 1, 2]  # eight rows, two processes with four each
    assert len([line for line in lines if line.startswith("probe:")]) == 3
