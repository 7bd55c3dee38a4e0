"""Four pupils' sheets through all five arms, with every number counted by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from supercorrect_agent.errors import ConfigError, ModelError
from supercorrect_agent.sandbox.teacher import SandboxTeacher
from supercorrect_agent.sandbox.world import generate_problems
from supercorrect_agent.templates import parse_solution
from supercorrect_agent.types import Problem
from tests.pupil import Pupil, Sheet, ending, right_solution, wrong_solution
from training import evaluate
from training.config import EvaluationConfig
from training.evaluate import compare_evaluations, run_evaluate

PROBLEMS = generate_problems("test", 4, seed=0)


def review_of(problem: Problem, text: str) -> str:
    """The teacher's correction trace of a solution, as far as the stop string lets a student write it."""
    critique, _ = SandboxTeacher().critique(problem.question, parse_solution(text))
    return critique.raw.partition("</Correction>")[0]


def make_pupil() -> Pupil:
    """Right and sure; wrong and finds it; wrong and misses it; right and doubts it."""
    sure, finder, misser, doubter = PROBLEMS
    fine = "<Step1>as it is<Evaluate>ok</Evaluate></Step1>"
    doubt = "<Step1>as it is<Evaluate>wrong</Evaluate><Cause>It feels odd.</Cause><Correction>1+1=2"
    sheets = {
        sure: Sheet(right_solution(sure), review_of(sure, right_solution(sure))),
        finder: Sheet(
            wrong_solution(finder),
            review_of(finder, wrong_solution(finder)),
            ending(finder),
            right_solution(finder),
        ),
        misser: Sheet(wrong_solution(misser), fine, ending(misser), wrong_solution(misser)),
        doubter: Sheet(right_solution(doubter), doubt, "<Answer>\\boxed{1000001}</Answer>"),
    }
    return Pupil(sheets={problem.question: sheet for problem, sheet in sheets.items()})


@pytest.fixture
def pupil(monkeypatch: pytest.MonkeyPatch) -> Pupil:
    student = make_pupil()

    def load(spec: str, **options: Any) -> Pupil:
        student.cache = options["cache"]
        return student

    monkeypatch.setattr(evaluate, "load_chat_model", load)
    return student


def make_config(output: Path, **settings: Any) -> EvaluationConfig:
    base = {
        "student": "vllm:pupil",
        "prompts": "default",
        "problems": "sandbox:test",
        "n": 4,
        "output": output,
    }
    return EvaluationConfig.model_validate({**base, **settings})


def counts(report: dict[str, Any]) -> dict[str, int]:
    return {name: arm["accuracy"]["count"] for name, arm in report["arms"].items()}


def test_every_arm_is_scored_on_the_same_first_solutions(pupil: Pupil, tmp_path: Path) -> None:
    report = run_evaluate(make_config(tmp_path / "out.json"), say=lambda line: None)
    assert counts(report) == {"single": 2, "review": 2, "teacher": 4, "retry": 3}
    # One greedy solution a problem serves three arms; the two wrong ones are sampled again once.
    assert pupil.asked.count("solution") == 4
    assert pupil.asked.count("again") == 2
    review = report["arms"]["review"]
    for name, count, total in [("flagged", 1, 2), ("false_alarms", 1, 2), ("located", 1, 2)]:
        assert (review[name]["count"], review[name]["total"]) == (count, total), name
    flips = review["self_correction"]
    assert (flips["corrected"]["count"], flips["corrected"]["total"]) == (1, 2)
    assert (flips["broken"]["count"], flips["broken"]["total"]) == (1, 2)
    assert report["arms"]["single"]["output_tokens"] == {"student": 20}
    assert report["arms"]["retry"]["output_tokens"] == {"student": 30}
    assert report["arms"]["single"]["format_valid"]["count"] == 4


def test_asking_the_teacher_only_where_the_student_doubts_itself(pupil: Pupil, tmp_path: Path) -> None:
    arms = ("single", "review", "teacher", "asked")
    report = run_evaluate(make_config(tmp_path / "out.json", arms=arms), say=lambda line: None)
    # Sure is believed, finder is helped, misser is not seen, and doubter is told that it is right.
    assert counts(report) == {"single": 2, "review": 2, "teacher": 4, "asked": 3}
    assert (pupil.asked.count("solution"), pupil.asked.count("review")) == (4, 4)
    rows = {row["id"]: row for row in report["problems"]}
    sure, finder, misser, doubter = (rows[problem.id] for problem in PROBLEMS)
    assert [row["asked"]["teacher_calls"] for row in (sure, finder, misser, doubter)] == [0, 1, 0, 1]
    tokens = finder["teacher"]["teacher_tokens"] + doubter["teacher"]["teacher_tokens"]
    assert report["arms"]["asked"]["cost"] == {
        "calls": 2,
        "calls_per_correct": 2 / 3,
        "tokens": tokens,
        "tokens_per_correct": tokens / 3,
    }
    always = report["arms"]["teacher"]["cost"]
    assert (always["calls"], always["calls_per_correct"]) == (4, 1.0)
    flips = report["arms"]["asked"]["self_correction"]
    assert (flips["corrected"]["count"], flips["corrected"]["total"]) == (1, 2)
    assert (flips["broken"]["count"], flips["broken"]["total"]) == (0, 2)
    # Every problem is solved and reviewed, and finder's solution continued; a call writes five tokens.
    assert report["arms"]["asked"]["output_tokens"]["student"] == (4 + 4 + 1) * 5
    assert "cost" not in report["arms"]["review"]


def test_the_arm_that_asks_where_the_student_doubts_itself_can_be_run_alone(
    pupil: Pupil, tmp_path: Path
) -> None:
    report = run_evaluate(make_config(tmp_path / "out.json", arms=("asked",)), say=lambda line: None)
    assert counts(report) == {"single": 2, "asked": 3}
    assert sorted(pupil.asked) == ["rest"] + ["review"] * 4 + ["solution"] * 4


def test_the_file_holds_every_problem(pupil: Pupil, tmp_path: Path) -> None:
    run_evaluate(make_config(tmp_path / "deep" / "out.json"), say=lambda line: None)
    saved = json.loads((tmp_path / "deep" / "out.json").read_text())
    rows = {row["id"]: row for row in saved["problems"]}
    finder = rows[PROBLEMS[1].id]
    assert (finder["single"]["correct"], finder["review"]["correct"]) == (False, True)
    assert (
        finder["review"]["step"]
        == finder["teacher"]["step"]
        == len(parse_solution(right_solution(PROBLEMS[1])).steps)
    )
    assert saved["config"]["n"] == 4
    assert saved["versions"]["transformers"]


def test_the_single_pass_alone_asks_once_and_shows_no_answer(pupil: Pupil, tmp_path: Path) -> None:
    report = run_evaluate(make_config(tmp_path / "out.json", arms=("single",)), say=lambda line: None)
    assert counts(report) == {"single": 2}
    assert pupil.asked == ["solution"] * 4


def test_two_reports_are_compared_problem_by_problem(pupil: Pupil, tmp_path: Path) -> None:
    one = run_evaluate(make_config(tmp_path / "one.json", arms=("single", "retry")), say=lambda line: None)
    two = {**one, "arms": {"single": one["arms"]["single"]}}
    rows = [{**row, "single": {"correct": True}} for row in one["problems"]]
    change = compare_evaluations(one, {**two, "problems": rows})
    assert set(change) == {"single"}
    assert (change["single"]["value"], change["single"]["only_second"]) == (0.5, 2)
    with pytest.raises(ConfigError, match="different problems"):
        compare_evaluations(one, {**two, "problems": rows[:2]})


def test_an_evaluation_in_which_nothing_succeeds_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(evaluate, "load_chat_model", lambda spec, **options: Pupil(sheets={}))
    with pytest.raises(ModelError, match=r"All 4 problems failed.*no sheet"):
        run_evaluate(make_config(tmp_path / "out.json"), say=lambda line: None)
    assert not (tmp_path / "out.json").exists()
