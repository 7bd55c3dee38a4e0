"""The inspector's rule checks, each by a text that fails it and one that does not."""

from __future__ import annotations

import pytest

from supercorrect_agent.inspector import (
    failed_checks,
    failed_notes,
    inspect_answer,
    inspect_arithmetic,
    inspect_critique,
    inspect_template,
    inspect_trace,
)
from supercorrect_agent.inspector.arithmetic import false_equation
from supercorrect_agent.templates import parse_solution
from supercorrect_agent.types import Critique, Problem, Verdict

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


@pytest.mark.parametrize(
    "cause",
    [
        "The reference says 5.",
        "According to the reference, 2+3 is 5.",
        "According to the reference the sum is 5.",
        "It is 6; see the reference",
        "The reference's sum is 5.",
        "the correct solution shows 5",
        "The correct solution is 2+3=5.",
        "The expected answer has 5.",
        "The correct answer is 4.",
        "It does not reach the correct\nanswer.",
        "The correct final answer is 4.",
        "The gold answer is 4.",
        "The golden solution adds first.",
        "The solution provided adds first.",
        "The solution provided says 5.",
        "As the answer provided is 4, this is off.",
        "The answer key has 5.",
        "The solution key has 5.",
    ],
)
def test_words_about_a_reference_are_a_leak(cause: str) -> None:
    assert failed(cause=cause) == ["leak"]
    assert failed(Problem.create(f"Read this: {cause} What is 2+3?"), cause=cause) == []


@pytest.mark.parametrize(
    "cause",
    [
        "The reference point is (2, 3).",
        "Measured from the reference line, it is 5 m.",
        "The preference says little.",
        "In reference to the base, it is 5 m.",
        "The correct number is 5.",
        "The correct sum is 5.",
        "The expected value is 5.",
        "The solution of the equation is x = 5.",
        "The correct solution of the equation adds 3.",
        "5 is the solution provided x is positive.",
        "He has 2+3 gold coins.",
        "She gave 5 correct answers.",
        "Each correct answer counts 5 points.",
        "A salt solution of 5 l.",
        "The answer is 5, not 6.",
    ],
)
def test_words_of_word_problems_are_no_leak(cause: str) -> None:
    assert failed(cause=cause) == []


def test_a_problem_about_a_test_may_be_answered_in_its_words() -> None:
    quiz = Problem.create("A test gives 5 points for each correct answer. How many points are 3?")
    assert failed(quiz, cause="For the correct answer there are 5 points, not 3.") == []


def test_notes_name_each_fault() -> None:
    notes = failed_notes(
        inspect_critique(PROBLEM, SOLUTION, GOOD.model_copy(update={"step": 3, "cause": ""}))
    )
    assert notes == "- Step 3 is named; the solution has steps 1 to 2.\n- The cause of the error is empty."


# Arithmetic: what is certainly false is found, and what is doubtful is let through.


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("Add. 47+85=131", "47+85=131"),
        ("5 apples + 3 apples = 9 apples", "5 apples + 3 apples = 9"),
        ("She pays 3 * $4 = $13.", "3 * $4 = $13"),
        (r"$3 \times 4 = 13$", r"3 \times 4 = 13"),
        ("Total = 2+3 = 6", "2+3 = 6"),
        ("2 + 3 = 5 + 4 = 10", "5 + 4 = 10"),  # a chain that runs on is judged from sign to sign
        ("10/3 = 3.5", "10/3 = 3.5"),
        ("1,200 + 300 = 1,600 in all", "1,200 + 300 = 1,600"),
        ("2+3=5 is right.\n5*4=21 is not.", "5*4=21"),
        ("6 = 2+3", "6 = 2+3"),
        ("7+5=13,4+8=12", "7+5=13"),
        (r"So \(3 \times 4 = 13\) in all.", r"3 \times 4 = 13"),
        (r"\[ 3 \times 4 = 13 \]", r"3 \times 4 = 13"),
        ("**3 + 4 = 8**", "3 + 4 = 8"),
        ("That is 3 + 4 = **8** apples.", "3 + 4 = **8"),
        ("3 hours * 60 minutes = 190 minutes", "3 hours * 60 minutes = 190"),
        ("17 / 5 = 5", "17 / 5 = 5"),
    ],
)
def test_a_false_equation_is_found_as_it_is_written(text: str, wrong: str) -> None:
    assert false_equation(text) == wrong


@pytest.mark.parametrize(
    "text",
    [
        "47+85=132",
        "10/3=3.33 and 1000/7 = 142.86",
        "2 + 3 = 5 + 4 = 9",
        "x+2=5, 2x=6, 3(2+n) = 14",
        "5!=120, sqrt(16)=4, 2^10 = 1024",
        "17/5=3 R2, 17/5 = 3 remainder 2, 7/5=1r2",
        "1/2 = 50% and $1 / 2 = 50 cents",
        r"11(3)(5\text{ cents})=\$1.65",
        r"10^5=100,\!000",
        "8 hours = 480 minutes",
        "The ratio is 6-8-10 = 3-4-5.",
        r"\frac{1}{2}OA=6, \sqrt{9}+1 = 4, 413_8 = 4 \cdot 8^2 + 1 \cdot 8 + 3",
        "log 2 + log 3 = log 6",
        "3 * 1 = 3*3 + 4*1, by the sign's definition",
        "3 hours + 45 minutes = 225 minutes, 8 hours - 30 minutes = 7.5 hours",
        "2 feet + 6 inches = 30 inches. 6 ft 2 in + 3 in = 6 ft 5 in",
        "45 minutes = 3/4 hour",
        "1.5 million + 500,000 = 2 million. 2 dozen + 3 = 27",
        "100 - 20% = 80, 100 + 10% = 110",
        "17 / 5 = 3 with 2 left over. 11 / 4 = 3 boxes. 200/3 = 67 (rounded)",
        "log 100 + 1 = 3",
        "50 / 1/2 = 100",
        "8 batches = 5.5 * 8 = 44 cups",
        r"2lw+2wh+2hl = 1704, 400-4ac=0, \frac{1}{2}bh=75, (1/2)(AB) = 5",
        "0900 - 0130 = 0730",
        "2 + 3 = 5**2 - 20",
        "",
        "=" * 50_000,
        "1+" * 50_000,
    ],
)
def test_what_may_be_true_is_not_called_false(text: str) -> None:
    assert false_equation(text) is None


def test_the_arithmetic_of_a_correction_is_a_check_of_its_own() -> None:
    assert [one.passed for one in inspect_arithmetic(GOOD)] == [True]
    (failed,) = inspect_arithmetic(GOOD.model_copy(update={"correction": "Add: 2+3=7"}))
    assert (failed.check, failed.note) == ("arithmetic", "The corrected step says '2+3=7', which is not so.")
    assert inspect_arithmetic(Critique()) == ()
    assert inspect_arithmetic(GOOD.model_copy(update={"correction": " "})) == ()


def test_a_traces_words_on_right_steps_are_looked_at_too() -> None:
    raw = "<Step1>2+3=6<Evaluate>The reference solution has 5.</Evaluate><Cause>c</Cause>"
    trace = GOOD.model_copy(update={"raw": raw})
    assert [(one.check, one.passed) for one in inspect_trace(PROBLEM, SOLUTION, trace)] == [
        ("trace_leak", False)
    ]
    clean = trace.model_copy(update={"raw": raw.replace("The reference solution has", "It is")})
    assert [one.passed for one in inspect_trace(PROBLEM, SOLUTION, clean)] == [True]
    assert inspect_trace(PROBLEM, SOLUTION, GOOD) == ()  # a JSON verdict
    says_so = parse_solution("<Step1>By the reference solution, 2+3=6</Step1><Answer>6</Answer>")
    assert inspect_trace(PROBLEM, says_so, trace) == ()  # the trace repeats the student's words


@pytest.mark.parametrize(
    ("verdict", "answer", "expected"),
    [
        (Verdict(status="correct"), "10", [("answer", True, "")]),
        (
            Verdict(status="incorrect"),
            "12",
            [("answer", False, "It comes to the answer '12', which is not the true one.")],
        ),
        (
            Verdict(status="unreadable"),
            None,
            [("answer", False, "It states no answer, which is not the true one.")],
        ),
        (Verdict(status="unscored"), "12", []),
    ],
)
def test_an_answer_that_is_stated_is_compared(
    verdict: Verdict, answer: str | None, expected: list[tuple[str, bool, str]]
) -> None:
    assert [(one.check, one.passed, one.note) for one in inspect_answer(verdict, answer)] == expected


# A teacher's own solution.

TEMPLATE = "<Step1>Add. <Key>Mind the sum.</Key> 2+3=5</Step1>\n<Step2>5*2=10</Step2>\n<Answer>10</Answer>"


@pytest.mark.parametrize(
    ("text", "failed"),
    [
        (TEMPLATE, []),
        (TEMPLATE.replace("<Step2>", "<step 2:>"), []),  # a dialect, which the strict writer mends
        ("1. 2+3=5\n2. 5*2=10\nThe answer is 10.", ["readable"]),
        ("<Step1>2+3=5</Step1>", ["readable"]),
        (None, ["readable"]),
        (TEMPLATE.replace("5*2=10", " "), ["layout"]),
        (TEMPLATE.replace("Add.", "As in the given solution."), ["leak"]),
        (TEMPLATE.replace("5*2=10", "5*2=11"), ["arithmetic"]),
        (TEMPLATE.replace("Mind the sum.", "2+2=5"), ["arithmetic"]),
        (TEMPLATE.replace("5*2=10", "By the answer key 5*2=11"), ["leak", "arithmetic"]),
    ],
)
def test_a_template_is_checked_by_rules(text: str | None, failed: list[str]) -> None:
    template = None if text is None else parse_solution(text)
    checks = inspect_template(PROBLEM, template)
    assert failed_checks(checks) == failed
    if "readable" not in failed:
        assert [one.check for one in checks] == ["readable", "layout", "leak", "arithmetic"]
