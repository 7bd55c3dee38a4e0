"""How well the reference teacher finds the first wrong step: accuracy on wrong and right solutions, and F1.

    python benchmarks/localisation.py labelled.jsonl ... [--problems problems.jsonl] [--output found.json]

Labelled JSON Lines hold ``question`` (or ``problem``), ``answer``, ``reference_solution`` (or ``solution``),
``steps`` and ``first_error_step`` (or ``label``): the first wrong step from 0, -1 where all are right. A
reference is lines of arithmetic, as GSM8K has them, or LaTeX prose that boxes its answer, as MATH does. F1 is
the harmonic mean of the two accuracies, as ProcessBench (arXiv 2412.06559) has it. ``--problems``
(``question``, ``answer``, ``solution``) makes a right and a wrong solution of each, so that no labels are
needed. Intervals are Wilson's, at 95%. No model is called.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.made_errors import make_all
from benchmarks.ratios import publish
from supercorrect_agent.errors import DataError
from supercorrect_agent.teachers import Teacher, as_teacher
from supercorrect_agent.templates import extract_answer
from supercorrect_agent.types import Problem, Solution, Step

Z = 1.959964  # 95%


class Labelled(NamedTuple):
    """A solution with the first wrong step that it is known to have (from 0, -1 for none)."""

    problem: Problem
    steps: tuple[str, ...]
    label: int
    kind: str = ""


def solution_of(steps: Sequence[str]) -> Solution:
    """A solution whose steps are exactly these texts; its answer is the boxed one, else the last number."""
    raw, parts = "", []
    for index, text in enumerate(steps, 1):
        start = len(raw)
        raw += text
        parts.append(Step(index=index, text=text, start=start, end=len(raw)))
        raw += "\n\n"
    return Solution(steps=tuple(parts), raw=raw, answer=extract_answer(raw)[0] if steps else None)


def read_labelled(path: Path) -> Iterator[Labelled]:
    """Reads labelled solutions.

    Raises:
        DataError: A line lacks a field, or its label is no step of it.
    """
    for number, line in _lines(path):
        row: Mapping[str, Any] = json.loads(line)
        question = row.get("question", row.get("problem"))
        label = row.get("first_error_step", row.get("label"))
        steps = row.get("steps")
        if not isinstance(question, str) or not isinstance(label, int) or not isinstance(steps, list):
            raise DataError(
                f"{path}, line {number}: a labelled solution needs `question` (or `problem`), `steps` and "
                "`first_error_step` (or `label`)."
            )
        if not -1 <= label < len(steps):
            raise DataError(
                f"{path}, line {number}: label {label} is no step of 0..{len(steps) - 1}, nor -1."
            )
        reference = row.get("reference_solution", row.get("solution"))
        answer = row.get("answer")
        problem = Problem.create(
            question, answer=None if answer is None else str(answer), reference_solution=reference
        )
        yield Labelled(problem, tuple(map(str, steps)), label)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file with their numbers, but empty ones; ``splitlines`` would split at U+2028 too."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, line


def made_from(path: Path, limit: int, seed: int) -> Iterator[Labelled]:
    """A right and a wrong solution of each problem of a file, as far as they can be made."""
    rows = [json.loads(line) for _, line in _lines(path)]
    problems = [
        (str(row["question"]), str(row["answer"]), str(row.get("reference_solution") or row.get("solution")))
        for row in rows[:limit]
    ]
    for (question, answer, reference), made in make_all(problems, seed):
        problem = Problem.create(question, answer=answer, reference_solution=reference)
        yield Labelled(problem, made.steps, made.first_error_step, made.kind)


def measure(rows: Iterable[Labelled], teacher: Teacher) -> dict[str, Any]:
    """Accuracy on wrong and on right solutions, with intervals, F1, and the accuracy within one step."""
    wrong: list[tuple[str, int, int]] = []
    right: list[bool] = []
    for row in rows:
        critique, _ = teacher.critique(row.problem.question, solution_of(row.steps), reference=row.problem)
        found = -1 if critique.step is None else critique.step - 1
        if row.label == -1:
            right.append(found == -1)
        else:
            wrong.append((row.kind, row.label, found))
    hits = [label == found for _, label, found in wrong]
    near = [found >= 0 and abs(label - found) <= 1 for _, label, found in wrong]
    kinds = sorted({kind for kind, _, _ in wrong if kind})
    return {
        "wrong": share(hits),
        "right": share(right),
        "f1": f1(hits, right),
        "within_one": share(near),
        "by_kind": {kind: share([la == fo for ki, la, fo in wrong if ki == kind]) for kind in kinds},
    }


def share(hits: Sequence[bool]) -> dict[str, float | int | None]:
    """A share with its 95% Wilson interval; None where there is nothing to count."""
    if not hits:
        return {"n": 0, "accuracy": None, "low": None, "high": None}
    low, high = wilson(sum(hits), len(hits))
    return {"n": len(hits), "accuracy": round(sum(hits) / len(hits), 4), "low": low, "high": high}


def wilson(hits: int, total: int) -> tuple[float, float]:
    """The 95% Wilson interval of ``hits`` in ``total``."""
    rate, spread = hits / total, Z * Z / total
    middle = (rate + spread / 2) / (1 + spread)
    half = Z * math.sqrt(rate * (1 - rate) / total + spread / (4 * total)) / (1 + spread)
    return round(max(0.0, middle - half), 4), round(min(1.0, middle + half), 4)


def f1(hits: Sequence[bool], right: Sequence[bool]) -> float | None:
    """The harmonic mean of both accuracies; None where one of them has nothing to count."""
    if not hits or not right:
        return None
    one, other = sum(hits) / len(hits), sum(right) / len(right)
    return round(2 * one * other / (one + other), 4) if one + other else 0.0


def sentence(name: str, found: Mapping[str, Any]) -> str:
    """One set's figures in words."""
    parts = [
        f"{100 * of['accuracy']:.1f}% of {of['n']} {what} ({100 * of['low']:.1f} to {100 * of['high']:.1f})"
        for what, of in (("wrong solutions", found["wrong"]), ("right solutions", found["right"]))
        if of["n"]
    ]
    f1_ = "" if found["f1"] is None else f"; F1 {100 * found['f1']:.1f}"
    return f"{name}: first error right in {', '.join(parts)}{f1_}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("labelled", nargs="*", type=Path, help="labelled solutions, JSON Lines")
    parser.add_argument("--problems", type=Path, help="problems to make solutions of, JSON Lines")
    parser.add_argument("--limit", type=int, default=1000, help="problems used of --problems")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="also write the JSON here")
    options = parser.parse_args(arguments)
    if not options.labelled and not options.problems:
        parser.error("nothing to measure: name a file of labelled solutions, or pass --problems")
    teacher = as_teacher("reference")
    found = {path.stem: measure(read_labelled(path), teacher) for path in options.labelled}
    if options.problems:
        made = made_from(options.problems, options.limit, options.seed)
        found[f"made from {options.problems.stem}"] = measure(made, teacher)
    publish(found, [sentence(name, one) for name, one in found.items()], options.output)


if __name__ == "__main__":
    main()
