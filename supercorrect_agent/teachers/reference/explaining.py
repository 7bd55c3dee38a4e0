"""The words of a finding: what kind of error a step holds, its cause, and the step as it should be."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

from supercorrect_agent.teachers.reference.finding import Finding, Kind
from supercorrect_agent.teachers.reference.knowledge import Knowledge, Work
from supercorrect_agent.teachers.reference.nodes import (
    Equation,
    Negated,
    Node,
    Number,
    Operation,
    first_false,
    format_value,
    numbers_of,
)
from supercorrect_agent.teachers.reference.reading import Computed, Reading


@dataclass(frozen=True)
class _Place:
    """The step to explain, its suspect computation if it has one, and the work that belongs there."""

    step: int
    suspect: Computed | None
    need: Work | None


def explain(reading: Reading, known: Knowledge, step: int, confidence: float) -> Finding:
    """Names the kind of the error of ``step`` (from 0) and writes cause and correction."""
    slip = next((one for one in reading.computed if one.step == step and one.slip), None)
    if slip is not None:
        return _slip(reading, slip, step, confidence)
    place = _place(reading, known, step)
    kind = _kind(reading, known, place)
    return Finding(
        step + 1,
        kind,
        _cause(reading, known, place, kind),
        _correction(reading, known, place, kind),
        confidence,
    )


def _slip(reading: Reading, slip: Computed, step: int, confidence: float) -> Finding:
    text = reading.texts[step]
    pair = first_false(slip.equation)
    expression = tidy(text[slip.side.start : slip.side.end])
    value = format_value(slip.true)
    cause = f"{expression} is {value}, not {format_value(slip.stated)}."
    wrong = pair[1] if pair is not None and not pair[1].computed else slip.equation.sides[-1]
    if wrong.computed or not isinstance(wrong.node, Number):
        correction = f"{expression} = {value}"
    else:
        correction = _replace(text, wrong.node, value)
    return Finding(step + 1, "slip", cause, correction, confidence)


def _place(reading: Reading, known: Knowledge, step: int) -> _Place:
    """The computation of the step that is wrong and the reference's work that should stand there."""
    mine = [one for one in reading.computed if one.step == step]
    off = [one for one in mine if one.stated not in known.results and one.stated not in known.derived]
    suspect = off[0] if off else mine[-1] if mine else None
    done = _done_before(reading, known, step)
    need = _needed(reading, known, suspect, done)
    return _Place(step, suspect, need)


def _done_before(reading: Reading, known: Knowledge, step: int) -> set[Fraction]:
    before = {one.stated for one in reading.computed if one.step < step}
    return before | {number.value for numbers in reading.numbers[:step] for number in numbers}


def _needed(reading: Reading, known: Knowledge, suspect: Computed | None, done: set[Fraction]) -> Work | None:
    """The work closest to what the student did: same numbers first, then one that repairs the answer."""
    open_works = [work for work in known.works if work.value not in done]
    if suspect is not None:
        index = reading.computed.index(suspect)
        ranked = sorted(
            open_works,
            key=lambda work: (
                -_overlap(work.node, suspect.node),
                reading.rerun(index, work.value) != known.answer,
            ),
        )
        if ranked and _overlap(ranked[0].node, suspect.node) > 0:
            return ranked[0]
        for work in open_works:
            if known.answer is not None and reading.rerun(index, work.value) == known.answer:
                return work
    if open_works:
        return open_works[0]
    return known.works[-1] if known.works else None


def _overlap(need: Node, own: Node) -> float:
    """The share of numbers that two expressions have in common, from 0 to 1."""
    one, other = (Counter(number.value for number in numbers_of(node)) for node in (need, own))
    shared = sum((one & other).values())
    return shared / max(1, sum((one | other).values()))


def _kind(reading: Reading, known: Knowledge, place: _Place) -> Kind:
    before = {one.stated for one in reading.computed if one.step < place.step}
    before |= {number.value for numbers in reading.numbers[: place.step] for number in numbers}
    if known.answer is not None and known.answer in before and known.answer not in known.given:
        return "answer" if place.suspect is None else "beyond"
    if place.suspect is None or place.need is None:
        return "quantity" if reading.numbers[place.step] else "missing"
    own = Counter(number.value for number in numbers_of(place.suspect.node))
    need = Counter(number.value for number in numbers_of(place.need.node))
    if own == need and place.suspect.stated != place.need.value:
        return "operation"
    if place.suspect.stated in known.results or own < need:
        return "missing"
    if need < own or _again(place.suspect, known):
        return "repeated"
    return "quantity"


def _again(suspect: Computed, known: Knowledge) -> bool:
    """Whether an operand that the value already holds is put to it once more."""
    if not isinstance(suspect.node, Operation):
        return False
    own = {number.value for number in numbers_of(suspect.node)}
    return any(
        work.value in own and own - {work.value} <= {number.value for number in numbers_of(work.node)}
        for work in known.works
    )


def _cause(reading: Reading, known: Knowledge, place: _Place, kind: Kind) -> str:
    text = reading.texts[place.step]
    own = tidy(text[place.suspect.side.start : place.suspect.side.end]) if place.suspect else ""
    need = f"{write(place.need.node)} = {format_value(place.need.value)}" if place.need else ""
    if kind == "answer":
        return f"The steps come to {_value(known.answer)}, but the answer stated is {_value(reading.answer)}."
    if kind == "beyond":
        return f"The question is already answered by {_value(known.answer)}; {own} goes past it."
    if kind == "operation" and place.suspect and place.need:
        return f"The right numbers, but not the right operation: it is {need}, not {own}."
    if kind == "missing":
        lead = f"{own} leaves something out" if own else "Something is left out here"
        return f"{lead}: the problem asks for {need}." if need else f"{lead}."
    if kind == "repeated":
        return f"{own} counts something once too often: it is {need}."
    lead = f"Nothing in the problem comes to {own}" if own else "This is not what the problem says"
    return f"{lead}; what it gives is {need}." if need else f"{lead}."


def _correction(reading: Reading, known: Knowledge, place: _Place, kind: Kind) -> str:
    text = reading.texts[place.step]
    if kind in ("answer", "beyond"):
        return f"The answer is {_value(known.answer)}."
    if place.need is None:
        return f"The answer is {_value(known.answer)}." if known.answer is not None else ""
    sign = _times_of(text)
    before = _missing_works(reading, known, place)
    lead = "".join(f"{write(work.node, sign)} = {format_value(work.value)}. " for work in before)
    body = f"{write(place.need.node, sign)} = {format_value(place.need.value)}"
    if place.suspect is None:
        return f"{lead}{body}"
    equation: Equation = place.suspect.equation
    money = "$" if "$" in text[equation.start : equation.end] else ""
    stated = f"{write(place.need.node, sign)} = {money}{format_value(place.need.value)}"
    return lead + text[: equation.start].rstrip("$") + stated + text[equation.end :]


def _missing_works(reading: Reading, known: Knowledge, place: _Place) -> list[Work]:
    """The works that the needed one builds on and that the student's steps do not have yet."""
    have = _done_before(reading, known, place.step) | known.given
    needed: list[Work] = []
    open_: list[Node] = [place.need.node] if place.need else []
    works = {work.value: work for work in reversed(known.works)}
    while open_ and len(needed) < 8:
        for number in numbers_of(open_.pop()):
            work = works.get(number.value)
            if number.value in have or work is None or work in needed or work is place.need:
                continue
            needed.append(work)
            open_.append(work.node)
    return sorted(needed, key=known.works.index)


def _replace(text: str, number: Number, value: str) -> str:
    return text[: number.start] + value + text[number.end :]


def _value(value: Fraction | None) -> str:
    return "another value" if value is None else format_value(value)


def _times_of(text: str) -> str:
    return next((sign for sign in ("\N{MULTIPLICATION SIGN}", "*", r"\times", r"\cdot") if sign in text), "x")


def tidy(text: str) -> str:
    """An expression on one line without stray brackets or a sign at its end."""
    return " ".join(text.split()).strip(" =,.;:")


def write(node: Node, times: str = "x") -> str:
    """An expression as one writes it, with brackets where they are needed."""
    if isinstance(node, Number):
        return node.text
    if isinstance(node, Negated):
        return f"-{_bracketed(node.operand, 2, times)}"
    if not isinstance(node, Operation):
        return node.text
    level = 1 if node.op in "+-" else 2 if node.op in "*/" else 3
    sign = times if node.op == "*" else node.op
    right = _bracketed(node.right, level + (node.op in "-/^"), times)
    return f"{_bracketed(node.left, level, times)} {sign} {right}"


def _bracketed(node: Node, least: int, times: str) -> str:
    level = 4 if not isinstance(node, Operation) else 1 if node.op in "+-" else 2 if node.op in "*/" else 3
    text = write(node, times)
    return f"({text})" if level < least else text
