"""Whether a critique on a trace may be trained on (decision B5), and readers that both builders need."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from langchain_core.messages import BaseMessage

from supercorrect_agent.inspector import inspect_critique
from supercorrect_agent.types import Problem, Round, Solution, Trace, Verdict

TRUSTED_AUTHORS = ("sandbox",)
"""Symbolic teachers: their corrections are right, whether or not the student can go on from them."""

_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


class Reviewed(NamedTuple):
    """An attempt, what the verifier said of it, and the round that criticises it."""

    attempt: Solution
    verdict: Verdict | None
    round: Round


def reviewed_attempts(trace: Trace) -> Iterator[Reviewed]:
    """Each round with the attempt that it criticises: the first solution, then the revised ones."""
    attempt, verdict = trace.solution, trace.verdict
    for round_ in trace.rounds:
        if attempt is not None:
            yield Reviewed(attempt, verdict, round_)
        if round_.solution is not None:
            attempt, verdict = round_.solution, round_.verdict


def critique_fault(problem: Problem, reviewed: Reviewed, trusted: Collection[str]) -> str | None:
    """Why the teacher's critique of this round cannot be trained on; None where it can."""
    attempt, verdict, round_ = reviewed
    critique, right = round_.critique, verdict is not None and verdict.correct
    if not attempt.steps:
        return "unreadable"
    inspections = (*round_.inspections, *inspect_critique(problem, attempt, critique))
    failed = [inspection.check for inspection in inspections if not inspection.passed]
    if failed:
        return f"inspection: {failed[0]}"
    if critique.step is None:
        return None if right else "error missed"
    if critique.author in trusted:
        return None
    if right:
        return "right attempt criticised"
    return None if round_.verdict and round_.verdict.correct else "correction not verified"


def same_value(first: str, second: str) -> bool:
    """Whether two corrections end on the same number or, where one has none, are the same text."""
    values = [_NUMBER.findall(text) for text in (first, second)]
    if all(values):
        one, two = (float(found[-1].replace(",", "")) for found in values)
        return one == two
    return " ".join(first.lower().split()) == " ".join(second.lower().split())


def turns(messages: Sequence[BaseMessage]) -> list[dict[str, str]]:
    """LangChain messages as the role/content mappings that chat templates and TRL read."""
    roles = {"human": "user", "system": "system", "ai": "assistant"}
    return [{"role": roles[message.type], "content": str(message.text)} for message in messages]
