"""Whether a critique on a trace may be trained on (decision B5), and readers that both builders need."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from decimal import Decimal
from typing import NamedTuple

from langchain_core.messages import BaseMessage

from supercorrect_agent.inspector import REACHES_ANSWER, inspect_arithmetic, inspect_critique
from supercorrect_agent.state import BEYOND_TEACHER, ERROR_KEPT, TOO_MANY_ERRORS
from supercorrect_agent.types import Problem, Round, Solution, Trace, Verdict

TRUSTED_AUTHORS = ("sandbox",)
"""Symbolic teachers: their corrections are right, whether or not the student can go on from them."""

NOT_VERIFIED = "correction not verified"

_NUMBER = re.compile(
    r"(?P<sign>[-\u2212]\s?)?(?:\\[dt]?frac\s?\{(?P<over>\d+)\}\s?\{(?P<under>\d+)\}"
    r"|(?P<plain>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:\s?/\s?(?P<by>\d+))?)"
)
_RESULT = re.compile(r"[=\u2248]")
_ANSWER_END = re.compile(r"</\s*answer\s*:?\s*>\s*\Z", re.I)


class Reviewed(NamedTuple):
    """An attempt, what the verifier said of it, and the round that criticises it, quarantined or not."""

    attempt: Solution
    verdict: Verdict | None
    round: Round
    quarantined: bool = False


def reviewed_attempts(trace: Trace) -> Iterator[Reviewed]:
    """Each round with the attempt that it criticises: the first solution, then the revised ones."""
    attempt, verdict = trace.solution, trace.verdict
    for number, round_ in enumerate(trace.rounds, 1):
        if attempt is not None:
            last = number == len(trace.rounds)
            yield Reviewed(attempt, verdict, round_, last and trace.status == "quarantined")
        if round_.solution is not None:
            attempt, verdict = round_.solution, round_.verdict


def not_criticised(trace: Trace) -> str | None:
    """Why the collecting graph did not have a wrong attempt criticised, where it says so (decision B24)."""
    if trace.rounds or trace.solution is None or trace.status != "unchanged":
        return None
    reasons = (ERROR_KEPT, TOO_MANY_ERRORS, BEYOND_TEACHER)
    return next((reason for reason in reasons if trace.chosen.reason.startswith(reason)), None)


def critique_fault(problem: Problem, reviewed: Reviewed, trusted: Collection[str]) -> str | None:
    """Why the teacher's critique of this round cannot be trained on; None where it can."""
    attempt, verdict, round_, quarantined = reviewed
    critique, right = round_.critique, verdict is not None and verdict.correct
    if not attempt.steps:
        return "unreadable"
    rules = (*inspect_critique(problem, attempt, critique), *inspect_arithmetic(critique))
    inspections = [one for one in (*round_.inspections, *rules) if one.check != REACHES_ANSWER]
    failed = [inspection.check for inspection in inspections if not inspection.passed]
    if failed or quarantined:
        return f"inspection: {failed[0]}" if failed else "quarantined"
    if critique.step is None:
        return None if right else "error missed"
    if right:
        return "right attempt criticised"
    followed = round_.verdict is not None and round_.verdict.correct
    return None if followed or critique.author in trusted else NOT_VERIFIED


def same_value(correction: str, own: str) -> bool:
    """Whether one's own correction arrives where a right one does.

    The value of a text is the number behind its last equals sign, else its last number. A text of one's own
    without an equals sign may hold the value anywhere: in doubt it is right, and so never punished.
    """
    if fold(correction) == fold(own):
        return True
    right, result, said = read_numbers(correction), _result(correction), _result(own)
    target = result if result is not None else next(reversed(right), None)
    return target is not None and target in (read_numbers(own) if said is None else [said])


def read_numbers(text: str) -> list[Decimal]:
    """The numbers of a text in order: signs, decimals, thousands and fractions are read, words are not."""
    return [number for match in _NUMBER.finditer(text) if (number := _number(match, text)) is not None]


def completes_answer(text: str) -> bool:
    """Whether a text ends in ``</Answer>``, and with it the turn (decision B1)."""
    return _ANSWER_END.search(text) is not None


def fold(text: str) -> str:
    """A text in lower case, its white space folded."""
    return " ".join(text.lower().split())


def turns(messages: Sequence[BaseMessage]) -> list[dict[str, str]]:
    """LangChain messages as the role/content mappings that chat templates and TRL read."""
    roles = {"human": "user", "system": "system", "ai": "assistant"}
    return [{"role": roles[message.type], "content": str(message.text)} for message in messages]


def _result(text: str) -> Decimal | None:
    """The first number behind the last equals sign."""
    signs = list(_RESULT.finditer(text))
    tail = text[signs[-1].end() :] if signs else ""
    return next(iter(read_numbers(tail)), None)


def _number(match: re.Match[str], text: str) -> Decimal | None:
    negative = match["sign"] is not None and not _is_difference(text, match)
    over, under = (match["over"], match["under"]) if match["over"] else (match["plain"], match["by"])
    value, divisor = Decimal(over.replace(",", "")), Decimal(under or 1)
    if not divisor:
        return None
    value = value / divisor if under else value
    return value.copy_negate() if negative else value


def _is_difference(text: str, match: re.Match[str]) -> bool:
    """Whether the minus before a number takes it from something, as in ``7-4`` and ``x - 4``."""
    before = text[max(0, match.start() - 4) : match.start()]
    last = before.rstrip()[-1:]
    if last.isalpha():  # "is -4" is no difference
        return before[-1] == last or match["sign"] != match["sign"].rstrip()
    return last.isdigit() or last in (")", "]", "}")
