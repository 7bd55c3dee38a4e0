"""Questions of evaluation sets, which no row may come from (decision B7)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

_WORD = re.compile(r"[^\W_]+")


class HeldOut:
    """Questions that are refused in any spelling of case, punctuation and characters.

    Args:
        questions: The evaluation sets'.
        words: A question that has so many words in a row in common with one of them is refused too (13 is
            usual); None: only the same question is.
    """

    def __init__(self, questions: Iterable[str], words: int | None = None) -> None:
        self._words = words
        self._whole: set[str] = set()
        self._runs: set[int] = set()
        for question in questions:
            self._whole.add(fold_question(question))
            self._runs.update(self._runs_of(question))

    def __len__(self) -> int:
        """How many different questions there are."""
        return len(self._whole)

    def __contains__(self, question: str) -> bool:
        if not self._whole:
            return False
        return fold_question(question) in self._whole or any(
            run in self._runs for run in self._runs_of(question)
        )

    def _runs_of(self, question: str) -> Iterator[int]:
        if self._words is not None:
            words = _WORD.findall(_plain(question))
            for start in range(len(words) - self._words + 1):
                yield hash(tuple(words[start : start + self._words]))


def fold_question(text: str) -> str:
    """A question reduced to its lower-case letters and digits, to compare it with others."""
    return "".join(_WORD.findall(_plain(text)))


def _plain(text: str) -> str:
    """Lower case; accents, full-width and raised characters as the plain ones."""
    if text.isascii():  # nearly every question, at a tenth of the time
        return text.lower()
    folded = unicodedata.normalize("NFKD", text).casefold()
    return "".join(c for c in folded if not unicodedata.combining(c))
