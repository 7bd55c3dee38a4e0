"""Prose with arithmetic in it, cut into tokens: numbers, signs, words and breaks, each with its span.

Every way of writing a sign that solutions use is folded here (``\\times``, ``x`` between numbers,
``divided by``, a Unicode minus), so that the parser sees one alphabet: ``+ - * / ^ = ~ ( ) %``.
"""

# ruff: noqa: RUF001 - the signs that people write

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import Final, NamedTuple

MAX_DIGITS: Final = 40
"""Characters of a number that is still read as one."""

_NUMBER = r"(?:\d{1,3}(?:(?:,|\{,\}|\\!?,)\d{3})+(?![\d])|\d{1,3}(?:[ ]000)+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
_INDEX = r"(?:_(?:\{[^{}\n]{0,40}\}|\d{1,9}|[^\W\d_](?![^\W\d_])))"  # A_1 is a name, not A and a 1
_TOKEN = re.compile(
    rf"""
    (?P<ordinal>\d+(?:st|nd|rd|th)\b)
  | (?P<num>{_NUMBER})
  | (?P<vulgar>[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞])
  | (?P<frac>\\[dt]?frac\b)
  | (?P<stars>\*{{2,}})
  | (?P<times>\\times\b|\\cdot\b|\\ast\b|[×·∙⋅•✕✖*])
  | (?P<over>\\div\b|[÷/⁄])
  | (?P<approx>\\approx\b|\\simeq\b|[≈≃≅])
  | (?P<percent>\\?%)
  | (?P<bracket>\\left\b|\\right\b|\\[()\[\]])
  | (?P<text>\\(?:text|mathrm|textbf|mathbf|boxed|textrm|mbox)\s?(?=\{{))
  | (?P<row>\\\\(?:\[[^\]\n]{{0,9}}\])?[^\S\n]*\n?)
  | (?P<command>\\[A-Za-z]+|\\.)
  | (?P<word>(?:[^\W\d_]{{2,}}(?:['’-][^\W\d_]{{2,}}|['’][^\W\d_])*|[^\W\d_](?:['’][^\W\d_]+)?){_INDEX}?)
  | (?P<index>(?<=\}}){_INDEX})
  | (?P<open>[(\[{{])
  | (?P<close>[)\]}}])
  | (?P<equals>[=])
  | (?P<plus>[+])
  | (?P<minus>[-−–—])
  | (?P<power>\^)
  | (?P<skip>[$£€"“”'’&_`\#]|[^\S\n]+)
  | (?P<stop>.|\n)
    """,
    re.VERBOSE | re.DOTALL,
)
_VULGAR: Final = {
    "½": Fraction(1, 2), "⅓": Fraction(1, 3), "⅔": Fraction(2, 3), "¼": Fraction(1, 4), "¾": Fraction(3, 4),
    "⅕": Fraction(1, 5), "⅖": Fraction(2, 5), "⅗": Fraction(3, 5), "⅘": Fraction(4, 5), "⅙": Fraction(1, 6),
    "⅚": Fraction(5, 6), "⅛": Fraction(1, 8), "⅜": Fraction(3, 8), "⅝": Fraction(5, 8), "⅞": Fraction(7, 8),
}  # fmt: skip
_SIGN_OF: Final = {
    "times": "*", "over": "/", "approx": "~", "percent": "%", "open": "(", "close": ")", "equals": "=",
    "plus": "+", "minus": "-", "power": "^", "frac": "frac", "stop": "stop",
    "stars": "stars",
}  # fmt: skip
_WORD_SIGNS: Final = {"plus": "+", "minus": "-", "times": "*", "percent": "%", "equals": "=", "equal": "="}
_UNITS: Final = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS: Final = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
SMALL_WORDS: Final[dict[str, Fraction]] = {word: Fraction(i) for i, word in enumerate(_UNITS)} | {
    word: Fraction(10 * i) for i, word in enumerate(_TENS, 2)
}
_PARTS: Final = {
    "half": 2, "halves": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7,
    "eighth": 8, "ninth": 9, "tenth": 10,
}  # fmt: skip
_MULTIPLES: Final = {"twice": 2, "double": 2, "triple": 3, "thrice": 3, "quadruple": 4}
_FRACTION_WORD = re.compile(
    r"(?:(?P<count>one|two|three|four|five|six|seven|eight|nine)[- ])?(?P<part>[a-z]+?)s?", re.IGNORECASE
)


_WORDS = 4096
"""So many words are remembered: prose repeats itself."""


class Token(NamedTuple):
    """A piece of a text. ``kind`` is ``num``, ``word``, ``stop``, ``frac`` or the sign itself."""

    kind: str
    text: str
    start: int
    end: int
    value: Fraction | None = None


def read_tokens(text: str) -> list[Token]:
    """Cuts a text into tokens; takes time linear in it, and drops what says nothing (``$``, quotes)."""
    raw = [token for match in _TOKEN.finditer(text) if (token := _read(match)) is not None]
    return _resolve(raw, text)


@lru_cache(maxsize=_WORDS)
def word_value(word: str) -> Fraction | None:
    """The value of a number word or of a fraction's word ("three", "twenty-five", "half", "two-thirds")."""
    low = word.lower()
    if low in SMALL_WORDS:
        return SMALL_WORDS[low]
    tens, _, unit = low.partition("-")
    if tens in _TENS and unit in _UNITS[1:10]:
        return SMALL_WORDS[tens] + SMALL_WORDS[unit]
    return fraction_word(low)


@lru_cache(maxsize=_WORDS)
def fraction_word(word: str) -> Fraction | None:
    """The value of "half", "third", "three-fourths" and their like."""
    match = _FRACTION_WORD.fullmatch(word)
    if match is None:
        return None
    part = _PARTS.get(match["part"].lower()) or _PARTS.get(word.lower())
    return SMALL_WORDS[(match["count"] or "one").lower()] / part if part else None


@lru_cache(maxsize=_WORDS)
def multiple_word(word: str) -> Fraction | None:
    """The factor that "twice", "double" and "triple" stand for."""
    factor = _MULTIPLES.get(word.lower())
    return None if factor is None else Fraction(factor)


def read_number(digits: str) -> Fraction | None:
    """The value of a numeral with or without thousands' commas; None where it is too long to be one."""
    if len(digits) <= MAX_DIGITS and digits.isascii() and digits.isdigit():
        return Fraction(int(digits))
    plain = re.sub(r"[^\d.]", "", digits)
    return Fraction(plain) if 0 < len(plain) <= MAX_DIGITS else None


def _read(match: re.Match[str]) -> Token | None:
    kind, text, start, end = match.lastgroup or "", match[0], match.start(), match.end()
    if kind == "word":
        return Token(_WORD_SIGNS.get(text.lower(), kind), text, start, end)
    if kind in ("skip", "bracket", "text", "index"):
        return None
    if kind == "row":
        return Token("stop", "\n", start, end)
    if kind == "num":
        value = read_number(text)
        return Token("stop" if value is None else "num", text, start, end, value)
    if kind == "vulgar":
        return Token("num", text, start, end, _VULGAR[text])
    if kind == "command":
        return None if text in (r"\$", r"\,", r"\;", r"\!", r"\ ") else Token("stop", text, start, end)
    return Token(_SIGN_OF.get(kind, "word"), text, start, end)


def _resolve(raw: list[Token], text: str) -> list[Token]:
    """Settles what needs a look at the neighbours: ``x``, ``**``, hyphens, line breaks, ``divided by``."""
    tokens: list[Token] = []
    for i, token in enumerate(raw):
        after = raw[i + 1] if i + 1 < len(raw) else None
        before = tokens[-1] if tokens else None
        settled = _settle(token, before, after, text)
        if settled is None:
            continue
        if before is not None and settled.text == "by" and before.text in ("divided", "multiplied"):
            sign = "/" if before.text == "divided" else "*"
            tokens[-1] = Token(sign, before.text, before.start, settled.end)
            continue
        tokens.append(settled)
    return tokens


def _settle(token: Token, before: Token | None, after: Token | None, text: str) -> Token | None:
    starts = after is not None and after.kind in ("num", "(", "frac", "-")
    ended = before is not None and before.kind in ("num", ")", "%", "word")
    if token.kind == "word" and token.text in "xX" and starts and ended:
        glued = before is not None and before.end == token.start
        return token if glued and after is not None and after.kind == "-" else _as(token, "*")
    if token.kind == "stars":  # a power between numbers, Markdown elsewhere
        return _as(token, "^") if starts and ended and _glued(before, token, after) else None
    if token.kind == "-":
        hyphen = (
            after is not None and after.kind == "word" and len(after.text) > 1 and after.start == token.end
        )
        return None if hyphen and before is not None and before.end == token.start else token
    if token.text == "\n" and after is not None and (after.kind in "=~+" or (before and before.kind in "=~")):
        return None
    return token


def _glued(before: Token | None, token: Token, after: Token | None) -> bool:
    return before is not None and after is not None and before.end == token.start and token.end == after.start


def _as(token: Token, kind: str) -> Token:
    return token._replace(kind=kind)
