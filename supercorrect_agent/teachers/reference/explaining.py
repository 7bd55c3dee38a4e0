"""The words of a finding: what kind of error a step holds, its cause, and the step as it should be."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from supercorrect_agent.teachers.reference.expressions import read_equations
from supercorrect_agent.teachers.reference.finding import Finding, Kind
from supercorrect_agent.teachers.reference.formulas import Formulas
from supercorrect_agent.teachers.reference.knowledge import Knowledge, Work
from supercorrect_agent.teachers.reference.mending import announce, mend
from supercorrect_agent.teachers.reference.nodes import (
    Negated,
    Node,
    Number,
    Operation,
    first_false,
    format_value,
    numbers_of,
)
from supercorrect_agent.teachers.reference.reading import Computed, Reading
from supercorrect_agent.teachers.reference.shadows import key, shadow, shadows_of
from supercorrect_agent.teachers.reference.statements import misstated, states_another_answer

_MAX_LEAD = 6  # works that a correction catches up on


def explain(formulas: Formulas, step: int, confidence: float) -> Finding:
    """Names the kind of the error of ``step`` (from 0) and writes cause and correction."""
    reading = formulas.reading
    slip = next((one for one in reading.computed if one.step == step and one.slip), None)
    if slip is not None:
        return explain_slip(reading, slip, confidence, formulas.known.given)
    said = misstated(formulas, step)
    if said is not None:
        return _explain_misstated(formulas, said, confidence)
    place = _Place(formulas, step)
    return Finding(step + 1, place.kind, place.cause, place.correction, confidence)


def explain_slip(
    reading: Reading, slip: Computed, confidence: float, given: frozenset[Fraction] = frozenset()
) -> Finding:
    """The finding for a computation whose stated value is not what it is worth."""
    step = slip.step
    text = reading.texts[step]
    pair = first_false(slip.equation)
    expression = tidy(text[slip.side.start : slip.side.end])
    value = format_value(slip.true)
    cause = f"{expression} is {value}, not {format_value(slip.stated)}."
    wrong = pair[1] if pair is not None and not pair[1].computed else slip.equation.sides[-1]
    if wrong.computed or not isinstance(wrong.node, Number):
        correction = f"{expression} = {value}"
    else:
        correction = mend(text, wrong.node, slip.true, given | reading.values_before(step))
    return Finding(step + 1, "slip", cause, correction, confidence)


def _explain_misstated(formulas: Formulas, said: tuple[Computed, Number], confidence: float) -> Finding:
    (one, stated), reading = said, formulas.reading
    text, step = reading.texts[one.step], one.step
    expression = tidy(text[one.side.start : one.side.end])
    cause = f"{expression} is {format_value(one.true)}, not {format_value(stated.value)}."
    correction = mend(text, stated, one.true, formulas.known.given | reading.values_before(step))
    return Finding(step + 1, "slip", cause, correction, confidence)


@dataclass(frozen=True)
class _Place:
    """A wrong step, its suspect computation if it has one, and the work that belongs there."""

    formulas: Formulas
    step: int

    @property
    def reading(self) -> Reading:
        return self.formulas.reading

    @property
    def known(self) -> Knowledge:
        return self.formulas.known

    @property
    def text(self) -> str:
        return self.reading.texts[self.step]

    @cached_property
    def suspect(self) -> Computed | None:
        """The first computation of the step that no right solution has, else its last one."""
        own = [index for index, one in enumerate(self.reading.computed) if one.step == self.step]
        off = [index for index in own if not self.formulas.good(index)]
        index = off[0] if off else own[-1] if own else None
        return None if index is None else self.reading.computed[index]

    @cached_property
    def done(self) -> set[Fraction]:
        """The numbers that the steps before have."""
        return self.reading.values_before(self.step)

    @cached_property
    def need(self) -> Work | None:
        """The open work closest to what the student did; with nothing in common, the next one."""
        own = None if self.suspect is None else self.suspect.stated
        open_works = [work for work in self.known.works if work.value not in self.done and work.value != own]
        order = self.known.works.index
        return max(open_works, key=lambda work: (self._fitness(work), -order(work)), default=None)

    @cached_property
    def kind(self) -> Kind:
        if states_another_answer(self.formulas) == self.step:
            return "answer"
        if self._answered:
            return "beyond" if self.suspect is not None else "answer"
        if self.suspect is None or self.need is None:
            return "quantity" if self._strange else "missing"
        own, need = (_counts(node) for node in (self.suspect.node, self.need.node))
        if own == need:
            return "operation"
        again = self.formulas.repeats(self.reading.computed.index(self.suspect))
        if again or (need < own and self.suspect.stated not in self.known.results):
            return "repeated"
        skips = _skips(own, need, self.known)
        partial = own < need or skips or self.formulas.good(self.reading.computed.index(self.suspect))
        return "missing" if partial else "quantity"

    @cached_property
    def cause(self) -> str:
        own, need = self._own, self._needed_equation
        answer = self._true_answer
        if self.kind == "answer":
            return f"The steps come to {answer}, but the answer stated is {_value(self.reading.answer)}."
        if self.kind == "beyond":
            return f"The question is already answered by {answer}; {own} goes past it."
        if self.need is None and self.suspect is not None and self.suspect.stated in self.known.results:
            return f"{own} is true, but it is not what the problem asks for."
        lead = {
            "operation": f"The right numbers, but not the right operation, in {own}",
            "missing": f"{own} leaves something out" if own else "Something is left out here",
            "repeated": f"{own} counts something once too often",
        }.get(self.kind, f"{own} is no quantity of this problem" if own else "The problem does not say this")
        return f"{lead}; it has to be {need}." if need else f"{lead}."

    @cached_property
    def correction(self) -> str:
        if self.kind in ("answer", "beyond") or self.need is None:
            ending = f"The answer is {self._true_answer}."
            right = self.kind == "answer" and self.suspect is not None
            return f"{self.text.rstrip()} {ending}" if right else ending
        sentences = [_sentence(work, self._times) for work in self._catching_up]
        if self.suspect is not None and self._fits_in_place(self.suspect, self.need):
            sentences.append(self._in_place(self.suspect, self.need))
        else:
            sentences.append(_sentence(self.need, self._times))
        return " ".join(dict.fromkeys(sentences))

    @property
    def _true_answer(self) -> str:
        return self.known.answer_text or _value(self.known.answer)

    @property
    def _answered(self) -> bool:
        """Whether the steps before have the answer, worked out and not by chance."""
        answer, formulas = self.known.answer, self.formulas
        for index, one in enumerate(self.reading.computed):
            if one.step < self.step and one.stated == answer and formulas.answers(index):
                return True
        bare = self.suspect is None and bool(self.reading.numbers[self.step])
        return bare and answer in self.done and answer not in self.known.given

    @property
    def _strange(self) -> bool:
        """Whether a step has a number that is none of the problem's, or nothing is missing beside it."""
        numbers = self.reading.values(self.step)
        found = self.known.given | self.known.results | self.done
        return bool(numbers) and (self.suspect is not None or self.need is None or not numbers <= found)

    @property
    def _own(self) -> str:
        if self.suspect is None:
            return ""
        expression = tidy(self.text[self.suspect.side.start : self.suspect.side.end])
        return f"{expression} = {format_value(self.suspect.stated)}"

    @property
    def _needed_equation(self) -> str:
        return "" if self.need is None else _equation(self.need, self._times)

    @property
    def _times(self) -> str:
        signs = ("\N{MULTIPLICATION SIGN}", "*", r"\times", r"\cdot")
        return next((sign for sign in signs if sign in self.text), "x")

    @cached_property
    def _catching_up(self) -> list[Work]:
        """The works that the needed one builds on and that the student's steps do not have yet."""
        have = self.done | self.known.given
        works = {work.value: work for work in reversed(self.known.works)}
        found: list[Work] = []
        open_: list[Node] = [self.need.node] if self.need else []
        while open_ and len(found) < _MAX_LEAD:
            for number in numbers_of(open_.pop()):
                work = works.get(number.value)
                if number.value in have or work is None or work in found or work is self.need:
                    continue
                found.append(work)
                open_.append(work.node)
        return sorted(found, key=self.known.works.index)

    def _nearness(self, work: Work) -> float:
        """The share of numbers that a work has in common with the suspect, from 0 to 1."""
        if self.suspect is None:
            return 0.0
        one, other = _counts(work.node), _counts(self.suspect.node)
        return sum((one & other).values()) / max(1, sum((one | other).values()))

    def _fitness(self, work: Work) -> float:
        """How near a work is to the suspect, and whether its value there would mend the answer."""
        if self.suspect is None:
            return 0.0
        needed = self.formulas.needed(self.reading.computed.index(self.suspect))
        shades = shadows_of(work.expanded, lambda value: (shadow(value),))
        mends = needed is not None and key(needed) in {key(shade) for shade in shades}
        return self._nearness(work) + 0.6 * mends

    def _fits_in_place(self, suspect: Computed, need: Work) -> bool:
        """Whether the student's sentence stays true with the work in it: nearly the same computation."""
        ops = [node.op for node in (need.node, suspect.node) if isinstance(node, Operation)]
        return self._nearness(need) >= (0.3 if len(ops) == 2 and ops[0] == ops[1] else 0.5)

    def _in_place(self, suspect: Computed, need: Work) -> str:
        equation = suspect.equation
        written = self.text[equation.start : equation.end]
        money = "\\$" if "\\$" in written else "$" if "$" in written else ""
        in_brackets = written[0] + written[-1] == "()" and written.count("(") == 1
        bracket = "()" if in_brackets else ""
        value, before = format_value(need.value), self.text[: equation.start].removesuffix(money)
        head = f"{before}{bracket[:1]}{write(need.node, self._times)} = {money}"
        old = Number(suspect.stated, value, len(head), len(head) + len(value))
        alone = f"{head}{value}{bracket[1:]}{self.text[equation.end :]}"
        alone, old = announce(alone, old, need.value, self.known.given | self.done)
        carried = mend(alone, old, need.value, self.known.given)
        return alone if any(map(first_false, read_equations(carried))) else carried


def _skips(own: Counter[Fraction], need: Counter[Fraction], known: Knowledge) -> bool:
    """Whether a number stands where what is made of it should: 56 x 6 for 45 x 6 with 45 = 56 - 11."""
    instead, wanted = set(own - need), set(need - own)
    return any(
        work.value in wanted and instead & {number.value for number in numbers_of(work.node)}
        for work in known.works
    )


def _counts(node: Node) -> Counter[Fraction]:
    return Counter(number.value for number in numbers_of(node))


def _sentence(work: Work, times: str) -> str:
    """The work in words where there are any, else as an equation."""
    words = " ".join(work.sentence.split())
    if not 0 < len(words) <= 400:
        return f"{_equation(work, times)}."
    return words if words[-1] in ".!?:" else f"{words}."


def _equation(work: Work, times: str) -> str:
    return f"{write(work.node, times)} = {format_value(work.value)}"


def _value(value: Fraction | None) -> str:
    return "another value" if value is None else format_value(value)


def tidy(text: str) -> str:
    """An expression on one line without stray brackets or a sign at its end."""
    line = " ".join(text.split()).strip(" =,.;:")
    return line[1:] if line.startswith("(") and line.count("(") > line.count(")") else line


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
