"""What can be right in a solution of a problem: the values of its reference and those that follow from it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations
from typing import Final

from supercorrect_agent.teachers.reference.expressions import read_equations, read_numbers
from supercorrect_agent.teachers.reference.nodes import (
    Name,
    Negated,
    Node,
    Number,
    Operation,
    apply,
    evaluate,
    numbers_of,
)

MAX_TEXT: Final = 20_000
"""Characters of a question, a reference or a step that are read; what is behind them is not judged."""
_MAX_TERMS: Final = 7
_MAX_VALUES: Final = 3000
_MARK: Final = re.compile(r"<<([^<>]{1,300})>>")
COMMON: Final = frozenset(
    map(Fraction, (0, 1, 2, 3, 4, 5, 7, 10, 12, 16, 24, 30, 31, 52, 60, 100, 365, 360, 366, 180, 1000, 3600))
) | {Fraction(1, 2), Fraction(1, 100)}
"""Numbers that need no source: counts of days, minutes, a dozen, a percentage's whole."""


@dataclass(frozen=True)
class Work:
    """A computation of the reference: the expression, its value, and the same over the question's numbers."""

    node: Node
    value: Fraction
    expanded: Node


@dataclass(frozen=True)
class Knowledge:
    """The numbers of a question and what its reference makes of them."""

    given: frozenset[Fraction]
    works: tuple[Work, ...]
    answer: Fraction | None
    results: frozenset[Fraction] = frozenset()
    derived: frozenset[Fraction] = frozenset()
    operands: frozenset[Fraction] = field(default=frozenset())

    def knows(self, value: Fraction) -> bool:
        return value in self.results or value in self.derived or value in self.given


def build_knowledge(question: str, reference: str, answer: str | None) -> Knowledge:
    """Reads a problem and its reference, with or without calculator marks; bounded work."""
    given = frozenset(_given(question[:MAX_TEXT]))
    works = tuple(_works(reference[:MAX_TEXT], given))
    results = {work.value for work in works}
    final = _answer_value(answer, works)
    if final is not None:
        results.add(final)
    shares = [value for value in given if 0 < value < 1]
    derived = set(_spread(works)) | {1 - share for share in shares} | {1 + share for share in shares}
    derived |= {value * 100 for value in derived | set(given) if 0 < value < 2 and value.denominator > 1}
    operands = {number.value for work in works for number in numbers_of(work.node)}
    return Knowledge(given, works, final, frozenset(results), frozenset(derived), frozenset(operands))


def _given(question: str) -> Iterator[Fraction]:
    for number in read_numbers(question, words=True):
        yield number.value
        if number.percent or number.value * 100 <= 100:
            yield number.value * 100 if number.percent else number.value / 100
    for percent in re.finditer(r"(\d{1,6}(?:\.\d{1,6})?)\s?(?:%|percent)", question):
        yield Fraction(percent[1]) / 100


def _answer_value(answer: str | None, works: tuple[Work, ...]) -> Fraction | None:
    numbers = read_numbers((answer or "")[:MAX_TEXT])
    if numbers:
        return numbers[-1].value
    return works[-1].value if works and answer is None else None


def _works(reference: str, given: frozenset[Fraction]) -> Iterator[Work]:
    marks = _MARK.findall(reference)
    texts = marks if marks else [reference]
    made: dict[Fraction, Node] = {}
    for text in texts:
        for equation in read_equations(text):
            values = [side.value for side in equation.sides]
            for side, value in zip(equation.sides, values, strict=True):
                if value is None or not side.computed:
                    continue
                stated = values[-1] if values[-1] is not None and not equation.sides[-1].computed else value
                close = abs(stated - value) <= abs(value) / 50
                expanded = _expand(side.node, made)
                yield Work(side.node, stated if close else value, expanded)
                for result in (value, stated):
                    if result not in given or result not in made:
                        made[result] = expanded


def _expand(node: Node, made: dict[Fraction, Node]) -> Node:
    if isinstance(node, Number):
        found = made.get(node.value)
        return node if found is None or _size(found) > 40 else found
    if isinstance(node, Operation):
        return Operation(node.op, _expand(node.left, made), _expand(node.right, made))
    return Negated(_expand(node.operand, made)) if isinstance(node, Negated) else node


def _size(node: Node) -> int:
    if isinstance(node, Operation):
        return _size(node.left) + _size(node.right)
    return _size(node.operand) if isinstance(node, Negated) else 1


def _spread(works: tuple[Work, ...]) -> Iterator[Fraction]:
    """Values of equivalent ways: partial sums and products, and sums multiplied out; not more than a few."""
    count = 0
    seen: set[Node] = set()
    for work in works:
        for node in _subnodes(work.expanded):
            if node in seen:
                continue
            seen.add(node)
            for value in _ways(node):
                count += 1
                if count > _MAX_VALUES:
                    return
                yield value
                if value < 0:
                    yield -value


def _subnodes(node: Node) -> Iterator[Node]:
    yield node
    if isinstance(node, Operation):
        yield from _subnodes(node.left)
        yield from _subnodes(node.right)
    elif isinstance(node, Negated):
        yield from _subnodes(node.operand)


def _ways(node: Node) -> Iterator[Fraction]:
    value = evaluate(node)
    if value is not None:
        yield value
    if not isinstance(node, Operation):
        return
    if node.op in "+-":
        terms = [term for term in terms_of(node) if term is not None]
        yield from _subsets(terms, "+")
    elif node.op in "*/":
        yield from _subsets([one for one in factors_of(node) if one is not None], "*")
        yield from _multiplied_out(node)


def terms_of(node: Node, sign: int = 1) -> list[Fraction | None]:
    """The values of the terms of a sum, signs included."""
    if isinstance(node, Operation) and node.op in "+-":
        return terms_of(node.left, sign) + terms_of(node.right, sign if node.op == "+" else -sign)
    if isinstance(node, Negated):
        return terms_of(node.operand, -sign)
    value = evaluate(node)
    return [None if value is None else sign * value]


def factors_of(node: Node, *, inverse: bool = False) -> list[Fraction | None]:
    """The values of the factors of a product, divisors as their inverses."""
    if isinstance(node, Operation) and node.op in "*/":
        below = inverse != (node.op == "/")
        return factors_of(node.left, inverse=inverse) + factors_of(node.right, inverse=below)
    value = evaluate(node)
    if value is None or (inverse and not value):
        return [None]
    return [1 / value if inverse else value]


def _subsets(parts: list[Fraction], op: str) -> Iterator[Fraction]:
    parts = parts[:_MAX_TERMS]
    for size in range(2, len(parts) + 1):
        for chosen in combinations(parts, size):
            total: Fraction | None = chosen[0]
            for one in chosen[1:]:
                total = None if total is None else apply(op, total, one)
            if total is not None:
                yield total
                if op == "*" and total and size == 2:
                    yield 1 / total


def _multiplied_out(node: Operation) -> Iterator[Fraction]:
    """``(a + b) * c``: also ``a * c`` and ``b * c``."""
    for sum_, others in _sums_among(node):
        for term in terms_of(sum_):
            if term is None:
                continue
            yield term
            for size in range(1, len(others) + 1):
                for chosen in combinations(others[:_MAX_TERMS], size):
                    total: Fraction | None = term
                    for one in chosen:
                        total = None if total is None else apply("*", total, one)
                    if total is not None:
                        yield total


def _sums_among(node: Operation) -> Iterator[tuple[Node, list[Fraction]]]:
    parts = list(_factor_nodes(node, False))
    for i, (part, inverse) in enumerate(parts):
        if isinstance(part, Operation) and part.op in "+-" and not inverse:
            others = [_inverse(evaluate(one), below) for j, (one, below) in enumerate(parts) if j != i]
            yield part, [one for one in others if one is not None]


def _inverse(value: Fraction | None, inverse: bool) -> Fraction | None:
    if value is None or (inverse and not value):
        return None
    return 1 / value if inverse else value


def _factor_nodes(node: Node, inverse: bool) -> Iterator[tuple[Node, bool]]:
    if isinstance(node, Operation) and node.op in "*/":
        yield from _factor_nodes(node.left, inverse)
        yield from _factor_nodes(node.right, inverse != (node.op == "/"))
    else:
        yield node, inverse


def known_names(nodes: Iterable[Node]) -> set[str]:
    """The names in expressions."""
    return {leaf.text for node in nodes for leaf in _subnodes(node) if isinstance(leaf, Name)}
