"""The inspector's rule checks of what a teacher writes (section 4.1): cheap, and they catch most faults."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from supercorrect_agent.inspector.arithmetic import false_equation
from supercorrect_agent.templates import format_solution, is_strict
from supercorrect_agent.types import Critique, Inspection, Problem, Solution, Verdict

_SAYS = (
    r"\s+(?:says?|said|shows?|states?|gives?|tells?|has|is|was|uses?|computes?|calculates?|finds?|gets?|reads?"
    r"|adds?|subtracts?|multiplies|divides?|takes?|counts?|starts?|reach(?:es)?|means?|wants?|agrees?)\b"
)
_ENDS = r"\s*(?:[.,;:!?)]|$)"
_LEAK = re.compile(
    r"\b(?:reference|official|given|provided|model|expected|gold(?:en)?)\s+(?:final\s+)?(?:solution|answer)s?\b"
    r"|\bground[\s-]+truth\b|\b(?:answer|solution)\s+key\b|\b(?:the|known)\s+true\s+answer\b"
    r"|(?<=\bthe\s)correct\s+(?:final\s+)?answer\b"
    rf"|(?<=\bthe\s)correct\s+solution(?={_SAYS})"
    rf"|\bthe\s+reference\b(?={_SAYS}|{_ENDS}|['\u2019]s\b|\s+(?:the|it|we|there|that|which)\b)"
    rf"|(?<=\bthe\s)(?:solution|answer)\s+provided\b(?={_SAYS}|{_ENDS}|\s+(?:by|in|to|here)\b)",
    re.IGNORECASE | re.MULTILINE,
)
_LEAK_WORDS = ("reference", "official", "given", "provided", "model", "expected", "gold", "ground", "true")
_LEAK_PAIRS = re.compile(r"(?:answer|solution)\s+key|correct\s+(?:final\s+)?(?:answer|solution)")
_SHOWN = 80  # characters of a false equation that a note repeats


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


def inspect_trace(problem: Problem, solution: Solution, critique: Critique) -> tuple[Inspection, ...]:
    """The check ``trace_leak`` of a critique written as a correction trace, all of which is learned from.

    Every step of it is judged in words, which must not speak of a reference. There is no such check where the
    student's own steps, which a trace repeats, speak of one.
    """
    if "<evaluate" not in critique.raw.lower() or _LEAK.search(solution.raw):
        return ()
    return (_no_leak(problem, critique.raw, "trace_leak"),)


def inspect_arithmetic(critique: Critique) -> tuple[Inspection, ...]:
    """The check ``arithmetic`` of a critique that has a correction: every equation in that holds.

    It stands apart from ``inspect_critique``, for a student that reviews itself may well slip in a correction
    and still be worth following; a teacher's is learned from.
    """
    if not critique.readable or critique.step is None or not critique.correction.strip():
        return ()
    return (_holds("The corrected step", critique.correction),)


def inspect_template(problem: Problem, template: Solution | None) -> tuple[Inspection, ...]:
    """Checks a teacher's own hierarchical solution by rules; no model is asked.

    Args:
        problem: The problem, whose own words never count as a leak.
        template: The solution, None where the teacher's reply could not be read.

    Returns:
        ``readable`` (it has steps in tags and an answer) and, where it is: ``layout`` (well-formed once it is
        written in the strict form), ``leak`` and ``arithmetic`` (every equation of its steps holds).
    """
    return tuple(_template_checks(problem, template))


def inspect_answer(verdict: Verdict, answer: str | None) -> tuple[Inspection, ...]:
    """The check ``answer`` of a text that states one; none where it cannot be compared with the true one."""
    if verdict.status == "unscored":
        return ()
    stated = f"It comes to the answer {_shown(answer)}" if answer else "It states no answer"
    return (_check("answer", verdict.correct, f"{stated}, which is not the true one."),)


def speaks_of_reference(problem: Problem, text: str) -> bool:
    """Whether a text speaks of a reference solution in words that the problem itself does not use."""
    phrases = _leaks(text)
    asked = _folded(problem.question) if phrases else ""
    return any(not re.search(rf"\b{re.escape(_folded(phrase))}", asked) for phrase in phrases)


def failed_checks(inspections: Iterable[Inspection]) -> list[str]:
    """The names of the checks that failed, in order, each once."""
    return list(dict.fromkeys(one.check for one in inspections if not one.passed))


def failed_notes(inspections: Iterable[Inspection]) -> str:
    """The notes of the failed checks, one a line, for a teacher to revise by; "" when all passed."""
    return "\n".join(f"- {one.note}" for one in inspections if not one.passed)


def _checks(problem: Problem, solution: Solution, critique: Critique) -> Iterator[Inspection]:
    yield _check("readable", critique.readable, "The reply could not be read.")
    if not critique.readable:
        return
    yield _no_leak(problem, f"{critique.cause}\n{critique.correction}")
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


def _template_checks(problem: Problem, template: Solution | None) -> Iterator[Inspection]:
    tagged = template is not None and bool(template.steps) and "<step" in template.raw.lower()
    note = "No steps between <Step1> and </Step1> tags, or no <Answer>, could be read in it."
    if template is None or not tagged or template.answer is None:
        yield _check("readable", False, note)
        return
    yield _check("readable", True, note)
    strict = is_strict(template.raw) or is_strict(format_solution(template))
    yield _check("layout", strict, "A step is empty, or its tags do not follow the layout.")
    yield _no_leak(problem, template.raw)
    steps = (f"{step.text}\n{step.key or ''}" for step in template.steps)
    yield _holds("A step", "\n".join(steps))


def _no_leak(problem: Problem, text: str, check: str = "leak") -> Inspection:
    note = "It speaks of a reference that the student never sees."
    return _check(check, not speaks_of_reference(problem, text), note)


def _leaks(text: str) -> list[str]:
    if text.isascii():  # a look for words of it is faster than the whole pattern
        low = text.lower()
        if not any(word in low for word in _LEAK_WORDS) and not _LEAK_PAIRS.search(low):
            return []
    return _LEAK.findall(text)


def _holds(what: str, text: str) -> Inspection:
    wrong = false_equation(text)
    return _check("arithmetic", wrong is None, f"{what} says {_shown(wrong)}, which is not so.")


def _shown(text: str | None) -> str:
    return f"'{(text or '')[:_SHOWN]}'"


def _check(name: str, passed: bool, note: str) -> Inspection:
    return Inspection(check=name, passed=passed, note="" if passed else note)


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()
