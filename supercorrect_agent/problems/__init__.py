"""Problems: read from files, data sets and the sandbox, and kept apart from evaluation sets."""

from __future__ import annotations

from supercorrect_agent.problems.decontamination import (
    HeldOut,
    decontaminate,
    evaluation_questions,
    fold_question,
    load_held_out,
)
from supercorrect_agent.problems.loading import MAX_CHARACTERS, iter_problems, load_problems
from supercorrect_agent.problems.mapping import without_calculator_marks
from supercorrect_agent.problems.report import ProblemReport

__all__ = [
    "MAX_CHARACTERS",
    "HeldOut",
    "ProblemReport",
    "decontaminate",
    "evaluation_questions",
    "fold_question",
    "iter_problems",
    "load_held_out",
    "load_problems",
    "without_calculator_marks",
]
