"""Which sentence a step speaks of, by its words: a right value may stand behind the wrong name."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
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
_MAX_WORKS: Final = 60
_NEAR: Final = 40


@lru_cache(maxsize=512)
def content_words(text: str) -> frozenset[str]:
    """The words of a text that carry its meaning, in lower case and without a plural's s."""
    words = (word.removesuffix("s") for word in _WORD.findall(text.lower()))
    return frozenset(words) - _COMMON


def matched(values: Collection[Fraction], step: str, known: Knowledge) -> float:
    """How alike in words a step and the sentence of the reference nearest to it are, from 0 to 1.

    0 where the step does not come to a value of that sentence. Words that many sentences share count less.
    """
    lines = {work.sentence: content_words(work.sentence) for work in known.works[:_MAX_WORKS]}
    counts = Counter(word for words in lines.values() for word in words)

    def weight(words: Iterable[str]) -> float:
        return sum(1 / max(1, counts[word]) for word in words)

    own = content_words(step)
    alike = {
        sentence: weight(own & words) / (math.sqrt(weight(own) * weight(words)) or 1.0)
        for sentence, words in lines.items()
    }
    best = max(alike, key=lambda sentence: alike[sentence], default=None)
    hit = any(work.sentence == best and work.value in values for work in known.works)
    return alike[best] if hit and best is not None else 0.0


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
