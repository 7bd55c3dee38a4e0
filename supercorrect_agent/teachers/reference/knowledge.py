"""What can be right in a solution of a problem: the values of its reference and those that follow from it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations
from typing import Final

from supercorrect_agent.teachers.reference.expressions import read_equations, read_last, read_numbers
from supercorrect_agent.teachers.reference.nodes import (
    Negated,
    Node,
    Number,
    Operation,
    apply,
    evaluate,
    numbers_of,
)
from supercorrect_agent.teachers.reference.shadows import combine, key, shadow, shadows_of

MAX_TEXT: Final = 20_000
"""Characters of a question, a reference or a step that are read; what is behind them is not judged."""
_MAX_TERMS: Final = 7
_MAX_VALUES: Final = 3000
_MARK: Final = re.compile(r"<<([^<>]{1,300})>>")
COMMON: Final = frozenset(
    map(Fraction, (0, 1, 2, 3, 4, 5, 7, 10, 12, 16, 24, 30, 31, 52, 60, 100, 365, 360, 366, 180, 1000, 3600))
) | {Fraction(1, 2), Fraction(1, 100)}
"""Numbers that need no source: counts of days, minutes, a dozen, a percentage's whole."""


Pair = tuple[Fraction, float]
"""A value and its shadow."""


@dataclass(frozen=True)
class Work:
    """A computation of the reference: the expression, its value, and the same over the question's numbers."""

    node: Node
    value: Fraction
    expanded: Node
    sentence: str = ""


@dataclass(frozen=True)
class Knowledge:
    """The numbers of a question and what its reference makes of them."""

    given: frozenset[Fraction]
    works: tuple[Work, ...]
    answer: Fraction | None
    results: frozenset[Fraction] = frozenset()
    derived: frozenset[Fraction] = frozenset()
    operands: frozenset[Fraction] = field(default=frozenset())
    shadows: frozenset[float] = frozenset()
    derived_shadows: frozenset[float] = frozenset()
    origins: Mapping[Fraction, tuple[float, ...]] = field(default_factory=dict)
    question: str = ""
    answer_text: str = ""

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
    ways = set(_spread(works))
    for share in shares:
        for sign in (1, -1):
            ways.add((1 + sign * share, 1 + sign * shadow(share)))
            ways.add((100 + sign * share * 100, 100 + sign * shadow(share) * 100))
    derived = {value for value, _ in ways}
    derived |= {value * 100 for value in derived | set(given) if 0 < value < 2 and value.denominator > 1}
    operands = {number.value for work in works for number in numbers_of(work.node)}
    origins: dict[Fraction, list[float]] = {}
    for value, shade in sorted(ways):
        origins.setdefault(value, []).append(shade)
    return Knowledge(
        given,
        works,
        final,
        frozenset(results),
        frozenset(derived),
        frozenset(operands),
        frozenset(key(shade) for work in works for shade in [_shade(work.expanded)] if shade is not None),
        frozenset(key(shade) for _, shade in ways) | frozenset(key(1 / shade) for _, shade in ways if shade),
        {value: tuple(shades[:3]) for value, shades in origins.items()},
        question[:MAX_TEXT],
        (answer or "").strip(),
    )


def _given(question: str) -> Iterator[Fraction]:
    for number in read_numbers(question, words=True):
        yield number.value
        if number.percent or number.value * 100 <= 100:
            yield number.value * 100 if number.percent else number.value / 100
    for percent in re.finditer(r"(\d{1,6}(?:\.\d{1,6})?)\s?(?:%|percent)", question):
        yield Fraction(percent[1]) / 100


def _answer_value(answer: str | None, works: tuple[Work, ...]) -> Fraction | None:
    value = read_last((answer or "")[:MAX_TEXT])
    if value is not None:
        return value
    return works[-1].value if works and answer is None else None


def _works(reference: str, given: frozenset[Fraction]) -> Iterator[Work]:
    made: dict[Fraction, Node] = {}
    for text, sentence in _work_texts(reference):
        for equation in read_equations(text):
            values = [side.value for side in equation.sides]
            for side, value in zip(equation.sides, values, strict=True):
                if value is None or not side.computed:
                    continue
                stated = values[-1] if values[-1] is not None and not equation.sides[-1].computed else value
                close = abs(stated - value) <= abs(value) / 50
                expanded = _expand(side.node, made)
                yield Work(side.node, stated if close else value, expanded, sentence)
                for result in (value, stated):
                    if result not in given or result not in made:
                        made[result] = expanded


def _work_texts(reference: str) -> Iterator[tuple[str, str]]:
    """The texts that hold the works, each with its sentence: calculator marks, then what has no mark."""
    for line in reference.splitlines():
        bare, marks = _MARK.sub("", line), _MARK.findall(line)
        for mark in marks:
            yield mark, bare
        marked = {equation.sides[-1].value for mark in marks for equation in read_equations(mark)}
        for equation in read_equations(bare):
            if equation.sides[-1].value not in marked:
                yield bare[equation.start : equation.end], bare


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


def _spread(works: tuple[Work, ...]) -> Iterator[Pair]:
    """Values of equivalent ways: partial sums and products, and sums multiplied out; not more than a few."""
    count = 0
    seen: set[Node] = set()
    for work in works:
        for node in _subnodes(work.expanded):
            if node in seen or isinstance(node, Number):
                continue
            seen.add(node)
            for value, shade in _ways(node):
                count += 1
                if count > _MAX_VALUES:
                    return
                yield value, shade
                if value < 0:
                    yield -value, -shade


def _subnodes(node: Node) -> Iterator[Node]:
    yield node
    if isinstance(node, Operation):
        yield from _subnodes(node.left)
        yield from _subnodes(node.right)
    elif isinstance(node, Negated):
        yield from _subnodes(node.operand)


def _shade(node: Node) -> float | None:
    return next(iter(shadows_of(node, lambda value: (shadow(value),))), None)


def _pair(node: Node) -> Pair | None:
    value, shade = evaluate(node), _shade(node)
    return None if value is None or shade is None else (value, shade)


def _ways(node: Node) -> Iterator[Pair]:
    pair = _pair(node)
    if pair is not None:
        yield pair
    if not isinstance(node, Operation):
        return
    if node.op in "+-":
        yield from _subsets([term for term in terms_of(node) if term is not None], "+")
    elif node.op in "*/":
        yield from _subsets([one for one in factors_of(node) if one is not None], "*")
        yield from _multiplied_out(node)


def terms_of(node: Node, sign: int = 1) -> list[Pair | None]:
    """The values of the terms of a sum, signs included."""
    if isinstance(node, Operation) and node.op in "+-":
        return terms_of(node.left, sign) + terms_of(node.right, sign if node.op == "+" else -sign)
    if isinstance(node, Negated):
        return terms_of(node.operand, -sign)
    pair = _pair(node)
    return [None if pair is None else (sign * pair[0], sign * pair[1])]


def factors_of(node: Node, *, inverse: bool = False) -> list[Pair | None]:
    """The values of the factors of a product, divisors as their inverses."""
    if isinstance(node, Operation) and node.op in "*/":
        below = inverse != (node.op == "/")
        return factors_of(node.left, inverse=inverse) + factors_of(node.right, inverse=below)
    return [_inverse(_pair(node), inverse)]


def _combined(op: str, left: Pair, right: Pair) -> Pair | None:
    value, shade = apply(op, left[0], right[0]), combine(op, left[1], right[1])
    return None if value is None or shade is None else (value, shade)


def _all(op: str, parts: Iterable[Pair]) -> Pair | None:
    total: Pair | None = None
    for i, part in enumerate(parts):
        total = part if not i else None if total is None else _combined(op, total, part)
    return total


def _subsets(parts: list[Pair], op: str) -> Iterator[Pair]:
    parts = parts[:_MAX_TERMS]
    for size in range(2, len(parts) + 1):
        for chosen in combinations(parts, size):
            total = _all(op, chosen)
            if total is not None:
                yield total
                if op == "*" and total[0] and total[1] and size == 2:
                    yield 1 / total[0], 1 / total[1]


def _multiplied_out(node: Operation) -> Iterator[Pair]:
    """``(a + b) * c``: also ``a * c`` and ``b * c``."""
    for sum_, others in _sums_among(node):
        for term in terms_of(sum_):
            if term is None:
                continue
            yield term
            for size in range(1, len(others) + 1):
                for chosen in combinations(others[:_MAX_TERMS], size):
                    total = _all("*", (term, *chosen))
                    if total is not None:
                        yield total


def _sums_among(node: Operation) -> Iterator[tuple[Node, list[Pair]]]:
    parts = list(_factor_nodes(node, False))
    for i, (part, inverse) in enumerate(parts):
        if isinstance(part, Operation) and part.op in "+-" and not inverse:
            others = [_inverse(_pair(one), below) for j, (one, below) in enumerate(parts) if j != i]
            yield part, [one for one in others if one is not None]


def _inverse(pair: Pair | None, inverse: bool) -> Pair | None:
    if pair is None or (inverse and not (pair[0] and pair[1])):
        return None
    return (1 / pair[0], 1 / pair[1]) if inverse else pair


def _factor_nodes(node: Node, inverse: bool) -> Iterator[tuple[Node, bool]]:
    if isinstance(node, Operation) and node.op in "*/":
        yield from _factor_nodes(node.left, inverse)
        yield from _factor_nodes(node.right, inverse != (node.op == "/"))
    else:
        yield node, inverse
