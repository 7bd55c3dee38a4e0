"""The picture of a run: which panels it has, what their curves are, and where alarms stand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from training.plots import PICTURE, draw_run, plot_run

SFT: dict[str, Any] = {"config": {"learning_rate": 2e-4}, "alarms": [], "probe": []}
DPO: dict[str, Any] = {
    "config": {"beta": 0.5, "alarm_chosen_drop": 0.2},
    "chosen_tokens": 10.0,
    "alarms": [{"kind": "chosen_drop", "step": 2, "message": "fallen"}],
}
LOSS = [{"loss": 1.0, "step": 1}, {"loss": 0.5, "step": 2}, {"eval_loss": 0.7, "step": 2}]
REWARDS = [
    {"rewards/chosen": -0.5 * s, "rewards/rejected": -1.0 * s, "rewards/margins": 0.5 * s,
     "rewards/accuracies": 1.0, "step": s} for s in (1, 2, 4)
]  # fmt: skip
PROBE = [
    {
        "probe/accuracy": 0.5,
        "probe/format_valid": 1.0,
        "probe/tokens": 80.0,
        "probe/unfinished": 0.0,
        "step": 0,
    }
]


def titles(figure: Any) -> list[str]:
    return [
        axis.get_title(loc="left").partition(" (")[0] for axis in figure.axes if axis.get_title(loc="left")
    ]


def curves(figure: Any, number: int) -> dict[str, tuple[list[float], list[float]]]:
    lines = figure.axes[number].get_lines()
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in lines}


def test_stage_1_shows_both_losses() -> None:
    figure = draw_run(LOSS, SFT)
    assert titles(figure) == ["Loss"]
    assert curves(figure, 0) == {"training": ([1, 2], [1.0, 0.5]), "held-out rows": ([2], [0.7])}


def test_stage_2_shows_nats_the_threshold_and_where_an_alarm_rang() -> None:
    figure = draw_run([*LOSS, *REWARDS, *PROBE], DPO)
    assert titles(figure) == [
        "Loss", "Log-probability against the reference", "Reward margin", "Pairs told apart",
        "Probe: share of replies", "Probe: tokens per reply",
    ]  # fmt: skip
    found = curves(figure, 1)
    # Rewards are beta times nats: -0.5/0.5 = -1 a step, and 0.2 nats per token of 10 is -2 a side.
    assert found["chosen"] == ([1, 2, 4], [-1.0, -2.0, -4.0])
    assert found["rejected"] == ([1, 2, 4], [-2.0, -4.0, -8.0])
    assert found["alarm threshold"][1] == [-2.0, -2.0]
    assert all(any(list(line.get_xdata()) == [2, 2] for line in axis.get_lines()) for axis in figure.axes[:6])
    assert [text.get_text() for text in figure.axes[0].texts] == ["alarm: chosen drop"]


def test_alarms_of_one_step_share_a_label() -> None:
    alarms = [{"kind": kind, "step": 2} for kind in ("length", "no_end")]
    figure = draw_run(LOSS, {**SFT, "alarms": alarms})
    assert [text.get_text() for text in figure.axes[0].texts] == ["alarm: length, no end"]


def test_a_run_folder_gets_its_picture(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in [*LOSS, *PROBE]))
    (tmp_path / "run.json").write_text(json.dumps(SFT))
    picture = plot_run(tmp_path)
    assert picture == tmp_path / PICTURE
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.jsonl", "run.json", PICTURE]


@pytest.mark.parametrize("log", ["", '{"train_runtime": 1.0, "step": 0}\n'])
def test_without_numbers_there_is_no_picture(tmp_path: Path, log: str) -> None:
    (tmp_path / "log.jsonl").write_text(log)
    (tmp_path / "run.json").write_text(json.dumps(SFT))
    assert plot_run(tmp_path) is None
    assert not (tmp_path / PICTURE).exists()
