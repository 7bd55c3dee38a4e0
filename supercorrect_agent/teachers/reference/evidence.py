"""What speaks for each step being the first wrong one: named features, most of them 0 or 1."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Final

from supercorrect_agent.teachers.reference.algebra import first_failure, first_false_root
from supercorrect_agent.teachers.reference.formulas import Formulas
from supercorrect_agent.teachers.reference.knowledge import COMMON, Knowledge
from supercorrect_agent.teachers.reference.leading import first_stray
from supercorrect_agent.teachers.reference.lexicon import matched, misquoted
from supercorrect_agent.teachers.reference.nodes import Node, numbers_of
from supercorrect_agent.teachers.reference.reading import Reading

Features = dict[str, float]
_BARE: Final = re.compile(r"[\s$*#]{0,9}-?[\d,./]{1,40}[\s.%*]{0,9}(?:\w{1,40})?\W{0,9}")


def gather(formulas: Formulas) -> list[Features]:
    """The features of each step of a solution whose answer is wrong.

    ``first_*`` marks the first step of its kind and ``after_*`` all that come later, where the chain of
    consequences begins; the rest describe the step alone. ``weights.py`` says what each is worth.
    """
    scene = _Scene(formulas.reading, formulas.known, formulas)
    return [scene.step(number) for number in range(len(formulas.reading.texts))]


@dataclass
class _Scene:
    """One solution beside its reference, walked from the first step to the last."""

    reading: Reading
    known: Knowledge
    formulas: Formulas
    seen: set[Fraction] = field(default_factory=set)  # results of the steps before
    produced: set[Fraction] = field(default_factory=set)  # all numbers of the steps before

    def step(self, number: int) -> Features:
        reading, own = self.reading, self.groups[number]
        features = self._order(number) | self._formulas(own) | self._words(number, own)
        features |= {
            "past_answer": float(number == self.past_answer),
            "result_later": float(self._result_later(number, own)),
            "bare": float(number == len(reading.texts) - 1 and _is_bare(reading.texts[number])),
            "many_none": float(sum(step < number for step in self.none_steps) > 1),
            "first": float(number == 0),
            "pos": number / max(1, len(reading.texts) - 1),
        }
        self.seen |= {reading.computed[index].stated for index in own}
        self.produced |= reading.values(number)
        return features

    @cached_property
    def groups(self) -> list[list[int]]:
        """The indices of the computations of each step."""
        groups: list[list[int]] = [[] for _ in self.reading.texts]
        for index, one in enumerate(self.reading.computed):
            groups[one.step].append(index)
        return groups

    @cached_property
    def firsts(self) -> dict[str, int | None]:
        """The first step of each kind."""
        formulas, hangs = self.formulas, self.reading.ancestors
        standing = formulas.standing
        return {
            "none": self._first(lambda i: standing[i] == "none"),
            "none_anc": self._first(lambda i: standing[i] == "none" and i in hangs),
            "bad_anc": self._first(lambda i: not formulas.good(i) and i in hangs),
            "incomplete": self._first(lambda i: standing[i] not in ("result", "derived")),
            "notresult_anc": self._first(lambda i: standing[i] != "result" and i in hangs),
            "repair": self._first(lambda i: formulas.need.get(i) in ("result", "derived")),
            "edit": self._first(lambda i: i in formulas.edits),
            "slip": self._first(lambda i: self.reading.computed[i].slip),
            "alg": first_false_root(self.reading, self.known),
            "trial": first_failure(self.reading, self.known),
            "stray": first_stray(formulas),
        }

    @cached_property
    def none_steps(self) -> frozenset[int]:
        """The steps with a computation that is no formula of the reference."""
        pairs = zip(self.reading.computed, self.formulas.standing, strict=True)
        return frozenset(one.step for one, standing in pairs if standing == "none")

    @cached_property
    def past_answer(self) -> int | None:
        """The first computing step behind the one that has the answer already."""
        answer, reading = self.known.answer, self.reading
        at = next((one.step for one in reading.computed if one.stated == answer), None)
        if at is None and answer is not None and answer not in self.known.given:
            holds = (any(one.value == answer for one in numbers) for numbers in reading.numbers[:-1])
            at = next((number for number, found in enumerate(holds) if found), None)
        if at is None:
            return None
        return next((number for number in range(at + 1, len(reading.texts)) if self.groups[number]), at + 1)

    def _first(self, holds: Callable[[int], bool]) -> int | None:
        return next((one.step for index, one in enumerate(self.reading.computed) if holds(index)), None)

    def _order(self, number: int) -> Features:
        features: Features = {}
        for name, at in self.firsts.items():
            features[f"first_{name}"] = float(at == number)
            features[f"after_{name}"] = float(at is not None and at < number)
        return features

    def _formulas(self, own: list[int]) -> Features:
        formulas, hangs, last = self.formulas, self.reading.ancestors, self.reading.last
        standing = [formulas.standing[index] for index in own]
        needs = [formulas.need.get(index) for index in own if index != last]
        others = [index for index in hangs if index != last]
        mended = [index for index in own if index in formulas.edits and formulas.good_inputs(index)]
        return {
            "all_result": float(bool(own) and set(standing) == {"result"}),
            "has_derived": float("derived" in standing),
            "final_inputs_good": float(last in own and all(formulas.good(i) for i in others)),
            "need_result": float("result" in needs),
            "need_derived": float("derived" in needs),
            "edit_good_inputs": float(any(formulas.standing[index] != "result" for index in mended)),
            "edit_result": float(any(formulas.standing[index] == "result" for index in mended)),
            "repeats": float(any(formulas.repeats(index) for index in own)),
            "same_operands": float(any(self._same_operands(index) for index in own)),
            "open_overlap": max((self._open_overlap(index) for index in own), default=0.0),
        }

    def _words(self, number: int, own: list[int]) -> Features:
        reading, known = self.reading, self.known
        text, numbers = reading.texts[number], reading.numbers[number]
        stated = {reading.computed[i].stated for i in own}
        sourced = known.given | COMMON | self.produced | self._own_values(own)
        unsourced = any(one.value not in sourced and not known.knows(one.value) for one in numbers)
        return {
            "matched": matched(stated, text, known),
            "misquote": misquoted(text, numbers, known.question),
            "unsourced": float(unsourced),
        }

    def _own_values(self, own: list[int]) -> set[Fraction]:
        return {
            value for i in own for value in (self.reading.computed[i].stated, self.reading.computed[i].true)
        }

    def _result_later(self, number: int, own: list[int]) -> bool:
        """Whether a later step still comes to a new value of the reference, by its formula."""
        old = self.seen | self._own_values(own)
        later = (index for group in self.groups[number + 1 :] for index in group)
        standing, computed = self.formulas.standing, self.reading.computed
        return any(standing[index] == "result" and computed[index].stated not in old for index in later)

    def _same_operands(self, index: int) -> bool:
        """The reference's numbers in another operation."""
        one, mine = self.reading.computed[index], _values(self.reading.computed[index].node)
        return any(
            _values(work.node) == mine and work.value not in (one.stated, one.true)
            for work in self.known.works
        )

    def _open_overlap(self, index: int) -> float:
        """The share of numbers in common with a work that is still to be done, where the formula is none."""
        if self.formulas.standing[index] in ("result", "derived"):
            return 0.0
        mine = set(_values(self.reading.computed[index].node))
        shares = [
            len(mine & theirs) / max(1, len(mine | theirs))
            for work in self.known.works
            if work.value not in self.seen
            for theirs in [set(_values(work.node))]
        ]
        return max(shares, default=0.0)


def _values(node: Node) -> list[Fraction]:
    return sorted(number.value for number in numbers_of(node))


def _is_bare(text: str) -> bool:
    """Whether a step is nothing but a number."""
    return _BARE.fullmatch(text) is not None
