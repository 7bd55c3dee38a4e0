"""A student's steps as a small program: which step computes what, from what, and what the answer hangs on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Final

from supercorrect_agent.teachers.reference.expressions import read_equations, read_last, read_numbers
from supercorrect_agent.teachers.reference.knowledge import MAX_TEXT
from supercorrect_agent.teachers.reference.nodes import (
    Equation,
    Negated,
    Node,
    Number,
    Operation,
    Side,
    apply,
    first_false,
    numbers_of,
)

MAX_COMPUTED: Final = 150
"""Computations of a solution that are judged."""


@dataclass(frozen=True)
class Computed:
    """One computation: the step (from 0), the expression, what it is truly worth and what is stated."""

    step: int
    node: Node
    true: Fraction
    stated: Fraction
    equation: Equation
    side: Side

    @property
    def slip(self) -> bool:
        return self.true != self.stated and first_false(self.equation) is not None


@dataclass(frozen=True)
class Reading:
    """The steps read: their computations in order, equations with unknowns, and all numbers by step."""

    texts: tuple[str, ...]
    computed: tuple[Computed, ...]
    equations: tuple[tuple[Equation, ...], ...]
    numbers: tuple[tuple[Number, ...], ...]
    answer: Fraction | None

    def values(self, step: int) -> set[Fraction]:
        """What the numbers of a step (from 0) are worth."""
        return {number.value for number in self.numbers[step]}

    def values_before(self, step: int) -> set[Fraction]:
        """The same of all steps before it."""
        return {number.value for numbers in self.numbers[:step] for number in numbers}

    @cached_property
    def sources(self) -> tuple[dict[Fraction, int], ...]:
        """For each computation, which earlier one each of its numbers comes from (by value)."""
        latest: dict[Fraction, int] = {}
        found: list[dict[Fraction, int]] = []
        for i, one in enumerate(self.computed):
            values = {number.value for number in numbers_of(one.node)}
            found.append({value: latest[value] for value in values if value in latest})
            latest[one.stated] = i
        return tuple(found)

    @cached_property
    def last(self) -> int | None:
        """The computation that the answer is taken from."""
        for i in range(len(self.computed) - 1, -1, -1):
            if self.computed[i].stated == self.answer:
                return i
        return None

    @cached_property
    def ancestors(self) -> frozenset[int]:
        """The computations that the answer hangs on."""
        if self.last is None:
            return frozenset()
        seen, stack = {self.last}, [self.last]
        while stack:
            for source in self.sources[stack.pop()].values():
                if source not in seen:
                    seen.add(source)
                    stack.append(source)
        return frozenset(seen)

    def rerun(self, index: int, value: Fraction) -> Fraction | None:
        """The answer that the later steps come to when computation ``index`` gives ``value`` instead."""
        if self.last is None or index not in self.ancestors:
            return None
        values: dict[int, Fraction | None] = {index: value}
        for i in range(index + 1, self.last + 1):
            moved = {old: values[j] for old, j in self.sources[i].items() if j in values}
            if not moved:
                continue
            values[i] = replay(self.computed[i].node, moved)
        return values.get(self.last)


def read_steps(texts: Sequence[str], answer: str | None) -> Reading:
    """Reads the steps of a solution; the answer is the last number of ``answer``, else of the steps."""
    cut = _cut(texts)
    equations = tuple(tuple(read_equations(text)) for text in cut)
    numbers = tuple(tuple(read_numbers(text)) for text in cut)
    computed = [
        one for step, group in enumerate(equations) for equation in group for one in _computed(step, equation)
    ]
    value = read_last(answer[:MAX_TEXT]) if answer else None
    if value is None:
        value = next((value for text in reversed(cut) if (value := read_last(text)) is not None), None)
    return Reading(cut, tuple(computed[:MAX_COMPUTED]), equations, numbers, value)


def _cut(texts: Sequence[str]) -> tuple[str, ...]:
    """The steps as far as they are read: `MAX_TEXT` characters each and three times as many in all."""
    left, cut = 3 * MAX_TEXT, []
    for text in texts:
        cut.append(text[: min(left, MAX_TEXT)])
        left -= len(cut[-1])
    return tuple(cut)


def replay(node: Node, moved: dict[Fraction, Fraction | None]) -> Fraction | None:
    """The value of an expression whose numbers have moved."""
    if isinstance(node, Number):
        return moved.get(node.value, node.value)
    if isinstance(node, Operation):
        left, right = replay(node.left, moved), replay(node.right, moved)
        return None if left is None or right is None else apply(node.op, left, right)
    if isinstance(node, Negated):
        inner = replay(node.operand, moved)
        return None if inner is None else -inner
    return None


def _computed(step: int, equation: Equation) -> list[Computed]:
    """Each computed side with the value that the chain gives it: the next plain side, else its own."""
    found: list[Computed] = []
    for i, side in enumerate(equation.sides):
        true = side.value
        if true is None or not side.computed:
            continue
        stated = true
        for other in equation.sides[i + 1 :]:
            if not other.computed and other.value is not None:
                stated = other.value
                break
        if i and not any(not other.computed for other in equation.sides[i + 1 :]):
            before = equation.sides[i - 1]
            if not before.computed and before.value is not None:
                stated = before.value
        if (
            isinstance(equation.sides[-1].node, Number)
            and equation.sides[-1].node.percent
            and stated * 100 == true
        ):
            stated = true
        found.append(Computed(step, side.node, true, stated, equation, side))
    return found
