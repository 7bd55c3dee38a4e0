"""Equations with an unknown: whether their root is a value that the problem can have."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

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


def first_false_root(reading: Reading, known: Knowledge) -> int | None:
    """The first step (from 0) with a linear equation in one unknown whose root the reference cannot have."""
    for number, equations in enumerate(reading.equations):
        roots = (root for equation in equations for root in roots_of(equation))
        if any(not known.knows(root) for root in roots):
            return number
    return None


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
