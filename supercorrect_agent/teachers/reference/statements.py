"""Steps that state a value without computing it: a right one is spared, an unknown one is blamed first."""

from __future__ import annotations

from fractions import Fraction

from supercorrect_agent.teachers.reference.formulas import Formulas
from supercorrect_agent.teachers.reference.knowledge import COMMON
from supercorrect_agent.teachers.reference.nodes import Number, numbers_of
from supercorrect_agent.teachers.reference.reading import Computed


def blamed(formulas: Formulas, step: int) -> int:
    """The step (from 0) to blame instead of ``step``, or ``step`` itself.

    A step that states the value of an operation that the reference has is not wrong: the next one that does
    not is. A number that nothing gives is wrong where it is stated first.
    """
    last = len(formulas.reading.texts) - 1
    if not formulas.known.works:
        return step
    step = next((at for at in range(step, last) if not states_result(formulas, at)), last)
    return min(
        (at for value in _unknown(formulas, step) for at in _stated(formulas, value, step)), default=step
    )


def misstated(formulas: Formulas, step: int) -> tuple[Computed, Number] | None:
    """The computation of a step that writes it without "=", and the other value that is stated beside it.

    As in "The amount is 58 (14 + 42)." and "14 + 42 -> 58". Later steps compute with that value, or it is the
    answer; None where there is no such value.
    """
    reading, given = formulas.reading, formulas.known.given
    own = [index for index, one in enumerate(reading.computed) if one.step == step]
    if len(own) != 1 or not formulas.good(own[0]):
        return None
    if any(len(equation.sides) > 1 for equation in reading.equations[step]):
        return None
    one = reading.computed[own[0]]
    if abs(one.true) < 1:  # 2/3 of something
        return None
    later = (number for each in reading.computed if each.step > step for number in numbers_of(each.node))
    used = {reading.answer, *(number.value for number in later)} - given - reading.values_before(step)
    outside = (
        number for number in reading.numbers[step] if not one.side.start <= number.start < one.side.end
    )
    beside = {number.value: number for number in outside}
    stated = [number for value, number in beside.items() if value in used]
    return (one, stated[0]) if len(stated) == 1 and one.true not in beside else None


def states_another_answer(formulas: Formulas) -> int | None:
    """The step (from 0) with another answer, where all computations are right and end at the true one."""
    reading, known = formulas.reading, formulas.known
    computed = reading.computed
    if not known.works or not computed or computed[-1].stated != known.answer:
        return None
    if not formulas.answers(len(computed) - 1) or not set(formulas.standing) <= {"result", "derived"}:
        return None
    last, end = len(reading.texts) - 1, computed[-1].step
    later = range(end + 1, last + 1)
    return next((at for at in later if reading.answer in reading.values(at)), last)


def states_result(formulas: Formulas, step: int) -> bool:
    """Whether a step has no equation and states a new result of the reference."""
    reading, known = formulas.reading, formulas.known
    values, before = reading.values(step), reading.values_before(step)
    new = values - known.given - before
    return not reading.equations[step] and bool(new) and values <= known.given | known.results | before


def _unknown(formulas: Formulas, step: int) -> set[Fraction]:
    """The numbers that a step computes with and that neither the problem nor the reference knows."""
    reading, known = formulas.reading, formulas.known
    used = {number.value for one in reading.computed if one.step == step for number in numbers_of(one.node)}
    sure = known.given | known.results
    return {
        value
        for value in used - COMMON
        if not known.knows(value) and not sure & {value * 2, value / 2}  # halved or doubled in one's head
    }


def _stated(formulas: Formulas, value: Fraction, before: int) -> list[int]:
    """The first step that has a value, where it stands there without a computation."""
    reading = formulas.reading
    first = next((at for at in range(before) if value in reading.values(at)), None)
    if first is None or reading.equations[first]:
        return []
    return [first]
