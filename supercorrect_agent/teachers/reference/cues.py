"""The words that tell what a step of arithmetic does: its own, and the question's about its numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass

from supercorrect_agent.teachers.reference.lines import Line
from supercorrect_agent.teachers.reference.wording import pick

_WORDS = {
    "1": "one", "2": "two|twice|double|half|second", "3": "three|triple|thrice|third",
    "4": "four|quarter|fourth", "5": "five|fifth", "6": "six|sixth", "7": "seven|week", "8": "eight|eighth",
    "9": "nine", "10": "ten|tenth", "11": "eleven", "12": "twelve|dozen|year|foot|feet", "20": "score",
    "24": "day|hour", "30": "month|half an hour", "60": "hour|minute", "365": "year", "0.5": "half",
    ".5": "half", "0.25": "quarter", ".25": "quarter",
}  # fmt: skip
_TIMES_WORDS = {
    "2": "|two times|twice|double", "3": "|three times|thrice|triple", "4": "|four times|quadruple",
    "5": "|five times", "6": "|six times", "7": "|seven times", "8": "|eight times", "9": "|nine times",
    "10": "|ten times",
}  # fmt: skip
PERCENT = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*(?:%|percent)")
MORE_PERCENT = re.compile(
    r"(?:%|percent)\s+(?:more|higher|larger|increase|raise|tip|tax|interest|faster|longer|bigger)"
    r"|(?:increas|rais|grow|grew|tax|interest|tip\b|more expensive)\w*[^.]{0,40}(?:%|percent)",
    re.I,
)
LESS_PERCENT = re.compile(
    r"(?:%|percent)\s+(?:less|lower|fewer|off|discount|decrease|reduction|cheaper|smaller)"
    r"|(?:discount|decreas|reduc|drop|lost|lose)\w*[^.]{0,40}(?:%|percent)",
    re.I,
)
MORE = re.compile(
    r"\b(?:more|older|taller|longer|heavier|farther|further|higher|larger|greater)\b[^.,?]*\bthan\b", re.I
)
LESS = re.compile(r"\b(?:less|fewer|younger|shorter|lighter|lower|smaller|cheaper)\b[^.,?]*\bthan\b", re.I)
LEFT = re.compile(
    r"\b(?:remain\w*|left|rest|still|leftover|after (?:that|using|giving|spending|buying))\b", re.I
)
EACH = re.compile(
    r"\b(?:each|every|per|apiece|a (?:day|week|month|hour|piece|person|box|bag|pound|year))\b", re.I
)
PART = re.compile(
    r"\b(?:half|halves|thirds?|quarters?|fourths?|fifths?|sixths?|sevenths?|eighths?|tenths?)\b", re.I
)
FRACTION = re.compile(r"(?<![\d./])([1-9]\d?)/([1-9]\d{0,2})(?![\d./])")
AVERAGE = re.compile(r"\b(?:average|mean)\b", re.I)
RATIO = re.compile(r"\bratio\b|\b\d+\s*:\s*\d+\b", re.I)


@dataclass(frozen=True, slots=True)
class Case:
    """A step with what its rules look at: its own words and the question's clauses about its numbers."""

    line: Line
    words: str
    question: str
    last: bool

    used: frozenset[str] = frozenset()

    def has(self, cue: re.Pattern[str]) -> bool:
        return cue.search(self.words) is not None

    def says(self, *phrasings: str) -> str | None:
        """One of the phrasings that no step before has used; None where all have been."""
        fresh = [phrasing for phrasing in phrasings if phrasing not in self.used]
        return pick(fresh, f"{self.question}\n{self.line.text}") if fresh else None

    def scales(self) -> bool:
        """Whether its last number is the factor of a comparison: "3 times", "three times", "twice"."""
        factor = self.line.numbers[-1] if self.line.numbers else ""
        names = _TIMES_WORDS.get(factor, "")
        return bool(factor) and any(
            re.search(rf"(?<![\d.])(?:{re.escape(n)}{names})", self.words, re.I)
            for n in (f"{factor} times", f"{factor}x as")
        )

    def takes_part(self) -> bool:
        """Whether a fraction is taken of something: in words, or written with the smaller number on top."""
        fractions = FRACTION.findall(self.words)
        written = any(int(up) < int(low) and {up, low} & set(self.line.numbers) for up, low in fractions)
        return written or self.has(PART)


def read_case(question: str, line: Line, last: bool) -> Case:
    sentences = re.split(r"(?<=[.!?,;])\s+", question)
    stems = [rf"(?<![\d.]){re.escape(number)}(?![\d]|\.\d)" for number in line.numbers]
    stems += [rf"\b(?:{_WORDS[number]})" for number in line.numbers if number in _WORDS]
    about = re.compile("|".join(stems), re.I) if stems else None
    shared = [sentence for sentence in sentences if about is not None and about.search(sentence)]
    return Case(line, " ".join([line.text, *shared]), question, last)
