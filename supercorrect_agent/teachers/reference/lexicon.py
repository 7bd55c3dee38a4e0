"""Which sentence a step speaks of, by its words: a right value may stand behind the wrong name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Final

from supercorrect_agent.teachers.reference.knowledge import Knowledge
from supercorrect_agent.teachers.reference.nodes import Number

_WORD: Final = re.compile(r"[a-z]{3,}")
_COMMON: Final = frozenset((
    "the", "and", "for", "has", "have", "had", "are", "was", "were", "will", "that", "this", "with", "his",
    "her", "their", "she", "they", "all", "each", "from", "then", "than", "there", "total", "so", "which",
    "she'll", "how", "many", "much", "can", "get", "gets", "got", "takes", "take", "make", "makes", "more",
    "less", "been", "would", "also", "now", "since", "because", "therefore", "thus",
))  # fmt: skip
_MAX_NUMBERS: Final = 20
_MAX_PLACES: Final = 10
_NEAR: Final = 40


@lru_cache(maxsize=512)
def content_words(text: str) -> frozenset[str]:
    """The words of a text that carry its meaning, in lower case and without a plural's s."""
    words = (word.removesuffix("s") for word in _WORD.findall(text.lower()))
    return frozenset(words) - _COMMON


def said_of(value: Fraction, step: str, known: Knowledge) -> float:
    """The share of a step's words that the reference uses where it comes to the same value."""
    own = content_words(step)
    shares = [
        len(own & content_words(work.sentence)) / len(own)
        for work in known.works
        if work.value == value and own
    ]
    return max(shares, default=0.0)


def misquoted(step: str, numbers: Sequence[Number], question: str) -> float:
    """How unlike the question's are the words around a step's worst quoted number, from 0 to 1."""
    worst = 0.0
    for number in numbers[:_MAX_NUMBERS]:
        mine = content_words(step[max(0, number.start - _NEAR) : number.end + _NEAR])
        places = [match.start() for match in re.finditer(re.escape(number.text), question)][:_MAX_PLACES]
        around = (content_words(question[max(0, at - 60) : at + len(number.text) + 60]) for at in places)
        shares = [len(mine & theirs) / max(1, len(mine)) for theirs in around]
        if shares:
            worst = max(worst, 1 - max(shares))
    return worst
