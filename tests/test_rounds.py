"""What a round's record says of the teacher's price, and the lines that its picture draws of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from training.rounds import draw_rounds, round_record
from training.stages import Student

SHARE = {"value": 0.5, "low": 0.4, "high": 0.6, "count": 2, "total": 4}


def cost(calls: float | None, tokens: float | None) -> dict[str, Any]:
    return {"calls": 6, "tokens": 600, "calls_per_correct": calls, "tokens_per_correct": tokens}


def record(tmp_path: Path, number: int, **costs: dict[str, Any]) -> dict[str, Any]:
    arms = {"single": {"accuracy": SHARE}}
    arms |= {arm: {"accuracy": SHARE, "cost": each} for arm, each in costs.items()}
    report = tmp_path / f"{number}.json"
    report.write_text(json.dumps({"arms": arms}))
    return round_record(number, Student("sandbox"), report)


def curves(axes: Any) -> dict[str, tuple[list[float], list[float]]]:
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()}


def test_a_record_prices_both_ways_of_asking(tmp_path: Path) -> None:
    found = record(tmp_path, 0, teacher=cost(1.5, 300.0), asked=cost(0.5, 90.0))
    assert found["teacher"]["calls_per_correct"] == 1.5
    assert found["asked"] == cost(0.5, 90.0)
    assert set(found["accuracy"]) == {"single", "teacher", "asked"}
    assert record(tmp_path, 0, teacher=cost(1.5, 300.0))["asked"] is None


def test_calls_and_tokens_of_each_arm_are_lines_over_the_rounds_that_measured_it(tmp_path: Path) -> None:
    rounds = [
        record(tmp_path, 0, teacher=cost(2.0, 400.0)),
        record(tmp_path, 1, teacher=cost(1.5, 300.0), asked=cost(0.5, 90.0)),
        record(tmp_path, 2, teacher=cost(1.0, 200.0), asked=cost(0.25, 60.0)),
        record(tmp_path, 3, teacher=cost(None, None), asked=cost(None, None)),
    ]
    figure = draw_rounds(rounds)
    _, _, calls, tokens = figure.axes
    assert curves(calls) == {
        "calls, always asked": ([0, 1, 2], [2.0, 1.5, 1.0]),
        "calls, asked if flagged": ([1, 2], [0.5, 0.25]),
    }
    assert curves(tokens) == {
        "tokens, always asked": ([0, 1, 2], [400.0, 300.0, 200.0]),
        "tokens, asked if flagged": ([1, 2], [90.0, 60.0]),
    }
    assert calls.get_ylim()[0] == 0
    legend = calls.get_legend()
    assert legend is not None
    assert len(legend.get_texts()) == 4


def test_a_teacher_that_was_never_measured_leaves_the_panel_empty(tmp_path: Path) -> None:
    calls = draw_rounds([record(tmp_path, 0)]).axes[2]
    assert curves(calls) == {}
    assert calls.get_legend() is None
