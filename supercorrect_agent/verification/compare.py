# ruff: noqa: RUF001  (mathematical symbols)
"""Whether two typed answers mean the same. Structure is decided here; algebra is asked of a grader."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

from supercorrect_agent.verification.clean import to_latex
from supercorrect_agent.verification.reading import Atom, Choice, Group, Named, Relation, Value, Words
from supercorrect_agent.verification.units import Unit

Ask = Callable[[str, str], bool]
"""Asks whether two LaTeX expressions are equal; the target's comes first."""

_UNORDERED = frozenset({",", "{}", "∪"})
_MAX_UNORDERED = 12


def same(target: Value, answer: Value, ask: Ask) -> bool:
    """Compares a read answer with a read target.

    Units, a variable's name and brackets round a single value may be missing on one side, but must not
    contradict each other. Kinds of brackets, the number of values and the order of tuples must agree.
    """
    if target == answer:
        return True
    if isinstance(target, Choice) or isinstance(answer, Choice):
        return _same_choice(target, answer, ask)
    if isinstance(target, Named | Relation) or isinstance(answer, Named | Relation):
        return _same_relation(target, answer, ask)
    if isinstance(target, Group) or isinstance(answer, Group):
        return _same_group(target, answer, ask)
    if isinstance(target, Words) and isinstance(answer, Words):
        return target.text in (answer.text, answer.tail)
    if isinstance(target, Atom) and isinstance(answer, Atom):
        return _same_atom(target, answer, ask)
    return False


def _same_choice(target: Value, answer: Value, ask: Ask) -> bool:
    if isinstance(target, Choice) and isinstance(answer, Choice):
        comparable = target.rest is not None and answer.rest is not None
        return target.letter == answer.letter and (not comparable or _same_rest(target, answer.rest, ask))
    if isinstance(target, Choice):
        return _is_letter(answer, target) or _same_rest(target, answer, ask)
    if isinstance(answer, Choice):
        return _is_letter(target, answer) or (answer.rest is not None and same(target, answer.rest, ask))
    return False


def _is_letter(value: Value, choice: Choice) -> bool:
    return isinstance(value, Atom) and value.text.upper() == choice.letter


def _same_rest(target: Choice, answer: Value | None, ask: Ask) -> bool:
    return target.rest is not None and answer is not None and same(target.rest, answer, ask)


def _same_relation(target: Value, answer: Value, ask: Ask) -> bool:
    if isinstance(target, Named) and isinstance(answer, Named):
        if target.name.lower() == answer.name.lower():
            return same(target.value, answer.value, ask)
        if _plain(target.value) and _plain(answer.value):
            either_word = len(target.name) > 1 or len(answer.name) > 1
            return either_word and same(target.value, answer.value, ask)
    if isinstance(target, Named | Relation) and isinstance(answer, Named | Relation):
        return _spaceless(target.text) == _spaceless(answer.text) or ask(
            to_latex(target.text), to_latex(answer.text)
        )
    if isinstance(target, Named):
        return same(target.value, answer, ask)
    return isinstance(answer, Named) and same(target, answer.value, ask)


def _plain(value: Value) -> bool:
    return not isinstance(value, Atom) or value.exact is not None


def _same_group(target: Value, answer: Value, ask: Ask) -> bool:
    if isinstance(target, Group) and isinstance(answer, Group):
        if len(target.items) != len(answer.items):
            return False
        if target.kind == answer.kind == ":":
            return _proportional(target, answer)
        if target.kind in _UNORDERED and answer.kind in _UNORDERED:
            return _same_unordered(target.items, answer.items, ask)
        pairs = zip(target.items, answer.items, strict=True)
        return _kinds_agree(target, answer) and all(same(one, other, ask) for one, other in pairs)
    if isinstance(target, Group):
        single = _single(target)
        return single is not None and same(single, answer, ask)
    single = _single(answer)
    return single is not None and same(target, single, ask)


def _single(value: Value) -> Value | None:
    """What a set of one, or a ratio of two, is worth on its own."""
    if isinstance(value, Group) and value.kind == "{}" and len(value.items) == 1:
        return value.items[0]
    if isinstance(value, Group) and value.kind == ":" and len(value.items) == 2:
        quotient = _quotient(value)
        return None if quotient is None else Atom(str(quotient), quotient)
    return None


def _kinds_agree(target: Group, answer: Group) -> bool:
    if target.kind == answer.kind:
        return True
    kinds = {target.kind, answer.kind}
    return kinds == {",", "()"} or (kinds == {",", "[]"} and len(target.items) > 2)


def _same_unordered(target: tuple[Value, ...], answer: tuple[Value, ...], ask: Ask) -> bool:
    if len(target) > _MAX_UNORDERED and target != answer:
        return _exact_items(target) == _exact_items(answer) is not None
    left = list(answer)
    for item in target:
        match = next((other for other in left if item == other), None)
        if match is None:
            match = next((other for other in left if same(item, other, ask)), None)
        if match is None:
            return False
        left.remove(match)
    return True


def _exact_items(items: tuple[Value, ...]) -> list[Fraction] | None:
    exact = [item.exact for item in items if isinstance(item, Atom) and item.exact is not None]
    return sorted(exact) if len(exact) == len(items) else None


def _quotient(ratio: Group) -> Fraction | None:
    values = _ratio_values(ratio)
    return values[0] / values[1] if values[1] else None


def _ratio_values(ratio: Group) -> list[Fraction]:
    return [item.exact for item in ratio.items if isinstance(item, Atom) and item.exact is not None]


def _proportional(target: Group, answer: Group) -> bool:
    one, other = _ratio_values(target), _ratio_values(answer)
    products = [one[0] * b == other[0] * a for a, b in zip(one, other, strict=True)]
    return all(products) and any(one) and any(other)


def _same_atom(target: Atom, answer: Atom, ask: Ask) -> bool:
    if target.unit.percent != answer.unit.percent:
        return _same_percent(target, answer, ask)
    if target.unit.angle != answer.unit.angle and "π" in (target.text + answer.text):
        return _same_angle(target, answer, ask)
    if target.unit.bases and answer.unit.bases:
        if not target.unit.agrees(answer.unit):
            return False
        if target.unit.factor != answer.unit.factor and target.unit.known and answer.unit.known:
            if target.exact is None or answer.exact is None:
                return False
            return target.exact * target.unit.factor == answer.exact * answer.unit.factor
    return _same_number(target, answer, ask)


def _same_percent(target: Atom, answer: Atom, ask: Ask) -> bool:
    """50% is 50 with its sign left out, or 0.5; but 0.5% is not 0.5, which reads as a proportion."""
    percent, other = (target, answer) if target.unit.percent else (answer, target)
    if other.unit.bases:
        return False
    if percent.exact is None or other.exact is None:
        return _same_number(target, answer, ask)
    return percent.exact / 100 == other.exact or (percent.exact == other.exact and abs(other.exact) >= 1)


def _same_angle(target: Atom, answer: Atom, ask: Ask) -> bool:
    degrees, radians = (target, answer) if target.unit.angle else (answer, target)
    turned = replace(degrees, text=f"\\frac{{({degrees.text})π}}{{180}}", exact=None, unit=Unit())
    return _same_number(turned, radians, ask) if degrees is target else _same_number(radians, turned, ask)


def _same_number(target: Atom, answer: Atom, ask: Ask) -> bool:
    if target.exact is not None and answer.exact is not None:
        return target.exact == answer.exact
    if _spaceless(target.text) == _spaceless(answer.text):
        return True
    if target.huge or answer.huge:
        return False
    return ask(_latex(target), _latex(answer))


def _latex(atom: Atom) -> str:
    """Decimals go as fractions: math-verify would round 3.14159265358979 to the nearest constant."""
    if atom.exact is not None:
        return f"\\frac{{{atom.exact.numerator}}}{{{atom.exact.denominator}}}"
    return to_latex(atom.text)


def _spaceless(text: str) -> str:
    return re.sub(r"\s", "", text)
