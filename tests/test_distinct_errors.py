"""Several attempts at one problem: which wrong ones the teacher sees, and what the student adds to them."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from supercorrect_agent.graph import create_collecting_graph
from supercorrect_agent.state import CollectConfig
from supercorrect_agent.teachers.llm import LLMTeacher
from supercorrect_agent.types import Critique, Problem, Trace
from tests.fakes import ScriptedChatModel, ScriptedTeacher, prefilling
from tests.test_collect_inspector import failed
from tests.test_collecting import OWN, PROBLEM, collect, verdict
from tests.test_graph import FOUND, QUESTION, REST, RIGHT, STEP1, WRONG
from training.collect_tally import Tally
from training.pairs import build_preference_dataset
from training.sft_rows import build_sft_dataset

ATTEMPT_ONLY = CollectConfig(write_template=False)
HALF = Problem.create(QUESTION, answer="1/2", source="test")


def attempt(answer: str) -> str:
    return STEP1 + f"<Step2>Triple.</Step2>\n<Answer>\\boxed{{{answer}}}</Answer>"


# Known errors (decision B24): the answers of wrong attempts that were kept. WRONG comes to 386.


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        (["386"], "error already kept"),
        (["380", "386.0"], "error already kept"),  # equal by the verifier
        (["380", "381"], "max_errors"),
    ],
)
def test_a_known_or_further_error_is_not_shown_to_the_teacher(known: list[str], reason: str) -> None:
    teacher = ScriptedTeacher()
    trace = collect(prefilling(WRONG), teacher, known_errors=known)
    assert (trace.status, trace.chosen.reason, trace.rounds) == ("unchanged", reason, ())
    assert (teacher.seen, [call.role for call in trace.calls]) == ([], ["student"])
    assert trace.verdict is not None
    assert trace.verdict.status == "incorrect"
    for build in (build_sft_dataset, build_preference_dataset):
        _, manifest = build([trace])
        assert (manifest.kept, manifest.dropped) == (0, {reason: 1})


@pytest.mark.parametrize("known", [[], ["380"], ["380", "380"], [""]])
def test_a_new_error_is(known: list[str]) -> None:
    trace = collect(prefilling(WRONG, OWN, REST), ScriptedTeacher(FOUND), known_errors=known)
    assert trace.status == "corrected"


@pytest.mark.parametrize(("cap", "status"), [(1, "unchanged"), (3, "corrected"), (None, "corrected")])
def test_the_cap_is_a_setting(cap: int | None, status: str) -> None:
    config = CollectConfig(write_template=False, max_errors=cap)
    student = prefilling(WRONG, OWN, REST)
    trace = collect(student, ScriptedTeacher(FOUND), config, known_errors=["380", "381"][: cap or 2])
    assert trace.status == status


def test_equal_values_in_other_spellings_are_one_error() -> None:
    trace = collect(prefilling(attempt("0.25")), ScriptedTeacher(), problem=HALF, known_errors=["\\frac14"])
    assert trace.chosen.reason == "error already kept"


def test_attempts_without_an_answer_are_one_error() -> None:
    silent = "<Step1>I do not know.</Step1>"
    trace = collect(prefilling(silent), ScriptedTeacher(), known_errors=[""])
    assert (trace.status, trace.chosen.reason) == ("unchanged", "error already kept")
    found = Critique(step=1, cause="No.", correction="47+85=132", author="t")
    trace = collect(prefilling(silent, OWN, REST), ScriptedTeacher(found), known_errors=["386"])
    assert trace.chosen.reason != "error already kept"


def test_a_right_attempt_is_no_error() -> None:
    trace = collect(prefilling(RIGHT), ScriptedTeacher(), known_errors=["386", "380"])
    assert trace.status == "accepted"


def test_a_revision_may_come_to_a_known_error() -> None:
    """Only the attempt itself is compared; where its correction leads is another matter."""
    student = prefilling(WRONG, OWN, "<Answer>5</Answer>")
    trace = collect(student, ScriptedTeacher(FOUND), known_errors=["5"])
    assert (trace.status, len(trace.rounds)) == ("budget", 1)


def test_a_thread_forgets_the_known_errors_of_its_last_run() -> None:
    student, teacher = prefilling(WRONG, WRONG, OWN, REST), ScriptedTeacher(FOUND)
    graph = create_collecting_graph(student, teacher, config=ATTEMPT_ONLY, checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "1"}}
    given = {"problem": PROBLEM.model_dump()}
    first = graph.invoke({**given, "known_errors": ["386"]}, thread)["trace"]
    second = graph.invoke(given, thread)["trace"]
    assert (first["status"], second["status"]) == ("unchanged", "corrected")


# The free review (decision B4): for metrics, beside the one that is forced to the teacher's step.

FREE = STEP1.replace("</Step1>", "<Cause>no</Cause><Correction>47+85=130</Correction></Step1>")


def free(**fields: Any) -> CollectConfig:
    return CollectConfig(write_template=False, free_review=True, **fields)


def test_the_free_review_names_its_step_itself_and_is_never_trained_on() -> None:
    student = prefilling(WRONG, OWN, FREE, REST)
    trace = collect(student, ScriptedTeacher(FOUND), free())
    (only,) = trace.rounds
    assert only.review is not None
    assert only.free_review is not None
    assert (only.review.step, only.free_review.step) == (2, 1)
    assert [len(messages) for messages in student.prompts] == [1, 2, 1, 2]  # only one review is prefilled
    without = trace.model_copy(update={"rounds": (only.model_copy(update={"free_review": None}),)})
    for build in (build_sft_dataset, build_preference_dataset):
        kept, bare = build([trace], trusted_authors=("t",)), build([without], trusted_authors=("t",))
        assert kept[1].data_hash == bare[1].data_hash
        assert kept[1].kept == 1
    assert [call.round for call in trace.calls if call.role == "student"] == [0, 1, 1, 1]


def test_a_review_that_is_free_anyway_is_not_asked_for_twice() -> None:
    student = ScriptedChatModel(replies=[WRONG, FREE, REST])
    (only,) = collect(student, ScriptedTeacher(FOUND), free()).rounds
    assert only.review is not None
    assert only.free_review == only.review
    right = prefilling(RIGHT, FREE)
    (only,) = collect(right, ScriptedTeacher(Critique(author="t")), free(review_correct=True)).rounds
    assert only.free_review == only.review is not None


def test_the_free_review_alone() -> None:
    student = prefilling(WRONG, FREE, REST)
    (only,) = collect(student, ScriptedTeacher(FOUND), free(student_review=False)).rounds
    assert (only.review, only.free_review is not None) == (None, True)
    right = prefilling(RIGHT, FREE)
    settings = free(student_review=False, review_correct=True)
    trace = collect(right, ScriptedTeacher(Critique(author="t")), settings)
    assert (trace.status, trace.rounds[0].free_review is not None) == ("accepted", True)


def test_what_there_is_of_the_reviews_stays_when_the_student_fails() -> None:
    trace = collect(prefilling(WRONG, OWN, TimeoutError("slow")), ScriptedTeacher(FOUND), free())
    assert (trace.status, trace.rounds[0].review is not None) == ("error", True)
    assert len(trace.calls) == 3


# Roll-outs (decision B5): a correction counts if the student reaches the answer from it once.


def test_the_first_continuation_that_reaches_the_answer_is_kept() -> None:
    config = CollectConfig(write_template=False, rollouts=4, temperature=0.0)
    student = prefilling(WRONG, OWN, "<Answer>5</Answer>", "<Answer>6</Answer>", REST)
    trace = collect(student, ScriptedTeacher(FOUND), config)
    (only,) = trace.rounds
    assert only.solution is not None
    assert (trace.status, only.solution.raw, len(student.prompts)) == ("corrected", RIGHT, 5)
    assert failed(only.inspections) == []
    assert [one.get("temperature") for one in student.options] == [0.0, 0.0, 0.0, 0.7, 0.7]


def test_where_none_does_the_first_is_kept() -> None:
    config = CollectConfig(write_template=False, rollouts=3)
    replies = [f"<Answer>{number}</Answer>" for number in (5, 6, 7)]
    trace = collect(prefilling(WRONG, OWN, *replies), ScriptedTeacher(FOUND), config)
    (only,) = trace.rounds
    assert only.solution is not None
    assert (trace.status, only.solution.answer, failed(only.inspections)) == (
        "budget",
        "5",
        ["reaches_answer"],
    )


def test_a_student_that_fails_on_the_way_has_been_paid() -> None:
    config = CollectConfig(write_template=False, rollouts=3)
    student = prefilling(WRONG, OWN, "<Answer>5</Answer>", TimeoutError("slow"))
    trace = collect(student, ScriptedTeacher(FOUND), config)
    assert (trace.status, [call.role for call in trace.calls].count("student")) == ("error", 3)


# On request a correction that leads elsewhere goes back to its teacher.

UNREACHED = CollectConfig(write_template=False, revise_unreached=True)
ELSEWHERE = "<Answer>5</Answer>"


def back(student: Any, *replies: str) -> tuple[Trace, ScriptedChatModel]:
    model = ScriptedChatModel(replies=list(replies), model_name="judge")
    return collect(student, LLMTeacher(model), UNREACHED), model


def test_a_correction_that_leads_elsewhere_is_revised_and_followed_anew() -> None:
    student = prefilling(WRONG, OWN, ELSEWHERE, OWN, REST)
    trace, model = back(student, verdict(correction="Triple it."), verdict())
    assert (
        "- Going on from the corrected step, the student misses the true answer." in model.prompts[1][0].text
    )
    (only,) = trace.rounds
    assert (trace.status, only.critique.correction, only.solution and only.solution.raw) == (
        "corrected", "Triple. 132*3=396", RIGHT,
    )  # fmt: skip
    (earlier,) = only.revisions
    assert (earlier.critique.correction, failed(earlier.inspections)) == ("Triple it.", ["reaches_answer"])
    assert student.prompts[3][0] == student.prompts[1][0]  # the student sees its own attempt again


def test_one_that_never_leads_there_is_quarantined() -> None:
    student = prefilling(WRONG, *[OWN, ELSEWHERE] * 4)
    trace, model = back(student, *[verdict(correction=f"Triple it, {n}.") for n in range(4)])
    assert (trace.status, len(trace.rounds[0].revisions), len(model.prompts)) == ("quarantined", 3, 4)
    assert trace.chosen.reason.startswith("the critique failed the checks reaches_answer after 3 revisions: ")
    assert build_preference_dataset([trace], trusted_authors=("judge",))[1].kept == 0


def test_faults_and_wrong_ways_share_the_three_revisions() -> None:
    """The first version leaks, the second leads elsewhere, the third leaks, the fourth leads elsewhere."""
    leak, astray = verdict(cause="the answer key"), verdict(correction="Triple it.")
    trace, model = back(prefilling(WRONG, *[OWN, ELSEWHERE] * 2), leak, astray, leak, astray)
    assert (trace.status, len(model.prompts)) == ("quarantined", 4)
    assert [failed(one.inspections) for one in trace.rounds[0].revisions] == [
        ["leak"], ["reaches_answer"], ["leak"],
    ]  # fmt: skip


def test_what_the_free_reviews_are_worth() -> None:
    """Three wrong attempts with step 2 wrong: found there, found in step 1, not found; and a false alarm."""
    at_two = STEP1 + "<Step2>Triple. 132*3=386<Cause>no</Cause><Correction>132*3=396</Correction></Step2>"
    nothing = STEP1.replace("</Step1>", "<Evaluate>right</Evaluate></Step1>") + "<Answer>386</Answer>"
    wrong = [
        collect(prefilling(WRONG, OWN, review, REST), ScriptedTeacher(FOUND), free())
        for review in (at_two, FREE, nothing)
    ]
    right = collect(prefilling(RIGHT, FREE), ScriptedTeacher(Critique(author="t")), free(review_correct=True))
    unmeasured = collect(prefilling(WRONG, OWN, REST), ScriptedTeacher(FOUND))
    tally = Tally(total=5, skipped=0)
    tally.add(unmeasured)
    assert "free_reviews" not in tally.summary()
    for trace in (*wrong, right):
        tally.add(trace)
    quality = tally.summary()["free_reviews"]
    counts = {name: (share["count"], share["total"]) for name, share in quality.items()}
    assert counts == {"flagged": (2, 3), "located": (1, 3), "false_alarms": (1, 1)}
