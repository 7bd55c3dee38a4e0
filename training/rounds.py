"""What each round of the loop came to: its measures on the development problems, and their plot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from training.gate import Decision
    from training.stages import Student

ACCURACIES = {
    "single": "single pass",
    "review": "own review",
    "teacher": "with teacher",
    "asked": "teacher if flagged",
}
COSTS = {"teacher": (", always asked", "--"), "asked": (", asked if flagged", "-")}
FLIPS = {"corrected": "wrong to right", "broken": "right to wrong"}


def round_record(
    number: int,
    student: Student,
    evaluation: Path,
    *,
    folder: Path | None = None,
    decision: Decision | None = None,
) -> dict[str, Any]:
    """One round in short.

    Args:
        number: 0 for the base.
        student: Who was measured.
        evaluation: The report of `training.evaluate` on the development problems.
        folder: The round's folder, with its collections and datasets.
        decision: The gate's.

    Returns:
        ``round``, ``student``, ``accuracy`` (an interval for each arm), ``corrected`` and ``broken`` (shares
        of the student's own review), ``teacher`` and ``asked`` (calls and tokens for each correct answer
        where the teacher is asked always, and only where the student doubts itself), ``promoted``,
        ``reason``, and of the folder ``collected`` (the student's first answers and what the teacher was
        asked) and ``data`` (hashes of rows and pairs).
    """
    arms = json.loads(evaluation.read_text(encoding="utf-8"))["arms"]
    review = arms.get("review", {}).get("self_correction", {})
    record: dict[str, Any] = {
        "round": number,
        "student": student.folder,
        "accuracy": {arm: arms[arm]["accuracy"] for arm in ACCURACIES if arm in arms},
        **{flip: review[flip] for flip in FLIPS if flip in review},
        **{arm: arms.get(arm, {}).get("cost") for arm in COSTS},
        "promoted": None if decision is None else decision.promoted,
        "reason": None if decision is None else decision.reason,
    }
    if folder is not None:
        record["collected"] = {
            name: _collected(folder / f"{name}.json") for name in ("traces", "pair_traces")
        }
        record["data"] = {name: _data_hash(folder / name) for name in ("rows", "pairs")}
    return record


def plot_rounds(rounds: list[dict[str, Any]], path: Path) -> None:
    """Writes the picture of ``draw_rounds``."""
    draw_rounds(rounds).savefig(path, dpi=130)


def draw_rounds(rounds: list[dict[str, Any]]) -> Figure:
    """Three panels over the rounds: accuracy, self-correction, what the teacher costs a correct answer."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4), layout="constrained")
    FigureCanvasAgg(figure)
    accuracy, flips, cost = figure.subplots(1, 3)
    for arm, label in ACCURACIES.items():
        _line(accuracy, rounds, label, [entry["accuracy"].get(arm) for entry in rounds])
    for flip, label in FLIPS.items():
        _line(flips, rounds, label, [entry.get(flip) for entry in rounds])
    accuracy.set(title="Accuracy", ylabel="% of problems")
    flips.set(title="The student's own review", ylabel="% of its wrong, or right, solutions")
    _plot_cost(cost, rounds)
    for axes in (accuracy, flips):
        axes.set_ylim(0, 100)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
    for axes in (accuracy, flips, cost):
        axes.set_xticks([entry["round"] for entry in rounds], [_name(entry) for entry in rounds])
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _line(axes: Axes, rounds: list[dict[str, Any]], label: str, shares: list[Any]) -> None:
    """Shares in percent with their 95 % intervals."""
    found = [(entry["round"], share) for entry, share in zip(rounds, shares, strict=True) if share]
    if not found:
        return
    values = [100 * share["value"] for _, share in found]
    low = [100 * (share["value"] - share["low"]) for _, share in found]
    high = [100 * (share["high"] - share["value"]) for _, share in found]
    aside = 0.05 * len(axes.containers)  # so that no interval hides another
    places = [place + aside for place, _ in found]
    axes.errorbar(places, values, yerr=[low, high], marker="o", capsize=3, label=label)


def _plot_cost(axes: Axes, rounds: list[dict[str, Any]]) -> None:
    """Calls on the left axis, tokens on the right; each for one correct answer, each arm in its own line."""
    right = axes.twinx()
    handles: list[Line2D] = []
    for side, what, marker, color in ((axes, "calls", "o", "C3"), (right, "tokens", "s", "C4")):
        highest = 0.0
        for arm, (label, style) in COSTS.items():
            points = _per_correct(rounds, arm, what)
            if points:
                places, values = zip(*points, strict=True)
                (line,) = side.plot(places, values, style, marker=marker, color=color, label=what + label)
                handles.append(line)
                highest = max(highest, *values)
        side.set(ylabel=what, ylim=(0, (highest or 1) * 1.15))
    axes.set_title("Teacher per correct answer")
    right.spines[["top", "left"]].set_visible(False)
    if handles:
        axes.legend(handles=handles, frameon=False, loc="lower left")


def _per_correct(rounds: list[dict[str, Any]], arm: str, what: str) -> list[tuple[int, float]]:
    """The rounds in which an arm was measured and solved anything, with its cost of a correct answer."""
    costs = [(entry["round"], entry.get(arm) or {}) for entry in rounds]
    found = [(number, cost.get(f"{what}_per_correct")) for number, cost in costs]
    return [(number, value) for number, value in found if value is not None]


def _name(entry: dict[str, Any]) -> str:
    if entry["round"] == 0:
        return "base"
    verdict = {True: "\npromoted", False: "\nrefused", None: ""}[entry["promoted"]]
    return f"round {entry['round']}{verdict}"


def _collected(path: Path) -> dict[str, Any]:
    summary = json.loads(path.read_text(encoding="utf-8"))
    teacher = summary["usage"].get("teacher", {})
    return {
        "traces": summary["traces"],
        "right_first": summary["first"]["accuracy"],
        "teacher_calls": teacher.get("calls", 0),
        "teacher_tokens": teacher.get("input_tokens", 0) + teacher.get("output_tokens", 0),
    }


def _data_hash(folder: Path) -> str:
    return str(json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["data_hash"])
