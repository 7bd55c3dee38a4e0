"""Whether the equations of a text hold, as far as that is certain: a doubtful one is not called false.

A false alarm costs a right correction, a missed error costs nothing that later checks would not find. So only
an equation is judged of which every character was understood: numbers, signs and units, with a plain number
on one side of its "=", and nothing before or behind it that might belong to it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise

from supercorrect_agent.teachers.reference.expressions import Equation, Side, first_false, read_equations

_READ_LIMIT = 20_000  # characters of a text whose equations are read
_NEAR = 40  # characters before an equation that may belong to it
_FRACTION = re.compile(r"\\[dt]?frac\s?\{\d{1,9}\}\s?\{\d{1,9}\}")
_KNOWN_COMMAND = re.compile(r"\\(?:times|cdot|div)\b|\\[$]|\\text\s?\{[A-Za-z ]{0,30}\}")
_DOUBTFUL = re.compile(
    r"[\\{}&_!?|<>\[\]~]"  # LaTeX that is left: roots, sets, factorials
    r"|(?<![A-Za-z])[b-wyzB-Z](?![A-Za-z])"  # an unknown; "x" stands between numbers, too
    r"|\d(?:[A-Z]|[a-z](?![a-z]))"
    r"|(?<![A-Za-z\\])(?!(?:mm|cm|km|kg|mg|ml|lb|oz|ft|in|hr|of|to|is|up|at|on|by|an)(?![A-Za-z]))[a-zA-Z]{2}(?![A-Za-z])"
    r"|\d[a-z]{3}(?![A-Za-z])"  # 2xyz
    r"|(?<![\d.,])0\d"  # 0900 hours
    r"|/\s{0,3}\d{1,12}\s{0,3}[%/]"  # 50 / 1/2: by a half?
    r"|\d\s{0,2}-\s{0,2}\d{1,12}\s{0,2}-"  # a ratio, a date, a score
    r"|\d:\d"
)
_MEASURE = re.compile(
    r"(?<![A-Za-z])(thousand|million|billion|dozen|pair|second|sec|minute|min|hour|hr|day|week|month|year"
    r"|inch|in|feet|foot|ft|yard|yd|mile|mm|cm|km|m|meter|metre|kilometer|kilometre|ounce|oz|pound|lb|gram|g|kg"
    r"|kilogram|ton|cup|pint|quart|gallon|ml|liter|litre|penny|nickel|dime|quarter|cent)(?:e?s)?"
    r"(?![A-Za-z])",
    re.IGNORECASE,
)
_SCALES = frozenset(("thousand", "million", "billion", "dozen", "pair"))
_TIMES = re.compile(r"[*\u00d7\u00b7]|\\times|\\cdot|\dx\d|\sx\s", re.IGNORECASE)
_PART_OFF = re.compile(r"[^%\s]\s{0,2}[-+]\s{0,2}[\d.]{1,12}\s?\\?%")  # 100 - 20%: of what?
_FUNCTION = re.compile(r"(?:log|ln|sin|cos|tan|sqrt|root|gcd|lcm|max|min)\s{0,3}\Z", re.IGNORECASE)
_OPENS = re.compile(r"(?:\\[(\[]|\*\*)\s{0,3}\Z")  # LaTeX's and Markdown's marks around a formula
_CLOSES = re.compile(r"\A\s{0,3}(?:\\[)\]]|\*\*(?!\s{0,3}[\d(]))")
_UNKNOWN_X = re.compile(r"(?<![A-Za-z\d ])x|x(?![A-Za-z\d $(])|\bx\s*=|=\s*x\b")
_MONEY = re.compile(r"(?:\\?[$£€])+\Z")
_SIGNS = r"[-+*/^{\[\\_|&%~\u00d7\u00b7\u00f7\u2212\u2013\u221a]"
_BEFORE = re.compile(rf"(?:{_SIGNS}|[)}}\]])[ \t]*\Z|[A-Za-z(.,:]\Z|\d[ \t]*\Z")
_ALONE = re.compile(r"(?:\A|[\n.;:>])[ \t]*\Z")
_OTHER_UNIT = r"[Rr](?:emainder|est)?(?:\b|\d)|mod\b|cents?\b|percent\b"
_BEHIND = re.compile(rf"[ \t]*(?:{_SIGNS}|!|\d|{_OTHER_UNIT})|[A-Za-z(}}\])]|,\\")


@lru_cache(maxsize=256)  # the text of a correction is looked at where it is written, kept and trained on
def false_equation(text: str) -> str | None:
    """The first equation of a text that certainly does not hold, as written; None where there is none.

    A result that is rounded is right. An unknown, a root, a remainder or anything else that is more than
    numbers, signs and units makes no equation false.

    Args:
        text: The text; its first 20,000 characters are looked at.
    """
    text = text[:_READ_LIMIT]
    if "=" not in text:
        return None
    for equation in read_equations(text):
        for left, right in pairwise(equation.sides):
            pair = Equation((left, right), equation.approximate)
            if first_false(pair) is not None and _is_certain(text, left, right):
                return " ".join(text[left.start : right.end].split())
    return None


def _is_certain(text: str, left: Side, right: Side) -> bool:
    """Whether two sides were understood to the last character, and are all that is there."""
    if left.computed == right.computed or "=" not in text[left.end : right.start]:
        return False
    whole = text[left.start : right.end]
    if "cent" in whole and ("$" in whole or text[: left.start].endswith("$")):
        return False  # two units of money
    written = _KNOWN_COMMAND.sub(" ", _FRACTION.sub("0", whole))
    if _DOUBTFUL.search(written) or _UNKNOWN_X.search(written):
        return False
    if not all(map(_is_balanced, (whole, text[left.start : left.end], text[right.start : right.end]))):
        return False
    behind = text[right.end :][:_NEAR]
    if _is_of_two_units(whole, behind) or _PART_OFF.search(whole) or _is_rounded(left, right):
        return False
    before = _OPENS.sub("", _MONEY.sub(" ", text[max(0, left.start - _NEAR) : left.start]))
    behind = _CLOSES.sub("", behind)
    if before.endswith("(") and behind.startswith(")"):  # a remark in brackets
        before, behind = before[:-1], behind[1:]
    alone = _ALONE.search(before) and re.fullmatch(r"[\d.,\s=]+", text[left.start : right.start])
    if not left.computed and not alone:
        # "Third = 7 + 5", "8 batches = 5.5 * 8 cups", and "3 * 1 = 3*3 + 4*1" of a problem's own sign
        return False
    return not _BEFORE.search(before) and not _FUNCTION.search(before) and not _BEHIND.match(behind)


def _is_of_two_units(whole: str, behind: str) -> bool:
    """Whether units are converted in passing, as in "2 feet + 6 inches = 30 inches"; products are literal."""
    word = re.match(r"\s{0,3}[A-Za-z]{1,12}", behind)
    found = {unit.lower() for unit in _MEASURE.findall(whole + (word[0] if word else ""))}
    return bool(len(found) > 1 or found & _SCALES) and _TIMES.search(whole) is None


def _is_rounded(left: Side, right: Side) -> bool:
    """Whether a whole number stands for the quotient next to it: 17 / 5 = 3, and 2 are left over."""
    computed, stated = (left, right) if left.computed else (right, left)
    if computed.value is None or stated.value is None or stated.value.denominator > 1:
        return False
    return computed.value.denominator > 1 and abs(computed.value - stated.value) < 1


def _is_balanced(written: str) -> bool:
    depth = 0
    for sign in written:
        depth += (sign == "(") - (sign == ")")
        if depth < 0:
            return False
    return not depth
