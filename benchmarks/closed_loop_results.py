"""The closed-loop experiment read back from its folder: one record of everything measured, nothing run."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.closed_loop_layout import (
    BASE,
    COMPARED,
    FINAL,
    HSFT,
    PLAIN,
    REPLAY,
    ROUND_STUDENTS,
    STUDENTS,
    evaluations,
    runs,
    seed_folder,
)
from benchmarks.closed_loop_measures import (
    Pool,
    Report,
    by_seed,
    cell,
    difference,
    first_errors,
    key,
    pool,
    rate_difference,
    right,
    spent,
)

PARTS = ("students", "unseen", "critique", "rounds")
SESSIONS = "sessions.jsonl"
Reports = dict[int, dict[str, Report]]


def read_results(folder: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """Everything measured in a folder, a part over those seeds in which it is finished.

    Args:
        folder: The experiment's.
        seeds: Which seeds to pool.

    Returns:
        The record for ``closed_loop.json``, without the targets; a part that no seed has is None.

    Raises:
        DataError: Students of one seed were not asked the same problems.
    """
    read = {part: _read_part(folder, seeds, part) for part in PARTS}
    reports = [report for part in read.values() for seed in part.values() for report in seed.values()]
    measure = {"students": _students, "unseen": _cells, "critique": _critique, "rounds": _rounds}
    found: dict[str, Any] = {
        part: {"seeds": sorted(read[part]), **measure[part](read[part])} if read[part] else None
        for part in PARTS
    }
    if found["students"]:
        found["students"]["training"] = {
            str(seed): _training(seed_folder(folder, seed)) for seed in sorted(read["students"])
        }
    return {
        "seeds": list(seeds),
        "n": sorted({report["n"] for report in reports}),
        "commit": sorted({str(report["commit"]) for report in reports}),
        "machine": sorted({report["machine"] for report in reports}),
        "versions": reports[0]["versions"] if reports else {},
        "time": _time(folder),
        **found,
    }


def _read_part(folder: Path, seeds: Sequence[int], part: str) -> Reports:
    found = {seed: evaluations(seed_folder(folder, seed), part) for seed in seeds}
    return {
        seed: {name: _json(path) for name, path in files.items()} for seed, files in found.items() if files
    }


def _cells(reports: Reports) -> dict[str, Any]:
    pooled = pool(reports)
    return {
        "cells": {name: cell(rows) for name, rows in pooled.items()},
        "per_seed": {name: by_seed(rows, cell) for name, rows in pooled.items()},
    }


def _students(reports: Reports) -> dict[str, Any]:
    pooled = pool(reports)
    wanted = [((BASE, "single"), (HSFT, "single")), ((PLAIN, "single"), (HSFT, "single"))]
    for arm in ("single", "review"):
        others = [name for name in STUDENTS if name != FINAL]
        wanted += [((name, "single" if name == PLAIN else arm), (FINAL, arm)) for name in others]
        changed = [name for name in others if name not in (BASE, PLAIN, REPLAY)]
        wanted += [((REPLAY, arm), (name, arm)) for name in changed]
    drawn = (BASE, HSFT, REPLAY, FINAL)
    return {
        **_cells(reports),
        "differences": _differences(pooled, wanted),
        "first_errors": {name: first_errors(pooled[name]) for name in drawn},
    }


def _critique(reports: Reports) -> dict[str, Any]:
    pooled = pool(reports)
    wanted = [((name, "retry"), (name, "teacher")) for name in COMPARED]
    tokens = {
        name: {
            arm: sum(seed[name]["arms"][arm]["output_tokens"].get("student", 0) for seed in reports.values())
            / len(pooled[name])
            for arm in ("single", "teacher", "retry")
        }
        for name in COMPARED
    }
    return {**_cells(reports), "differences": _differences(pooled, wanted), "student_tokens": tokens}


def _rounds(reports: Reports) -> dict[str, Any]:
    pooled = pool(reports)
    steps = [*itertools.pairwise(ROUND_STUDENTS), (ROUND_STUDENTS[0], ROUND_STUDENTS[-1])]
    wanted = [((first, "asked"), (second, "asked")) for first, second in steps]
    costs = {name: (spent(pooled[name], "calls"), right(pooled[name], "asked")) for name in ROUND_STUDENTS}
    return {
        **_cells(reports),
        "differences": _differences(pooled, wanted),
        "calls_differences": {
            key((first, "asked"), (second, "asked")): rate_difference(costs[first], costs[second])
            for first, second in steps
        },
    }


def _differences(pooled: Pool, wanted: Sequence[tuple[tuple[str, str], tuple[str, str]]]) -> dict[str, Any]:
    return {key(first, second): difference(pooled, first, second) for first, second in wanted}


def _training(folder: Path) -> dict[str, Any]:
    """Steps and tokens of a seed's training runs, and what sets the controls apart from the main run."""
    found = {name: _json(path / "run.json") for name, path in runs(folder).items()}
    main = found[FINAL]["config"]
    return {
        name: {
            "steps": run["results"]["step"],
            "tokens": run.get("tokens_seen"),
            "changes": sorted(
                setting
                for setting, value in run["config"].items()
                if setting not in ("output", "max_steps") and value != main.get(setting)
            )
            if name not in (PLAIN, HSFT)
            else None,
        }
        for name, run in found.items()
    }


def _time(folder: Path) -> dict[str, Any]:
    """Minutes of the command's sessions, and of all stages, which run beside each other."""
    sessions = _lines(folder / SESSIONS)
    files = sorted(folder.glob("seed*/stages.jsonl")) + sorted(folder.glob("seed*/*/stages.jsonl"))
    stages = [line for file in files for line in _lines(file)]
    return {
        "sessions": sessions,
        "session_minutes": round(sum(session["minutes"] for session in sessions), 1),
        "stage_minutes": round(sum(stage["seconds"] for stage in stages) / 60, 1),
        "stages": len(stages),
    }


def _lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return [json.loads(line) for line in text.splitlines()]


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
