# ruff: noqa: RUF001, RUF002, SIM905  (mathematical symbols, word lists)
"""From the text of an answer to a typed value. What cannot be typed stays text or a symbolic atom."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction

from supercorrect_agent.verification.clean import clean
from supercorrect_agent.verification.exact import TooLarge, exact_value
from supercorrect_agent.verification.units import Unit, parse_unit
from supercorrect_agent.verification.words import clock, date, number_words, sentence_tails


@dataclass(frozen=True)
class Atom:
    """One number or expression. ``exact`` is None for what only computer algebra can compare."""

    text: str
    exact: Fraction | None = None
    unit: Unit = field(default_factory=Unit)
    huge: bool = False


@dataclass(frozen=True)
class Words:
    """Prose, a name or a date, in lower case."""

    text: str
    tail: str = ""


@dataclass(frozen=True)
class Choice:
    """A multiple-choice letter, with the option's own text where it was copied too."""

    letter: str
    rest: Value | None = None


@dataclass(frozen=True)
class Named:
    """`x = 5`: a value that also says what it is the value of."""

    name: str
    value: Value
    text: str


@dataclass(frozen=True)
class Relation:
    """An equation or inequality that is no plain interval."""

    text: str


@dataclass(frozen=True)
class Based:
    """A numeral in another base than ten."""

    digits: str
    base: int


@dataclass(frozen=True)
class Group:
    """Several values. ``kind`` is the pair of brackets, "," for a bare list, "∪", "matrix", "row" or ":"."""

    kind: str
    items: tuple[Value, ...]


Value = Atom | Words | Choice | Named | Relation | Based | Group

EMPTY = Group("{}", ())
_INFINITY = Atom("∞")
_EMPTY_NAMES = frozenset(
    "∅|{}|⦃⦄|()|none|no solution|no solutions|no real solution|no real solutions|no real roots|empty set|"
    "the empty set|there is no solution|there are no solutions|there are no real solutions|no such x|"
    "no values|no real numbers|there is none".split("|")
)
_REAL_NAMES = frozenset(r"\mathbb{R}|R|all real numbers|all reals|all real x".split("|"))
_PAIRS = {"(": ")", "[": "]", "{": "}", "⦃": "⦄"}
_MATRIX = re.compile(r"\\begin ?\{([bpvBV]?matrix|array)\} ?(?:\{[lcr| ]*\})?(.*)\\end ?\{\1\}")
_CHOICE = re.compile(r"(?:[Oo]ption |[Cc]hoice |[Aa]nswer )?(?:\( ?([A-Ha-h]) ?\)|([A-H])|([A-Ha-h])\))")
_CHOICE_REST = re.compile(r"(?:\( ?([A-H]) ?\)|([A-H])[).:]) ?(?![,=*/^+-])(\S.*)")
_NAMED = re.compile(r"([A-Za-z][A-Za-z ]*(?:_ ?\{?\w+\}?)?(?: ?\([^()=]*\))?) ?= ?([^=<>≤≥≠]+)")
_MEMBER = re.compile(r"([A-Za-z]) ?∈ ?(.+)")
_BASED = re.compile(r"([0-9][0-9A-Za-z]*|[A-F][0-9A-F]+) ?(?:_ ?\{? ?\(?(\w+)\)? ?\}?|\(?base (\w+)\)?)")
_QUANTITY = re.compile(r"(.*?[\d.)}π∞!]) ?((?<= )[A-Za-z(][\w °%^{}()/.'-]*|[A-Za-z°%¢][\w °%^{}()/.'-]*)")
_HOPELESS = re.compile(r"\d{5,}!|(?:\d ?\^ ?[{(]?\d*){3}")  # no algebra system can work these out
_SUBJECT = re.compile(r" (?:is|are|=) ")
_RATIO = re.compile(r"\d+(?:\.\d+)?(?:(?: ?: ?| to )\d+(?:\.\d+)?)+")
_WORD = re.compile(r"(?<![\\A-Za-z])([A-Za-z]{2,})")
_FUNCTIONS = frozenset("sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln exp mod".split())
_SHORT_WORDS = frozenset("is of to in am pm no or at an on it we he be by so if do".split())


def read(text: str | None) -> Value | None:
    """Reads an answer or a target; None when it is empty, too long or has unbalanced brackets."""
    cleaned = clean(text) if text else ""
    if not re.search(r"[\w∅∞π⦃%]|\{\}", cleaned) or not _balanced(cleaned):
        return None
    return _read(cleaned, 0)


def _balanced(text: str) -> bool:
    return (
        text.count("{") == text.count("}")
        and text.count("⦃") == text.count("⦄")
        and (sum(map(text.count, "([")) == sum(map(text.count, ")]")))
    )


def _read(text: str, depth: int) -> Value:
    return _structured(text, depth) or _prose(text, depth)


def _structured(text: str, depth: int) -> Value | None:
    """What is written as mathematics, a choice, a date or a time; None for prose."""
    text = text.strip(" .,;:") or text
    if depth > 12:
        return Words(text.lower())
    if text.lower() in _EMPTY_NAMES:
        return EMPTY
    if text in _REAL_NAMES or text.lower() in _REAL_NAMES:
        return Group("()", (Atom("-∞"), _INFINITY))
    if moment := date(text) or clock(text):
        return Words(moment)
    for reader in (_choice, _matrix, _series, _named, _inequality, _bracketed, _plus_minus, _ratio, _based):
        if (value := reader(text, depth)) is not None:
            return value
    return _quantity(text) or _atom(text)


def _choice(text: str, depth: int) -> Value | None:
    if match := _CHOICE.fullmatch(text):
        return Choice(next(filter(None, match.groups())).upper())
    if match := _CHOICE_REST.fullmatch(text):
        return Choice(match[1] or match[2], _read(match[3], depth + 1))
    return None


def _matrix(text: str, depth: int) -> Value | None:
    match = _MATRIX.fullmatch(text)
    if not match or "\\begin" in match[2]:
        return None
    lines = [line for line in match[2].split("\\\\") if line.strip()]
    rows = tuple(Group("row", tuple(_read(cell, depth + 1) for cell in line.split("&"))) for line in lines)
    return Group("determinant" if match[1] in ("vmatrix", "Vmatrix") else "matrix", rows)


def split_top(text: str, separators: str) -> list[str]:
    """Splits at separators (a regular expression) that stand outside all brackets."""
    parts, start, level, position = [], 0, 0, 0
    pattern = re.compile(separators)
    while position < len(text):
        level += (text[position] in "([{⦃") - (text[position] in ")]}⦄")
        if level <= 0 and (match := pattern.match(text, position)):
            parts.append(text[start:position].strip())
            start = position = match.end()
        else:
            position += 1
    return [part for part in (*parts, text[start:].strip()) if part]


def _series(text: str, depth: int) -> Value | None:
    """Bare lists and unions: `2, 3`, `x=2 or x=3`, `x<1 or x>3`, `(1,2) ∪ (3,4)`."""
    unions = split_top(text, "∪")
    parts = unions if len(unions) > 1 else split_top(text, r",? or |,? and |[,;]")
    if len(parts) < 2:
        return None
    read_first = _read if _SUBJECT.search(parts[0]) else _structured  # "The roots are 2 and 3"
    first, *others = (read_first(parts[0], depth + 1), *(_structured(part, depth + 1) for part in parts[1:]))
    if first is None or None in others:
        return _names(parts)
    items = (first, *(other for other in others if other is not None))
    if all(isinstance(item, Named) and _interval(item.value) for item in items):
        items = tuple(item.value for item in items if isinstance(item, Named))
    if all(map(_interval, items)) and (len(unions) > 1 or re.search(r" or | and ", text)):
        return Group("∪", items) if len(unions) > 1 or " or " in text else _intersection(items)
    return Group(",", items)


def _names(parts: list[str]) -> Value | None:
    """A list of names; None for clauses of a sentence and for names mixed with numbers."""
    if all(len(part.split()) <= 2 and not re.search(r"[\d\\]", part) for part in parts):
        return Group(",", tuple(Words(re.sub(r"^(?:the|a|an) ", "", part.lower())) for part in parts))
    return None


def _interval(value: Value) -> bool:
    return isinstance(value, Group) and len(value.items) == 2 and value.kind in ("()", "[]", "(]", "[)")


def _intersection(items: tuple[Value, ...]) -> Value:
    low = [item for item in items if isinstance(item, Group) and item.items[1] == _INFINITY]
    high = [item for item in items if isinstance(item, Group) and item.items[0] == Atom("-∞")]
    if len(items) == 2 and len(low) == len(high) == 1:
        return Group(low[0].kind[0] + high[0].kind[1], (low[0].items[0], high[0].items[1]))
    return Group(",", items)


def _named(text: str, depth: int) -> Value | None:
    if member := _MEMBER.fullmatch(text):
        return Named(member[1], _read(member[2], depth + 1), text)
    match = _NAMED.fullmatch(text)
    if match:
        return Named(match[1].split()[-1], _read(match[2], depth + 1), text)
    if "=" not in text or re.search("[<>≤≥≠]", text):
        return None
    sides = text.split("=")
    if all(isinstance(_atom(side.strip()), Atom) for side in sides):
        first, last = _atom(sides[0].strip()), _atom(sides[-1].strip())
        if len(sides) > 2 or (first and last and None not in (first.exact, last.exact)):
            return _read(sides[-1], depth + 1)  # a calculation: 2+3=5
        return Relation(text)
    return None


def _inequality(text: str, depth: int) -> Value | None:
    parts = re.split(r" ?([<>≤≥≠]) ?", text)
    variable = re.compile(r"[A-Za-z]|\\[a-z]+")
    if len(parts) == 3 and variable.fullmatch(parts[2]) and not variable.fullmatch(parts[0]):
        parts = [parts[2], parts[1].translate(str.maketrans("<>≤≥", "><≥≤")), parts[0]]
    if len(parts) == 3 and variable.fullmatch(parts[0]):
        return _ray(parts[1], _read(parts[2], depth + 1))
    if len(parts) == 5 and variable.fullmatch(parts[2]):
        low, first, _, second, high = parts
        if first in "<≤" and second in "<≤":
            kind = "(["[first == "≤"] + ")]"[second == "≤"]
            return Group(kind, (_read(low, depth + 1), _read(high, depth + 1)))
        if first in ">≥" and second in ">≥":
            kind = "(["[second == "≥"] + ")]"[first == "≥"]
            return Group(kind, (_read(high, depth + 1), _read(low, depth + 1)))
    return Relation(text) if len(parts) > 1 and _atom("".join(parts[::2])) else None


def _ray(sign: str, bound: Value) -> Value:
    below, above = (Atom("-∞"), bound), (bound, _INFINITY)
    if sign == "≠":
        return Group("∪", (Group("()", below), Group("()", above)))
    return Group({">": "()", "≥": "[)", "<": "()", "≤": "(]"}[sign], above if sign in ">≥" else below)


def _bracketed(text: str, depth: int) -> Value | None:
    """Tuples, intervals and sets; brackets around a single value mean nothing, braces a set of one."""
    opening, closing = text[:1], text[-1:]
    if len(text) < 2 or opening not in _PAIRS or closing not in ")]}⦄" or not _encloses(text):
        return None
    inner = text[1:-1].strip()
    if opening in "{⦃" and (builder := re.fullmatch(r"[A-Za-z](?: ?∈ ?\S+)? ?[:|] ?(.+)", inner)):
        return _read(builder[1], depth + 1)
    parts = split_top(inner, "[,;]")
    if not parts:
        return EMPTY
    kind = (opening + closing).replace("⦃", "{").replace("⦄", "}")
    items = tuple(_read(part, depth + 1) for part in parts)
    if len(items) == 1 and kind != "{}":
        return items[0]
    if kind == "[]" and all(isinstance(item, Group) and item.kind == "[]" for item in items):
        return Group("matrix", tuple(Group("row", item.items) for item in items if isinstance(item, Group)))
    return Group(kind, items)


def _encloses(text: str) -> bool:
    level = 0
    for position, char in enumerate(text):
        level += (char in "([{⦃") - (char in ")]}⦄")
        if level == 0:
            return position == len(text) - 1
    return False


def _plus_minus(text: str, depth: int) -> Value | None:
    if "±" not in text or len(text) > 200:
        return None
    upper, lower = text.replace("±", "+").replace("∓", "-"), text.replace("±", "-").replace("∓", "+")
    items = (_read(upper.lstrip("+ "), depth + 1), _read(lower, depth + 1))
    return items[0] if items[0] == items[1] else Group(",", items)


def _ratio(text: str, depth: int) -> Value | None:
    if not _RATIO.fullmatch(text):
        return None
    return Group(":", tuple(_read(part, depth + 1) for part in re.split(r" ?: ?| to ", text)))


def _based(text: str, depth: int) -> Value | None:
    match = _BASED.fullmatch(text)
    if not match:
        return None
    base = exact_value(number_words(match[2] or match[3]))
    if base is None or not 2 <= base <= 36:
        return None
    digits = match[1].upper().lstrip("0") or "0"
    return Based(digits, int(base)) if all(int(digit, 36) < base for digit in digits) else None


def _quantity(text: str) -> Value | None:
    """A number with a unit after it: `10 cm^2`, `50%`, `9 values`, `seven apples`."""
    match = _QUANTITY.fullmatch(number_words(text))
    if not match:
        return None
    unit = parse_unit(match[2], spaced=match[0][match.end(1)] == " ")
    number = _atom(match[1])
    return Atom(number.text, number.exact, unit, number.huge) if unit and number else None


def _atom(text: str) -> Atom | None:
    text = number_words(text)
    text = re.sub(r"(?<=\d) out of (?=\d)", "/", text)
    try:
        if (value := exact_value(text)) is not None:
            return Atom(text, value)
    except TooLarge:
        return Atom(text, huge=True)
    if _has_words(text) or re.search(r"(?<![_^\d.])[\d.]+ \d", text):
        return None
    return Atom(text, huge=bool(_HOPELESS.search(text)))


def _has_words(text: str) -> bool:
    """Whether there is prose. Runs such as `xyz` are products of variables, `sin` is a function."""
    for word in _WORD.findall(re.sub(r"\\begin ?\{\w+\}|\\end ?\{\w+\}|\\\w+", " ", text)):
        if word.lower() in _SHORT_WORDS:
            return True
        if len(word) > 2 and word not in _FUNCTIONS and re.search("[aeiouy]", word[1:].lower()):
            return True
    return False


def _prose(text: str, depth: int) -> Value:
    """A sentence says its value after the last "is", else it is the last number; "not" reads as words."""
    plain = " ".join(re.sub(r"[^\w%°$'-]+", " ", text.lower()).split())
    plain = re.sub(r"^(?:the|a|an) ", "", plain)
    tails = list(sentence_tails(text)) if _has_words(text) else []
    for tail in tails:
        if (value := _structured(tail, depth + 1)) is not None:
            return value
    return Words(plain, re.sub(r"^(?:the|a|an) ", "", tails[0].lower().strip(" .")) if tails else "")
