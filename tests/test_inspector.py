"""The inspector's rule checks, each by a critique that fails it and one that does not."""

from __future__ import annotations

import pytest

from supercorrect_agent.inspector import failed_notes, inspect_critique
from supercorrect_agent.templates import parse_solution
from supercorrect_agent.types import Critique, Problem

PROBLEM = Problem.create("What is 2 + 3, doubled?", answer="10")
SOLUTION = parse_solution("<Step1>2+3=6</Step1><Step2>6*2=12</Step2><Answer>12</Answer>")
GOOD = Critique(step=1, cause="2+3 is 5.", correction="2+3=5")


def failed(problem: Problem = PROBLEM, **changes: object) -> list[str]:
    critique = GOOD.model_copy(update=changes)
    return [one.check for one in inspect_critique(problem, SOLUTION, critique) if not one.passed]


def test_a_good_critique_passes_every_check() -> None:
    checks = inspect_critique(PROBLEM, SOLUTION, GOOD)
    assert [one.check for one in checks] == ["readable", "leak", "step_in_range", "cause", "correction"]
    assert failed() == []
    assert failed_notes(checks) == ""


def test_a_critique_without_an_error_has_fewer_checks() -> None:
    assert [one.check for one in inspect_critique(PROBLEM, SOLUTION, Critique())] == ["readable", "leak"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"readable": False}, ["readable"]),
        ({"step": 3}, ["step_in_range"]),
        ({"cause": "\n "}, ["cause"]),
        ({"correction": ""}, ["correction"]),
        ({"correction": " 2+3=6 "}, ["correction"]),
        ({"cause": "The Reference  Solution has 5."}, ["leak"]),
        ({"correction": "By the answer key, 2+3=5"}, ["leak"]),
        ({"cause": "It differs from the ground-truth."}, ["leak"]),
    ],
    ids=str,
)
def test_each_fault_is_found(changes: dict[str, object], expected: list[str]) -> None:
    assert failed(**changes) == expected


def test_words_of_the_problem_itself_are_no_leak() -> None:
    chemistry = Problem.create("A reference solution holds 2 g of salt. How much in 3 l?")
    cause = "The reference solution holds 2 g, not 3 g."
    assert failed(chemistry, cause=cause) == []
    assert failed(cause=cause) == ["leak"]


def test_notes_name_each_fault() -> None:
    notes = failed_notes(
        inspect_critique(PROBLEM, SOLUTION, GOOD.model_copy(update={"step": 3, "cause": ""}))
    )
    assert notes == "- Step 3 is named; the solution has steps 1 to 2.\n- The cause of the error is empty."
