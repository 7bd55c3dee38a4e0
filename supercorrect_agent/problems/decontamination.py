"""Questions of evaluation sets, which nothing that is trained on may come from (decision B7)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from supercorrect_agent.errors import ConfigError, DataError
from supercorrect_agent.problems.mapping import Fields
from supercorrect_agent.problems.report import Fault, ProblemReport
from supercorrect_agent.problems.sources import read_source
from supercorrect_agent.types import Problem

_WORD = re.compile(r"[^\W_]+")
_NAMED = 3
"""So many matches are named in an error."""


class HeldOut:
    """Questions that are refused in any spelling of case, punctuation and characters.

    Args:
        questions: The evaluation sets'.
        words: A question that has so many words in a row in common with one of them is refused too (13 is
            usual); None: only the same question is.
    """

    def __init__(self, questions: Iterable[str] = (), words: int | None = None) -> None:
        self._words = words
        self._sets: list[str] = []
        self._whole: dict[int, int] = {}  # by hash: the number of the set it is in
        self._runs: dict[int, int] = {}
        self.add(questions, "")

    def add(self, questions: Iterable[str], name: str) -> None:
        """Adds the questions of the set ``name``."""
        number = len(self._sets)
        self._sets.append(name)
        for question in questions:
            self._whole.setdefault(hash(fold_question(question)), number)
            for run in self._runs_of(question):
                self._runs.setdefault(run, number)

    def __len__(self) -> int:
        """How many different questions there are."""
        return len(self._whole)

    def __contains__(self, question: str) -> bool:
        return self.find(question) is not None

    def find(self, question: str) -> str | None:
        """The name of the set that has the question or so many words of it, or None."""
        if not self._whole:
            return None
        number = self._whole.get(hash(fold_question(question)))
        if number is None:
            number = next((self._runs[run] for run in self._runs_of(question) if run in self._runs), None)
        return None if number is None else self._sets[number]

    def _runs_of(self, question: str) -> Iterator[int]:
        if self._words is not None:
            words = _WORD.findall(_plain(question))
            for start in range(len(words) - self._words + 1):
                yield hash(tuple(words[start : start + self._words]))


def evaluation_questions(
    source: str | Path,
    *,
    mapping: str | Mapping[str, str | None] = "auto",
    argument: str = "against",
) -> Iterator[str]:
    """The questions of an evaluation set, in any of the formats of `load_problems`, of any length.

    Of a data set or folder with several splits, ``test`` is taken. No row is left out: what cannot be read
    could be the one that matters.

    Raises:
        DataError: The set or one of its rows cannot be read, or it is empty.
    """
    rows = read_source(str(source), Fields.of(mapping), split="test", max_characters=None, argument=argument)
    empty = True
    for row in rows:
        if isinstance(row, Fault):
            raise DataError(row.message)
        empty = False
        yield row.problem.question
    if empty:
        raise DataError(f"`{argument}={source}` holds no problems. Pass another, or leave it out.")


def load_held_out(
    against: str | Path | Sequence[str | Path],
    *,
    words: int | None = 13,
    mapping: str | Mapping[str, str | None] = "auto",
    argument: str = "against",
) -> HeldOut:
    """The questions of evaluation sets, to ask ``problem.question in held_out`` of a stream of problems.

    Raises:
        ConfigError: ``words`` is less than 1.
        DataError: As `evaluation_questions`.
    """
    if words is not None and words < 1:
        raise ConfigError(f"`words={words}` is less than 1. Pass 13, or None for whole questions only.")
    held_out = HeldOut(words=words)
    for source in [against] if isinstance(against, str | Path) else against:
        held_out.add(evaluation_questions(source, mapping=mapping, argument=argument), str(source))
    return held_out


def decontaminate(
    problems: Iterable[Problem],
    against: str | Path | Sequence[str | Path],
    *,
    words: int | None = 13,
    on_match: Literal["drop", "refuse"] = "drop",
    mapping: str | Mapping[str, str | None] = "auto",
    report: ProblemReport | None = None,
) -> list[Problem]:
    """The problems whose questions are in no evaluation set.

    A question is in one if it is the same, whatever its case, punctuation, accents and white space, or has
    ``words`` words in a row in common with one of its questions.

    Args:
        problems: What is to be trained on.
        against: The evaluation sets: one source of `load_problems` or several.
        words: How many words in a row; None: whole questions only.
        on_match: ``drop`` leaves these problems out; ``refuse`` makes an error of them.
        mapping: The fields of the evaluation sets.
        report: Counts what was left out, as ``held out``. Its ``kept`` is lessened by as many if their
            reading counted there too; else what is kept is added.

    Raises:
        DataError: ``refuse``, and there is a match: names the first ones and says how many there are. Or an
            evaluation set cannot be read.
        ConfigError: An option is wrong.
    """
    if on_match not in ("drop", "refuse"):
        raise ConfigError(f"`on_match={on_match}` is not known. Choose drop or refuse.")
    held_out = load_held_out(against, words=words, mapping=mapping)
    kept: list[Problem] = []
    matches: list[str] = []
    count = 0
    for problem in problems:
        name = held_out.find(problem.question)
        if name is None:
            kept.append(problem)
            continue
        count += 1
        if len(matches) < _NAMED:
            matches.append(f"'{problem.id}' ({_shortened(problem.question)}) of {name}")
        if report is not None and on_match == "drop":
            report.drop("held out", f"{problem.source}:{problem.id} of {name}")
    if report is not None and report.kept < count + len(kept):  # no reading has counted them
        report.kept += len(kept)
    elif report is not None and on_match == "drop":
        report.kept -= count
    if count and on_match == "refuse":
        raise DataError(
            f"{count} of {count + len(kept)} problems are in evaluation sets: {', '.join(matches)}"
            f"{', ...' if count > len(matches) else ''}. Remove them, or pass `on_match='drop'`."
        )
    return kept


def fold_question(text: str) -> str:
    """A question reduced to its lower-case letters and digits, to compare it with others."""
    return "".join(_WORD.findall(_plain(text))) or "".join(text.split())


def _plain(text: str) -> str:
    """Lower case; accents, full-width and raised characters as the plain ones."""
    if text.isascii():  # nearly every question, at a tenth of the time
        return text.lower()
    folded = unicodedata.normalize("NFKD", text).casefold()
    return "".join(c for c in folded if not unicodedata.combining(c))


def _shortened(text: str) -> str:
    line = " ".join(text[:200].split())
    return f'"{line[:57]}..."' if len(line) > 60 else f'"{line}"'
