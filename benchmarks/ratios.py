"""A cost against another, measured in turn: the median of the repeats and their range."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from typing_extensions import TypedDict

T = TypeVar("T")


class Spread(TypedDict):
    """The median, the smallest and the largest of the repeats."""

    median: float
    low: float
    high: float


class Target(NamedTuple):
    """A figure, the most it may be, and whether being equal to it is enough."""

    most: float
    inclusive: bool = True

    def met(self, value: float) -> bool:
        """Whether a figure holds the target."""
        return value <= self.most if self.inclusive else value < self.most

    def __str__(self) -> str:
        return f"{'at most' if self.inclusive else 'under'} {self.most:g}"


def spread(values: Sequence[float]) -> Spread:
    """The median and the range of values, to four digits."""
    median, low, high = (
        float(f"{value:.4g}") for value in (statistics.median(values), min(values), max(values))
    )
    return {"median": median, "low": low, "high": high}


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Ours over theirs, repeat by repeat: what disturbs one repeat disturbs both sides of it.

    Args:
        ours: One cost a repeat.
        theirs: The other's cost in the same repeats.
    """
    return spread([one / other for one, other in zip(ours, theirs, strict=True)])


def in_turn(names: Sequence[T], repeat: int) -> list[T]:
    """The order of a repeat: each repeat begins one name further on."""
    first = repeat % len(names)
    return [*names[first:], *names[:first]]


def sentence(what: str, found: Spread, target: Target | None = None) -> str:
    """A ratio in one line, with its target if it has one."""
    line = f"{what}: {found['median']:.2f} ({found['low']:.2f} to {found['high']:.2f})"
    if target is None:
        return f"{line}; no target"
    return f"{line}; target {target}: {'met' if target.met(found['median']) else 'missed'}"


def publish(found: Mapping[str, Any], lines: Sequence[str], output: Path | None) -> None:
    """Prints a report as JSON and in words, and writes the JSON to a file if one is named."""
    report = json.dumps(found, indent=2)
    print(report)
    print("\n".join(lines))
    if output:
        output.write_text(f"{report}\n", encoding="utf-8")
