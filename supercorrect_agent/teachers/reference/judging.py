"""The verdict on a word problem's solution: the evidence for each step weighed, the finding explained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from supercorrect_agent.teachers.reference.evidence import Features, gather
from supercorrect_agent.teachers.reference.explaining import explain, explain_slip
from supercorrect_agent.teachers.reference.expressions import read_numbers
from supercorrect_agent.teachers.reference.falsehoods import certain_falsehood
from supercorrect_agent.teachers.reference.finding import Finding
from supercorrect_agent.teachers.reference.formulas import Formulas
from supercorrect_agent.teachers.reference.knowledge import MAX_TEXT, Knowledge, build_knowledge
from supercorrect_agent.teachers.reference.reading import Reading, read_steps
from supercorrect_agent.teachers.reference.statements import blamed, misstated, states_another_answer
from supercorrect_agent.teachers.reference.weights import WEIGHTS
from supercorrect_agent.types import Problem
from supercorrect_agent.verification import MathVerifier

MAX_STEPS = 200
"""Steps that are judged; a solution with more is judged by its first ones."""

_VERIFIER = MathVerifier(seconds=2.0)
_ENDLESS = 12  # decimals past which a number is taken never to end


def find_error(problem: Problem, steps: Sequence[str], answer: str | None) -> Finding | None:
    """The first wrong step of a solution to a word problem, or None where there is none.

    Where the answer is right, only an equation that is false beyond doubt counts as an error.

    Args:
        problem: The problem with its answer, its reference solution, or both.
        steps: The texts of the solution's steps.
        answer: The final answer as stated; None reads it from the last steps.
    """
    known = build_knowledge(problem.question, problem.reference_solution or "", problem.answer)
    reading = read_steps(steps[:MAX_STEPS], answer)
    if not steps:
        return None
    if _is_right(problem, answer, reading, known):
        false = certain_falsehood(reading)
        return None if false is None else explain_slip(reading, false, 1.0, known.given)
    formulas = Formulas(reading, known)
    slip = next((one.step for one in reading.computed if one.slip), None)
    if slip is not None and not known.works:
        return explain(formulas, slip, 1.0)
    plain = next((at for at in range(len(reading.texts)) if misstated(formulas, at)), None)
    plain = states_another_answer(formulas) if plain is None else plain
    if plain is not None:
        return explain(formulas, plain, 1.0)
    scores = [weigh(features) for features in gather(formulas)]
    best = max(range(len(scores)), key=lambda step: (scores[step], -step))
    return explain(formulas, blamed(formulas, best), _share(scores, best))


def _is_right(problem: Problem, answer: str | None, reading: Reading, known: Knowledge) -> bool:
    """Whether the answer is the true one, by the verifier or, of a single number, within rounding."""
    if answer is not None and problem.answer is not None:
        status = _VERIFIER.verify(answer=answer, target=problem.answer).status
        several = len(read_numbers(problem.answer[:MAX_TEXT])) > 1
        if status == "correct" or (status == "incorrect" and several):
            return status == "correct"
    return is_right(reading, known)


def is_right(reading: Reading, known: Knowledge) -> bool:
    """Whether the answer is the true one: the same number, or the same once rounded or as a percentage."""
    mine, true = reading.answer, known.answer
    if mine is None or true is None:
        return False
    if true.denominator > 1 and mine == true * 100:
        return "%" in reading.texts[-1]
    return same_number(mine, true)


def same_number(one: Fraction, other: Fraction) -> bool:
    """Whether two numbers are equal, or one is the other rounded to its decimals (at least two).

    A decimal that never ends may also be cut off there.
    """
    if one == other or not one or not other:
        return one == other
    fine, coarse = sorted((abs(one), abs(other)), key=_decimals, reverse=True)
    scale = 10 ** min(_decimals(coarse), _ENDLESS)
    kept = {math.floor(fine * scale + Fraction(1, 2))}
    if _decimals(fine) > _ENDLESS:
        kept.add(math.floor(fine * scale))
    return one * other > 0 and _decimals(coarse) <= _ENDLESS and coarse * scale in kept


def _decimals(value: Fraction) -> int:
    """How many decimals a number has, at least two; one more than `_ENDLESS` where they never end."""
    return next((n for n in range(2, _ENDLESS + 1) if 10**n % value.denominator == 0), _ENDLESS + 1)


def weigh(features: Features) -> float:
    """The sum of what speaks for and against a step."""
    return sum(WEIGHTS[name] * value for name, value in features.items() if name in WEIGHTS)


def _share(scores: list[float], best: int) -> float:
    top = scores[best]
    return round(1 / sum(math.exp(score - top) for score in scores), 3)
