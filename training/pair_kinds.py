"""One attempt and what was said of it, to pairs or to the reason why there is none."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

from supercorrect_agent.inspector import failed_checks, inspect_arithmetic, inspect_critique
from supercorrect_agent.prompts import PromptSet, review_messages, student_messages
from supercorrect_agent.templates import critique_prefix, splice_correction
from supercorrect_agent.types import Alternative, Critique, Problem, Round, Solution, Trace
from supercorrect_agent.verification import Verifier
from training.config import ChosenSource, PairFormat
from training.critiques import (
    NOT_VERIFIED,
    Reviewed,
    completes_answer,
    critique_fault,
    same_value,
    turns,
)
from training.sft_rows import correction_trace

_WORD = re.compile(r"\w+|\W")
_UNIT_END = re.compile(r"</\s*(?:Correction|Step\s*\d+)\s*:?\s*>", re.I)


class Pair(NamedTuple):
    """One preference before it is rendered: both sides follow ``prefix``."""

    kind: str
    prompt: list[dict[str, str]]
    prefix: str
    chosen: str
    rejected: str
    step: int


Outcome = Pair | str
"""A pair, or the reason why there is none."""


class PairReader:
    """Reads pairs off one reviewed attempt at a time.

    Args:
        prompts: The prompts the student is used with.
        pair_format: Which pairs a wrong attempt gives.
        chosen_source: Whose correction is chosen.
        solve_pairs: Whether to add step pairs under the solve prompt.
        trusted: Teachers whose corrections are right by construction.
        verifier: Grades templates and the answers that reviews state.
    """

    def __init__(
        self,
        prompts: PromptSet,
        pair_format: PairFormat,
        chosen_source: ChosenSource,
        solve_pairs: bool,
        trusted: Collection[str],
        verifier: Verifier,
    ) -> None:
        self._prompts, self._format, self._source = prompts, pair_format, chosen_source
        self._solve_pairs, self._trusted, self._verifier = solve_pairs, trusted, verifier

    def pairs(self, trace: Trace, reviewed: Reviewed) -> Iterator[Outcome]:
        """The pairs of one attempt, and why others are missing."""
        problem, fault = trace.problem, critique_fault(trace.problem, reviewed, self._trusted)
        if self._format == "whole_answer":
            yield self._whole(trace, reviewed, fault)
            return
        # Another's verified correction needs no verified teacher.
        if fault and not (fault == NOT_VERIFIED and self._source != "teacher"):
            yield fault
            return
        attempt, round_ = reviewed.attempt, reviewed.round
        if round_.review is None:
            yield "no review by the student"
        elif not round_.critique.found_error:
            yield self._false_alarm(problem, attempt, round_.critique, round_.review)
        elif self._is_right(problem, round_, round_.review):
            yield "student correction is right"
        else:
            yield self._correction(problem, attempt, round_, round_.review)
        if self._solve_pairs and not fault and round_.critique.step is not None:
            yield self._solve(problem, attempt, round_.critique, round_.critique.step)

    def _is_right(self, problem: Problem, round_: Round, review: Critique) -> bool:
        """Whether the student put the step right, by the value it finds or by the answer it reaches."""
        if review.step != round_.critique.step:
            return False
        right = [round_.critique, *(other.critique for other in _verified(round_))]
        if any(same_value(each.correction, review.correction) for each in right):
            return True
        verdict = review.answer and self._verifier.verify(answer=review.answer, target=problem.answer)
        return bool(verdict and verdict.correct)

    def _correction(self, problem: Problem, attempt: Solution, round_: Round, review: Critique) -> Outcome:
        chosen = round_.critique
        if self._source != "teacher":
            own = [other.critique for other in _verified(round_) if other.source == self._source]
            if not own:
                return f"no verified {self._source}"
            chosen = own[0]
            checks = (*inspect_critique(problem, attempt, chosen), *inspect_arithmetic(chosen))
            failed = failed_checks(checks)
            if failed:
                return f"inspection: {failed[0]}"
        make = self._literal if self._format == "literal_eq8" else self._inline
        return make(problem, attempt, round_.critique, chosen, review)

    def _inline(
        self, problem: Problem, attempt: Solution, critique: Critique, chosen: Critique, review: Critique
    ) -> Outcome:
        step = critique.step or 0
        prefix, said = critique_prefix(attempt, critique)
        if chosen is not critique:
            said = critique_prefix(attempt, chosen)[1]
        if review.raw.startswith(prefix):
            rejected = _first_unit(review.raw[len(prefix) :])
        else:  # decision B4: a model that cannot continue a message reviewed freely; its words on this step
            rejected = (_evaluation(review.raw, step) or ("", None))[1]
        if rejected is None or not review.readable:
            return "student review unreadable"
        kind = "correction" if review.step == step else "missed"
        prompt = turns(review_messages(self._prompts, problem.question, attempt.raw))
        return Pair(kind, prompt, prefix, said, rejected, step)

    def _literal(
        self, problem: Problem, attempt: Solution, critique: Critique, chosen: Critique, review: Critique
    ) -> Outcome:
        step = critique.step or 0
        if review.step != step or not review.correction:
            return "no correction by the student at this step"
        prompt = turns(review_messages(self._prompts, problem.question, attempt.prefix(step)))
        sides = (_cause_correction(chosen), _cause_correction(review))
        return Pair("correction", prompt, f"<Step{step}>", *sides, step)

    def _false_alarm(
        self, problem: Problem, attempt: Solution, critique: Critique, review: Critique
    ) -> Outcome:
        """The student found an error in a right attempt: behind its own trace, the teacher's verdict wins."""
        if review.step is None:
            return "student review is right"
        mine = _evaluation(review.raw, review.step)
        teachers = _evaluation(correction_trace(attempt, critique), review.step)
        if mine is None or teachers is None:
            return "student review unreadable"
        prompt = turns(review_messages(self._prompts, problem.question, attempt.raw))
        return Pair("false alarm", prompt, mine[0], teachers[1], mine[1], review.step)

    def _solve(self, problem: Problem, attempt: Solution, critique: Critique, step: int) -> Pair:
        prefix, wrong = attempt.prefix(step), attempt.steps[step - 1]
        chosen = splice_correction(attempt, critique).removeprefix(prefix).rstrip()
        prompt = turns(student_messages(self._prompts, problem.question))
        return Pair("solve", prompt, prefix, chosen, attempt.raw[wrong.start : wrong.end].rstrip(), step)

    def _whole(self, trace: Trace, reviewed: Reviewed, fault: str | None) -> Outcome:
        if fault and fault != NOT_VERIFIED:
            return fault
        step = reviewed.round.critique.step
        if step is None or (reviewed.verdict and reviewed.verdict.correct):
            return "attempt is right"
        solution = self._verified_solution(trace, reviewed.round)
        if solution is None:
            return "no verified solution"
        chosen, rejected = solution.raw.strip(), reviewed.attempt.raw.strip()
        if not (completes_answer(chosen) and completes_answer(rejected)):
            return "no </Answer> at the end"
        prompt = turns(student_messages(self._prompts, trace.problem.question))
        return Pair("whole", prompt, "", chosen, rejected, step)

    def _verified_solution(self, trace: Trace, round_: Round) -> Solution | None:
        """The student's own revision if it is right, else the teacher's solution if that is."""
        if round_.solution is not None and round_.verdict is not None and round_.verdict.correct:
            return round_.solution
        template, target = trace.template, trace.problem.answer
        if template is None or failed_checks(trace.template_inspections):
            return None
        if not self._verifier.verify(answer=template.answer, target=target).correct:
            return None
        return template


def until_difference(pair: Pair) -> Pair | None:
    """Both sides up to and with the first word in which they differ; None where one only goes on further.

    Behind its first wrong word a rejected side mostly draws the right conclusions from it (a digit is copied,
    a carry follows): a preference against all of it teaches not to. (Step-DPO and the "critical tokens" of
    Lin et al., 2024, point the same way; figures in docs/results.md.)
    """
    chosen, rejected = (_WORD.findall(side) for side in (pair.chosen, pair.rejected))
    same = next((i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), None)
    if same is None:
        return None
    return pair._replace(chosen="".join(chosen[: same + 1]), rejected="".join(rejected[: same + 1]))


def _verified(round_: Round) -> list[Alternative]:
    """The student's further corrections at the teacher's step from which it reached the answer."""
    return [
        other
        for other in round_.alternatives
        if other.verdict is not None and other.verdict.correct and other.critique.step == round_.critique.step
    ]


def _cause_correction(critique: Critique) -> str:
    return f"<Cause>{critique.cause}</Cause><Correction>{critique.correction}</Correction>"


def _first_unit(text: str) -> str | None:
    """A review up to the first ``</Correction>`` or ``</StepN>``: what it says of one step, and no more."""
    end = _UNIT_END.search(text)
    return text[: end.end()] if end else None


def _evaluation(trace: str, step: int) -> tuple[str, str] | None:
    """Splits a correction trace before its evaluation of a step: (text so far, that evaluation)."""
    start = re.search(rf"<Step\s*{step}\b[^>]*>.*?(?=<Evaluate|<Cause)", trace, re.S | re.I)
    unit = _first_unit(trace[start.end() :]) if start else None
    return (trace[: start.end()], unit) if start and unit else None
