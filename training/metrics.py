"""Intervals and paired tests for accuracies: pure Python, so that a report can be recomputed anywhere.

Every function takes one outcome per problem, in the same order for both arms of a comparison.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from typing_extensions import TypedDict  # Python 3.11's own cannot be a field of a record

Z95 = 1.959963984540054


class Interval(TypedDict):
    """A share with its 95 % interval; ``count`` of ``total`` problems. All in [0, 1]; NaN-free."""

    value: float
    low: float
    high: float
    count: int
    total: int


class Difference(TypedDict):
    """A paired difference of accuracies, second minus first, with its 95 % interval. All in [-1, 1]."""

    value: float
    low: float
    high: float
    only_first: int
    only_second: int
    total: int
    p_value: float


class Review(TypedDict, total=False):
    """How well a student's own review finds what is wrong: shares of its wrong and of its right solutions.

    ``located`` is there where the true first wrong steps are known.
    """

    flagged: Interval
    false_alarms: Interval
    located: Interval


class SelfCorrection(TypedDict):
    """What a second pass did: accuracies before and after, and the flips both ways (decision B9).

    ``corrected`` is i->c over the problems that were wrong at first; ``broken`` is c->i over those that were
    right.
    """

    accuracy_t1: Interval
    accuracy_t2: Interval
    delta: Difference
    corrected: Interval
    broken: Interval


def wilson_interval(count: int, total: int) -> Interval:
    """The 95 % Wilson score interval of a share (E. B. Wilson, 1927). No problems at all give [0, 1].

    Raises:
        ValueError: ``count`` is not in 0..``total``.
    """
    if not 0 <= count <= total:
        raise ValueError(
            f"`count={count}` is not in 0..{total}. Pass the number of successes and of problems."
        )
    if total == 0:
        return {"value": 0.0, "low": 0.0, "high": 1.0, "count": 0, "total": 0}
    share, z2 = count / total, Z95**2
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = Z95 * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2)) / (1 + z2 / total)
    low = 0.0 if count == 0 else centre - half
    high = 1.0 if count == total else centre + half
    return {"value": share, "low": low, "high": high, "count": count, "total": total}


def accuracy(outcomes: Sequence[bool]) -> Interval:
    """The share of right outcomes with its Wilson interval."""
    return wilson_interval(sum(outcomes), len(outcomes))


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Two-sided exact McNemar test on the discordant pairs (binomial, p = 1/2); 1.0 where there are none."""
    total = only_first + only_second
    tail = sum(math.comb(total, k) for k in range(min(only_first, only_second) + 1))
    return float(min(1.0, 2 * tail / 2**total))


def paired_difference(first: Sequence[bool], second: Sequence[bool]) -> Difference:
    """Accuracy of ``second`` minus accuracy of ``first`` on the same problems.

    The interval is Newcombe's square-and-add for paired proportions (1998, method 10), which stays inside
    [-1, 1] and does not collapse when no pair is discordant; the p-value is the exact McNemar test.

    Raises:
        ValueError: The two arms have different lengths.
    """
    if len(first) != len(second):
        raise ValueError(
            f"The arms hold {len(first)} and {len(second)} outcomes. Compare outcomes on the same problems."
        )
    both = sum(a and b for a, b in zip(first, second, strict=True))
    only_first, only_second = sum(first) - both, sum(second) - both
    total = len(first)
    neither = total - both - only_first - only_second
    one, two = accuracy(first), accuracy(second)
    phi = _phi(both, only_first, only_second, neither)
    delta = two["value"] - one["value"]
    low = delta - _root(two["value"] - two["low"], one["high"] - one["value"], phi)
    high = delta + _root(two["high"] - two["value"], one["value"] - one["low"], phi)
    p_value = mcnemar_exact(only_first, only_second)
    return {
        "value": delta, "low": max(-1.0, low), "high": min(1.0, high),
        "only_first": only_first, "only_second": only_second, "total": total, "p_value": p_value,
    }  # fmt: skip


def _phi(both: int, only_first: int, only_second: int, neither: int) -> float:
    """Newcombe's correlation of two paired outcomes, with his continuity correction."""
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    if margins == 0:
        return 0.0
    product, total = both * neither - only_first * only_second, both + only_first + only_second + neither
    if product > 0:
        return max(product - total / 2, 0.0) / math.sqrt(margins)
    return product / math.sqrt(margins)


def _root(a: float, b: float, phi: float) -> float:
    return math.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b))


def self_correction(first: Sequence[bool], second: Sequence[bool]) -> SelfCorrection:
    """Acc@t1, Acc@t2, their difference, wrong-to-right and right-to-wrong, each with a 95 % interval."""
    after_wrong = [b for a, b in zip(first, second, strict=True) if not a]
    after_right = [not b for a, b in zip(first, second, strict=True) if a]
    return {
        "accuracy_t1": accuracy(first),
        "accuracy_t2": accuracy(second),
        "delta": paired_difference(first, second),
        "corrected": accuracy(after_wrong),
        "broken": accuracy(after_right),
    }


def review_quality(
    correct: Sequence[bool], named: Sequence[int | None], wrong: Sequence[int | None] | None = None
) -> Review:
    """What a student's own review of its first solutions is worth.

    Args:
        correct: Whether each solution is right.
        named: The step that the review calls wrong, None where it finds nothing.
        wrong: The first wrong step by the teacher, None where it names none; without it nothing is located.
    """
    pairs = list(zip(correct, named, strict=True))
    found: Review = {
        "flagged": accuracy([step is not None for right, step in pairs if not right]),
        "false_alarms": accuracy([step is not None for right, step in pairs if right]),
    }
    if wrong is not None:
        judged = zip(pairs, wrong, strict=True)
        located = [step == true for (right, step), true in judged if not right and true is not None]
        found["located"] = accuracy(located)
    return found
