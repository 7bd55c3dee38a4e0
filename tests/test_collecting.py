"""The collecting graph: what each role is shown, what is inspected, and what ends on the trace."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from langchain_core.messages import AIMessage

from supercorrect_agent.errors import ConfigError, TeacherError
from supercorrect_agent.graph import create_collecting_graph
from supercorrect_agent.prompts import DEFAULT_PROMPTS, render_prompt
from supercorrect_agent.state import CollectConfig
from supercorrect_agent.teachers.llm import LLMTeacher
from supercorrect_agent.templates import parse_solution
from supercorrect_agent.types import Critique, Problem, Trace, Verdict
from tests.fakes import ScriptedChatModel, ScriptedTeacher, prefilling
from tests.test_graph import FOUND, KEPT, QUESTION, REST, RIGHT, STEP1, WRONG

PROBLEM = Problem.create(QUESTION, answer="396", reference_solution="47+85=132, 132*3=396", source="test")
TEMPLATE = parse_solution(RIGHT, model="scripted-teacher")
OWN = "<Evaluate>386 is wrong</Evaluate><Cause>I slipped.</Cause><Correction>Triple. 132*3=376"
ATTEMPT_ONLY = CollectConfig(write_template=False)


def collect(student: Any, teacher: Any, config: CollectConfig = ATTEMPT_ONLY, **given: Any) -> Trace:
    graph = create_collecting_graph(student, teacher, config=config)
    result = graph.invoke({"problem": given.pop("problem", PROBLEM).model_dump(), **given})
    json.dumps(result)
    return Trace.model_validate(result["trace"])


def test_a_wrong_attempt_gets_everything_training_needs() -> None:
    student, teacher = prefilling(WRONG, OWN, REST), ScriptedTeacher(FOUND, template=TEMPLATE)
    trace = collect(student, teacher, CollectConfig(), sample=3)
    assert (trace.status, trace.sample, trace.problem) == ("corrected", 3, PROBLEM)
    assert trace.template == TEMPLATE
    assert trace.verdict is not None
    assert trace.verdict.status == "incorrect"
    (only,) = trace.rounds
    assert only.critique == FOUND
    assert only.solution is not None
    assert only.verdict is not None
    assert (only.solution.raw, only.verdict.status, only.continuation) == (RIGHT, "correct", "prefill")
    assert only.inspections
    assert all(one.passed for one in only.inspections)
    assert only.review is not None
    assert (only.review.step, only.review.cause, only.review.correction) == (
        2,
        "I slipped.",
        "Triple. 132*3=376",
    )


def test_the_teacher_sees_the_reference_and_the_student_never() -> None:
    student, teacher = prefilling(WRONG, OWN, REST), ScriptedTeacher(FOUND)
    collect(student, teacher)
    assert teacher.seen[0][2] == PROBLEM
    request, prefix = student.prompts[1]
    assert request.text == render_prompt(DEFAULT_PROMPTS.review, problem=QUESTION, solution=WRONG)
    assert prefix.text.startswith("<Step1>")
    assert prefix.text.rstrip().endswith("132*3=386")  # re-written up to the teacher's step, not yet judged
    assert student.options[1]["stop"] == ["</Correction>"]
    assert student.prompts[2][1].text == KEPT
    assert "396" not in "".join(message.text for messages in student.prompts[:2] for message in messages)


def test_a_student_that_cannot_prefill_reviews_freely() -> None:
    free = STEP1.replace("</Step1>", "<Cause>no</Cause><Correction>47+85=130</Correction></Step1>")
    trace = collect(ScriptedChatModel(replies=[WRONG, free, REST]), ScriptedTeacher(FOUND))
    review = trace.rounds[0].review
    assert review is not None
    assert (review.step, trace.rounds[0].continuation, trace.status) == (1, "splice", "corrected")


def test_a_right_attempt_needs_no_critique() -> None:
    teacher = ScriptedTeacher()
    trace = collect(prefilling(RIGHT), teacher)
    assert (trace.status, trace.rounds, teacher.seen) == ("accepted", (), [])


def test_right_attempts_are_reviewed_on_request() -> None:
    fine = Critique(author="t", answer="396")
    settings = CollectConfig(write_template=False, review_correct=True, student_review=False)
    trace = collect(prefilling(RIGHT), ScriptedTeacher(fine), settings)
    assert (trace.status, len(trace.rounds)) == ("accepted", 1)
    assert (trace.rounds[0].critique, trace.rounds[0].solution) == (fine, None)


def test_the_student_reviews_its_right_attempt_freely_and_may_give_a_false_alarm() -> None:
    alarm = STEP1.replace("</Step1>", "<Cause>no</Cause><Correction>47+85=130</Correction></Step1>")
    student = prefilling(RIGHT, alarm)
    settings = CollectConfig(write_template=False, review_correct=True)
    trace = collect(student, ScriptedTeacher(Critique(author="t", answer="396")), settings)
    (only,) = trace.rounds
    assert (trace.status, only.critique.step, only.solution) == ("accepted", None, None)
    assert only.review is not None
    assert (only.review.step, only.review.correction) == (1, "47+85=130")
    assert [message.type for message in student.prompts[1]] == ["human"]  # nothing forces the review


def test_template_only() -> None:
    trace = collect(prefilling(), ScriptedTeacher(template=TEMPLATE), CollectConfig(attempt=False))
    assert (trace.status, trace.template, trace.solution) == ("accepted", TEMPLATE, None)


def test_a_template_with_a_wrong_answer_is_called_so() -> None:
    wrong = parse_solution(WRONG, model="scripted-teacher")
    trace = collect(prefilling(), ScriptedTeacher(template=wrong), CollectConfig(attempt=False))
    assert (trace.status, trace.template) == ("quarantined", wrong)
    assert trace.chosen.reason.startswith("the teacher's solution failed the checks arithmetic, answer: ")
    assert trace.verdict is not None
    assert trace.verdict.status == "incorrect"


def test_a_template_that_cannot_be_read() -> None:
    trace = collect(prefilling(), ScriptedTeacher(), CollectConfig(attempt=False))
    assert (trace.status, trace.template) == ("parse_error", None)


@pytest.mark.parametrize(
    ("critique", "failed", "status"),
    [
        (FOUND.model_copy(update={"cause": "The reference solution says 396."}), ["leak"], "quarantined"),
        (FOUND.model_copy(update={"cause": " "}), ["cause"], "quarantined"),
        (FOUND.model_copy(update={"step": 7}), ["step_in_range"], "quarantined"),
        (FOUND.model_copy(update={"correction": ""}), ["correction"], "quarantined"),
        (FOUND.model_copy(update={"correction": "</Step2>"}), ["correction"], "quarantined"),
        (FOUND.model_copy(update={"correction": "Triple. 132*3=395"}), ["arithmetic"], "quarantined"),
        (FOUND.model_copy(update={"answer": "395"}), ["answer"], "quarantined"),
        (Critique(author="t"), ["agrees_with_answer"], "quarantined"),
        (Critique(author="t", readable=False), ["readable"], "parse_error"),
    ],
    ids=["leak", "cause", "range", "empty", "tag", "arithmetic", "answer", "no-error", "unreadable"],
)
def test_a_faulty_critique_stays_on_the_trace_with_its_failed_checks(
    critique: Critique, failed: list[str], status: str
) -> None:
    student = prefilling(WRONG)
    trace = collect(student, ScriptedTeacher(critique))
    assert (trace.status, len(student.prompts)) == (status, 1)  # the student is not asked to follow it
    assert trace.rounds[0].critique == critique
    assert [one.check for one in trace.rounds[0].inspections if not one.passed] == failed


def verdict(**fields: Any) -> str:
    return json.dumps({"first_wrong_step": 2, "cause": "c", "correction": "Triple. 132*3=396"} | fields)


def test_an_llm_teacher_revises_by_the_inspectors_notes() -> None:
    model = ScriptedChatModel(
        replies=[verdict(cause="see the reference solution"), verdict(cause="132*3=396")]
    )
    trace = collect(prefilling(WRONG, OWN, REST), LLMTeacher(model))
    assert "It speaks of a reference" not in model.prompts[0][-1].text
    assert "- It speaks of a reference" in model.prompts[1][-1].text
    (only,) = trace.rounds
    assert (only.critique.cause, all(one.passed for one in only.inspections)) == ("132*3=396", True)
    (earlier,) = only.revisions
    assert (earlier.critique.cause, earlier.critique.step) == ("see the reference solution", 2)
    assert [one.check for one in earlier.inspections if not one.passed] == ["leak"]


def test_an_llm_teacher_that_fails_the_second_time_has_been_paid_for_the_first() -> None:
    model = ScriptedChatModel(replies=["Well, well.", ConnectionError("down")])
    trace = collect(prefilling(WRONG), LLMTeacher(model))
    assert (trace.status, trace.error) == ("error", "teacher: ConnectionError: down")
    assert [(call.role, call.round, call.output_tokens) for call in trace.calls[1:]] == [("teacher", 1, 2)]


def test_an_llm_teacher_revises_three_times_at_most() -> None:
    model = ScriptedChatModel(replies=[verdict(cause="the reference answer")] * 4, model_name="judge")
    trace = collect(prefilling(WRONG), LLMTeacher(model))
    assert len(model.prompts) == 4
    assert trace.status == "quarantined"
    assert trace.chosen.reason == (
        "the critique by 'judge' failed the checks leak after 3 revisions: "
        "It speaks of a reference that the student never sees."
    )
    assert len(trace.rounds[0].revisions) == 3
    assert [one.check for one in trace.rounds[0].inspections if not one.passed] == ["leak"]
    assert sum(call.role == "teacher" for call in trace.calls) == 4


def test_rounds_are_bounded_and_each_keeps_its_parts() -> None:
    again = Critique(step=2, cause="c2", correction="Triple. 132*3=396!", author="t")
    student = prefilling(WRONG, OWN, "<Answer>5</Answer>", OWN, "<Answer>6</Answer>")
    config = CollectConfig(write_template=False, max_rounds=2)
    trace = collect(student, ScriptedTeacher(FOUND, again), config)
    assert (trace.status, len(trace.rounds)) == ("budget", 2)
    assert [one.solution.answer for one in trace.rounds if one.solution] == ["5", "6"]
    assert [one.review.step for one in trace.rounds if one.review] == [2, 2]


def test_the_longest_run_stays_within_the_recursion_limit() -> None:
    # In every round three versions fail, and from the fourth the student misses the answer.
    right = [verdict(correction=f"Triple. 132*3=396{'!' * number}") for number in range(8)]
    leaks = [verdict(cause="the reference answer")] * 3
    model = ScriptedChatModel(replies=[reply for last in right for reply in (*leaks, last)])
    student = prefilling(WRONG, *[OWN, "<Answer>5</Answer>"] * 8)
    trace = collect(student, LLMTeacher(model), CollectConfig(write_template=False, max_rounds=8))
    assert (trace.status, len(trace.rounds)) == ("budget", 8)


def test_without_the_students_review() -> None:
    config = CollectConfig(write_template=False, student_review=False)
    trace = collect(prefilling(WRONG, REST), ScriptedTeacher(FOUND), config)
    assert (trace.status, trace.rounds[0].review) == ("corrected", None)


def test_a_problem_without_a_readable_answer_is_not_called_wrong() -> None:
    problem = Problem.create(QUESTION)
    trace = collect(prefilling(WRONG), ScriptedTeacher(), problem=problem)
    assert trace.verdict is not None
    assert (trace.status, trace.verdict.status) == ("accepted", "unscored")


# Traces of earlier versions know no alternatives.


def test_a_round_of_an_earlier_version_has_no_alternatives() -> None:
    trace = collect(prefilling(WRONG, OWN, REST), ScriptedTeacher(FOUND))
    old = trace.model_dump(mode="json")
    assert old["rounds"][0].pop("alternatives") == []
    assert Trace.model_validate(old) == trace


# Alternatives (decision B8). The student is asked in this order: solution, review, rewrite, further reviews,
# what follows each alternative, and what follows the teacher's correction.

BEHIND = "<Evaluate>This step is wrong.</Evaluate><Cause>3 times 132 is 396.</Cause><Correction>"
FORCED = "<Step1>Add. 47+85=132<Evaluate>This step is correct.</Evaluate></Step1>\n<Step2>Triple. 132*3=386"
GOOD = "<Cause>3*2 is 6.</Cause><Correction>Triple. 132*3=396"
REWRITE = CollectConfig(write_template=False, rewrite=True)


def resampling(times: int, **fields: Any) -> CollectConfig:
    return CollectConfig(write_template=False, resamples=times, **fields)


def test_the_student_rewrites_the_correction_behind_the_teachers_cause() -> None:
    student = prefilling(WRONG, OWN, "Three times: 132*3=396", REST, REST)
    trace = collect(student, ScriptedTeacher(FOUND), REWRITE)
    (alternative,) = trace.rounds[0].alternatives
    own = alternative.critique
    assert (alternative.source, alternative.verdict) == ("student_rewrite", Verdict(status="correct"))
    assert own.raw == f"{FORCED}{BEHIND}Three times: 132*3=396</Correction>"
    assert (own.step, own.cause, own.correction) == (2, FOUND.cause, "Three times: 132*3=396")
    assert own.author == "scripted"
    request, prefix = student.prompts[2]
    assert request.text == render_prompt(DEFAULT_PROMPTS.review, problem=QUESTION, solution=WRONG)
    assert (prefix.text, student.options[2]["stop"]) == (FORCED + BEHIND, ["</Correction>"])
    followed = student.prompts[3][1].text  # it goes on from its own words, later from the teacher's
    assert followed == STEP1 + "<Step2>Three times: 132*3=396</Step2>\n"
    assert student.prompts[4][1].text == KEPT
    assert [call.round for call in trace.calls if call.role == "student"] == [0, 1, 1, 1, 1]
    assert trace.status == "corrected"


def test_further_reviews_are_sampled_at_the_teachers_step_and_kept_once() -> None:
    slip = "<Answer>\\boxed{376}</Answer>"
    student = prefilling(WRONG, OWN, GOOD, OWN, GOOD.replace(". ", ".\n"), REST, slip, REST)
    trace = collect(student, ScriptedTeacher(FOUND), resampling(3))
    first, second = trace.rounds[0].alternatives
    assert {first.source, second.source} == {"student_resample"}
    assert (first.critique.cause, first.verdict) == ("3*2 is 6.", Verdict(status="correct"))
    assert second.critique == trace.rounds[0].review
    assert second.verdict is not None
    assert second.verdict.status == "incorrect"
    assert [messages[-1].text for messages in student.prompts[1:5]] == [FORCED] * 4
    assert len(student.prompts) == 8


@pytest.mark.parametrize(("run", "resample"), [(0.0, 0.7), (None, 0.7), (0.9, 0.9)])
def test_a_greedy_runs_further_reviews_are_sampled_all_the_same(run: float | None, resample: float) -> None:
    student = prefilling(WRONG, OWN, GOOD, REST, REST)
    collect(student, ScriptedTeacher(FOUND), resampling(1, temperature=run))
    assert [options.get("temperature") for options in student.options] == [run, run, resample, run, run]


@pytest.mark.parametrize(
    "reply",
    [
        "<Evaluate>This step is correct.</Evaluate></Step2>\n<Answer>\\boxed{386}</Answer>",
        AIMessage(GOOD, response_metadata={"finish_reason": "length"}),
        "<Cause>It is wrong.</Cause><Correction> ",
    ],
    ids=["no-error", "cut-by-the-token-limit", "no-correction"],
)
def test_an_alternative_that_corrects_nothing_is_not_followed(reply: Any) -> None:
    student = prefilling(WRONG, OWN, reply, REST)
    trace = collect(student, ScriptedTeacher(FOUND), resampling(1))
    (alternative,) = trace.rounds[0].alternatives
    assert (alternative.verdict, len(student.prompts), trace.status) == (None, 4, "corrected")


def test_a_text_of_both_kinds_is_followed_once() -> None:
    whole = "<Evaluate>This step is wrong.</Evaluate><Cause>3 times 132 is 396.</Cause><Correction>132*3=396"
    student = prefilling(WRONG, OWN, "132*3=396", whole, REST, REST)
    trace = collect(student, ScriptedTeacher(FOUND), resampling(1, rewrite=True))
    first, second = trace.rounds[0].alternatives
    assert (first.source, second.source) == ("student_rewrite", "student_resample")
    assert first.critique == second.critique
    assert first.verdict == second.verdict == Verdict(status="correct")
    assert len(student.prompts) == 6


def test_a_student_that_cannot_prefill_rewrites_nothing_and_resamples_freely() -> None:
    other = STEP1.replace("</Step1>", "<Cause>no</Cause><Correction>47+85=130</Correction></Step1>")
    student = ScriptedChatModel(replies=[WRONG, FORCED + OWN, other, FORCED + GOOD, REST, REST])
    trace = collect(student, ScriptedTeacher(FOUND), resampling(2, rewrite=True))
    first, second = trace.rounds[0].alternatives
    assert (first.source, first.critique.step, first.verdict) == ("student_resample", 1, None)
    assert (second.critique.step, second.verdict) == (2, Verdict(status="correct"))


def test_each_round_keeps_its_own_alternatives() -> None:
    again = Critique(step=2, cause="c2", correction="Triple. 132*3=396!", author="t")
    slip, other = "<Answer>5</Answer>", "<Answer>6</Answer>"
    student = prefilling(WRONG, OWN, "a 396", slip, slip, OWN, "b 396", REST, other)
    config = CollectConfig(write_template=False, rewrite=True, max_rounds=2)
    trace = collect(student, ScriptedTeacher(FOUND, again), config)
    made = [[one.critique.correction for one in round_.alternatives] for round_ in trace.rounds]
    assert made == [["a 396"], ["b 396"]]
    verdicts = [one.verdict.status for round_ in trace.rounds for one in round_.alternatives if one.verdict]
    assert verdicts == ["incorrect", "correct"]
    assert [call.round for call in trace.calls if call.role == "student"] == [0, 1, 1, 1, 1, 2, 2, 2, 2]


def test_a_run_may_ask_for_alternatives_by_its_context() -> None:
    student = prefilling(WRONG, OWN, "132*3=396", REST, REST)
    graph = create_collecting_graph(student, ScriptedTeacher(FOUND), config=ATTEMPT_ONLY)
    result = graph.invoke({"problem": PROBLEM.model_dump()}, context=CollectConfig(rewrite=True))
    assert len(Trace.model_validate(result["trace"]).rounds[0].alternatives) == 1


class TestFailures:
    def test_student(self) -> None:
        trace = collect(prefilling(TimeoutError("slow")), ScriptedTeacher())
        assert (trace.status, trace.error, trace.solution) == ("error", "student: TimeoutError: slow", None)

    def test_student_in_its_review(self) -> None:
        trace = collect(prefilling(WRONG, TimeoutError("slow")), ScriptedTeacher(FOUND))
        assert (trace.status, trace.rounds[0].critique) == ("error", FOUND)

    def test_student_in_its_alternatives(self) -> None:
        student = prefilling(WRONG, OWN, "132*3=396", TimeoutError("slow"))
        trace = collect(student, ScriptedTeacher(FOUND), resampling(1, rewrite=True))
        (only,) = trace.rounds
        assert (trace.status, trace.error) == ("error", "student: TimeoutError: slow")
        assert (only.critique, only.review is not None) == (FOUND, True)
        assert [(one.source, one.verdict) for one in only.alternatives] == [("student_rewrite", None)]
        assert sum(call.role == "student" for call in trace.calls) == 3

    def test_student_on_the_way_from_an_alternative(self) -> None:
        student = prefilling(WRONG, OWN, GOOD, OWN, REST, TimeoutError("slow"))
        trace = collect(student, ScriptedTeacher(FOUND), resampling(2))
        assert trace.status == "error"
        assert [one.verdict for one in trace.rounds[0].alternatives] == [Verdict(status="correct"), None]

    def test_teacher(self) -> None:
        trace = collect(prefilling(WRONG), ScriptedTeacher(OSError("down")))
        assert (trace.status, trace.error) == ("error", "teacher: OSError: down")
        assert trace.solution is not None
        assert trace.solution.answer == "386"

    def test_a_problem_that_the_teacher_cannot_judge_is_no_failure(self) -> None:
        trace = collect(prefilling(WRONG), ScriptedTeacher(TeacherError("not mine")))
        assert (trace.status, trace.error, trace.rounds) == ("unchanged", None, ())
        assert trace.chosen.reason == "the teacher cannot judge it: teacher: not mine"

    def test_misuse_raises(self) -> None:
        graph = create_collecting_graph(prefilling(), ScriptedTeacher())
        with pytest.raises(ConfigError, match="`problem` is not a Problem record"):
            graph.invoke({"problem": {"question": "?"}})


def test_async_and_sync_agree() -> None:
    def graph() -> Any:
        teacher = ScriptedTeacher(FOUND, template=TEMPLATE)
        student = prefilling(WRONG, OWN, "132*3=396", GOOD, REST, REST, REST)
        return create_collecting_graph(student, teacher, config=CollectConfig(rewrite=True, resamples=1))

    given = {"problem": PROBLEM.model_dump()}
    sync, there = graph().invoke(given)["trace"], asyncio.run(graph().ainvoke(given))["trace"]
    assert len(sync["rounds"][0]["alternatives"]) == 2
    for key in ("problem", "template", "solution", "verdict", "rounds", "status"):
        assert sync[key] == there[key]
