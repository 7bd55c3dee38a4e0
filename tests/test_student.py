"""The pure parts of asking the student and of recording a call, each by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest
from httpx import Request

from supercorrect_agent.calls import drive, model_name, storable
from supercorrect_agent.errors import ModelError, TeacherError
from supercorrect_agent.outcome import choose
from supercorrect_agent.progress import failure_text
from supercorrect_agent.prompts import DEFAULT_PROMPTS
from supercorrect_agent.student import (
    REMEMBERED_LENGTH,
    Student,
    Turn,
    after_step,
    close_correction,
    contradicts,
    correction_prefix,
    is_whole,
    joined,
    kept_text,
    prompts_beside,
    unless_contradicted,
    without_thought,
)
from supercorrect_agent.templates import parse_critique, parse_solution
from supercorrect_agent.types import Critique, Inspection, Round, Verdict
from tests.fakes import ScriptedChatModel


@pytest.mark.parametrize(
    ("reply", "rest"),
    [
        ("<Step3>c</Step3><Answer>1</Answer>", "<Step3>c</Step3><Answer>1</Answer>"),
        ("<Answer>1</Answer>", "<Answer>1</Answer>"),
        ("Sure!\n<Step1>a</Step1><Step2>b</Step2><Step3>c</Step3>", "<Step3>c</Step3>"),
        ("<Step1>a</Step1><step 2:>b</step 2:> <Answer>1</Answer>", " <Answer>1</Answer>"),
        ("<Step2>b</Step2><Step 3>c</Step 3>", "<Step 3>c</Step 3>"),
        ("", ""),
    ],
)
def test_what_comes_after_step_2(reply: str, rest: str) -> None:
    assert after_step(reply, 2) == rest


LINES = "2+1=3\n3*4=12\n"
NUMBERED = "1. 2+1=3\n2. 3*4=12\n"


@pytest.mark.parametrize(
    ("kept", "reply", "rest"),
    [
        (LINES, "The answer is 12.", "The answer is 12."),
        (LINES, "2+1=3\n3*4=12\n\\boxed{12}", "\\boxed{12}"),
        (LINES, "Sure!\n2 + 1 = 3\n\n3*4 = 12\n12", "12"),
        (LINES, "3*4=12\n12", "12"),
        (LINES, "2+1=3\nThree times four is 12\nSo 12", "So 12"),
        (LINES, "2+1=3\n\\boxed{12}", "\\boxed{12}"),
        (LINES, "So 12\nas 3*4 is\n3*4=12", "So 12\nas 3*4 is\n3*4=12"),
        (LINES, "2+1=3\n3*4=12", ""),
        (NUMBERED, "1. 2+1=3\n2. 3*4=12\n3. So 12", "3. So 12"),
        (NUMBERED, "2. 3*4=12\n3. So 12", "3. So 12"),
        (NUMBERED, "3. So 12", "3. So 12"),
        ("", "2+1=3", "2+1=3"),
    ],
)
def test_a_reply_without_tags_that_begins_again(kept: str, reply: str, rest: str) -> None:
    assert after_step(reply, 2, kept) == rest


@pytest.mark.parametrize(
    ("reply", "rest"),
    [("12", "12"), ("<think>13?</think>12", "12"), ("<think>maybe 99", ""), ("", "")],
)
def test_a_thought_is_no_part_of_the_rest(reply: str, rest: str) -> None:
    assert without_thought(reply) == rest


def test_a_plain_rest_without_an_answer_says_so() -> None:
    assert joined(LINES, "So 12", "So 12") == LINES + "So 12"
    silent = parse_solution(joined(LINES, "I do not know\n", "I do not know\n"))
    assert ([step.text for step in silent.steps], silent.answer) == (
        ["2+1=3", "3*4=12", "I do not know"],
        None,
    )
    tagged = "<Step1>3*4=12</Step1>\n"
    assert joined(tagged, "I do not know", "I do not know") == tagged + "I do not know"


def test_a_plain_student_that_turns_to_tags_has_all_steps_in_them() -> None:
    rest = "<Step3>so 12</Step3>\n<Answer>12</Answer>"
    student = Student(ScriptedChatModel(replies=[rest]), DEFAULT_PROMPTS)
    plain = parse_solution("2+1=3\n3*4=13\nThe answer is 13.")
    found = Critique(step=2, cause="c", correction="3*4=12")
    text, how, _ = drive(student.correct("?", plain, found, Turn({})))
    assert (text, how) == (f"<Step1>2+1=3</Step1>\n<Step2>3*4=12</Step2>\n{rest}", "splice")


SOLVED = "<Step1>2+1=3</Step1>\n<Step2>3*4=13</Step2>\n<Answer>{}</Answer>"


@pytest.mark.parametrize(
    ("answer", "review", "against"),
    [
        ("13", "<Answer>\\boxed{12}</Answer>", True),
        ("13", "So all is right: \\boxed{12}", True),
        ("13", "<Answer>13.0</Answer>", False),
        ("13", "<Answer>$13$</Answer>", False),
        ("13", "<Answer>13, because 3*4=13</Answer>", False),
        ("Tommy raises $1,300.", "<Answer>\\boxed{1300}</Answer>", False),
        ("\\frac{1}{2}", "<Answer>0.50</Answer>", False),
        ("-3", "<Answer>3</Answer>", True),
        ("x^2 + 1", "<Answer>$x^2+1$</Answer>", False),
        ("x^2 + 1", "<Answer>x^2 + 3</Answer>", True),
        ("Monday", "<Answer>monday.</Answer>", False),
        ("Monday", "<Answer>Friday</Answer>", True),
        ("13", "I am sure of step 2.", False),
        ("", "<Answer>12</Answer>", False),
    ],
)
def test_a_review_that_comes_to_another_answer(answer: str, review: str, against: bool) -> None:
    solution = parse_solution(SOLVED.format(answer))
    found = parse_critique(f"<Step1>2+1=3<Evaluate>right</Evaluate></Step1>\n{review}")
    assert found.readable
    assert contradicts(solution, found) is against
    assert unless_contradicted(solution, found).readable is not against
    doubted = found.model_copy(update={"step": 1})
    assert unless_contradicted(solution, doubted) is doubted


def reviewed(reply: str, **options: Any) -> Critique:
    student = Student(ScriptedChatModel(replies=[reply]), DEFAULT_PROMPTS)
    return drive(student.review("?", parse_solution(SOLVED.format("13")), Turn({}), **options))[0]


def test_a_review_may_be_a_judges_verdict() -> None:
    reply = (
        '```json\n{"first_wrong_step": 2, "cause": "c", "correction": "12</Step2>\\ud800", "confidence": 0.7}'
    )
    found = reviewed(reply)
    assert (found.step, found.cause, found.correction) == (2, "c", "12\ufffd")
    assert (found.confidence, found.readable, found.raw) == (0.7, True, reply)
    fine = reviewed('{"first_wrong_step": null}')
    assert (fine.step, fine.readable) == (None, True)


def test_other_reviews_are_read_as_ever() -> None:
    for reply in ("Well.", '{"first_wrong_step": 3, "cause": "c", "correction": "d"}'):
        assert not reviewed(reply).readable
    trace = '<Step1>2+1=3<Evaluate>right {"first_wrong_step": 1}</Evaluate></Step1><Answer>13</Answer>'
    assert reviewed(trace) == parse_critique(trace, author="scripted")
    verdict = '{"first_wrong_step": null}'
    assert not reviewed(verdict, forced=Critique(step=1, cause="c", correction="d")).readable


@pytest.mark.parametrize(
    ("text", "truncated", "closed"),
    [
        ("<Cause>a</Cause><Correction>b", False, "<Cause>a</Cause><Correction>b</Correction>"),
        ("<Correction:> b", False, "<Correction:> b</Correction>"),
        ("<Correction>b</Correction>", False, "<Correction>b</Correction>"),
        ("<Correction>b", True, "<Correction>b"),
        ("<Answer>1</Answer>", False, "<Answer>1</Answer>"),
    ],
)
def test_the_stop_string_is_put_back(text: str, truncated: bool, closed: str) -> None:
    assert close_correction(text, truncated=truncated) == closed


JUDGED = "<Step1>a<Evaluate>This step is correct.</Evaluate></Step1>\n<Step2>b"
VERDICT = "<Evaluate>This step is wrong.</Evaluate><Cause>c</Cause><Correction>"
OWN_TRACE = "<Step1>a</Step1> <Step2>b<Evaluate>no</Evaluate>\n<Cause>c</Cause>\n<Correction>B</Correction>"


@pytest.mark.parametrize(
    ("raw", "prefix"),
    [
        ("", JUDGED + VERDICT),
        (OWN_TRACE, OWN_TRACE.removesuffix("B</Correction>")),
        (
            "<Step1>a</Step1>\n<Step2>b\nCause: c\nCorrection: B</Step2>",
            "<Step1>a</Step1>\n<Step2>b\n" + VERDICT,
        ),
    ],
    ids=["canonical", "in-the-critics-words", "a-label-becomes-a-tag"],
)
def test_a_trace_up_to_its_correction(raw: str, prefix: str) -> None:
    solution = parse_solution("<Step1>a</Step1>\n<Step2>b</Step2>\n<Answer>1</Answer>")
    found = Critique(step=2, cause="c", correction="B", raw=raw)
    assert correction_prefix(solution, found) == prefix


@pytest.mark.parametrize(
    ("raw", "whole"),
    [
        ("<Correction>b</Correction>", True),
        ("<correction:> b </Correction:>", True),
        ("<Correction>b", False),
        ("<Answer>1</Answer>", False),
    ],
)
def test_a_correction_cut_short_is_not_whole(raw: str, whole: bool) -> None:
    assert is_whole(Critique(raw=raw)) is whole


def test_a_model_that_cannot_continue_a_message_is_not_asked_for_a_rewrite() -> None:
    student = Student(ScriptedChatModel(replies=[], model_name="m1"), DEFAULT_PROMPTS)
    solution = parse_solution("<Step1>a</Step1>")
    found = Critique(step=1, cause="c", correction="B")
    with pytest.raises(ModelError, match="'m1' cannot continue a message"):
        drive(student.rewrite("?", solution, found, Turn({})))


def test_a_text_is_parsed_once_and_few_long_ones_are_remembered() -> None:
    student, other = (
        Student(ScriptedChatModel(replies=[], model_name=name), DEFAULT_PROMPTS) for name in ("m1", "m2")
    )
    short = "<Step1>2+2=4</Step1><Answer>4</Answer>"
    long = short + " " * REMEMBERED_LENGTH
    assert student.read(short) is student.read(short)
    assert (student.read(short).model, other.read(short).model) == ("m1", "m2")
    assert student.read(long) is (first := student.read(long))
    for length in range(4):
        student.read(long + " " * (length + 1))
    assert student.read(long) is not first
    assert (student.read(long).answer, student.read(long).raw) == ("4", long)


def test_what_is_kept() -> None:
    solution = parse_solution("<Step1>a</Step1>\n<Step2>b</Step2>\n<Answer>1</Answer>")
    found = Critique(step=2, cause="c", correction="B")
    assert kept_text(solution, found) == "<Step1>a</Step1>\n<Step2>B</Step2>\n"
    tagged = found.model_copy(update={"correction": "so \\boxed{B}</Step2><Answer>9</Answer> <Key>k</Key>"})
    assert kept_text(solution, tagged) == "<Step1>a</Step1>\n<Step2>so B9 <Key>k</Key></Step2>\n"
    for nothing in ({"step": None}, {"step": 3}, {"correction": " "}, {"correction": "</Step2>"}):
        assert kept_text(solution, found.model_copy(update=nothing)) == ""


def test_prompts_beside_a_checkpoint(tmp_path: Path) -> None:
    class Local(ScriptedChatModel):
        model_path: Path

    model = Local(replies=[], model_path=tmp_path)
    assert prompts_beside(model) is DEFAULT_PROMPTS
    assert prompts_beside(ScriptedChatModel(replies=[])) is DEFAULT_PROMPTS
    (tmp_path / "prompts.toml").write_text('[solve]\ntext = "Q: {problem}"\nversion = "7"\n')
    assert (prompts_beside(model).solve.version, prompts_beside(model).review) == (
        "7",
        DEFAULT_PROMPTS.review,
    )


@pytest.mark.parametrize(
    ("text", "stored"),
    [("a\x00b", "a\ufffdb"), ("a\ud800b", "a\ufffdb"), ("\udc00", "\ufffd"), ("π 😀\n", "π 😀\n")],
)
def test_storable(text: str, stored: str) -> None:
    assert storable(text) == stored


def test_failures_are_one_line() -> None:
    model = ScriptedChatModel(replies=[], model_name="m1")
    assert failure_text("student", ValueError("a\n  b")) == "student: ValueError: a b"
    assert failure_text("teacher", TeacherError("not mine"), model) == "teacher: not mine"
    gone = openai.APIConnectionError(request=Request("POST", "http://127.0.0.1:1/v1"))
    text = failure_text("student", gone, model)
    assert text.startswith("student: No model server answers")
    assert "m1" in text


def test_a_model_is_named() -> None:
    assert model_name(ScriptedChatModel(replies=[], model_name="m1")) == "m1"
    assert model_name(ScriptedChatModel(replies=[], model_name="")) == "scripted"


@pytest.mark.parametrize(
    ("first", "later", "best"),
    [
        ("unscored", ["unscored", "unscored"], 2),
        ("unscored", ["unscored", "unreadable"], 1),
        ("unscored", ["unreadable"], 0),
        ("unreadable", ["unreadable"], 1),
        ("unscored", ["incorrect"], 0),
        ("incorrect", ["correct", "incorrect"], 1),
    ],
)
def test_the_best_of_the_trajectory(first: str, later: list[str], best: int) -> None:
    text = parse_solution("<Answer>1</Answer>")
    rounds = [
        Round(critique=Critique(step=1), solution=text, verdict=Verdict.model_validate({"status": status}))
        for status in later
    ]
    rounds.append(Round(critique=Critique()))  # the last critique, which nothing followed
    assert choose(Verdict.model_validate({"status": first}), rounds).index == best


UNSCORED = Verdict(status="unscored")
APPROVED = Inspection(check="human_review", passed=True)
FAILED = Inspection(check="cause", passed=False)


def revision(confidence: float | None = None, status: str = "unscored", *checks: Inspection) -> Round:
    critique = Critique(step=1, confidence=confidence)
    verdict = Verdict.model_validate({"status": status})
    solution = parse_solution("<Answer>2</Answer>")
    return Round(critique=critique, solution=solution, verdict=verdict, inspections=checks)


class TestMajority:
    """Index 0 is the solution that the samples agree on, 1 and 2 are revisions."""

    @pytest.mark.parametrize(
        ("agreement", "confidence", "best"),
        [
            (None, None, 1),  # no vote: the critique is the only evidence
            (None, 0.1, 1),
            (0.0, None, 1),  # no sample had a readable answer
            (1 / 3, None, 1),  # 0.5 is above a third, but not above a half
            (1 / 3, 0.3, 0),
            (0.5, None, 0),
            (2 / 3, 0.6, 0),
            (2 / 3, 0.7, 1),
            (1.0, None, 0),
            (1.0, 1.0, 0),
        ],
    )
    def test_an_unconfirmed_revision_has_to_outweigh_it(
        self, agreement: float | None, confidence: float | None, best: int
    ) -> None:
        chosen = choose(UNSCORED, [revision(confidence)], agreement)
        assert (chosen.index, bool(chosen.reason)) == (best, best == 0)

    def test_one_that_the_critic_confirms_need_not(self) -> None:
        assert choose(UNSCORED, [revision(), Round(critique=Critique())], 1.0).index == 1

    @pytest.mark.parametrize(
        "after",
        [
            Round(critique=Critique(readable=False)),
            Round(critique=Critique(step=1)),
            Round(critique=Critique(), inspections=(FAILED,)),
        ],
        ids=["unreadable", "doubted", "failed inspection"],
    )
    def test_what_confirms_nothing(self, after: Round) -> None:
        assert choose(UNSCORED, [revision(), after], 1.0).index == 0

    def test_a_critique_that_a_person_approved_outweighs_every_sample(self) -> None:
        assert choose(UNSCORED, [revision(None, "unscored", APPROVED)], 1.0).index == 1

    def test_the_sureness_of_a_later_critique_says_nothing_of_it(self) -> None:
        assert choose(UNSCORED, [revision(0.2), revision(0.99)], 0.6).index == 0
        assert choose(UNSCORED, [revision(0.7), revision(0.1)], 0.6).index == 2

    @pytest.mark.parametrize(("status", "best"), [("correct", 1), ("incorrect", 0), ("unreadable", 0)])
    def test_the_verifier_goes_before_all_votes(self, status: str, best: int) -> None:
        assert choose(UNSCORED, [revision(0.9, status)], 0.6).index == best

    def test_the_agreement_on_what_the_verifier_rejects_is_no_evidence(self) -> None:
        assert choose(Verdict(status="incorrect"), [revision(None, "incorrect")], 1.0).index == 1
