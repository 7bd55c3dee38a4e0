"""The closed-loop experiment's report: ``closed_loop.json``, ``closed_loop.md`` and the plots.

A pure function of what is in the folder: nothing is run, so it can be written again at any time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.closed_loop_layout import (
    ALONE,
    BASE,
    CHOSEN,
    COMPARED,
    FINAL,
    HSFT,
    PLAIN,
    REPLAY,
    ROUND_STUDENTS,
    STUDENTS,
)
from benchmarks.closed_loop_measures import key
from benchmarks.closed_loop_plots import write_plots
from benchmarks.closed_loop_results import PARTS, read_results
from benchmarks.closed_loop_targets import find_targets
from training.demo import format_difference, format_interval
from training.folders import replace_text

Lines = list[str]
Part = Mapping[str, Any]


def write_report(folder: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """Writes the report of what is finished in a folder.

    Returns:
        The content of ``closed_loop.json``.

    Raises:
        DataError: Students of one seed were not asked the same problems.
    """
    results = read_results(folder, seeds)
    results["targets"] = find_targets(results)
    replace_text(folder / "closed_loop.json", json.dumps(results, indent=2) + "\n")
    pictures = write_plots(results, folder)
    replace_text(folder / "closed_loop.md", markdown(results, pictures))
    return results


def markdown(results: Mapping[str, Any], pictures: Sequence[Path] = ()) -> str:
    """The report for people."""
    sections: dict[str, Callable[[Any], Lines]] = {
        "students": _students, "critique": _critique, "unseen": _unseen, "rounds": _rounds,
    }  # fmt: skip
    lines = ["# The closed loop, seeds pooled", "", *_head(results), "", "## Targets", "", *_targets(results)]
    for part, write in sections.items():
        if results[part]:
            lines += write(results[part])
    lines += ["", "## Time", "", *_time(results["time"])]
    lines += [line for path in pictures for line in ("", f"![{path.stem.replace('_', ' ')}]({path.name})")]
    return "\n".join(lines) + "\n"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Lines:
    """A table of Markdown."""
    return [
        f"| {' | '.join(columns)} |",
        "|---" * len(columns) + "|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def _head(results: Mapping[str, Any]) -> Lines:
    seeds = ", ".join(map(str, results["seeds"]))
    commands = dict.fromkeys(session["command"] for session in results["time"]["sessions"])
    sizes = ", ".join(f"{n:,}" for n in results["n"])
    lines = [
        *(line for command in commands for line in (f"    {command}", "")),
        f"Commit {', '.join(results['commit'])}; seeds {seeds}; {sizes} test problems for each seed and "
        f"student; {'; '.join(results['machine'])}.",
        "",
        "Shares are percent with 95 % Wilson intervals; differences are points on the same problems, paired "
        "by seed and problem, with 95 % Newcombe intervals and exact McNemar p-values, not corrected for "
        "their number. Intervals cover problems; how much trainings differ is in the values by seed. *t1* is "
        "the greedy single pass, *t2* the answer after the student's own review, without any teacher.",
    ]
    partial = [
        f"{part} has seeds {', '.join(map(str, results[part]['seeds'])) if results[part] else 'none'}"
        for part in PARTS
        if not results[part] or results[part]["seeds"] != sorted(results["seeds"])
    ]
    return [*lines, "", f"**Not finished:** {'; '.join(partial)}."] if partial else lines


def _targets(results: Mapping[str, Any]) -> Lines:
    targets = results["targets"]
    rows = [
        (
            each["group"] if i == 0 or targets[i - 1]["group"] != each["group"] else "",
            each["criterion"],
            each["wanted"],
            each["found"],
            "met" if each["met"] else "**missed**",
        )
        for i, each in enumerate(targets)
    ]
    met = sum(each["met"] for each in targets)
    columns = ("", "criterion", "wanted", "found", "")
    return [f"{met} of {len(targets)} met.", "", *table(columns, rows)]


def _students(part: Part) -> Lines:
    cells = part["cells"]
    names = [name for name in STUDENTS if name in cells]
    return [
        "", "## Students", "",
        *_student_table(cells, names), "",
        "By seed, t1 -> t2:", "",
        *(f"- {name}: {_by_seed(part, name)}" for name in names),
        "", "## Stage 2 against its controls", "",
        "All start from HSFT and take as many optimiser steps, with the same replayed rows of stage 1, "
        f"seed and rates. *{REPLAY}* learns nothing else, *{CHOSEN}* the chosen sides of the pairs too, "
        f"*{ALONE}* prefers them, *{FINAL}* does both. The pairs are inline and are compared up to the "
        "first word that differs, the literal ones likewise; whole answers are compared whole.", "",
        *_against_replay(part), "",
        f"{FINAL} against every other student (plain SFT has a single pass only):", "",
        *_against_final(part), "",
        *_runs(part["training"]),
        "", "## Plain solutions against hierarchical ones", "",
        *_plain(part),
    ]  # fmt: skip


def _student_table(cells: Part, names: Sequence[str]) -> Lines:
    columns = (
        "student", "t1", "t2", "t2 - t1", "wrong to right", "right to wrong", "flagged", "located",
        "false alarms",
    )  # fmt: skip
    return table(columns, ((name, *_student_row(cells[name])) for name in names))


def _student_row(cell: Part) -> list[str]:
    if "self_correction" not in cell:
        return [format_interval(cell["accuracy"]["single"]), *("-" for _ in range(7))]
    own = cell["self_correction"]
    shares = (
        own["corrected"],
        own["broken"],
        *(cell.get(name) for name in ("flagged", "located", "false_alarms")),
    )
    return [
        format_interval(own["accuracy_t1"]),
        format_interval(own["accuracy_t2"]),
        format_difference(own["delta"]),
        *(format_interval(share) if share else "-" for share in shares),
    ]


def _by_seed(part: Part, name: str) -> str:
    each = [cell["accuracy"] for cell in part["per_seed"][name].values()]
    return "; ".join(
        " -> ".join(f"{100 * seed[arm]['value']:.1f}" for arm in ("single", "review") if arm in seed)
        for seed in each
    )


def _tested(found: Part) -> tuple[str, str]:
    return format_difference(found), f"{found['p_value']:.2g}"  # type: ignore[arg-type]


def _seeds_of(found: Part) -> str:
    return " ".join(f"{100 * each['value']:+.1f}" for each in found["per_seed"].values())


def _against_replay(part: Part) -> Lines:
    rows = []
    for name in [name for name in STUDENTS if name not in (BASE, PLAIN)]:
        accuracies = [format_interval(part["cells"][name]["accuracy"][arm]) for arm in ("single", "review")]
        found = [part["differences"].get(key((REPLAY, arm), (name, arm))) for arm in ("single", "review")]
        compared = [
            text for each in found for text in ((*_tested(each), _seeds_of(each)) if each else ("-",) * 3)
        ]
        rows.append([name, *accuracies, *compared])
    columns = ["student", "t1", "t2"]
    for arm in ("t1", "t2"):
        columns += [f"{arm} - {REPLAY}", "p", "by seed"]
    return table(columns, rows)


def _against_final(part: Part) -> Lines:
    rows = []
    for name in [name for name in STUDENTS if name != FINAL]:
        row = [name]
        for arm in ("single", "review"):
            found = part["differences"][key((name, "single" if name == PLAIN else arm), (FINAL, arm))]
            row += [*_tested(found), _seeds_of(found)]
        rows.append(row)
    return table(("against", "t1", "p", "by seed", "t2", "p", "by seed"), rows)


def _runs(training: Part) -> Lines:
    """Steps and tokens of stage 2, a number a seed, and the settings that differ from the main run's."""
    seeds = list(training.values())
    rows = [
        (
            name,
            " ".join(str(seed[name]["steps"]) for seed in seeds),
            " ".join(_count(seed[name]["tokens"]) for seed in seeds),
            ", ".join(sorted({change for seed in seeds for change in seed[name]["changes"]})) or "-",
        )
        for name in STUDENTS[3:]
    ]
    columns = ("run", "steps", "tokens of pairs seen", f"settings that differ from {FINAL}")
    return table(columns, rows)


def _count(tokens: int | None) -> str:
    return "-" if tokens is None else f"{tokens:,}"


def _plain(part: Part) -> Lines:
    seeds = list(part["training"].values())
    rows = []
    for name in (PLAIN, HSFT):
        tokens = [seed[name]["tokens"] for seed in seeds]
        shown = "-" if None in tokens else f"{mean(tokens):,.0f}"
        rows.append((name, format_interval(part["cells"][name]["accuracy"]["single"]), shown))
    found = part["differences"][key((PLAIN, "single"), (HSFT, "single"))]
    shown, p_value = _tested(found)
    return [
        *table(("student", "single pass", "tokens trained on, mean of seeds"), rows), "",
        f"{HSFT} - {PLAIN}: {shown} points, p = {p_value}; by seed {_seeds_of(found)}.",
    ]  # fmt: skip


def _unseen(part: Part) -> Lines:
    return ["", "## Unseen shapes", "", *_student_table(part["cells"], list(COMPARED))]


def _critique(part: Part) -> Lines:
    rows = []
    for name in COMPARED:
        found = part["differences"][key((name, "retry"), (name, "teacher"))]
        for arm in ("single", "teacher", "retry"):
            share = format_interval(part["cells"][name]["accuracy"][arm])
            compared = (*_tested(found), _seeds_of(found)) if arm == "teacher" else ("", "", "")
            rows.append((name, arm, share, f"{part['student_tokens'][name][arm]:.0f}", *compared))
    columns = ("student", "way", "accuracy", "student's tokens a problem", "teacher - retry", "p", "by seed")
    return [
        "", "## Critique against retry, two rounds", "",
        "*teacher* names the first wrong step and knows no answer; *retry* is told which solutions are wrong "
        "and samples them anew.", "",
        *table(columns, rows),
    ]  # fmt: skip


def _rounds(part: Part) -> Lines:
    rows = []
    for name, cell in part["cells"].items():
        asked = cell["asked"]
        seeds = [seed["asked"]["calls_per_correct"] for seed in part["per_seed"][name].values()]
        each = " ".join("-" if seed is None else f"{seed['value']:.3f}" for seed in seeds)
        shown = [_rate(asked["calls_per_correct"], 3), each, _rate(asked["tokens_per_correct"], 0)]
        rows.append((name, *_student_row(cell)[:2], format_interval(cell["accuracy"]["asked"]), *shown))
    columns = (
        "student", "t1", "t2", "teacher asked where flagged", "calls per correct answer", "by seed",
        "teacher's tokens per correct answer",
    )  # fmt: skip
    changes = [
        f"- {name.replace(', asked', '')}: accuracy {' points, p = '.join(_tested(found))}; "
        f"calls per correct answer {_rate(part['calls_differences'][name], 3, sign='+')}."
        for name, found in part["differences"].items()
    ]
    students = f"The curve: {', '.join(ROUND_STUDENTS)}."
    return ["", "## Rounds", "", *table(columns, rows), "", students, "", *changes]


def _rate(found: Part | None, digits: int, sign: str = "") -> str:
    if found is None:
        return "-"
    value, low, high = (f"{found[name]:{sign}.{digits}f}" for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _time(time: Part) -> Lines:
    return [
        f"{time['session_minutes']:.0f} minutes in {len(time['sessions'])} sessions of the command; the "
        f"{time['stages']} finished stages, which ran beside each other, took {time['stage_minutes']:.0f} "
        "minutes in sum."
    ]
