"""Equations that are false beyond doubt: what a solution is blamed for even when its answer is right."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

from supercorrect_agent.teachers.reference.nodes import Negated, Node, Number, Operation
from supercorrect_agent.teachers.reference.reading import Computed, Reading

_SIGN: Final = re.compile(r"\\(?:times|cdot|div|left|right)\b|\\[,;!()\[\]$]")
_PLAIN: Final = re.compile(r"[\d.,\s+*/()=$x\u00d7\u00b7\u00f7\u2212-]{1,200}")
_WORD: Final = re.compile(r"[A-Za-z]{2,40}")
_GOES_ON_BEFORE: Final = re.compile(r"(?:[\d.:/*+^=\u00d7\u00f7\u2212-]\s{0,3}\(?|\d,|\d\s{1,3}and)\s{0,3}$")
_UNKNOWN: Final = re.compile(r"x\s{0,3}[-+*/=)]")
_GOES_ON_AFTER: Final = re.compile(
    r"\s{0,3}(?:[:/*+^=%\u00d7\u00f7\u2212-]|\.\.|\d"
    r"|(?:thousand|million|hundred|dozen|and|percent|remainder|r)\b)",
    re.IGNORECASE,
)
_SCALES: Final = frozenset(map(Fraction, (12, 60, 100, 1_000, 1_000_000)))
_AROUND: Final = 30  # characters looked at on either side


def certain_falsehood(reading: Reading) -> Computed | None:
    """The first computation that states a false value and cannot be meant otherwise.

    It is ``computation = number``, written out in whole numbers or decimals with at most one unit, is not
    "about", is off by more than rounding, and not by the factor of a change of units.
    """
    return next((one for one in reading.computed if one.slip and _is_certain(one, reading)), None)


def _is_certain(one: Computed, reading: Reading) -> bool:
    equation, text = one.equation, reading.texts[one.step]
    written = _SIGN.sub("*", text[equation.start : equation.end])
    units = {word.lower().removesuffix("s") for word in _WORD.findall(written)}
    before = text[max(0, equation.start - _AROUND) : equation.start]
    after = text[equation.end : equation.end + _AROUND]
    return (
        len(equation.sides) == 2
        and not equation.approximate
        and isinstance(equation.sides[1].node, Number)
        and _is_plain(one.node)
        and not equation.sides[1].node.percent
        and len(units) <= 1
        and written.count("(") == written.count(")")
        and _UNKNOWN.search(written) is None
        and _PLAIN.fullmatch(_WORD.sub("", written)) is not None
        and written.count("/") + written.count("\u00f7") <= 1
        and _GOES_ON_BEFORE.search(before) is None
        and _GOES_ON_AFTER.match(after) is None
        and _is_far(one.true, one.stated)
    )


def _is_plain(node: Node) -> bool:
    """Whether an expression only adds, subtracts, multiplies and divides plain numbers."""
    if isinstance(node, Operation):
        return node.op in "+-*/" and _is_plain(node.left) and _is_plain(node.right)
    if isinstance(node, Negated):
        return _is_plain(node.operand)
    return isinstance(node, Number) and not node.percent


def _is_far(true: Fraction, stated: Fraction) -> bool:
    """Whether two values differ by more than rounding, and not by a change of units."""
    if true <= 0 or stated <= 0 or true / stated in _SCALES or stated / true in _SCALES:
        return False
    return abs(true - stated) >= 1
