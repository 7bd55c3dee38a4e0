"""Wrong solutions made from right ones: one step of a reference is spoilt, what follows is worked out anew.

So that a user without labelled data can measure error localisation on problems of their own. Each made
solution knows its first wrong step, because it was right up to there; real students are harder to judge.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from supercorrect_agent.grammar import without_boxes
from supercorrect_agent.teachers.reference.explaining import write
from supercorrect_agent.teachers.reference.expressions import (
    Equation,
    Node,
    Number,
    Operation,
    evaluate,
    format_value,
    numbers_of,
    read_equations,
    read_numbers,
)

_MARK = re.compile(r"<<[^<>]*>>")
KINDS = ("slip", "operation", "quantity", "missing", "repeated", "beyond", "answer")


@dataclass(frozen=True)
class Made:
    """A solution's steps, the first wrong one (from 0, -1 for none) and the kind of its error."""

    steps: tuple[str, ...]
    first_error_step: int
    kind: str


def split_steps(reference: str) -> list[str]:
    """A reference's lines without calculator marks and without the ``#### 42`` at its end.

    Boxes are opened: one would go on stating the true answer where the last step states another.
    """
    lines = (_MARK.sub("", line).strip() for line in without_boxes(reference).splitlines())
    return [line for line in lines if line and not line.startswith("####")]


def make_right(reference: str, answer: str, rng: random.Random) -> Made | None:
    """A right solution: the reference's own steps, sometimes two a paragraph, and the answer at its end."""
    steps = split_steps(reference)
    return Made(*_regroup([*steps, _ending(answer, rng)], -1, rng), "right") if len(steps) > 1 else None


def make_wrong(question: str, reference: str, answer: str, rng: random.Random) -> Made | None:
    """A wrong solution, or None where this reference offers no place for an error of the kind drawn."""
    steps, true = split_steps(reference), _number(answer)
    if true is None or len(steps) < 2:
        return None
    kind = rng.choice(KINDS)
    if kind == "answer":
        off = true + rng.choice((-10, -2, 2, 5, 10))
        return Made(*_regroup([*steps, _ending(format_value(off), rng)], len(steps), rng), kind)
    pool = [number.value for number in read_numbers(question)]
    if kind == "beyond":
        return _beyond(steps, true, pool, rng)
    places = [(i, equation) for i, step in enumerate(steps) for equation in read_equations(step)]
    places = [place for place in places if _is_plain(place[1])]
    rng.shuffle(places)
    for at, equation in places[:4]:
        spoilt = _spoil(equation, kind, pool, rng)
        if spoilt is None:
            continue
        made = _work_on(steps, at, equation, spoilt)
        if made is not None and _number(made[-1]) not in (None, true):
            ending = _ending(format_value(_number(made[-1]) or Fraction(0)), rng)
            return Made(*_regroup([*made, ending], at, rng), kind)
    return None


def _is_plain(equation: Equation) -> bool:
    first, last = equation.sides[0], equation.sides[-1]
    return (
        len(equation.sides) == 2
        and first.computed
        and isinstance(last.node, Number)
        and first.value == last.value
        and first.value is not None
    )


def _spoil(
    equation: Equation, kind: str, pool: Sequence[Fraction], rng: random.Random
) -> tuple[str, Fraction] | None:
    """The spoilt expression as text and the value that is stated for it."""
    node, value = equation.sides[0].node, equation.sides[0].value
    if not isinstance(node, Operation) or value is None:
        return None
    if kind == "slip":
        return write(node), value + rng.choice((-10, -2, -1, 1, 2, 10))
    other: Node | None = None
    if kind == "operation":
        other = replace(node, op=rng.choice([op for op in "+-*/" if op != node.op]))
    elif kind == "missing" and isinstance(node.left, Operation):
        other = node.left
    elif kind == "repeated":
        other = Operation(node.op, node, node.right)
    elif kind == "quantity" and pool:
        other = replace(node, right=_plain(rng.choice(list(pool))))
    spoilt = None if other is None else evaluate(other)
    fits = spoilt is not None and spoilt != value and spoilt > 0 and spoilt.denominator <= 20
    return (write(other), spoilt) if other is not None and spoilt is not None and fits else None


def _plain(value: Fraction) -> Number:
    return Number(value, format_value(value), 0, 0)


def _work_on(
    steps: Sequence[str], at: int, equation: Equation, spoilt: tuple[str, Fraction]
) -> list[str] | None:
    """The steps with the spoilt equation in its place and every later value worked out from it."""
    text, value = spoilt
    old = equation.sides[-1].value
    if old is None:
        return None
    moved = {old: value}
    stated = equation.sides[-1]
    body = steps[at][: equation.start] + f"{text} = {format_value(value)}" + steps[at][stated.end :]
    return [*steps[:at], body, *(_move(step, moved) for step in steps[at + 1 :])]


def _move(step: str, moved: dict[Fraction, Fraction]) -> str:
    """A later step with the moved numbers put in and its own results worked out anew."""
    from supercorrect_agent.teachers.reference.reading import replay

    for equation in read_equations(step):
        last = equation.sides[-1]
        if len(equation.sides) < 2 or not isinstance(last.node, Number) or last.value in moved:
            continue
        if not {number.value for number in numbers_of(equation.sides[0].node)} & set(moved):
            continue
        value = replay(equation.sides[0].node, dict(moved))
        if value is not None:
            moved[last.node.value] = value
    parts: list[str] = []
    at = 0
    for number in read_numbers(step):
        if number.value in moved and number.start >= at:
            parts += [step[at : number.start], format_value(moved[number.value])]
            at = number.end
    return "".join([*parts, step[at:]])


def _beyond(steps: list[str], true: Fraction, pool: Sequence[Fraction], rng: random.Random) -> Made | None:
    usable = [value for value in pool if value > 0 and value != true]
    if not usable:
        return None
    node = Operation(rng.choice("+*"), _plain(true), _plain(rng.choice(usable)))
    value = evaluate(node)
    if value is None or value == true:
        return None
    extra = f"So altogether that makes {write(node)} = {format_value(value)}."
    return Made(*_regroup([*steps, extra, _ending(format_value(value), rng)], len(steps), rng), "beyond")


def _ending(answer: str, rng: random.Random) -> str:
    return rng.choice(
        (f"The answer is {answer}.", answer, f"Therefore, the final answer is \\boxed{{{answer}}}.")
    )


def _regroup(steps: list[str], wrong: int, rng: random.Random) -> tuple[tuple[str, ...], int]:
    """Sometimes joins neighbours into paragraphs, as larger models write them."""
    if rng.random() < 0.6:
        return tuple(steps), wrong
    groups: list[list[int]] = [[0]]
    for i in range(1, len(steps)):
        if rng.random() < 0.4:
            groups[-1].append(i)
        else:
            groups.append([i])
    first = next((k for k, group in enumerate(groups) if wrong in group), -1)
    return tuple(" ".join(steps[i] for i in group) for group in groups), first


def _number(text: str) -> Fraction | None:
    numbers = read_numbers(text)
    return numbers[-1].value if numbers else None


def make_all(
    problems: Sequence[tuple[str, str, str]], seed: int = 0
) -> Iterator[tuple[tuple[str, str, str], Made]]:
    """A right and a wrong solution of each problem (question, answer, reference) where one can be made."""
    rng = random.Random(seed)
    for question, answer, reference in problems:
        for made in (make_right(reference, answer, rng), make_wrong(question, reference, answer, rng)):
            if made is not None:
                yield (question, answer, reference), made
