"""A corrected step whose other equations hold too: a mended value is carried on through the step."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Final

from supercorrect_agent.teachers.reference.expressions import read_equations, read_numbers
from supercorrect_agent.teachers.reference.falsehoods import certain_falsehood
from supercorrect_agent.teachers.reference.nodes import Number, first_false, format_value, numbers_of
from supercorrect_agent.teachers.reference.reading import read_steps

_MOST: Final = 12
"""False equations of a step that are mended."""


def mend(text: str, number: Number, true: Fraction, given: Collection[Fraction] = ()) -> str:
    """The text with a value in place of a false number, and with what follows from that in the same text.

    Around it the old value becomes the new one ("58 crates, because 14 + 42 = 58"), the equations that then
    compute with that are worked out again, and whatever else is false beyond doubt is mended in the same way.

    Args:
        text: The step.
        number: The false number in it.
        true: What has to stand there.
        given: The numbers of the problem and of earlier steps, which stay where they are.
    """
    fresh: set[Fraction] = set()
    text, number = announce(text, number, true, given)
    for _ in range(_MOST):
        known = {one.value for one in read_numbers(text) if one.start < number.start}.union(given)
        written = format_value(true)
        text = _put(text, [number], written)
        if number.value not in known:
            text = _carry(text, number.start + len(written), number.value, written)
            fresh |= {true} | {one.value for one in read_numbers(written)}
        false = _next_false(text, fresh)
        if false is None:
            break
        number, true = false
    return text


def announce(text: str, number: Number, true: Fraction, given: Collection[Fraction]) -> tuple[str, Number]:
    """The text with a value in place of a false number where it is stated earlier, and where that is now.

    Where an equation computes with that number, or the problem has it, nothing changes.
    """
    sides = [side for equation in read_equations(text) for side in equation.sides if side.computed]
    early = [one for one in read_numbers(text) if one.end <= number.start and one.value == number.value]
    if number.value in given or any(side.start <= one.start < side.end for one in early for side in sides):
        return text, number
    written, length = format_value(true), len(text)
    text = _put(text, early, written)
    moved = len(text) - length
    return text, replace(number, start=number.start + moved, end=number.end + moved)


def _carry(text: str, start: int, old: Fraction, written: str) -> str:
    later = [number for number in read_numbers(text) if number.start >= start and number.value == old]
    return _put(text, later, written)


def _put(text: str, numbers: Sequence[Number], written: str) -> str:
    for number in reversed(numbers):
        text = text[: number.start] + written + text[number.end :]
    return text


def _next_false(text: str, fresh: Collection[Fraction]) -> tuple[Number, Fraction] | None:
    """The number of the next equation to mend, and what has to stand there."""
    certain = certain_falsehood(read_steps([text], None))
    doubtful = [] if certain is None else [certain.equation]
    for equation in [*read_equations(text), *doubtful]:
        pair = first_false(equation)
        if pair is None or not isinstance(pair[1].node, Number):
            continue
        true = pair[0].value
        follows = any(number.value in fresh for number in numbers_of(pair[0].node))
        if true is not None and (follows or equation in doubtful):
            return pair[1].node, true
    return None
