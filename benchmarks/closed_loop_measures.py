"""The closed-loop experiment's numbers: seeds pooled, students paired, each share with its interval.

A row is one problem's outcomes as `training.evaluate` wrote them, with its ``seed``. The rows of all students
of a part are in one order, that of (seed, problem id), so they are paired by their places.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from typing_extensions import TypedDict

from supercorrect_agent.errors import DataError
from training.metrics import Z95, accuracy, paired_difference, review_quality, self_correction

Report = dict[str, Any]
Row = dict[str, Any]
Pool = dict[str, list[Row]]


class Rate(TypedDict):
    """A ratio of two means over problems, or a difference of two such ratios, with its 95 % interval."""

    value: float
    low: float
    high: float


def pool(seeds: Mapping[int, Mapping[str, Report]]) -> Pool:
    """All seeds' problems together, by student.

    Args:
        seeds: The evaluations of one part by seed and student.

    Raises:
        DataError: Students of one seed were not asked the same problems.
    """
    pooled: Pool = {}
    for seed, reports in sorted(seeds.items()):
        asked = {name: sorted(row["id"] for row in report["problems"]) for name, report in reports.items()}
        first = next(iter(asked))
        for name, report in reports.items():
            if asked[name] != asked[first]:
                raise DataError(
                    f"Seed {seed}: '{name}' and '{first}' were not asked the same problems. "
                    "Evaluate them with the same `--n` in one folder."
                )
            rows = sorted(report["problems"], key=lambda row: str(row["id"]))
            pooled.setdefault(name, []).extend({**row, "seed": seed} for row in rows)
    return pooled


def right(rows: Sequence[Row], arm: str) -> list[bool]:
    return [bool(row[arm]["correct"]) for row in rows]


def cell(rows: Sequence[Row]) -> dict[str, Any]:
    """One student: accuracy by arm and, where it reviewed, what that did and how well it found errors."""
    arms = [arm for arm in ("single", "review", "teacher", "asked", "retry") if arm in rows[0]]
    found: dict[str, Any] = {
        "n": len(rows),
        "accuracy": {arm: accuracy(right(rows, arm)) for arm in arms},
    }
    if "review" in arms:
        found["self_correction"] = self_correction(right(rows, "single"), right(rows, "review"))
        named, wrong = ([row[arm]["step"] for row in rows if arm in row] for arm in ("review", "teacher"))
        found |= review_quality(right(rows, "single"), named, wrong or None)
    if "asked" in arms:
        found["asked"] = {
            f"{what}_per_correct": rate(spent(rows, what), right(rows, "asked"))
            for what in ("calls", "tokens")
        }
    return found


def by_seed(rows: Sequence[Row], measure: Callable[[list[Row]], Any]) -> dict[str, Any]:
    """A measure of each seed's rows alone."""
    seeds = sorted({row["seed"] for row in rows})
    return {str(seed): measure([row for row in rows if row["seed"] == seed]) for seed in seeds}


def difference(pooled: Pool, first: tuple[str, str], second: tuple[str, str]) -> dict[str, Any]:
    """The paired difference of two students' arms, second minus first, pooled and for each seed.

    Args:
        pooled: The part's rows.
        first: Student and arm.
        second: Student and arm.
    """
    pairs = [
        {"seed": one["seed"], "first": one[first[1]], "second": two[second[1]]}
        for one, two in zip(pooled[first[0]], pooled[second[0]], strict=True)
    ]

    def compare(rows: Sequence[Row]) -> dict[str, Any]:
        return {**paired_difference(right(rows, "first"), right(rows, "second"))}

    return {**compare(pairs), "per_seed": by_seed(pairs, compare)}


def key(first: tuple[str, str], second: tuple[str, str]) -> str:
    """The name of a difference: ``HSFT + DPO, review - HSFT, review``."""
    return f"{', '.join(second)} - {', '.join(first)}"


def spent(rows: Sequence[Row], what: str, arm: str = "asked") -> list[int]:
    """Calls of the teacher, or its tokens read and written, for each problem."""
    return [int(row[arm][f"teacher_{what}"]) for row in rows]


def rate(costs: Sequence[int], gains: Sequence[bool]) -> Rate | None:
    """Cost of one gain, with the linearised (delta-method) interval; None where nothing was gained."""
    if not any(gains):
        return None
    return _rate(sum(costs) / sum(gains), _influence(costs, gains))


def rate_difference(
    first: tuple[Sequence[int], Sequence[bool]], second: tuple[Sequence[int], Sequence[bool]]
) -> Rate | None:
    """Paired difference of two such ratios, second minus first, over the same problems."""
    if not (any(first[1]) and any(second[1])):
        return None
    value = sum(second[0]) / sum(second[1]) - sum(first[0]) / sum(first[1])
    shifts = [two - one for one, two in zip(_influence(*first), _influence(*second), strict=True)]
    return _rate(value, shifts)


def _influence(costs: Sequence[int], gains: Sequence[bool]) -> list[float]:
    """How much each problem moves the ratio, times the number of problems."""
    ratio, mean = sum(costs) / sum(gains), sum(gains) / len(gains)
    return [(cost - ratio * gain) / mean for cost, gain in zip(costs, gains, strict=True)]


def _rate(value: float, influence: Sequence[float]) -> Rate:
    half = Z95 * math.sqrt(sum(each * each for each in influence)) / len(influence)
    return {"value": value, "low": value - half, "high": value + half}


def first_errors(rows: Sequence[Row]) -> dict[str, Any]:
    """At which step the wrong first solutions go wrong, and which of them the own review puts right."""
    found = {place: {"put right": 0, "left wrong": 0} for place in ("1", "2", "3", "4+", "not placed")}
    for row in rows:
        if not row["single"]["correct"]:
            step = row["teacher"]["step"]
            place = "not placed" if step is None else str(step) if step < 4 else "4+"
            found[place]["put right" if row["review"]["correct"] else "left wrong"] += 1
    return {"n": len(rows), "steps": found}
