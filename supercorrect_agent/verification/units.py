# ruff: noqa: SIM905  (word lists)
"""Units as people write them after a number: conversions for the common ones, words for all others."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

_TABLE = """
length mm millimeter millimetre 1/1000
length cm centimeter centimetre 1/100
length m meter metre 1
length km kilometer kilometre 1000
length inch inches in 254/10000
length foot feet ft 3048/10000
length yard yd 9144/10000
length mile mi 1609344/1000
mass mg milligram 1/1000000
mass g gram 1/1000
mass kg kilogram kilo 1
mass lb pound-mass 45359237/100000000
time s sec second 1
time min minute 60
time h hr hour 3600
time day 86400
time week 604800
volume ml milliliter millilitre 1/1000
volume l liter litre 1
money cent ¢ 1/100
money dollar buck usd 1
money euro eur 1001/1000
angle ° 1
proportion % 1
"""  # euro: an odd factor keeps it apart from the dollar
_KNOWN: dict[str, tuple[str, Fraction]] = {
    name: (words[0], Fraction(words[-1]))
    for words in (line.split() for line in _TABLE.strip().splitlines())
    for name in words[1:-1]
}
_POWER = re.compile(r"\^ ?\{? ?-?\d ?\}?")
_WORD = re.compile(r"[a-z°%¢'-]+")
_NOT_UNITS = frozenset(
    "or and of to mod choose out is are the for in if when with where at by from than more less plus minus "
    "times sin cos tan cot sec csc log ln exp max min gcd lcm sqrt frac pi infinity x not over".split()
) - {"in", "min", "sec"}


@dataclass(frozen=True)
class Unit:
    """A product of base units, and the factor that turns a value into them. Unknown words are bases."""

    bases: frozenset[tuple[str, int]] = frozenset()
    factor: Fraction = Fraction(1)
    known: bool = True

    @property
    def percent(self) -> bool:
        return self.bases == {("proportion", 1)}

    @property
    def angle(self) -> bool:
        return self.bases == {("angle", 1)}

    def agrees(self, other: Unit) -> bool:
        """Same dimensions; of words that no table has ("red apples", "apples") one side may say less."""
        if self.known and other.known:
            return self.bases == other.bases
        return bool(self.bases) and (self.bases <= other.bases or other.bases <= self.bases)


def parse_unit(text: str, *, spaced: bool) -> Unit | None:
    """Reads what follows a number, such as "cm^2", "miles per hour" or "red apples".

    Args:
        text: Cleaned text after the number.
        spaced: Whether white space came before it; without, "10m" and "3n" may be products.
    """
    text = re.sub(r"\(([a-z ]+)\)$", r"\1", text.lower().replace("mph", "mile/hour").strip(" ."))
    text = re.sub(r"\b(?:square|sq\.?) ([a-z]+)", r"\1^2", text)
    text = re.sub(r"\bcu(?:bic|\.)? ([a-z]+)", r"\1^3", text)
    text = re.sub(r"\b([a-z]+) \1\b", r"\1", text)  # "$5 dollars"
    bases: Counter[str] = Counter()
    factor, known, sign = Fraction(1), True, 1
    tokens = re.findall(r"\^ ?\{? ?-?\d ?\}?|[a-z°%¢'-]+|\S", text)
    if not tokens or len(tokens) > 8:
        return None
    for position, token in enumerate(tokens):
        if token in ("/", "per"):
            sign = -1
        elif _WORD.fullmatch(token):
            power = sign * _power(tokens[position + 1 : position + 2])
            found = _lookup(token)
            if found is None and not (spaced and len(token) > 1 and token not in _NOT_UNITS):
                return None
            base, scale = found or (_singular(token), Fraction(1))
            known = known and found is not None
            bases[base] += power
            factor *= scale**power
        elif not _POWER.fullmatch(token):
            return None
    if not spaced and len(text.strip()) == 1 and text.strip() not in "°%¢":
        return None
    return Unit(frozenset(bases.items()), factor, known)


def _power(following: list[str]) -> int:
    return int(following[0].strip("^{} ")) if following and _POWER.fullmatch(following[0]) else 1


def _lookup(word: str) -> tuple[str, Fraction] | None:
    return _KNOWN.get(word) or _KNOWN.get(_singular(word))


def _singular(word: str) -> str:
    return word[:-1] if word.endswith("s") and len(word) > 2 and not word.endswith("ss") else word
