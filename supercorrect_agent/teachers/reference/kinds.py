"""How problems of a kind are solved, in words without this problem's numbers: arithmetic stories."""

from __future__ import annotations

import re
from collections.abc import Sequence

from supercorrect_agent.teachers.reference.cues import (
    AVERAGE,
    EACH,
    LEFT,
    MORE,
    PERCENT,
    RATIO,
    Case,
    read_case,
)
from supercorrect_agent.teachers.reference.hints import changes_unit
from supercorrect_agent.teachers.reference.lines import Line
from supercorrect_agent.teachers.reference.wording import listed, pick


def line_summary(question: str, lines: Sequence[Line]) -> str:
    """How problems of this kind are solved, without this one's numbers: one phrase for "
    "each kind of step."""
    phrases: list[str] = []
    for i, line in enumerate(lines):
        phrase = _deed(read_case(question, line, i == len(lines) - 1))
        if phrase and (not phrases or phrase not in phrases[-2:]):
            phrases.append(phrase)
    aim = _aim(question)
    if not phrases:
        phrases = ["write down what is known, one statement at a time"]
    if len(phrases) > 5:
        phrases = [*phrases[:3], *phrases[-2:]]
    seed = f"{question}\n{len(lines)}"
    head = pick((f"To find {aim}, ", f"In problems that ask for {aim}, "), seed)
    tail = pick(
        (
            "Check that the result answers what was asked, in the right unit.",
            "Each result feeds the next step, so write down what every number counts.",
            "Keep the unit beside every number, and read the question again at the end.",
            "Work in the order of the story and check every number against it.",
            "At the end ask whether the size of the result makes sense.",
        ),
        seed[::-1],
    )
    return f"{head}{listed(phrases)}. {tail}"


_AIMS = (
    (r"how much (?:\w+ )?time\b|how long", "a length of time"),
    (r"percent|%\s*\?|what percentage", "a percentage"),
    (r"average|mean\b", "an average"),
    (
        r"how (?:much|many) more|difference|how (?:much|many) (?:\w+ ){0,3}(?:fewer|less)",
        "how far two amounts are apart",
    ),
    (r"left|remain|still (?:have|need)|change (?:will|does|did)|leftover", "what is left at the end"),
    (r"profit|earn|make in|income|salary|paid\b|revenue", "how much money comes in"),
    (r"\bcosts?\b|\bspen[dt]\b|\bpay\b|\bprice|\bbills?\b|money|dollars", "how much money is needed"),
    (r"how old|\bages?\b", "an age"),
    (r"minutes|hours|days|weeks|months|years|what time", "a length of time"),
    (
        r"how (?:far|fast|tall|high)|miles|kilomet|distance|feet|meters|length|perimeter",
        "a length or distance",
    ),
    (r"\beach\b|per\b", "the share of each one"),
    (r"total|altogether|in all|combined|together", "a total"),
    (r"weigh|pounds|kilogram|grams|ounces", "a weight"),
)


def _aim(question: str) -> str:
    asked = re.split(r"(?<=[.!?])\s+", question.strip())
    ask = next((sentence for sentence in reversed(asked) if "?" in sentence), asked[-1]).lower()
    return next((aim for cue, aim in _AIMS if re.search(cue, ask)), "an unknown number")


def _deed(case: Case) -> str | None:
    """What a step does, in words without numbers; None for a step that only says something."""
    operators = set(case.line.operators)
    if case.line.unknown:
        equation = "=" in case.line.text and re.search(r"\blet\b", case.line.text, re.I) is None
        return "solve the equation for the unknown" if equation else "name the unknown amount with a letter"
    if not operators:
        return None
    if PERCENT.search(case.words) and operators & {"*", "/"}:
        return "take the percent of the whole that it belongs to"
    if changes_unit(case):
        return "bring the amounts to one unit"
    if operators & {"/"} and AVERAGE.search(case.line.text):
        return "divide the sum of the values by how many there are"
    if case.has(RATIO):
        return "find the size of one part of the ratio"
    return _plain_deed(case, operators)


def _plain_deed(case: Case, operators: set[str]) -> str:
    if operators == {"*"}:
        if case.scales():
            return "multiply to get the amount that is several times as large"
        each = case.has(EACH)
        return (
            "multiply the amount for one by how many there are"
            if each
            else "multiply the amounts that belong together"
        )
    if operators == {"/"}:
        return "take the part of the whole" if case.takes_part() else "divide the total into equal parts"
    if operators == {"+"}:
        return "add the difference to the smaller amount" if case.has(MORE) else "add up all the parts"
    if operators == {"-"}:
        if case.has(LEFT):
            return "take away what is gone"
        return "subtract the smaller amount from the larger one"
    if operators & {"*", "/"} and operators & {"+", "-"}:
        return "work out each product or quotient before adding or taking away"
    if operators == {"+", "-"}:
        return "add what comes in and take away what goes out"
    return "multiply by what raises the amount and divide by what splits it"
