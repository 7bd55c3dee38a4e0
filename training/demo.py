"""``supercorrect demo``: the whole loop on two cores, offline, with the packaged student and teacher.

It is ``training.loop`` with ``configs/sandbox.yaml`` and a report for people: what happened to one problem,
a table of every student and every way to use it, a plot, and what each stage cost.
"""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from rich.table import Table

from supercorrect_agent.cli.screen import make_console
from supercorrect_agent.sandbox.world import generate_problems
from training.config import LoopConfig, StageConfig
from training.flags import make_config, read_yaml
from training.folders import make_folder
from training.loop import REPORT_FILE, run_loop
from training.metrics import Difference, Interval, paired_difference
from training.stages import STAGES_FILE

CONFIG = Path(__file__).parent / "configs" / "sandbox.yaml"
ARMS = {
    "single": "single pass",
    "review": "self-review",
    "teacher": "with teacher",
    "retry": "plain retry",
}
Report = dict[str, Any]


def run_demo(out: Path, quick: bool = False, seed: int = 0) -> Path:
    """Runs the loop and prints its report.

    Args:
        out: Run folder; what is finished there is not run again.
        quick: A twentieth of the problems: to see it run, not to measure anything.
        seed: Seed of the problems, the sampling and the training.

    Returns:
        The folder, with ``report.json``, ``table.md`` and ``accuracy.png``.
    """
    console = make_console()
    started = time.monotonic()
    config = demo_config(out, quick=quick, seed=seed)

    def say(line: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - started), 60)
        console.print(f"{minutes:2d}:{seconds:02d}  {line}", style="dim")

    make_folder(out, argument="--out")
    console.print(f"The closed loop on CPU, offline. Run folder: {out}")
    question = find_example(seed)
    console.print(f"\nThe base student meets a problem that it needs its teacher for:\n  {question}")
    show_run("sandbox", question)
    console.print("\nNow the loop: collect, train, measure.")
    run_loop(config, say=say)
    reports = read_reports(out)
    console.print(f"\nThe trained student meets the same problem:\n  {question}")
    show_run(f"local:{out / 'round1' / 'dpo'}", question)
    console.print()
    console.print(accuracy_table(reports))
    for line in reading(reports):
        console.print(line)
    console.print(cost_table(out))
    (out / "table.md").write_text(markdown_table(reports), encoding="utf-8")
    plot_accuracy(reports, out / "accuracy.png")
    console.print(
        f"\n{(time.monotonic() - started) / 60:.1f} minutes. Report, traces, adapters and plot: {out}"
    )
    return out


def demo_config(out: Path, *, quick: bool, seed: int) -> LoopConfig:
    """The sandbox's configuration file with shifted seeds; ``quick`` takes a twentieth of the problems."""
    config = load_loop(CONFIG, out, seed)
    stages = ("collect", "collect_again", "collect_pairs", "evaluate") if quick else ()
    changes = {
        name: stage.model_copy(update={"n": stage.n // 20})
        for name in stages
        if (stage := getattr(config, name)) is not None
    }
    return config.model_copy(update=changes)


def load_loop(path: Path, out: Path, seed: int) -> LoopConfig:
    """The loop of a configuration file in the folder ``out``, ``seed`` added to the seed of every stage."""
    config = make_config(LoopConfig, read_yaml(path))
    changes = {
        name: stage.model_copy(update={"seed": stage.seed + seed})
        for name, stage in config
        if isinstance(stage, StageConfig)
    }
    return config.model_copy(update={"folder": out, "seed": config.seed + seed, **changes})


def find_example(seed: int) -> str:
    """The first test problem that the base student gets wrong and, once corrected, right."""
    from supercorrect_agent.graph import create_supercorrect_graph
    from supercorrect_agent.state import CorrectionConfig

    problems = generate_problems("test", 20, seed=seed)
    graph = create_supercorrect_graph("sandbox", "sandbox", config=CorrectionConfig(max_rounds=2))
    states = graph.batch([{"problem": problem.question} for problem in problems])
    corrected = (
        problem.question
        for problem, state in zip(problems, states, strict=True)
        if state["status"] == "corrected" and state["answer"] == problem.answer
    )
    return next(corrected, problems[0].question)


def read_reports(out: Path) -> dict[str, Report]:
    """The evaluations of a run folder by the student's name, in the order they were made."""
    files = json.loads((out / REPORT_FILE).read_text(encoding="utf-8"))["files"]
    return {name: json.loads((out / file).read_text(encoding="utf-8")) for name, file in files.items()}


def format_interval(share: Interval) -> str:
    """``71.3 [66.0, 76.1]``, in percent."""
    return f"{100 * share['value']:.1f} [{100 * share['low']:.1f}, {100 * share['high']:.1f}]"


def format_difference(delta: Difference) -> str:
    """``+4.2 [+0.9, +7.5]``, in points."""
    return f"{100 * delta['value']:+.1f} [{100 * delta['low']:+.1f}, {100 * delta['high']:+.1f}]"


def accuracy_table(reports: dict[str, Report]) -> Table:
    """Accuracy in percent with 95 % Wilson intervals: one row a student, one column a way to use it."""
    n = next(iter(reports.values()))["n"]
    table = Table(title=f"Accuracy on {n} test problems, % [95 % interval]", title_justify="left")
    for name in ("student", *ARMS.values()):
        table.add_column(name)
    for student, report in reports.items():
        arms = report["arms"]
        table.add_row(
            student,
            *(
                format_interval(arms[arm]["accuracy"]).replace(" [", "\n[", 1) if arm in arms else "-"
                for arm in ARMS
            ),
        )
    return table


def markdown_table(reports: dict[str, Report]) -> str:
    """The same table as Markdown."""
    lines = ["| student | " + " | ".join(ARMS.values()) + " |", "|---" * (len(ARMS) + 1) + "|"]
    for student, report in reports.items():
        arms = report["arms"]
        cells = (format_interval(arms[arm]["accuracy"]) if arm in arms else "-" for arm in ARMS)
        lines.append(f"| {student} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def difference(first: Report, second: Report, arm: str) -> Difference:
    """Paired difference of two students in one arm, second minus first."""
    outcomes = [{row["id"]: row[arm]["correct"] for row in report["problems"]} for report in (first, second)]
    ids = sorted(outcomes[0])
    return paired_difference(*([bool(each[key]) for key in ids] for each in outcomes))


def reading(reports: dict[str, Report]) -> list[str]:
    """What the table says, in sentences, whatever the sign."""
    base, hsft, dpo = (reports[name] for name in ("base", "HSFT", "HSFT + DPO"))
    review = hsft["arms"]["review"]

    def gain(first: Report, second: Report, arm: str) -> str:
        return f"{format_difference(difference(first, second, arm))} points"

    lines = [
        f"Stage 1 (HSFT) against the base, single pass: {gain(base, hsft, 'single')}.",
        "Stage 1's own review against its single pass: "
        f"{format_difference(review['self_correction']['delta'])} points; it flags "
        f"{format_interval(review['flagged'])} % of its wrong solutions and "
        f"{format_interval(review['false_alarms'])} % of its right ones.",
        f"Stage 2 (DPO) against stage 1, single pass: {gain(hsft, dpo, 'single')}; "
        f"with self-review: {gain(hsft, dpo, 'review')}.",
    ]
    if "plain SFT" in reports:
        against = gain(reports["plain SFT"], hsft, "single")
        lines.insert(1, f"Stage 1 against plain solutions with as many tokens, single pass: {against}.")
    return lines


def cost_table(out: Path) -> Table:
    """Seconds and tokens of every stage."""
    table = Table(title="What each stage cost", title_justify="left")
    for name, justify in (("stage", "left"), ("seconds", "right"), ("tokens", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for line in (out / STAGES_FILE).read_text(encoding="utf-8").splitlines():
        stage = json.loads(line)
        table.add_row(stage["stage"], f"{stage['seconds']:.0f}", f"{stage['tokens']:,}")
    return table


def show_run(student: str, question: str) -> None:
    """One run of the solving graph with the sandbox's teacher, live."""
    from supercorrect_agent.cli.live import LiveRun
    from supercorrect_agent.cli.solve import run_live
    from supercorrect_agent.graph import create_supercorrect_graph

    started = time.monotonic()
    graph = create_supercorrect_graph(student, "sandbox")
    with LiveRun(make_console()) as live:
        output = asyncio.run(run_live(graph, question, live))
        reason = output["trace"]["chosen"]["reason"]
        seconds = round(time.monotonic() - started, 1)
        live.summarize({**output, "seconds": seconds, "store": None}, reason)


def plot_accuracy(reports: dict[str, Report], path: Path) -> None:
    """Bars with 95 % intervals: a group a student, a bar a way to use it."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
    width = 0.8 / len(ARMS)
    for place, (arm, label) in enumerate(ARMS.items()):
        shares = {
            i: report["arms"][arm]["accuracy"]
            for i, report in enumerate(reports.values())
            if arm in report["arms"]
        }
        heights = [100 * share["value"] for share in shares.values()]
        errors = [
            [100 * (share["value"] - share["low"]) for share in shares.values()],
            [100 * (share["high"] - share["value"]) for share in shares.values()],
        ]
        axes.bar(
            [i + place * width for i in shares], heights, width * 0.92, yerr=errors, capsize=3, label=label
        )
    axes.set_xticks([i + 1.5 * width for i in range(len(reports))], list(reports))
    axes.set(
        ylabel="accuracy, %",
        ylim=(0, 100),
        title=f"{next(iter(reports.values()))['n']} unseen problems, 95 % intervals",
    )
    axes.legend(ncols=len(ARMS), loc="upper center", bbox_to_anchor=(0.5, -0.08), frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)
