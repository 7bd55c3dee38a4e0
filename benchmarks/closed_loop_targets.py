"""What the closed-loop experiment has to show: each criterion with what was found, met or missed.

A criterion speaks of the pooled value; where it also asks for an interval or a p-value, it says so.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from typing_extensions import TypedDict

from benchmarks.closed_loop_layout import (
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
from training.demo import format_difference, format_interval

_EXACT = 1e-9  # differences of shares carry rounding errors


class Target(TypedDict):
    """One criterion; without a single right answer a cost has no ``value``."""

    group: str
    criterion: str
    wanted: str
    bound: float
    found: str
    value: float | None
    low: float | None
    high: float | None
    p_value: float | None
    met: bool


def find_targets(results: Mapping[str, Any]) -> list[Target]:
    """The criteria of the parts that were run, in the order of the report.

    Args:
        results: From `closed_loop_results.read_results`.
    """
    students, unseen = results["students"], results["unseen"]
    critique, rounds = results["critique"], results["rounds"]
    found: list[Target] = []
    if students:
        cells, differences = students["cells"], students["differences"]
        found += _reviewer("reviewer after stage 1", cells[HSFT], 85, 80, 8)
        found += _self_correction(cells[FINAL], differences)
        found += _stage2(differences)
        found += [
            _gain("stage 1", "HSFT above plain SFT, single pass", _of(differences, PLAIN, "single", HSFT))
        ]
    if unseen:
        found += _reviewer("reviewer after stage 1, unseen shapes", unseen["cells"][HSFT], 70, 60, 12)
    if critique:
        found += [_critique(critique, name) for name in COMPARED]
    if rounds:
        found += _rounds(rounds)
    return found


def _reviewer(group: str, cell: Mapping[str, Any], flagged: int, located: int, alarms: int) -> list[Target]:
    return [
        _share(group, "own wrong solutions flagged", cell["flagged"], flagged),
        _share(group, "own wrong solutions located", cell["located"], located),
        _share(group, "false alarms", cell["false_alarms"], alarms, most=True),
    ]


def _self_correction(cell: Mapping[str, Any], differences: Mapping[str, Any]) -> list[Target]:
    group, own = "self-correction without teacher (final)", cell["self_correction"]
    simpler = [name for name in STUDENTS if name != FINAL]
    return [
        _gain(group, "t2 - t1", own["delta"], points=8),
        _share(group, "right to wrong", own["broken"], 3, most=True),
        _share(group, "right to wrong (aim)", own["broken"], 1, most=True),
        _share(group, "wrong to right", own["corrected"], 50),
        _share(group, "t1", own["accuracy_t1"], 70),
        *(
            _gain(
                group,
                f"t2 above {'the single pass' if name == PLAIN else 't2'} of {name}",
                differences[key((name, "single" if name == PLAIN else "review"), (FINAL, "review"))],
                interval=False,
            )
            for name in simpler
        ),
    ]


def _stage2(differences: Mapping[str, Any]) -> list[Target]:
    group, found = (
        "stage 2 (final)",
        {arm: _of(differences, REPLAY, arm, FINAL) for arm in ("single", "review")},
    )
    chosen = _of(differences, CHOSEN, "review", FINAL)
    return [
        _not_lower(group, f"t1 not below {REPLAY}", found["single"]),
        _not_lower(group, f"t2 not below {REPLAY}", found["review"]),
        _gain(group, f"t2 above {REPLAY}", found["review"], points=2, interval=False, tested=True),
        _gain(group, f"t2 above {CHOSEN} (sought)", chosen, interval=False, tested=True),
    ]


def _critique(critique: Mapping[str, Any], name: str) -> Target:
    tokens = critique["student_tokens"][name]
    fair = tokens["retry"] >= tokens["teacher"]
    target = _gain(
        "critique against retry, two rounds",
        f"{name}: teacher above retry",
        critique["differences"][key((name, "retry"), (name, "teacher"))],
    )
    return {
        **target,
        "wanted": f"{target['wanted']}; retry's student tokens not fewer",
        "found": f"{target['found']}; tokens {tokens['teacher']:.0f} against {tokens['retry']:.0f}",
        "met": bool(target["met"] and fair),
    }


def _rounds(rounds: Mapping[str, Any]) -> list[Target]:
    found: list[Target] = []
    whole = (ROUND_STUDENTS[0], ROUND_STUDENTS[-1])
    for first, second in [*itertools.pairwise(ROUND_STUDENTS), whole]:
        name = key((first, "asked"), (second, "asked"))
        found.append(
            _fall(
                f"{second} against {first}", rounds["calls_differences"][name], sure=(first, second) == whole
            )
        )
    group = "rounds: accuracy with the teacher asked"
    for first, second in itertools.pairwise(ROUND_STUDENTS):
        each = rounds["differences"][key((first, "asked"), (second, "asked"))]
        found.append(_not_lower(group, f"{second} not significantly below {first}", each, tested=True))
    last = rounds["differences"][key((whole[0], "asked"), (whole[1], "asked"))]
    return [*found, _gain(group, f"{whole[1]} above {BASE}", last)]


def _of(differences: Mapping[str, Any], first: str, arm: str, second: str) -> Any:
    return differences[key((first, arm), (second, arm))]


def _share(
    group: str, criterion: str, share: Mapping[str, Any], percent: float, *, most: bool = False
) -> Target:
    bound = percent / 100
    met = bool(share["total"]) and (share["value"] <= bound if most else share["value"] >= bound)
    return {
        "group": group, "criterion": criterion, "wanted": f"{'<=' if most else '>='} {percent} %",
        "bound": bound, "found": f"{format_interval(share)} %",  # type: ignore[arg-type]
        "value": share["value"], "low": share["low"], "high": share["high"], "p_value": None, "met": met,
    }  # fmt: skip


def _gain(
    group: str,
    criterion: str,
    found: Mapping[str, Any],
    *,
    points: float = 0,
    interval: bool = True,
    tested: bool = False,
) -> Target:
    """More by at least so many points, and for none of them more at all."""
    met = found["value"] >= points / 100 - _EXACT if points else found["value"] > _EXACT
    met = met and (found["low"] > 0 or not interval) and (found["p_value"] < 0.05 or not tested)
    wanted = f">= {points:+g} points" if points else "> 0"
    wanted += (", interval above 0" if interval else "") + (", p < 0.05" if tested else "")
    return _compared(group, criterion, wanted, points / 100, found, met)


def _not_lower(group: str, criterion: str, found: Mapping[str, Any], *, tested: bool = False) -> Target:
    """Not lower at all, or for ``tested`` not significantly so."""
    met = found["value"] >= -_EXACT or (tested and found["p_value"] >= 0.05)
    return _compared(group, criterion, ">= 0, or p >= 0.05" if tested else ">= 0", 0.0, found, met)


def _compared(
    group: str, criterion: str, wanted: str, bound: float, found: Mapping[str, Any], met: bool
) -> Target:
    shown = f"{format_difference(found)}, p = {found['p_value']:.2g}"  # type: ignore[arg-type]
    return {
        "group": group, "criterion": criterion, "wanted": wanted, "bound": bound, "found": shown,
        "value": found["value"], "low": found["low"], "high": found["high"], "p_value": found["p_value"],
        "met": bool(met),
    }  # fmt: skip


def _fall(criterion: str, found: Mapping[str, Any] | None, *, sure: bool) -> Target:
    target: Target = {
        "group": "rounds: teacher calls per correct answer", "criterion": criterion,
        "wanted": "< 0, interval below 0" if sure else "< 0", "bound": 0.0, "found": "no right answer",
        "value": None, "low": None, "high": None, "p_value": None, "met": False,
    }  # fmt: skip
    if found is None:
        return target
    met = found["value"] < 0 and (found["high"] < 0 or not sure)
    shown = f"{found['value']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]"
    return {**target, **found, "found": shown, "met": met}  # type: ignore[typeddict-item]
