"""What became of the rows of a problem file: which were dropped, why, and where the first ones stand."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from supercorrect_agent.types import Problem

PLACES = 5
"""So many places are kept of each reason."""


class Fault(NamedTuple):
    """A row that gives no problem.

    ``message`` is the whole sentence, with place and remedy. A row with ``harmless`` is dropped without an
    error even where nobody asked for a report: nothing is lost with it.
    """

    reason: str
    where: str
    message: str
    harmless: bool = False


class Found(NamedTuple):
    """A problem, the place of its row, and what was changed in it, if anything."""

    where: str
    problem: Problem
    note: str | None = None


@dataclass
class ProblemReport:
    """Counts of a reading. Pass one to have unusable rows dropped and counted; without one they are errors.

    One report may be passed to several readings, and then holds the sums.

    Attributes:
        dropped: Rows by named reason (docs/data.md has the reasons).
        noted: Rows that were kept with a change, by what was changed.
        places: The first few places of each reason, such as ``train.jsonl:17``.
        kept: Problems that were handed on.
    """

    dropped: Counter[str] = field(default_factory=Counter)
    noted: Counter[str] = field(default_factory=Counter)
    places: dict[str, list[str]] = field(default_factory=dict)
    kept: int = 0

    def drop(self, reason: str, where: str) -> None:
        """Counts a row that was dropped."""
        self.dropped[reason] += 1
        self._remember(reason, where)

    def note(self, what: str, where: str) -> None:
        """Counts a row that was kept with a change."""
        self.noted[what] += 1
        self._remember(what, where)

    def lines(self) -> list[str]:
        """One line for the sum and one for each reason, the commonest first, with its first places."""
        total = self.dropped.total()
        lines = [f"problems: {self.kept} kept, {total} dropped"]
        for verb, counts in (("dropped", self.dropped), ("kept", self.noted)):
            for reason, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
                places = self.places.get(reason, [])
                more = ", ..." if count > len(places) else ""
                lines.append(f"  {verb} {count} {reason}: {', '.join(places)}{more}")
        return lines

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON: ``kept``, ``dropped``, ``noted`` and ``places``."""
        return {
            "kept": self.kept, "dropped": dict(self.dropped), "noted": dict(self.noted),
            "places": {reason: list(places) for reason, places in self.places.items()},
        }  # fmt: skip

    def _remember(self, reason: str, where: str) -> None:
        places = self.places.setdefault(reason, [])
        if len(places) < PLACES:
            places.append(where)
