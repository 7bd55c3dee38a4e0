"""The distinct errors of one problem: which pairs would teach one again, or are too many (B5, B24)."""

from __future__ import annotations

from decimal import Decimal
from difflib import SequenceMatcher
from typing import NamedTuple

from training.critiques import fold, read_numbers

_COMPARED = 100
"""Errors of one site that a new one is compared with, so that time stays linear in their number."""


class Site(NamedTuple):
    """Where an error is: two of one site may be one error in other words."""

    is_error: bool
    step: int
    numbers: tuple[Decimal, ...]


class Errors:
    """The errors seen of one problem. Show it the pairs in an order that the order of traces does not change.

    Two step texts are one error if they are equal (case and white space folded), or hold equal numbers in
    order and are similar: 2 m / n, where m words of the n in both stand in the same sequence.

    Args:
        near_duplicate: Similarity from which on two texts are one error; at 1 only equal ones are.
        max_per_problem: How many distinct errors may give pairs; None: all.
    """

    def __init__(self, near_duplicate: float, max_per_problem: int | None) -> None:
        self._near, self._most = near_duplicate, max_per_problem
        self._known: dict[Site, list[list[str]]] = {}
        self._named: dict[tuple[Site, str], int] = {}
        self._admitted: set[tuple[Site, int]] = set()
        self._kept: dict[tuple[str, Site, int], str] = {}

    def fault(self, kind: str, step: int, text: str, *, is_error: bool = True) -> str | None:
        """Why a pair about this step is one too many; None, and the pair is noted, where it is not.

        Args:
            kind: Kind of the pair; pairs of different kinds about one error are no duplicates.
            step: Number of the judged step.
            text: Its text.
            is_error: False for a right step (of a false alarm), which ``max_per_problem`` does not count.
        """
        folded = fold(text)
        site = Site(is_error, step, tuple(read_numbers(text)))
        error = (site, self._number(site, folded))
        earlier = self._kept.get((kind, *error))
        if earlier is not None:
            return "duplicate" if earlier == folded else "near duplicate"
        if is_error and error not in self._admitted:
            if self._most is not None and len(self._admitted) >= self._most:
                return "max_per_problem"
            self._admitted.add(error)
        self._kept[(kind, *error)] = folded
        return None

    def _number(self, site: Site, folded: str) -> int:
        """The number of an error at its site; a new one is noted."""
        if (site, folded) not in self._named:
            known, words = self._known.setdefault(site, []), folded.split()
            alike = (number for number, others in enumerate(known[:_COMPARED]) if self._alike(others, words))
            number = next(alike, len(known))
            if number == len(known):
                known.append(words)
            self._named[(site, folded)] = number
        return self._named[(site, folded)]

    def _alike(self, one: list[str], other: list[str]) -> bool:
        if self._near >= 1:
            return False
        matcher = SequenceMatcher(None, one, other, autojunk=False)
        bounds = (matcher.real_quick_ratio, matcher.quick_ratio, matcher.ratio)  # cheap upper bounds first
        return all(ratio() >= self._near for ratio in bounds)
