"""The hierarchical solution of a problem (paper section 4.1), written from its reference without a model.

Stage 1 learns the format from these: short steps in the reference's own words, a Key where a rule says that
the step is easy to get wrong, a Generalized without this problem's numbers, the true answer.
"""

from __future__ import annotations

import re

from supercorrect_agent.teachers.reference.advice import prose_key
from supercorrect_agent.teachers.reference.hints import line_key
from supercorrect_agent.teachers.reference.kinds import line_summary
from supercorrect_agent.teachers.reference.lines import split_lines
from supercorrect_agent.teachers.reference.paragraphs import split_prose
from supercorrect_agent.teachers.reference.techniques import prose_summary
from supercorrect_agent.templates import extract_answer, format_solution, is_strict, parse_solution
from supercorrect_agent.types import Problem, Solution, Step

MAX_LENGTH = 20_000
"""Characters. A longer reference is no solution that anybody learns steps from."""

_LATEX = re.compile(r"\\(?:boxed|frac|begin|\[|\()|\$[^$\n]*[\\^_][^$\n]*\$|\$ ?[A-Za-z][^$\n]*\$")
_NAMES_SOURCE = re.compile(
    r"\b(?:reference|official|given|provided|model)\s+(?=(?:solution|answer)s?\b)"
    r"|\bknown\s+true\s+(?=answer\b)"
    r"|(?<=\bthe\s)correct\s+(?=(?:final\s+)?answer\b|solution\b)",
    re.IGNORECASE,
)
_NAMES_TRUTH = re.compile(r"\bground[\s-]+truth\b|\banswer\s+key\b", re.IGNORECASE)
_DRAWING = re.compile(r"\[asy\].*?(?:\[/asy\]|\Z)", re.DOTALL)
_TAG = re.compile(r"</?\s*(?:step\s*\d*|key|generalized|answer|cause|correction|evaluate)\b[^>]*>", re.I)


def write_solution(problem: Problem, *, model: str = "") -> Solution | None:
    r"""Writes the hierarchical solution of a problem from its reference solution alone.

    Args:
        problem: Its reference is GSM8K's kind (a line a step, calculator marks) or MATH's (LaTeX prose).
            Where ``answer`` is None, the reference's own ``\boxed{}``, or last number, is the answer.
        model: Recorded as the author.

    Returns:
        The solution as read back from its strict form; None where there is no reference (or one longer than
        ``MAX_LENGTH``), no answer, or no strict form.
    """
    if len(problem.reference_solution or "") > MAX_LENGTH:
        return None
    reference = _plain(problem.reference_solution or "")
    answer = problem.answer if problem.answer is not None else extract_answer(reference)[0]
    if not reference or not (answer or "").strip():
        return None
    steps, generalized = (
        _from_prose(problem, reference) if is_prose(reference) else _from_lines(problem, reference)
    )
    draft = Solution(steps=steps, generalized=generalized, answer=str(answer).strip())
    written = format_solution(draft)
    solution = parse_solution(written, model=model)
    return solution if is_strict(written) and _same(draft, solution) else None


def is_prose(reference: str) -> bool:
    """Whether a reference is LaTeX prose, as MATH's are, and not lines of plain arithmetic."""
    return "<<" not in reference and _LATEX.search(reference) is not None


def _plain(reference: str) -> str:
    """The reference without drawings, tags of the template and words that name it as the source."""
    text = _TAG.sub("", _DRAWING.sub("\n\n", reference.replace("\r\n", "\n")))
    return _NAMES_TRUTH.sub("result", _NAMES_SOURCE.sub("", text)).strip()


def _from_lines(problem: Problem, reference: str) -> tuple[tuple[Step, ...], str]:
    lines, used = split_lines(reference), set[str]()
    steps = tuple(
        Step(index=i, text=line.text, key=line_key(problem.question, line, last=i == len(lines), used=used))
        for i, line in enumerate(lines, 1)
    )
    return steps, line_summary(problem.question, lines)


def _from_prose(problem: Problem, reference: str) -> tuple[tuple[Step, ...], str]:
    texts = split_prose(reference)
    used: set[str] = set()
    steps = tuple(
        Step(index=i, text=text, key=prose_key(text, problem.id, used)) for i, text in enumerate(texts, 1)
    )
    return steps, prose_summary(problem.question, texts)


def _same(draft: Solution, read: Solution) -> bool:
    ours = [(step.text, step.key) for step in draft.steps]
    theirs = [(step.text, step.key) for step in read.steps]
    return (ours, draft.generalized, draft.answer) == (theirs, read.generalized, read.answer)
