"""The reference teacher on word problems: every kind of error, right solutions, misuse, hostile text."""

from __future__ import annotations

import asyncio
import threading

import pytest

from supercorrect_agent.errors import TeacherError
from supercorrect_agent.inspector import inspect_critique
from supercorrect_agent.teachers import Teacher, as_teacher
from supercorrect_agent.teachers.reference import ReferenceTeacher
from supercorrect_agent.teachers.reference.finding import Finding
from supercorrect_agent.teachers.reference.judging import find_error
from supercorrect_agent.templates import parse_solution
from supercorrect_agent.types import Critique, Problem, Solution, Step

ORCHARD = Problem.create(
    "Mira picks 14 crates of pears and Tom picks 3 times as many. They keep 11 crates and sell the rest "
    "for $6 a crate. How much money do they get?",
    answer="270",
    reference_solution="Tom picks 14*3=<<14*3=42>>42 crates.\n"
    "Together they pick 14+42=<<14+42=56>>56 crates.\n"
    "They sell 56-11=<<56-11=45>>45 crates.\n"
    "They get 45*6=$<<45*6=270>>270.\n#### 270",
)
RIGHT = (
    "Tom picks 14 x 3 = 42 crates.",
    "Together they pick 14 + 42 = 56 crates.",
    "After keeping 11 they sell 56 - 11 = 45 crates.",
    "They get 45 x $6 = $270.",
)
PROSE = ORCHARD.model_copy(
    update={
        "reference_solution": "Tom has three times Mira's 14 crates, 14 x 3 = 42 crates. Together that is "
        "14 + 42 = 56 crates.\nOf these 56 - 11 = 45 crates are sold, which brings 45 x 6 = 270 dollars."
    }
)


def find(steps: tuple[str, ...], problem: Problem = ORCHARD, answer: str | None = None) -> Finding | None:
    return find_error(problem, steps, answer)


def solution(steps: tuple[str, ...], answer: str | None = None) -> Solution:
    texts = tuple(Step(index=index, text=text) for index, text in enumerate(steps, 1))
    return Solution(steps=texts, answer=answer, raw="\n".join(steps))


def critique(steps: tuple[str, ...], problem: Problem | None = ORCHARD) -> Critique:
    return ReferenceTeacher().critique(ORCHARD.question, solution(steps), reference=problem)[0]


@pytest.mark.parametrize("problem", [ORCHARD, PROSE], ids=["marks", "prose"])
@pytest.mark.parametrize(
    ("kind", "step", "said", "steps"),
    [
        # 14 + 42 is 56, not 58; the later steps go on from 58
        ("slip", 2, ("14 + 42 is 56, not 58",), (RIGHT[0], "Together they pick 14 + 42 = 58 crates.",
         "After keeping 11 they sell 58 - 11 = 47 crates.", "They get 47 x $6 = $282.")),
        # 56 and 11 are added instead of subtracted
        ("operation", 3, ("56 + 11 = 67", "56 - 11 = 45"), (*RIGHT[:2], "They sell 56 + 11 = 67 crates.",
         "They get 67 x $6 = $402.")),
        # the 11 crates are taken away twice
        ("repeated", 4, ("45 - 11 = 34",), (*RIGHT[:3], "Then 45 - 11 = 34 crates are left to sell.",
         "They get 34 x $6 = $204.")),
        # nobody takes away the 11 crates
        ("missing", 3, ("56 x $6 = 336",), (*RIGHT[:2], "They get 56 x $6 = $336.")),
        # 9 crates stand nowhere
        ("quantity", 2, ("14 + 9 = 23",), (RIGHT[0], "Together they pick 14 + 9 = 23 crates.",
         "After keeping 11 they sell 23 - 11 = 12 crates.", "They get 12 x $6 = $72.")),
        # the money is there, and is then taken apart
        ("beyond", 5, ("270",), (*RIGHT, "Each of the two gets 270 / 2 = 135 dollars.", "135")),
        # every value is right, but another is stated
        ("answer", 5, ("270", "45"), (*RIGHT, "The answer is 45.")),
    ],
)  # fmt: skip
def test_each_kind_of_error_is_found_named_and_explained(
    problem: Problem, kind: str, step: int, said: tuple[str, ...], steps: tuple[str, ...]
) -> None:
    finding = find(steps, problem)
    assert finding is not None
    assert (finding.kind, finding.step) == (kind, step)
    for words in said:
        assert words in finding.cause


@pytest.mark.parametrize("problem", [ORCHARD, PROSE], ids=["marks", "prose"])
@pytest.mark.parametrize(
    "steps",
    [
        RIGHT,
        # the factors the other way, sums in one go, the product of the parts
        ("3 times 14 is 42.", "14 + 42 - 11 = 45 crates go to market.", "6 x 45 = 270, so $270."),
        ("All of it would bring 56 x 6 = 336.", "The 11 crates are worth 11 x 6 = 66.", "336 - 66 = 270"),
        ("They get \\(45 \\times 6 = \\boxed{270}\\) dollars.",),
        ("It is $270.00.",),
    ],
)
def test_a_right_answer_is_left_alone_however_it_was_come_by(
    problem: Problem, steps: tuple[str, ...]
) -> None:
    assert find(steps, problem) is None


def test_the_correction_keeps_the_students_sentence_and_has_the_right_value() -> None:
    found = critique((*RIGHT[:2], "Of these, they sell 56 + 11 = 67 crates.", "They get 67 x $6 = $402."))
    assert found.correction == "Of these, they sell 56 - 11 = 45 crates."
    slip = critique((RIGHT[0], "Together they pick 14 + 42 = 58 crates.", "58 - 11 = 47", "47 x 6 = 282"))
    assert slip.correction == "Together they pick 14 + 42 = 56 crates."


def test_a_correction_first_catches_up_on_what_the_steps_before_lack() -> None:
    found = critique(("They sell 14 - 11 = 3 crates.", "They get 3 x $6 = $18."))
    assert found.step == 1
    assert found.correction.index("42") < found.correction.index("56")
    assert "= 45" in found.correction


def test_what_is_written_passes_the_inspector_and_never_speaks_of_a_reference() -> None:
    steps = (*RIGHT[:2], "They sell 56 + 11 = 67 crates.", "They get 67 x $6 = $402.")
    found = critique(steps)
    checks = inspect_critique(ORCHARD, solution(steps), found)
    assert [check.check for check in checks if not check.passed] == []
    assert "leak" in [check.check for check in checks]
    assert found.author == "reference"
    assert 0 < (found.confidence or 0) <= 1


def test_it_is_a_teacher_that_has_a_name() -> None:
    teacher = as_teacher("reference")
    assert isinstance(teacher, ReferenceTeacher)
    assert isinstance(teacher, Teacher)
    assert teacher.name == "reference"


def test_its_call_is_on_the_trace_and_costs_nothing() -> None:
    _, calls = ReferenceTeacher().critique(ORCHARD.question, solution(RIGHT), reference=ORCHARD)
    assert [(call.role, call.model) for call in calls] == [("teacher", "reference")]


def test_without_a_reference_it_says_what_to_do() -> None:
    with pytest.raises(TeacherError, match=r"`reference` is None.*Pass the problem"):
        critique(RIGHT, None)
    with pytest.raises(TeacherError, match=r"neither an answer nor a reference solution"):
        critique(RIGHT, Problem.create(ORCHARD.question))


@pytest.mark.parametrize("steps", [(), ("",), (" \n ", "")])
def test_a_solution_without_words_is_unreadable(steps: tuple[str, ...]) -> None:
    found = critique(steps)
    assert not found.readable
    assert found.step is None


def test_an_answer_without_a_reference_solution_is_enough_for_slips() -> None:
    bare = Problem.create(ORCHARD.question, answer="270")
    found = find((RIGHT[0], RIGHT[1], "They sell 56 - 11 = 35 crates.", "They get 35 x $6 = $210."), bare)
    assert found is not None
    assert (found.step, found.kind) == (3, "slip")
    assert "56 - 11 is 45, not 35" in found.cause


def test_the_answer_of_a_reference_solution_is_enough() -> None:
    unnamed = ORCHARD.model_copy(update={"answer": None})
    assert find(RIGHT, unnamed) is None
    assert find((*RIGHT[:3], "They get 45 + 6 = 51 dollars."), unnamed) is not None


def test_a_tagged_solution_is_judged_by_its_own_answer() -> None:
    text = "".join(f"<Step{i}>{step}</Step{i}>" for i, step in enumerate(RIGHT, 1))
    right = parse_solution(f"{text}<Answer>\\boxed{{270}}</Answer>")
    wrong = parse_solution(f"{text}<Answer>\\boxed{{45}}</Answer>")
    teacher = ReferenceTeacher()
    assert teacher.critique(ORCHARD.question, right, reference=ORCHARD)[0].step is None
    found = teacher.critique(ORCHARD.question, wrong, reference=ORCHARD)[0]
    assert found.step == 4
    assert "270" in found.cause
    assert "45" in found.cause


async def test_judging_leaves_the_event_loop_free(monkeypatch: pytest.MonkeyPatch) -> None:
    loop_goes_on, used = asyncio.Event(), []
    loop, turn = asyncio.get_running_loop(), threading.Event()

    def slowly(*_: object) -> None:
        used.append(threading.current_thread())
        loop.call_soon_threadsafe(loop_goes_on.set)
        assert turn.wait(30)

    monkeypatch.setattr("supercorrect_agent.teachers.reference.teacher.find_error", slowly)
    teacher = ReferenceTeacher()
    judging = asyncio.create_task(teacher.acritique(ORCHARD.question, solution(RIGHT), reference=ORCHARD))
    await loop_goes_on.wait()  # the loop runs while the judge is still at it
    assert not judging.done()
    turn.set()
    assert (await judging)[0].step is None
    assert used != [threading.main_thread()]


@pytest.mark.parametrize(
    "text",
    [
        "1 + (" * 200_000,
        "9^9^9^9^9 = 1",
        "((((((" * 100_000 + "1",
        "1,1" * 300_000,
        "<<" * 500_000,
        "x = x + 1 = 2x " * 50_000,
        "\\frac{" * 100_000,
        "1/0 = 2 and 0/0 = 0, so 0^-1 = 5",
        "\ud800 ½½½ −−− ××× 5 % % %",
        "9" * 1_000_000,
    ],
    ids=lambda text: text[:12].encode("ascii", "replace").decode(),
)
def test_hostile_text_is_judged_and_nothing_hangs(text: str) -> None:
    found = find((RIGHT[0], text, "The answer is 3."))
    assert found is not None
    assert 1 <= found.step <= 3
    assert len(found.cause) < 2_000
    hostile = Problem.create(text, answer="3", reference_solution=text)
    assert find((text, "The answer is 4."), hostile) is not None


@pytest.mark.parametrize(
    ("steps", "answer", "step"),
    [
        (RIGHT, "45", 4),  # 45 is the third step's result; the fourth comes to 270
        ((*RIGHT, "So the answer is 45."), "45", 5),
        (("14 x 3 = 42, 14 + 42 = 56, 56 - 11 = 45 and 45 x 6 = 270.",), "56", 1),
    ],
)
def test_right_steps_with_another_answer_are_not_called_wrong(
    steps: tuple[str, ...], answer: str, step: int
) -> None:
    finding = find(steps, answer=answer)
    assert finding is not None
    assert (finding.kind, finding.step) == ("answer", step)
    assert finding.cause == f"The steps come to 270, but the answer stated is {answer}."
    kept = "" if step > 4 else f"{steps[step - 1]} "
    assert finding.correction == f"{kept}The answer is 270."


@pytest.mark.parametrize(
    ("true", "stated"),
    [
        ("270", r"\frac{540}{2}"), ("270", r"2.7 \times 10^2"), ("Tom", r"\text{Tom}"), ("B", "(B) 270"),
        ("3/4", r"\frac{3}{4}"), ("25%", "0.25"), ("10.5", r"10\frac{1}{2}"), ("2, 3", "3, 2"), ("-5", "-5"),
        ("12:30", "12:30"),
    ],
)  # fmt: skip
def test_a_right_answer_is_known_however_it_is_written(true: str, stated: str) -> None:
    assert find(RIGHT, ORCHARD.model_copy(update={"answer": true}), stated) is None


@pytest.mark.parametrize(
    ("true", "stated"), [("-5", "5"), ("5", "-5"), ("12:30", "11:30"), ("2, 3", "1, 3"), ("Tom", "Mira")]
)
def test_a_wrong_answer_that_ends_alike_is_wrong_and_the_correction_has_the_true_one(
    true: str, stated: str
) -> None:
    finding = find(RIGHT, ORCHARD.model_copy(update={"answer": true}), stated)
    assert finding is not None
    assert finding.correction == f"The answer is {true}."


def test_the_sign_of_an_answer_in_the_last_step_counts() -> None:
    debt = Problem.create("Ann has $3 and owes $8. What is she worth?", answer="-5",
                          reference_solution="She is worth 3-8=<<3-8=-5>>-5 dollars.")  # fmt: skip
    assert find(("She is worth 3 - 8 = -5 dollars.",), debt) is None
    assert find(("She is worth 3 - 8 = $-5.",), debt) is None
    assert find(("She is worth 8 - 3 = 5 dollars.",), debt) is not None


@pytest.mark.parametrize(
    ("wrong", "corrected"),
    [
        # 14 + 42 is 56; the value is announced before it is worked out
        ("They pick 58 crates, because 14 + 42 = 58.", "They pick 56 crates, because 14 + 42 = 56."),
        ("Together **58** crates (14 + 42 = 58).", "Together **56** crates (14 + 42 = 56)."),
        # another operation: 14 + 42, not 42 - 14
        ("They pick 28 crates, because 42 - 14 = 28.", "They pick 56 crates, because 14 + 42 = 56."),
        (r"It is \(\$42 - \$14 = \$28\).", r"It is \(14 + 42 = \$56\)."),
        ("It is $42 - 14 = 28$ crates.", "It is $14 + 42 = 56$ crates."),
        ("They pick 28 crates (42 - 14).", "They pick 56 crates (14 + 42 = 56)."),
    ],
)
def test_a_correction_leaves_no_wrong_value_and_no_torn_sign_behind(wrong: str, corrected: str) -> None:
    stated = "58" if "58" in wrong else "28"
    rest = (
        f"They sell {stated} - 11 = {int(stated) - 11} crates.",
        f"{int(stated) - 11} x 6 = {6 * (int(stated) - 11)}",
    )
    finding = find((RIGHT[0], wrong, *rest))
    assert finding is not None
    assert (finding.step, finding.correction) == (2, corrected)


@pytest.mark.parametrize(
    ("step", "corrected"),
    [
        # 14 + 42 is 56, and no "=" says what it is
        ("They pick 58 crates (14 + 42).", "They pick 56 crates (14 + 42)."),
        ("14 + 42 \u2192 58", "14 + 42 \u2192 56"),
        ("Crates = 14 + 42\nCrates = 58", "Crates = 14 + 42\nCrates = 56"),
        ("| crates | 14 + 42 | 58 |", "| crates | 14 + 42 | 56 |"),
    ],
)
def test_a_slip_is_found_where_no_equals_sign_joins_value_and_computation(step: str, corrected: str) -> None:
    finding = find((RIGHT[0], step, "They sell 58 - 11 = 47 crates.", "They get 47 x 6 = 282."))
    assert finding is not None
    assert (finding.step, finding.kind, finding.correction) == (2, "slip", corrected)
    assert finding.cause.endswith(" is 56, not 58.")
    assert find((RIGHT[0], corrected, *RIGHT[2:])) is None


def test_a_value_that_only_equals_the_answer_does_not_answer_the_question() -> None:
    """16 - (4 + 6) = 6, and 6 eggs are eaten: those of the first step are not the 6 that are left."""
    eggs = Problem.create(
        "Of 16 eggs Ann breaks 4 and eats 3 times 2. How many are left?",
        answer="6",
        reference_solution="She eats 3*2=<<3*2=6>>6 eggs.\nGone are 4+6=<<4+6=10>>10 eggs.\n"
        "Left are 16-10=<<16-10=6>>6 eggs.",
    )
    finding = find(("She eats 3 x 2 = 6 eggs.", "Gone are 4 x 6 = 24 eggs.", "16 - 24 = -8 are left."), eggs)
    assert finding is not None
    assert (finding.step, finding.kind) == (2, "operation")
    assert finding.correction == "Gone are 4 + 6 = 10 eggs."
