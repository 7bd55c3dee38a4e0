"""Where the computations of a wrong solution lead: back to a quantity of the reference, or nowhere."""

from __future__ import annotations

from supercorrect_agent.teachers.reference.formulas import Formulas


def first_stray(formulas: Formulas) -> int | None:
    """The first step (from 0) that leaves the reference for good, with no other step to blame.

    The answer hangs on it, not all that it computes is a result of the reference, no later computation comes
    back to one, and no change to another computation would mend the answer.
    """
    reading, standing = formulas.reading, formulas.standing
    later = _later(formulas)
    groups: dict[int, list[int]] = {}
    for index, one in enumerate(reading.computed):
        groups.setdefault(one.step, []).append(index)
    for step, own in groups.items():
        serves = reading.last is None or any(index in reading.ancestors for index in own)
        if not serves or all(standing[index] == "result" for index in own):
            continue
        back = any(_is_back(formulas, one) for index in own for one in later[index])
        innocent = any(index in reading.ancestors and formulas.edits - {index} for index in own)
        if not back and not innocent:
            return step
    return None


def _later(formulas: Formulas) -> list[set[int]]:
    """For each computation, those that are made from its value, at once or in the end."""
    later: list[set[int]] = [set() for _ in formulas.reading.computed]
    for index in reversed(range(len(later))):
        for source in formulas.reading.sources[index].values():
            later[source] |= {index} | later[index]
    return later


def _is_back(formulas: Formulas, index: int) -> bool:
    standing, known = formulas.standing[index], formulas.known
    given = formulas.reading.computed[index].stated in known.given
    return standing == "result" or (standing == "derived" and not given)
