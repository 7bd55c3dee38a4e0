r"""Judges solutions of MATH problems by a reference in LaTeX prose and the true answer, without a model.

A solution with the true answer is right unless a plain calculation in it is false. In one with another answer
the first step with a claim that is false by itself is the wrong one; where all claims hold by themselves, the
step whose results leave what the reference knows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from supercorrect_agent.teachers.reference.finding import Finding
from supercorrect_agent.teachers.reference.holding import Holding
from supercorrect_agent.teachers.reference.latex import parse, value_of
from supercorrect_agent.teachers.reference.paragraphs import drop_drawings, sentences_of, unbox
from supercorrect_agent.teachers.reference.relations import formulas_of, links_of
from supercorrect_agent.teachers.reference.support import (
    Content,
    Key,
    content_of,
    is_telling,
    key_of,
    last_values,
    next_sentences,
    value_key,
)
from supercorrect_agent.teachers.reference.suspicions import Suspicion, folded, shown, suspicions_of
from supercorrect_agent.teachers.reference.trees import Number, Unreadable, evaluate
from supercorrect_agent.templates import extract_answer
from supercorrect_agent.types import Problem
from supercorrect_agent.verification import MathVerifier

MAX_STEPS = 200
"""Steps that are judged, from the first on."""

MAX_LENGTH = 20_000
"""Characters of the question, of the reference and of each step that are read."""

_CHAIN_END = re.compile(r"\A\s*=[^$]*?(?=\.?\s*(?:\$|\\\)|\\\]|\Z))", re.DOTALL)
_SURE = 0.69
_CERTAIN = 0.95
_VERIFIER = MathVerifier(seconds=2.0)


@dataclass(frozen=True, slots=True)
class _Judged:
    """A problem with the steps of a solution, and what each step contains and what speaks against it."""

    problem: Problem
    steps: tuple[str, ...]
    reference: tuple[str, ...]
    contents: tuple[Content, ...]
    doubts: tuple[tuple[Suspicion, ...], ...]

    @property
    def answer(self) -> str:
        return self.problem.answer or ""


def locate_math(problem: Problem, steps: Sequence[str], answer: str | None = None) -> Finding | None:
    r"""Finds the first wrong step of a solution of a MATH problem.

    Args:
        problem: With its reference solution and, unless that boxes it, its true answer.
        steps: The steps' texts, without tags; paragraphs of any length.
        answer: The solution's final answer, where it stands apart from the steps. Otherwise the last
            ``\boxed{}`` of the steps, else their last number.

    Returns:
        The first wrong step, or None for a solution that is right.
    """
    if not steps:
        return None
    steps = [step[:MAX_LENGTH] for step in steps[:MAX_STEPS]]
    problem = problem.model_copy(
        update={
            "question": problem.question[:MAX_LENGTH],
            "reference_solution": (problem.reference_solution or "")[:MAX_LENGTH],
        }
    )
    reference = problem.reference_solution or ""
    truth = problem.answer if problem.answer is not None else extract_answer(reference)[0]
    read, where = extract_answer("\n\n".join(steps))
    stated = read if answer is None else answer
    right = _VERIFIER.verify(answer=stated, target=truth).status in ("correct", "unscored")
    guessed = where in ("last_number", "none") and stated == read
    right = right or (guessed and _ends_with(steps[-1], truth or ""))
    judged = _judge(problem.model_copy(update={"answer": truth}), steps)
    wrong = _certainly_false(judged) if right else _first_doubt(judged)
    if wrong is not None:
        return _finding(judged, *wrong)
    if right:
        return None
    return _unsupported(judged, stated)


def _ends_with(step: str, truth: str) -> bool:
    """Whether a last step that boxes nothing comes to the true answer in its last sentence."""
    sentence = (sentences_of(step) or [step])[-1]
    value = _key(truth)
    if value is None:
        return bool(truth) and folded(truth) in folded(sentence)
    content = content_of(sentence)
    return value in (content.results or content.written)


def _judge(problem: Problem, steps: Sequence[str]) -> _Judged:
    reference = problem.reference_solution or ""
    known = {folded(link.text) for text in (problem.question, reference) for link in links_of(text)}
    return _Judged(
        problem=problem,
        steps=tuple(steps),
        reference=tuple(unbox(sentence) for sentence in sentences_of(drop_drawings(reference))),
        contents=tuple(content_of(step) for step in steps),
        doubts=tuple(
            map(
                tuple,
                suspicions_of(steps, frozenset(known), _letter_values(problem), _letters_asked(problem)),
            )
        ),
    )


def _letter_values(problem: Problem) -> dict[str, Number]:
    """The letters to which the reference gives one value and no other."""
    found: dict[str, set[Key]] = {}
    values: dict[str, Number] = {}
    name, chain = "", -1
    for link in links_of(problem.reference_solution or ""):
        if link.chain != chain:
            name, chain = link.one.name if link.one.kind == "letter" else "", link.chain
        try:
            value = evaluate(link.other)
        except Unreadable:
            continue
        if name and link.sign == "=":
            values[name] = value
            found.setdefault(name, set()).add(key_of(value))
    return {letter: values[letter] for letter, keys in found.items() if len(keys) == 1 and letter != "i"}


def _letters_asked(problem: Problem) -> frozenset[str]:
    """The letters of the question's formulas."""
    nodes = [parse(formula) for formula, _, _ in formulas_of(problem.question)]
    sides = [side for link in links_of(problem.question) for side in (link.one, link.other)]
    return frozenset[str]().union(*(node.letters() for node in [*nodes, *sides] if node is not None))


def _certainly_false(judged: _Judged) -> tuple[int, Suspicion] | None:
    """In a solution with the true answer: a false calculation with plain numbers, which nothing explains."""
    for i, doubts in enumerate(judged.doubts):
        for doubt in doubts:
            exact = isinstance(doubt.value, Fraction) and "\\text" not in doubt.link.text
            if doubt.sure >= _CERTAIN and exact and doubt.link.sign == "=" and "%" not in doubt.link.text:
                return i, doubt
    return None


def _first_doubt(judged: _Judged) -> tuple[int, Suspicion] | None:
    for i, doubts in enumerate(judged.doubts):
        sure = [doubt for doubt in doubts if doubt.sure >= _SURE]
        if sure:
            return i, max(sure, key=lambda doubt: doubt.sure)
    return None


def _finding(judged: _Judged, index: int, doubt: Suspicion) -> Finding:
    return Finding(index + 1, "slip", doubt.cause, _corrected(judged, index, doubt), doubt.sure)


def _corrected(judged: _Judged, index: int, doubt: Suspicion) -> str:
    """The step with the right value in place of the wrong one; else what the reference does there."""
    step, link = judged.steps[index], doubt.link
    if isinstance(doubt.value, Fraction) and value_of(link.left) == doubt.value:
        side = r"\s*=\s*".join(re.escape(part.strip()) for part in (link.left, link.right))
        found = re.compile(side + r"(?![\d^])").search(step, link.start, link.end)
        if found and index < len(judged.steps) - 1:
            rest = _CHAIN_END.sub("", step[found.end() : link.end]) + step[link.end :]
            return f"{step[: found.start()]}{link.left.strip()} = {shown(doubt.value)}{rest}"
    return _from_reference(judged, index)


def _from_reference(judged: _Judged, index: int) -> str:
    """What the reference does after the steps before; a last step gives the answer too."""
    text = next_sentences(judged.reference, judged.steps[:index], judged.problem.question)
    last = index == len(judged.steps) - 1
    if last or not text or " ".join(text.split()) == " ".join(judged.steps[index].split()):
        text = f"{text} So the answer is $\\boxed{{{judged.answer}}}$.".strip()
    return text


def _unsupported(judged: _Judged, stated: str | None) -> Finding:
    """Where no claim is false by itself: the step whose results leave what the reference knows."""
    known = (
        content_of(judged.problem.question).written
        | content_of(judged.problem.reference_solution or "").written
    )
    final = _key(stated)
    holding = Holding(judged.problem, judged.steps, judged.contents)
    departs = holding.departure(_key(judged.answer), final)
    computed = holding.past(_leaves(judged, known, final)) if departs is None else departs
    index = _or_statement_before(judged, computed) if departs is None else departs
    wrong = next((key for key in _news(judged, computed) if key not in known), final)
    correction = _from_reference(judged, index)
    if index == len(judged.steps) - 1 and wrong == final and not judged.contents[index].results:
        cause = f"The steps before hold, but ${stated}$ is not what the question asks for."
        return Finding(index + 1, "answer", cause, correction, 0.4)
    return Finding(index + 1, "quantity", _no_quantity(judged, computed, wrong, stated), correction, 0.4)


def _no_quantity(judged: _Judged, index: int, wrong: Key | None, stated: str | None) -> str:
    """Says that a value does not belong to the problem, with the calculation that led to it."""
    links = reversed(links_of(judged.steps[index]))
    link = next((link for link in links if wrong is not None and value_key(link.other) == wrong), None)
    if link is None:
        value = (stated or "") if wrong is None or isinstance(wrong, float) else shown(wrong)
        return f"This way leads to ${value}$, which the conditions of the problem do not give."
    right = link.right.strip().rstrip(".,;")
    return (
        f"${link.left.strip()} = {right}$ is not what the problem calls for here: its conditions lead to "
        f"another calculation, and ${right}$ is no quantity of it."
    )


def _leaves(judged: _Judged, known: frozenset[Key], final: Key | None) -> int:
    """The step from which the wrong answer comes, traced back through the equations that led to it.

    From the step that first has the answer back to where its unknown numbers came from, as long as there are
    any; a number from which a value of the reference was reached is not unknown.
    """
    if final is None:
        return _first_unknown(judged, known)
    index, wanted = _states(judged, final), final
    if not judged.contents[index].results and index == len(judged.steps) - 1:
        return _first_unknown(judged, known)
    fine = known | _vindicated(judged, known)
    seen: set[Key] = {final}
    while True:
        inputs = judged.contents[index].results.get(wanted) or _reused(judged, index)
        origins = [(i, key) for key in inputs - fine - seen if (i := _origin(judged, key, index)) is not None]
        if not origins:
            return index
        index, wanted = min(origins, key=lambda origin: origin[0])
        seen.add(wanted)


def _reused(judged: _Judged, index: int) -> frozenset[Key]:
    """The values in a step that an equation of an earlier step came to."""
    earlier = frozenset[Key]().union(*(content.results for content in judged.contents[:index]))
    return judged.contents[index].written & earlier


def _or_statement_before(judged: _Judged, index: int) -> int:
    """The step before, where that only says how to go on: the numbers of this one follow from it.

    The first step is spared, since it mostly repeats the question.
    """
    if index < 2 or judged.contents[index - 1].results:
        return index
    earlier = frozenset[Key]().union(*(content.written for content in judged.contents[: index - 1]))
    given = content_of(judged.problem.question).written
    news = judged.contents[index - 1].written - earlier - given
    return index if any(map(is_telling, news)) else index - 1


def _states(judged: _Judged, final: Key) -> int:
    """The step that first has the final answer; a small number must stay to the end from there."""
    last = len(judged.steps) - 1
    if is_telling(final):
        has = [final in content.written for content in judged.contents]
        return has.index(True) if True in has else last
    has = [final in (content.results or content.written) for content in judged.contents]
    while last > 0 and has[last] and has[last - 1]:
        last -= 1
    return last


def _first_unknown(judged: _Judged, known: frozenset[Key]) -> int:
    """The first step with an unknown result behind the last one with a telling known one."""
    last = len(judged.steps) - 1
    unknown = [i for i in range(last + 1) if any(key not in known for key in _news(judged, i))]
    given = content_of(judged.problem.question).written
    supported = [
        i for i in range(last) if any(is_telling(key) and key in known - given for key in _news(judged, i))
    ]
    after = supported[-1] if supported else -1
    return next((i for i in unknown if i > after), unknown[0] if unknown else last)


def _origin(judged: _Judged, key: Key, before: int) -> int | None:
    """The earlier step that first has a value."""
    return next((i for i in range(before) if key in judged.contents[i].written), None)


def _vindicated(judged: _Judged, known: frozenset[Key]) -> frozenset[Key]:
    """The inputs, near and far, of telling values that the reference has too."""
    fine: set[Key] = set()
    for content in reversed(judged.contents):
        for value, inputs in reversed(content.results.items()):
            if (value in known and is_telling(value)) or value in fine:
                fine |= inputs
    return frozenset(fine)


def _news(judged: _Judged, index: int) -> list[Key]:
    """The results of a step that no step before it has; its last number where it has none."""
    content = judged.contents[index]
    results = list(content.results) or last_values(judged.steps[index])[-1:]
    earlier = frozenset[Key]().union(*(c.written for c in judged.contents[:index]))
    return [key for key in results if key not in earlier]


def _key(text: str | None) -> Key | None:
    value = value_of(text) if text else None
    return None if value is None else key_of(value)
