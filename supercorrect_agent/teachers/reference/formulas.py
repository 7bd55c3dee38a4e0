"""How each computation of a solution stands to the reference as a formula, and what would mend the answer."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import cached_property
from typing import Final, Literal

from supercorrect_agent.teachers.reference.knowledge import Knowledge
from supercorrect_agent.teachers.reference.nodes import Negated, Node, Number, Operation, numbers_of
from supercorrect_agent.teachers.reference.reading import Reading
from supercorrect_agent.teachers.reference.shadows import combine, key, shadow, shadows_of

Standing = Literal["result", "derived", "completes", "value", "none"]
GOOD: Final = ("result", "derived", "completes")
_MAX_POOL: Final = 40
_MAX_OPTIONS: Final = 4


class Formulas:
    """The computations of a reading seen through their shadows.

    ``standing[i]`` is ``result`` or ``derived`` (a formula of the reference or an equivalent regrouping of
    one), ``completes`` (one operation with a number at hand away from one), ``value`` (a value of the
    reference come by in another way), or ``none``.
    """

    def __init__(self, reading: Reading, known: Knowledge) -> None:
        self.reading, self.known = reading, known
        self.pool = sorted(known.given | known.operands)[:_MAX_POOL]
        self.shades: list[list[float]] = []
        self.standing: list[Standing] = []
        for index in range(len(reading.computed)):
            self._add(index)

    def good(self, index: int) -> bool:
        """Whether a computation is a formula that a right solution can have."""
        return self.standing[index] in GOOD

    def good_inputs(self, index: int) -> bool:
        """Whether everything that a computation is made from is good."""
        return all(self.good(source) for source in self.reading.sources[index].values())

    def answers(self, index: int) -> bool:
        """Whether a computation is the reference's formula of the answer; a good one where there is none."""
        if self._answer is None:
            return self.good(index)
        return key(self._answer) in {key(shade) for shade in self.shades[index]}

    def repeats(self, index: int) -> bool:
        """Whether a number that a value already holds is put to it once more: 45 - 11 with 45 = 56 - 11."""
        one = self.reading.computed[index]
        own = {number.value for number in numbers_of(one.node)}
        return (
            self.standing[index] == "none"
            and len(own) > 1
            and any(
                work.value in own and own - {work.value} <= {number.value for number in numbers_of(work.node)}
                for work in self.known.works
            )
        )

    @cached_property
    def need(self) -> dict[int, Standing]:
        """For each computation that the answer hangs on: how the value stands that would mend the answer."""
        found: dict[int, Standing] = {}
        for index in sorted(self.reading.ancestors):
            shade = self.needed(index)
            if shade is not None and key(shade) not in {key(own) for own in self.shades[index]}:
                found[index] = self._standing({shade}, set())
        return found

    @cached_property
    def edits(self) -> frozenset[int]:
        """The computations that mend the answer with another operator or another operand."""
        return frozenset(index for index in self.reading.ancestors if self._edit_mends(index))

    def needed(self, index: int) -> float | None:
        """The shadow that computation ``index`` needs for the answer to come out right; None if unknown."""
        target = self._answer
        if target is None or index == self.reading.last:
            return target
        one, two, three = (self._rerun(index, shade) for shade in (1.0, 2.0, 3.0))
        if one is None or two is None or three is None:
            return None
        rise = two - one
        if abs((three - two) - rise) < 1e-9 * max(1.0, abs(three)):
            return None if abs(rise) < 1e-12 else 1 + (target - one) / rise
        inverse = bool(one and two and target) and abs(one / two - 2) < 1e-9
        return one / target if inverse else None

    @cached_property
    def _answer(self) -> float | None:
        for work in reversed(self.known.works):
            if work.value == self.known.answer:
                return next(iter(shadows_of(work.expanded, _plainly)), None)
        return None

    def _add(self, index: int) -> None:
        one = self.reading.computed[index]
        shades = shadows_of(one.node, lambda value: self._options(value, index))
        if one.true == 0:
            shades.add(0.0)
        self.shades.append(sorted(shades, key=lambda shade: (self._rank(shade), shade)))
        standing = self._standing(shades, {number.value for number in numbers_of(one.node)})
        if not self.known.works:
            standing = "derived"  # nothing to compare with: only false arithmetic can be told
        if one.slip:
            standing = "none"
        by_chance = standing == "none" and one.stated in self.known.results
        self.standing.append("value" if by_chance else standing)

    def _options(self, value: Fraction, index: int) -> list[float]:
        """The shadows that a number may have: an earlier result's, the question's, or mental arithmetic's."""
        source = self.reading.sources[index].get(value)
        options = [] if source is None else self.shades[source][:_MAX_OPTIONS]
        if value in self.known.given or not options:
            options = [*options, shadow(value)]
        if value not in self.known.given and source is None:
            options = [*options, *self.known.origins.get(value, ())]
        return options

    def _rank(self, shade: float) -> int:
        return 0 if key(shade) in self.known.shadows else 1 if key(shade) in self.known.derived_shadows else 2

    def _standing(self, shades: set[float], own: set[Fraction]) -> Standing:
        keys = {key(shade * sign) for shade in shades for sign in (1, -1)}
        if keys & self.known.shadows:
            return "result"
        if (keys | {key(shade * 100) for shade in shades}) & self.known.derived_shadows:
            return "derived"
        return "completes" if self._completes(shades, own) else "none"

    def _completes(self, shades: set[float], own: set[Fraction]) -> bool:
        """Whether one more operation, with a number not in it yet, makes it a formula of the reference."""
        for value in self.pool:
            other = shadow(value)
            if value in own or not other:
                continue
            for shade in shades:
                results = (shade + other, shade - other, other - shade, shade * other, shade / other)
                if any(key(result) in self.known.shadows for result in results):
                    return True
                if shade and key(other / shade) in self.known.shadows:
                    return True
        return False

    def _rerun(self, index: int, shade: float) -> float | None:
        """The shadow of the answer when computation ``index`` has this one."""
        reading = self.reading
        if reading.last is None or index not in reading.ancestors:
            return None
        values: dict[int, float | None] = {index: shade}
        for later in range(index + 1, reading.last + 1):
            moved = {old: values[at] for old, at in reading.sources[later].items() if at in values}
            if moved:
                values[later] = self._replay(reading.computed[later].node, later, moved)
        return values.get(reading.last)

    def _replay(self, node: Node, index: int, moved: dict[Fraction, float | None]) -> float | None:
        if isinstance(node, Number):
            return moved[node.value] if node.value in moved else self._options(node.value, index)[0]
        if isinstance(node, Negated):
            inner = self._replay(node.operand, index, moved)
            return None if inner is None else -inner
        if not isinstance(node, Operation):
            return None
        left, right = (self._replay(side, index, moved) for side in (node.left, node.right))
        return None if left is None or right is None else combine(node.op, left, right)

    def _edit_mends(self, index: int) -> bool:
        need = self.needed(index)
        if need is None:
            return False
        own = {key(shade) for shade in self.shades[index]}
        return any(key(shade) == key(need) and key(shade) not in own for shade in self._edited(index))

    def _edited(self, index: int) -> Iterator[float]:
        """The shadows of a computation with one operator or one operand changed, or one left out."""
        node = self.reading.computed[index].node
        if not isinstance(node, Operation):
            return
        left, right = (self._first_shade(side, index) for side in (node.left, node.right))
        if left is None or right is None:
            return
        earlier = [shades[0] for shades in self.shades[max(0, index - _MAX_POOL) : index] if shades]
        changed = [(op, *pair) for op in "+-*/" for pair in ((left, right), (right, left))]
        for other in [shadow(value) for value in self.pool] + earlier:
            changed += [(node.op, other, right), (node.op, left, other)]
        yield from (shade for change in changed if (shade := combine(*change)) is not None)
        yield left
        yield right

    def _first_shade(self, node: Node, index: int) -> float | None:
        return next(iter(shadows_of(node, lambda value: self._options(value, index)[:1])), None)


def _plainly(value: Fraction) -> tuple[float]:
    return (shadow(value),)
