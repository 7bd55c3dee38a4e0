# ruff: noqa: SIM905  (word lists)
"""English around and inside answers: number words, dates, and the part of a sentence that is the answer."""

from __future__ import annotations

import re
from collections.abc import Iterator

_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_VALUES = {word: value for value, word in enumerate(_UNITS)} | {
    word: 10 * value for value, word in enumerate(_TENS, start=2)
}
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_PARTS = {
    "half": 2, "halves": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7,
    "eighth": 8, "ninth": 9, "tenth": 10, "hundredth": 100,
}  # fmt: skip
_NUMBER_WORD = "|".join((*_VALUES, *_SCALES))
_RUN = re.compile(
    rf"(?:{_NUMBER_WORD})\b(?:(?:[ -]| and )(?:{_NUMBER_WORD})\b)*(?:[ -]({'|'.join(_PARTS)})s?\b)?",
    re.IGNORECASE,
)
_MONTHS = "january february march april may june july august september october november december".split()
_MONTH = "|".join(f"{month}|{month[:3]}\\.?" for month in _MONTHS) + "|sept\\.?"
_MONTH_FIRST = re.compile(
    rf"(?:\w+day,? )?({_MONTH}) (\d{{1,2}})(?:st|nd|rd|th)?(?:,? (\d{{4}}))?", re.IGNORECASE
)
_DAY_FIRST = re.compile(
    rf"(?:\w+day,? )?(?:the )?(\d{{1,2}})(?:st|nd|rd|th)? (?:of )?({_MONTH})(?:,? (\d{{4}}))?", re.IGNORECASE
)
_CLOCK = re.compile(r"0?(\d{1,2}(?: ?: ?\d\d){0,2}) ?([ap])\.? ?m\.?", re.IGNORECASE)
_HEDGE = re.compile(
    r"\b(?:not|cannot|neither|never|about|approximately|between|at (?:least|most)|or (?:more|less|fewer)"
    r"|(?:more|less|fewer|greater) than)\b|n't\b",
    re.IGNORECASE,
)
_COPULA = re.compile(r" (?:is|are|was|were|equals|be|=|:)(?: equal to| therefore| thus)? | ?= ?|: ")
_NUMBER = re.compile(
    r"(?<![\w.])-?(?:\d+ \d+/\d+|\d*\\frac\{[^{}]*\}\{[^{}]*\}|\d+(?:\.\d+)?(?:/\d+)?|\.\d+)(?:%|°|π)?"
    r"|\\sqrt\{[^{}]*\}"
)


def number_words(text: str) -> str:
    """Replaces a number in words at the beginning of the text by digits: "seven apples" -> "7 apples"."""
    match = _RUN.match(text)
    if not match:
        return re.sub(r"^(?:a |one )?half\b", "1/2", text)
    total = current = 0
    for word in re.findall(r"[a-z]+", match[0].lower()):
        if word in _VALUES:
            current += _VALUES[word]
        elif word == "hundred":
            current = max(current, 1) * 100
        elif word in _SCALES:
            total, current = total + max(current, 1) * _SCALES[word], 0
    part = f"/{_PARTS[match[1].lower()]}" if match[1] else ""
    return f"{total + current}{part}{text[match.end() :]}"


def date(text: str) -> str:
    """The date as "june 20" or "june 20 2021"; "" when the text is none."""
    if match := _MONTH_FIRST.fullmatch(text):
        month, day, year = match.groups()
    elif match := _DAY_FIRST.fullmatch(text):
        day, month, year = match.groups()
    else:
        return ""
    name = next(full for full in _MONTHS if full.startswith(month[:3].lower()))
    return f"{name} {int(day)}" + (f" {year}" if year else "")


def clock(text: str) -> str:
    """The time of day as "4:51 pm"; "" when the text is none."""
    match = _CLOCK.fullmatch(text)
    return f"{match[1].replace(' ', '')} {match[2].lower()}m" if match else ""


def sentence_tails(text: str) -> Iterator[str]:
    """The parts of a sentence that may be its answer, likeliest first.

    After the last "is" (are, equals, =, ...) that a number follows: all of it, then its first number; if none
    does, what follows the last "is". Without any: from the last number on, then that number alone. A part
    that is hedged or negated ("not 5", "at least 5") is no answer.
    """
    tails = [text[match.end() :] for match in _COPULA.finditer(text)][::-1]
    tail = next(filter(_NUMBER.search, tails), (tails or [text])[0])
    if _HEDGE.search(tail):
        return
    if tails:
        yield tail
    numbers = list(_NUMBER.finditer(tail))
    if numbers:
        chosen = numbers[0] if tails else numbers[-1]
        yield tail[chosen.start() :]
        yield chosen[0]
