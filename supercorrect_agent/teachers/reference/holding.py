"""Which steps of LaTeX prose hold for sure, so that a wrong answer is never blamed on them."""

from __future__ import annotations

from collections.abc import Sequence

from supercorrect_agent.teachers.reference.latex import parse
from supercorrect_agent.teachers.reference.paragraphs import unbox
from supercorrect_agent.teachers.reference.relations import formulas_of, links_of
from supercorrect_agent.teachers.reference.support import Content, Key, content_of, is_telling, value_key
from supercorrect_agent.teachers.reference.suspicions import folded
from supercorrect_agent.types import Problem


class Holding:
    """The steps of one solution beside what its reference states.

    Args:
        problem: With its reference solution.
        steps: The texts of the steps.
        contents: What each of them contains.
    """

    def __init__(self, problem: Problem, steps: Sequence[str], contents: Sequence[Content]) -> None:
        reference = unbox(problem.reference_solution or "")
        self._steps, self._contents = steps, contents
        self._stated = {folded(link.text) for link in links_of(reference)}
        given = content_of(problem.question).written
        self._values = {key for key in content_of(reference).written - given if is_telling(key)}

    def departure(self, truth: Key | None, final: Key | None) -> int | None:
        """The first step that leaves the true answer behind, None where no step before the last has it.

        Args:
            truth: The value of the true answer; None where it has none.
            final: The value of the answer stated.
        """
        last = len(self._steps) - 1
        reached = [i for i in range(last) if truth is not None and self._reaches(i, truth)]
        if not reached:
            return None
        later = range(reached[-1] + 1, last + 1)
        return next((i for i in later if final is not None and final in self._contents[i].written), last)

    def past(self, index: int) -> int:
        """The step, or where it holds the first behind it that does not, else the last."""
        last = len(self._steps) - 1
        return next((i for i in range(index, last) if not self._holds(i)), last)

    def _reaches(self, index: int, truth: Key) -> bool:
        """Whether a step comes to the true answer: a small value might be met by chance."""
        if truth not in (set(self._contents[index].results) or self._worth(index)):
            return False
        return truth in self._values or self._restates(index)

    def _holds(self, index: int) -> bool:
        results = set(self._contents[index].results) or self._worth(index)
        return self._restates(index) or (bool(results) and results <= self._values)

    def _restates(self, index: int) -> bool:
        """Whether all relations of a step are relations of the reference."""
        relations = {folded(link.text) for link in links_of(self._steps[index])}
        return bool(relations) and relations <= self._stated

    def _worth(self, index: int) -> set[Key]:
        """The values of the formulas of a step that holds no equation."""
        nodes = [parse(formula) for formula, _, _ in formulas_of(self._steps[index])]
        return {key for node in nodes if node is not None and (key := value_key(node)) is not None}
