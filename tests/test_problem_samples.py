"""The problems that ship with the package."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from supercorrect_agent.errors import ConfigError
from supercorrect_agent.grammar import last_boxed
from supercorrect_agent.problems import evaluation_questions, load_problems, without_calculator_marks
from supercorrect_agent.types import Verdict
from supercorrect_agent.verification import MathVerifier

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "supercorrect_agent" / "problems" / "samples"
NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?|\.\d+")


@pytest.mark.parametrize("name", ["gsm8k", "math"])
def test_two_hundred_of_each_ship(name: str) -> None:
    problems = load_problems(f"sample:{name}")
    assert len(problems) == len({problem.question for problem in problems}) == 200
    assert all(problem.answer and problem.reference_solution for problem in problems)
    assert {(problem.source, problem.split) for problem in problems} == {(name, "train")}
    assert len(load_problems(f"sample:{name}", mapping=name, n=5)) == 5


@pytest.mark.parametrize("split", ["test", "testing"])
def test_training_problems_are_not_called_test_problems(split: str) -> None:
    with pytest.raises(ConfigError, match=f"`split={split}` would call the problems of `sample:gsm8k` test"):
        load_problems("sample:gsm8k", split=split)
    assert {each.split for each in load_problems("sample:gsm8k", split="dev", holdout=20)} == {"dev"}
    assert len(list(evaluation_questions("sample:gsm8k"))) == 200  # to be kept out, whatever they are


def test_answers_of_gsm8k_agree_with_their_references() -> None:
    """The reference's last line names the answer, and each calculator mark holds an equation."""
    marks = 0
    for problem in load_problems("sample:gsm8k"):
        assert problem.answer is not None
        assert problem.reference_solution is not None
        last = without_calculator_marks(problem.reference_solution).rstrip().split("\n")[-1]
        numbers = [float(number.replace(",", "")) for number in NUMBER.findall(last)]
        assert float(problem.answer) in numbers, problem.id
        marks += len(re.findall(r"<<[^<>=]+=[^<>=]+>>", problem.reference_solution))
        assert problem.id.startswith("gsm8k-train-")
        assert int(problem.id.rpartition("-")[2]) < 7473 - 1000  # the last ones are the development split
    assert marks > 500


def test_answers_of_math_are_the_last_boxes_and_can_be_scored() -> None:
    problems = load_problems("sample:math", mapping="math")
    given = load_problems("sample:math")
    assert [problem.answer for problem in problems] == [problem.answer for problem in given]
    verifier = MathVerifier()
    for problem in problems:
        assert problem.answer == last_boxed(problem.reference_solution or "")
    verdicts = [verifier.verify(answer=problem.answer, target=problem.answer) for problem in problems[:40]]
    assert verdicts == [Verdict(status="correct", reason=verdict.reason) for verdict in verdicts]


def test_the_wheel_takes_samples_and_licences() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    package = ROOT / "supercorrect_agent"
    shipped = {path for pattern in patterns["supercorrect_agent"] for path in package.glob(pattern)}
    names = {"gsm8k.jsonl", "math.jsonl", "LICENSE-gsm8k", "LICENSE-math", "README.md"}
    assert {path.name for path in FOLDER.iterdir()} == names
    assert {path.name for path in shipped if path.parent == FOLDER} == names
    for name, holder in (("gsm8k", "OpenAI"), ("math", "Dan Hendrycks")):
        text = (FOLDER / f"LICENSE-{name}").read_text()
        assert f"MIT License\n\nCopyright (c) 2021 {holder}\n\nPermission is hereby granted" in text
