"""The closed-loop experiment's pictures, each of one part of the record, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.closed_loop_layout import ROUND_STUDENTS, STUDENTS
from training.metrics import wilson_interval
from training.plots import BLUE, GREEN, GREY, RED

Part = Mapping[str, Any]
Shares = Sequence[Mapping[str, Any] | None]


def write_plots(results: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draws what was measured.

    Returns:
        The pictures written.
    """
    pictures: dict[str, tuple[Callable[[Any], Any], str]] = {
        "accuracy": (draw_accuracy, "students"), "flips": (draw_flips, "students"),
        "first_errors": (draw_first_errors, "students"), "rounds": (draw_rounds, "rounds"),
    }  # fmt: skip
    written = []
    for name, (draw, part) in pictures.items():
        if results[part]:
            path = folder / f"{name}.png"
            partial = folder / f".{name}.png"
            draw(results[part]).savefig(partial, dpi=130, format="png")
            written.append(partial.replace(path))
    return written


def draw_accuracy(part: Part) -> Any:
    """Accuracy by student, single pass and after the own review."""
    figure, (axis,) = _figure(1, 1, (8, 4.4))
    cells = _students(part)
    for arm, label, colour, aside in (
        ("single", "single pass", GREY, -0.13), ("review", "after its own review", BLUE, 0.13),
    ):  # fmt: skip
        _points(axis, [cell["accuracy"].get(arm) for cell in cells.values()], label, colour, aside)
    _name_rows(axis, cells, "accuracy, % of test problems")
    figure.legend(frameon=False, fontsize=8, loc="outside upper center", ncols=2)
    return figure


def draw_flips(part: Part) -> Any:
    """What the own review does to wrong and to right solutions, by student."""
    figure, axes = _figure(1, 2, (10, 4))
    cells = {name: cell for name, cell in _students(part).items() if "self_correction" in cell}
    panels = (
        ("corrected", "wrong to right, % of its wrong", GREEN),
        ("broken", "right to wrong, % of its right", RED),
    )
    for axis, (flip, title, colour) in zip(axes, panels, strict=True):
        _points(axis, [cell["self_correction"][flip] for cell in cells.values()], title, colour)
        _name_rows(axis, cells, title)
        axis.set_xlim(left=-0.02 * axis.get_xlim()[1])
    axes[1].set_yticklabels([])
    return figure


def draw_first_errors(part: Part) -> Any:
    """Where the first error falls, a panel a student; intervals are of both parts of a bar together."""
    students = part["first_errors"]
    figure, axes = _figure(1, len(students), (3 * len(students), 3.2), sharey=True)
    for axis, (name, found) in zip(axes, students.items(), strict=True):
        steps = {step: counts for step, counts in found["steps"].items() if step[0].isdigit()}
        total, places = found["n"], range(len(steps))
        lower = [100 * counts["put right"] / total for counts in steps.values()]
        upper = [100 * counts["left wrong"] / total for counts in steps.values()]
        axis.bar(places, lower, 0.7, color=GREEN, label="put right by its own review")
        axis.bar(places, upper, 0.7, bottom=lower, color=RED, label="left wrong")
        sums = [wilson_interval(sum(counts.values()), total) for counts in steps.values()]
        values, errors = _errors(sums)
        axis.errorbar(places, values, yerr=errors, fmt="none", ecolor="black", elinewidth=1, capsize=3)
        axis.set_xticks(places, list(steps))
        axis.set_title(name, fontsize=9.5)
        axis.set_xlabel("step of the first error", fontsize=8)
    axes[0].set_ylabel("% of test problems", fontsize=8)
    figure.legend(*axes[0].get_legend_handles_labels(), frameon=False, fontsize=8, loc="outside upper center",
                  ncols=2)  # fmt: skip
    return figure


def draw_rounds(part: Part) -> Any:
    """Teacher calls per correct answer, and accuracy, over the rounds."""
    figure, (calls, accuracy) = _figure(1, 2, (9, 3.6))
    cells = [part["cells"][name] for name in ROUND_STUDENTS]
    labels = ["base", *(f"round {number}" for number in range(1, len(cells)))]
    _line(calls, [cell["asked"]["calls_per_correct"] for cell in cells], "", RED)
    calls.set_title("Teacher calls per correct answer", loc="left", fontsize=9.5)
    calls.set_ylim(bottom=0)
    arms = (("asked", "teacher asked where its review flags", RED), ("review", "own review only", BLUE),
            ("single", "single pass", GREY))  # fmt: skip
    for place, (arm, label, colour) in enumerate(arms):
        _line(accuracy, [cell["accuracy"][arm] for cell in cells], label, colour, 100, 0.05 * (place - 1))
    accuracy.set_title("Accuracy, % of test problems", loc="left", fontsize=9.5)
    figure.legend(*accuracy.get_legend_handles_labels(), frameon=False, fontsize=8, loc="outside lower right",
                  ncols=3)  # fmt: skip
    for axis in (calls, accuracy):
        axis.set_xticks(range(len(labels)), labels)
    return figure


def _figure(rows: int, columns: int, size: tuple[float, float], **options: Any) -> tuple[Any, list[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False, **options).flatten())
    for axis in axes:
        axis.tick_params(labelsize=8, length=2)
        axis.grid(color="#e4e4e4", linewidth=0.7)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _students(part: Part) -> dict[str, Any]:
    return {name: part["cells"][name] for name in STUDENTS if name in part["cells"]}


def _errors(shares: Sequence[Mapping[str, Any]], scale: float = 100) -> tuple[list[float], list[list[float]]]:
    values = [scale * share["value"] for share in shares]
    low = [scale * (share["value"] - share["low"]) for share in shares]
    high = [scale * (share["high"] - share["value"]) for share in shares]
    return values, [low, high]


def _points(axis: Any, shares: Shares, label: str, colour: str, aside: float = 0) -> None:
    """A point with its interval for every student, one below the other."""
    found = [(place + aside, share) for place, share in enumerate(shares) if share is not None]
    values, errors = _errors([share for _, share in found])
    places = [place for place, _ in found]
    axis.errorbar(values, places, xerr=errors, fmt="o", markersize=4, capsize=3, color=colour, label=label)


def _name_rows(axis: Any, names: Mapping[str, Any], title: str) -> None:
    axis.set_yticks(range(len(names)), list(names))
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_xlabel(title, fontsize=8)


def _line(axis: Any, rates: Shares, label: str, colour: str, scale: float = 1, aside: float = 0) -> None:
    found = [(place + aside, rate) for place, rate in enumerate(rates) if rate is not None]
    values, errors = _errors([rate for _, rate in found], scale)
    places = [place for place, _ in found]
    axis.errorbar(places, values, yerr=errors, marker="o", markersize=4, capsize=3, color=colour, label=label)
