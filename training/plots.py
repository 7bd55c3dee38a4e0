"""The picture of a run: ``training.png``, drawn from ``log.jsonl`` and ``run.json``.

Stage 1 has the loss, stage 2 also what becomes of both sides of a pair and how well they are told apart, a
run with a probe its shares and lengths. Alarms are dashed lines at the step at which they rang.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PICTURE = "training.png"
BLUE, RED, GREEN, GREY = "#1f5fa8", "#c0392b", "#2e8b57", "#777777"

Log = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Curve:
    """One line of a panel: a number of the log over the steps, multiplied by ``scale``."""

    key: str
    label: str
    colour: str
    scale: float = 1.0


@dataclass(frozen=True)
class Panel:
    """One field of the picture: its title with the unit, its curves, and perhaps a threshold."""

    title: str
    curves: tuple[Curve, ...]
    share: bool = False
    threshold: float | None = None


def plot_run(output: Path) -> Path | None:
    """Draws a finished run.

    Args:
        output: A folder that a training stage has written.

    Returns:
        The picture, or None where no loss was logged.
    """
    lines = (output / "log.jsonl").read_text(encoding="utf-8").splitlines()
    run = json.loads((output / "run.json").read_text(encoding="utf-8"))
    figure = draw_run([json.loads(line) for line in lines], run)
    if figure is None:
        return None
    partial = output / f".{PICTURE}"
    figure.savefig(partial, dpi=120, format="png")
    return partial.replace(output / PICTURE)


def draw_run(log: Log, run: Mapping[str, Any]) -> Any:
    """The figure of matplotlib for a trainer's log and the record of its run, or None without points."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [panel for panel in _panels(run) if _points(log, panel.curves[0])]
    if not panels:
        return None
    columns = 3 if len(panels) % 3 == 0 else min(len(panels), 2)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.7 * columns, 2.9 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True).flatten()
    for axis, panel in zip(axes, panels, strict=False):
        _draw(axis, panel, log, run.get("alarms") or [])
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    _name_alarms(axes[0], run.get("alarms") or [])
    return figure


def _panels(run: Mapping[str, Any]) -> list[Panel]:
    """All panels a run may have; those without points are left out."""
    loss = (Curve("loss", "training", BLUE), Curve("eval_loss", "held-out rows", RED))
    panels = [Panel("Loss", loss)]
    if beta := run["config"].get("beta"):
        # rewards/x = beta * (log p(x) - log p_ref(x))
        chosen = Curve("rewards/chosen", "chosen", BLUE, 1 / beta)
        rejected = Curve("rewards/rejected", "rejected", RED, 1 / beta)
        tokens = run.get("chosen_tokens")
        fall = -run["config"]["alarm_chosen_drop"] * tokens if tokens else None
        panels += [
            Panel(
                "Log-probability against the reference (nats per side)", (chosen, rejected), threshold=fall
            ),
            Panel("Reward margin (beta * nats)", (Curve("rewards/margins", "margin", BLUE),)),
            Panel("Pairs told apart", (Curve("rewards/accuracies", "share", BLUE),), share=True),
        ]
    shares = (
        Curve("probe/accuracy", "right answer", BLUE),
        Curve("probe/format_valid", "valid layout", GREEN),
        Curve("probe/unfinished", "no end of turn", RED),
    )
    length = (Curve("probe/tokens", "mean", BLUE),)
    return [
        *panels,
        Panel("Probe: share of replies", shares, share=True),
        Panel("Probe: tokens per reply", length),
    ]


def _points(log: Log, curve: Curve) -> list[tuple[int, float]]:
    return [(entry["step"], entry[curve.key] * curve.scale) for entry in log if curve.key in entry]


def _draw(axis: Any, panel: Panel, log: Log, alarms: Sequence[Mapping[str, Any]]) -> None:
    drawn = 0
    for curve in panel.curves:
        if points := _points(log, curve):
            marker = {"marker": "o", "markersize": 3.5} if len(points) <= 25 else {}
            axis.plot(
                *zip(*points, strict=True), color=curve.colour, label=curve.label, linewidth=1.6, **marker
            )
            drawn += 1
    lowest = axis.get_ylim()[0]
    if panel.share:
        axis.set_ylim(-0.03, 1.03)
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    elif (
        panel.threshold is not None and lowest < panel.threshold / 2
    ):  # far from it, the line would only squeeze
        axis.axhline(panel.threshold, color=GREY, linewidth=1, linestyle=":", label="alarm threshold")
        drawn += 1
    for step in sorted({alarm["step"] for alarm in alarms}):
        axis.axvline(step, color=RED, linewidth=1, linestyle="--")
    axis.set_title(panel.title, loc="left", fontsize=9.5)
    axis.tick_params(labelsize=8, length=2, labelbottom=True)
    axis.set_xlabel("step", fontsize=8)
    axis.grid(color="#e4e4e4", linewidth=0.7)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    if drawn > 1:
        axis.legend(frameon=False, fontsize=8)


def _name_alarms(axis: Any, alarms: Sequence[Mapping[str, Any]]) -> None:
    """Writes above the dashed lines of one panel what rang there."""
    for step in sorted({alarm["step"] for alarm in alarms}):
        names = ", ".join(alarm["kind"].replace("_", " ") for alarm in alarms if alarm["step"] == step)
        axis.annotate(
            f"alarm: {names}", (step, 1), (0, 2), xycoords=("data", "axes fraction"),
            textcoords="offset points", ha="center", color=RED, fontsize=7.5,
        )  # fmt: skip
