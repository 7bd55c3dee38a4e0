"""The inspector's rule checks of a critique (paper section 4.1): cheap, and they catch most faults."""

from __future__ import annotations

import re
from collections.abc import Iterator

from supercorrect_agent.types import Critique, Inspection, Problem, Solution

_LEAK = re.compile(
    r"\b(?:reference|official|given|provided|model)\s+(?:solution|answer)s?\b"
    r"|\bground[\s-]+truth\b|\banswer\s+key\b|\b(?:the|known)\s+true\s+answer\b",
    re.IGNORECASE,
)


def inspect_critique(problem: Problem, solution: Solution, critique: Critique) -> tuple[Inspection, ...]:
    """Checks a critique by rules; no model is asked.

    Args:
        problem: The problem, whose own words never count as a leak.
        solution: The solution that was judged.
        critique: The teacher's critique of it.

    Returns:
        One inspection a check: ``readable``, ``step_in_range``, ``cause``, ``correction`` (there and
        different from the wrong step) and ``leak`` (it speaks of a reference the student never sees). A
        critique that found no error has only the checks that apply to it.
    """
    return tuple(_checks(problem, solution, critique))


def speaks_of_reference(problem: Problem, text: str) -> bool:
    """Whether a text speaks of a reference solution in words that the problem itself does not use."""
    asked = {_folded(phrase) for phrase in _LEAK.findall(problem.question)}
    return any(_folded(phrase) not in asked for phrase in _LEAK.findall(text))


def failed_notes(inspections: tuple[Inspection, ...]) -> str:
    """The notes of the failed checks, one a line, for a teacher to revise by; "" when all passed."""
    return "\n".join(f"- {one.note}" for one in inspections if not one.passed)


def _checks(problem: Problem, solution: Solution, critique: Critique) -> Iterator[Inspection]:
    yield _check("readable", critique.readable, "The reply could not be read.")
    if not critique.readable:
        return
    leaks = speaks_of_reference(problem, f"{critique.cause}\n{critique.correction}")
    yield _check("leak", not leaks, "It speaks of a reference that the student never sees.")
    if critique.step is None:
        return
    last = len(solution.steps)
    in_range = 1 <= critique.step <= last
    yield _check(
        "step_in_range", in_range, f"Step {critique.step} is named; the solution has steps 1 to {last}."
    )
    yield _check("cause", bool(critique.cause.strip()), "The cause of the error is empty.")
    correction = _folded(critique.correction)
    if not correction:
        yield _check("correction", False, "The corrected step is empty.")
    elif in_range:
        wrong = _folded(solution.steps[critique.step - 1].text)
        yield _check(
            "correction", correction != wrong, "The corrected step repeats the wrong step word for word."
        )


def _check(name: str, passed: bool, note: str) -> Inspection:
    return Inspection(check=name, passed=passed, note="" if passed else note)


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()
