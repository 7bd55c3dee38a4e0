"""Equations with an unknown: whether their root, or what they say at the true one, can be in the problem."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Final

from supercorrect_agent.teachers.reference.knowledge import Knowledge
from supercorrect_agent.teachers.reference.nodes import (
    Equation,
    Name,
    Negated,
    Node,
    Operation,
    evaluate,
    leaves,
)
from supercorrect_agent.teachers.reference.reading import Reading

_MAX_TRIED: Final = 200
_MAX_FORMS: Final = 40


def first_false_root(reading: Reading, known: Knowledge) -> int | None:
    """The first step (from 0) with a linear equation in one unknown whose root the reference cannot have."""
    for number, equations in enumerate(reading.equations):
        roots = (root for equation in equations for root in roots_of(equation))
        if any(not known.knows(root) for root in roots):
            return number
    return None


def first_failure(reading: Reading, known: Knowledge) -> int | None:
    """The first step (from 0) that says of the one unknown what does not hold at its true value.

    That value is the one of the reference at which most expressions come to a quantity of the reference; None
    also where there is no unknown, more than one, or no such value.
    """
    sides = [side.node for step in reading.equations for equation in step for side in equation.sides]
    names = {name for node in sides for name in _letters(node)}
    forms = list(dict.fromkeys(node for node in sides if not isinstance(node, Name) and _letters(node)))
    if len(names) != 1:
        return None
    name, quantities = names.pop(), known.results | known.given
    tried = [*sorted(known.results), *sorted(known.derived - known.results)][:_MAX_TRIED]
    fits = {
        value: sum(evaluate(node, {name: value}) in quantities for node in forms[:_MAX_FORMS])
        - Fraction(value not in known.results, 2)
        for value in tried
    }
    best = max(fits, key=lambda value: fits[value], default=None)
    if best is None or fits[best] <= 0:
        return None
    at = {name: best}
    for step, equations in enumerate(reading.equations):
        if any(_fails(equation, at, known) for equation in equations):
            return step
    return None


def _fails(equation: Equation, at: dict[str, Fraction], known: Knowledge) -> bool:
    """Whether the sides differ at the value of the unknown, or come to no quantity of the problem."""
    nodes = [side.node for side in equation.sides]
    values = [value for node in nodes if (value := evaluate(node, at)) is not None]
    if not values or not any(_letters(node) for node in nodes):
        return False
    if len(set(values)) > 1:
        return True
    forms = any(_letters(node) and not isinstance(node, Name) for node in nodes)
    return forms and not any(known.knows(value) for value in (values[0], values[0] * 100, values[0] / 100))


def _letters(node: Node) -> set[str]:
    """The unknowns of an expression that are single letters."""
    return {
        leaf.text
        for leaf in leaves(node)
        if isinstance(leaf, Name) and len(leaf.text) == 1 and leaf.text.isalpha()
    }


def roots_of(equation: Equation) -> Iterator[Fraction]:
    """The roots of each pair of neighbouring sides, where one unknown stands in an operation."""
    names = {leaf.text for side in equation.sides for leaf in leaves(side.node) if isinstance(leaf, Name)}
    inside = any(
        isinstance(side.node, Operation | Negated)
        and any(isinstance(leaf, Name) for leaf in leaves(side.node))
        for side in equation.sides
    )
    if len(names) != 1 or "?" in names or not inside:
        return
    name = names.pop()
    for left, right in zip(equation.sides, equation.sides[1:], strict=False):
        root = solve(left.node, right.node, name)
        if root is not None:
            yield root


def solve(left: Node, right: Node, name: str) -> Fraction | None:
    """The value of ``name`` in a linear equation ``left = right`` with no other unknown; None where none."""
    zero, one, two = (_difference(left, right, {name: Fraction(at)}) for at in (0, 1, 2))
    if zero is None or one is None or two is None or two - one != one - zero or one == zero:
        return None
    return -zero / (one - zero)


def _difference(left: Node, right: Node, names: dict[str, Fraction]) -> Fraction | None:
    one, other = evaluate(left, names), evaluate(right, names)
    return None if one is None or other is None else one - other
