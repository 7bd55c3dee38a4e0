"""The solving graph: every ending, what each role is asked, and every way of running it."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import subprocess
import sys
import time
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from typing_extensions import TypedDict

from supercorrect_agent.errors import ConfigError
from supercorrect_agent.gate import goes_round
from supercorrect_agent.graph import build_supercorrect_graph, create_supercorrect_graph
from supercorrect_agent.inspector import inspect_critique
from supercorrect_agent.prompts import DEFAULT_PROMPTS, render_prompt
from supercorrect_agent.state import CollectConfig, CorrectionConfig
from supercorrect_agent.types import Critique, Solution, Trace, Verdict
from supercorrect_agent.verification import MathVerifier
from tests.fakes import ScriptedChatModel, ScriptedTeacher, prefilling

QUESTION = (
    "A shop sells 47 pens on Monday and 85 on Tuesday; on Wednesday three times that. How many on Wednesday?"
)
STEP1 = "<Step1>Add. 47+85=132</Step1>\n"
WRONG = STEP1 + "<Step2>Triple. 132*3=386</Step2>\n<Answer>\\boxed{386}</Answer>"
KEPT = STEP1 + "<Step2>Triple. 132*3=396</Step2>\n"
REST = "<Answer>\\boxed{396}</Answer>"
RIGHT = KEPT + REST
FOUND = Critique(step=2, cause="3 times 132 is 396.", correction="Triple. 132*3=396", author="t")
FINE = Critique(author="t")


def scripted(*replies: Any) -> ScriptedChatModel:
    return ScriptedChatModel(replies=list(replies))


def run(student: Any, teacher: Any = None, **options: Any) -> dict[str, Any]:
    return create_supercorrect_graph(student, teacher, **options).invoke({"problem": QUESTION})


def test_a_right_solution_is_accepted() -> None:
    student, teacher = scripted(RIGHT), ScriptedTeacher(FINE)
    result = run(student, teacher)
    assert (result["answer"], result["solution"], result["status"]) == ("396", RIGHT, "accepted")
    assert [message.text for message in student.prompts[0]] == [
        render_prompt(DEFAULT_PROMPTS.solve, problem=QUESTION)
    ]
    assert teacher.seen[0][2] is None  # the solving graph has no reference to show


def test_a_student_that_can_continues_the_kept_text() -> None:
    student = prefilling(WRONG, REST)
    result = run(student, ScriptedTeacher(FOUND, FINE))
    assert (result["answer"], result["solution"], result["status"]) == ("396", RIGHT, "corrected")
    request, partial = student.prompts[1]
    assert request.text == render_prompt(DEFAULT_PROMPTS.solve, problem=QUESTION)
    assert isinstance(partial, AIMessage)
    assert partial.text == KEPT
    assert student.options[1]["extra_body"] == {
        "continue_final_message": True,
        "add_generation_prompt": False,
    }
    first, second = result["rounds"]
    assert first == {
        "number": 1,
        "step": 2,
        "cause": FOUND.cause,
        "correction": FOUND.correction,
        "author": "t",
        "solution": RIGHT,
        "answer": "396",
        "continuation": "prefill",
        "details": {},
        "verdict": {"status": "unscored", "reason": "no reference to compare with"},
    }
    assert (second["step"], second["solution"]) == (None, None)


@pytest.mark.parametrize("reply", [REST, RIGHT, "Here it is:\n" + KEPT + REST], ids=["rest", "all", "chatty"])
def test_other_students_are_asked_for_the_rest_which_is_spliced(reply: str) -> None:
    student = scripted(WRONG, reply)
    result = run(student, ScriptedTeacher(FOUND, FINE))
    assert result["solution"].replace("\n\n", "\n") == RIGHT
    assert (result["answer"], result["rounds"][0]["continuation"]) == ("396", "splice")
    assert [m.text for m in student.prompts[1]] == [
        render_prompt(DEFAULT_PROMPTS.continue_, problem=QUESTION, prefix=KEPT)
    ]


def test_without_keep_prefix_everything_is_written_anew() -> None:
    student = prefilling(WRONG, RIGHT)
    result = run(student, ScriptedTeacher(FOUND, FINE), config=CorrectionConfig(keep_prefix=False))
    assert (result["answer"], result["rounds"][0]["continuation"]) == ("396", "")
    assert student.prompts[1][1].text == WRONG
    assert student.prompts[1][2].text.startswith(
        f"Step 2 is wrong:\n<cause>\n{FOUND.cause}\n</cause>\n"
        f"It should be:\n<correction>\n{FOUND.correction}\n</correction>\n"
    )


def test_usage_is_counted_by_role_and_every_call_is_on_the_trace() -> None:
    student = prefilling(WRONG, REST)
    result = run(student, ScriptedTeacher(FOUND, FINE))
    # words: the prompt twice, then the kept text (5 words: it has 4 spaces or line ends inside) once
    words = len(render_prompt(DEFAULT_PROMPTS.solve, problem=QUESTION).split())
    assert result["usage"]["student"]["input_tokens"] == 2 * words + 4
    assert result["usage"]["student"]["output_tokens"] == 5 + 1
    assert result["usage"]["student"]["calls"] == 2
    assert result["usage"]["teacher"] == {"input_tokens": 14, "output_tokens": 6, "calls": 2, "seconds": 1.0}
    trace = Trace.model_validate(result["trace"])
    assert [(call.role, call.round) for call in trace.calls] == [
        ("student", 0),
        ("teacher", 1),
        ("student", 1),
        ("teacher", 2),
    ]
    assert trace.calls[0].prompt == "supercorrect.solve@1"
    assert trace.calls[0].sampling == {}  # how a model samples is its own business, unless the config says so
    assert trace.final_solution is not None
    assert trace.final_solution.raw == RIGHT
    assert trace.chosen.index == 1


def test_rounds_end_with_budget_and_the_last_readable_revision() -> None:
    other = Critique(step=1, cause="c", correction="47+85=131", author="t")
    student = prefilling(WRONG, REST, "<Answer>393</Answer>")
    result = run(student, ScriptedTeacher(FOUND, other))
    assert (result["status"], result["answer"]) == ("budget", "393")
    assert "max_rounds=2" in result["trace"]["chosen"]["reason"]


def test_an_unreadable_revision_never_replaces_a_readable_solution() -> None:
    student = prefilling(WRONG, "and so on and so on")
    result = run(student, ScriptedTeacher(FOUND), config=CorrectionConfig(max_rounds=1))
    assert (result["status"], result["answer"], result["solution"]) == ("unchanged", "386", WRONG)


def test_the_same_answer_to_the_same_step_is_a_stall() -> None:
    student, teacher = prefilling(WRONG, "<Answer>386</Answer>"), ScriptedTeacher(FOUND, FOUND)
    result = run(student, teacher, config=CorrectionConfig(max_rounds=8))
    assert (result["status"], result["answer"]) == ("stalled", "386")
    assert (len(student.prompts), len(teacher.seen)) == (2, 2)


@pytest.mark.parametrize("max_rounds", [2, 8])
def test_answers_that_go_round_are_a_stall(max_rounds: int) -> None:
    # 386, then 393, then 386 again: each time another step is named
    first = Critique(step=1, cause="c", correction="47+85=131", author="t")
    student = prefilling(WRONG, "<Answer>393</Answer>", "<Answer>386</Answer>")
    teacher = ScriptedTeacher(FOUND, first)
    result = run(student, teacher, config=CorrectionConfig(max_rounds=max_rounds))
    assert (result["status"], result["answer"], len(teacher.seen)) == ("stalled", "386", 2)
    assert result["reason"] == "the answers go round: 386, 393, 386"
    assert Trace.model_validate(result["trace"]).chosen.index == 2


@pytest.mark.parametrize(
    ("answers", "round"),
    [
        (["1", "2", "1"], True),
        (["5", "1", "2", "1"], True),
        (["1", "2", "3"], False),
        (["1", "1", "1"], False),  # the answer stands still, which is a stall only at the same step
        (["1", "2", "3", "1"], False),
        ([None, "2", None], False),
        (["1", None, "1"], True),
        (["1", "1"], False),
    ],
)
def test_only_the_way_back_over_another_answer_is_a_round(answers: list[str | None], round: bool) -> None:
    assert goes_round(answers) == round


def test_answers_may_go_round_until_the_verifier_finds_one_right() -> None:
    def check(question: str, solution: Solution) -> Verdict:
        return Verdict(status="correct" if solution.raw.endswith("<Answer>386</Answer>") else "unscored")

    student = prefilling(WRONG, "<Answer>393</Answer>", "<Answer>386</Answer>")
    result = run(student, ScriptedTeacher(FOUND, FOUND), verifier=check)
    assert result["status"] == "corrected"


def test_an_unreadable_draft_is_asked_for_again() -> None:
    student = scripted("Let me think about pens.", RIGHT)
    result = run(student, ScriptedTeacher(FINE, FINE))
    assert (result["status"], result["answer"]) == ("corrected", "396")
    assert "No final answer can be read" in student.prompts[1][-1].text


def test_without_rounds_nobody_is_asked() -> None:
    once = CorrectionConfig(max_rounds=0)
    assert run(scripted(WRONG), ScriptedTeacher(), config=once)["status"] == "accepted"
    unreadable = run(scripted("Hm."), ScriptedTeacher(), config=once)
    assert (unreadable["status"], unreadable["answer"]) == ("parse_error", None)


def test_tokens_and_seconds_end_a_run() -> None:
    student, teacher = scripted(WRONG), ScriptedTeacher(FOUND)
    result = run(student, teacher, config=CorrectionConfig(max_total_tokens=20))
    assert (result["status"], result["answer"], teacher.seen) == ("budget", "386", [])
    # the scripted teacher reports half a second a critique
    result = run(scripted(WRONG), ScriptedTeacher(FOUND), config=CorrectionConfig(max_seconds=0.4))
    assert (result["status"], result["answer"], result["rounds"][0]["solution"]) == ("budget", "386", None)


def test_a_verifier_of_the_user_is_asked_before_the_critic() -> None:
    def check(question: str, solution: Solution) -> Verdict:
        assert question == QUESTION
        return Verdict(status="correct" if solution.answer == "396" else "incorrect")

    assert run(scripted(RIGHT), ScriptedTeacher(), verifier=check)["status"] == "accepted"
    assert run(prefilling(WRONG, REST), ScriptedTeacher(FOUND), verifier=check)["status"] == "corrected"
    rejected = run(scripted(WRONG), ScriptedTeacher(FINE), verifier=check)
    assert (rejected["status"], rejected["answer"]) == ("unchanged", "386")


def test_a_verifier_that_fails_scores_nothing() -> None:
    def check(question: str, solution: Solution) -> Verdict:
        raise RuntimeError("no")

    result = run(scripted(RIGHT), ScriptedTeacher(FINE), verifier=check)
    assert (result["status"], result["trace"]["verdict"]["status"]) == ("accepted", "unscored")


@pytest.mark.parametrize(
    ("replies", "critiques", "settings", "status"),
    [
        ([RIGHT], [FINE], {}, "accepted"),
        ([RIGHT], [], {"max_rounds": 0}, "accepted"),
        ([RIGHT, RIGHT], [], {"samples": 2, "accept_agreement": 1.0}, "accepted"),
        ([WRONG, REST], [FOUND, FINE], {}, "corrected"),
        ([WRONG, "and so on"], [FOUND], {"max_rounds": 1}, "unchanged"),
        ([WRONG, "<Answer>386</Answer>"], [FOUND, FOUND], {}, "stalled"),
        ([WRONG, REST], [FOUND], {"max_rounds": 1}, "budget"),
        ([WRONG], [Critique(author="t", readable=False)], {}, "parse_error"),
        (["Hm."], [], {"max_rounds": 0}, "parse_error"),
        ([WRONG], [ConnectionError("down")], {}, "error"),
    ],
)
def test_every_ending_says_why(
    replies: list[str], critiques: list[Any], settings: dict[str, Any], status: str
) -> None:
    result = run(prefilling(*replies), ScriptedTeacher(*critiques), config=CorrectionConfig(**settings))
    assert result["status"] == status
    assert result["reason"] == result["trace"]["chosen"]["reason"]
    assert result["reason"].strip()
    assert "\n" not in result["reason"]


class TestBestOfTheTrajectory:
    """The first solution is unscored and the revisions are rejected: however it ends, the first returns."""

    def check(self, question: str, solution: Solution) -> Verdict:
        return Verdict(status="unscored" if solution.answer == "386" else "incorrect")

    @pytest.mark.parametrize(
        ("critiques", "rest", "settings", "status"),
        [
            ([FOUND], [], {"max_rounds": 1}, "unchanged"),
            ([FOUND], [], {"max_total_tokens": 200}, "unchanged"),
            ([FOUND, FINE], [], {}, "unchanged"),
            ([FOUND, FOUND], ["<Answer>394</Answer>"], {}, "unchanged"),
            ([FOUND, Critique(author="t", readable=False)], [], {}, "parse_error"),
            ([FOUND, ConnectionError("down")], [], {}, "error"),
            ([FOUND, FOUND], [TimeoutError("slow")], {}, "error"),
            ([FOUND, FOUND.model_copy(update={"confidence": 0.1})], [], {"min_confidence": 0.5}, "unchanged"),
        ],
        ids=["rounds", "tokens", "stall", "rounds-2", "unreadable", "teacher", "student", "confidence"],
    )
    def test_a_rejected_revision_is_not_returned(
        self, critiques: list[Any], rest: list[Any], settings: dict[str, Any], status: str
    ) -> None:
        student = prefilling(WRONG, "<Answer>393</Answer>", *rest)
        config = CorrectionConfig(**{"max_rounds": 2, **settings})
        result = run(student, ScriptedTeacher(*critiques), verifier=self.check, config=config)
        assert (result["status"], result["answer"], result["solution"]) == (status, "386", WRONG)
        assert Trace.model_validate(result["trace"]).chosen.index == 0


class TestSelfReview:
    REVIEW = (
        STEP1.replace("</Step1>", "<Evaluate>ok</Evaluate></Step1>")
        + "<Step2>Triple. 132*3=386<Evaluate>wrong</Evaluate><Cause>It is 396.</Cause>"
        + "<Correction>Triple. 132*3=396"
    )

    def test_its_correction_is_continued(self) -> None:
        student = prefilling(WRONG, self.REVIEW, REST)
        result = run(student, config=CorrectionConfig(max_rounds=1))
        assert (result["answer"], result["solution"]) == ("396", RIGHT)
        assert student.options[1]["stop"] == ["</Correction>"]
        assert [m.text for m in student.prompts[1]] == [
            render_prompt(DEFAULT_PROMPTS.review, problem=QUESTION, solution=WRONG)
        ]
        assert set(result["usage"]) == {"student"}

    @pytest.mark.parametrize(("answer", "status"), [("386", "accepted"), ("999", "parse_error")])
    def test_the_first_answer_stands_but_is_not_accepted_against_another(
        self, answer: str, status: str
    ) -> None:
        fine = f"<Step1>47+85=132<Evaluate>ok</Evaluate></Step1><Answer>\\boxed{{{answer}}}</Answer>"
        result = run(scripted(WRONG, fine))
        assert (result["status"], result["answer"], result["solution"]) == (status, "386", WRONG)

    def test_an_unreadable_review_is_a_parse_error_and_the_answer_is_kept(self) -> None:
        result = run(scripted(WRONG, "Looks good to me!"))
        assert (result["status"], result["answer"]) == ("parse_error", "386")
        assert result["trace"]["chosen"]["reason"] == "the critique by 'scripted' could not be read"

    def test_a_step_that_does_not_exist_is_a_parse_error(self) -> None:
        far = Critique(step=9, cause="c", correction="d", author="t")
        result = run(scripted(WRONG), ScriptedTeacher(far))
        assert (result["status"], result["answer"]) == ("parse_error", "386")


class TestFailures:
    def test_a_student_that_fails(self) -> None:
        result = run(scripted(TimeoutError("slow")), ScriptedTeacher())
        assert (result["status"], result["answer"], result["solution"]) == ("error", None, None)
        assert result["trace"]["error"] == "student: TimeoutError: slow"

    def test_a_student_that_fails_later_keeps_its_answer(self) -> None:
        result = run(prefilling(WRONG, TimeoutError("slow")), ScriptedTeacher(FOUND))
        assert (result["status"], result["answer"], result["rounds"][0]["step"]) == ("error", "386", 2)

    def test_a_teacher_that_fails_costs_no_answer(self) -> None:
        result = run(scripted(WRONG), ScriptedTeacher(ConnectionError("down")))
        assert (result["status"], result["answer"]) == ("error", "386")
        assert result["trace"]["error"] == "teacher: ConnectionError: down"

    def test_the_reason_says_what_a_failure_left_undone(self) -> None:
        down, slow = ConnectionError("down"), TimeoutError("slow")
        again = Critique(step=1, cause="c", correction="47+85=131", author="t")
        cases: list[tuple[list[Any], list[Any], str]] = [
            ([slow], [], "student: TimeoutError: slow; there is no answer"),
            ([WRONG], [down], "teacher: ConnectionError: down; nobody checked the answer"),
            ([WRONG, slow], [again], "student: TimeoutError: slow; the critique was not followed"),
            (
                [WRONG, REST],
                [FOUND, down],
                "teacher: ConnectionError: down; nobody checked the last revision",
            ),
        ]
        for replies, critiques, reason in cases:
            result = run(prefilling(*replies), ScriptedTeacher(*critiques))
            assert (result["status"], result["reason"]) == ("error", reason)
            assert result["trace"]["chosen"]["reason"] == reason

    def test_a_judge_that_fails_the_second_time_has_been_paid_for_the_first(self) -> None:
        judge = scripted("Well, well.", ConnectionError("down"))
        result = run(scripted(WRONG), judge)
        assert (result["status"], result["answer"]) == ("error", "386")
        assert result["reason"] == "teacher: ConnectionError: down; nobody checked the answer"
        asked = sum(len(str(message.text).split()) for message in judge.prompts[0])
        used = result["usage"]["teacher"]
        assert (used["calls"], used["input_tokens"], used["output_tokens"]) == (1, asked, 2)
        assert [(call["role"], call.get("round")) for call in result["trace"]["calls"]][1:] == [
            ("teacher", 1)
        ]

    def test_ctrl_c_is_no_failure_of_a_model(self) -> None:
        with pytest.raises(KeyboardInterrupt):
            run(scripted(KeyboardInterrupt()), ScriptedTeacher())

    def test_misuse_raises(self) -> None:
        graph = create_supercorrect_graph(scripted(RIGHT))
        with pytest.raises(ConfigError, match="`problem` is empty"):
            graph.invoke({"problem": "  "})
        with pytest.raises(ConfigError, match="`teacher` is a int"):
            create_supercorrect_graph(scripted(), 3)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="`verifier` is a MathVerifier"):
            create_supercorrect_graph(scripted(), verifier=MathVerifier())  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="`inspector` is a int"):
            create_supercorrect_graph(scripted(), inspector=5)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="`student` is a NoneType"):
            create_supercorrect_graph(None)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="`config` is a dict"):
            create_supercorrect_graph(scripted(), config={})  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="`prompts` is a str"):
            create_supercorrect_graph(scripted(), prompts="p.toml")  # type: ignore[arg-type]

    @pytest.mark.parametrize(("problem", "kind"), [(3, "int"), (None, "NoneType"), (["2+2?"], "list")])
    @pytest.mark.parametrize("samples", [1, 2])
    def test_a_problem_that_is_no_text_is_misuse(self, problem: Any, kind: str, samples: int) -> None:
        student = scripted(RIGHT, RIGHT)
        graph = create_supercorrect_graph(student, config=CorrectionConfig(samples=samples))
        with pytest.raises(ConfigError, match=f"`problem` is a {kind}. Pass the text"):
            graph.invoke({"problem": problem})
        assert student.prompts == []

    def test_a_verifier_that_returns_no_verdict_is_misuse(self) -> None:
        with pytest.raises(ConfigError, match="`verifier` returned a str"):
            run(scripted(RIGHT), verifier=lambda question, solution: "correct")

    def test_a_verifier_may_answer_yes_or_no(self) -> None:
        yes = run(scripted(RIGHT), verifier=lambda question, solution: solution.answer == "396")
        assert (yes["status"], yes["trace"]["verdict"]["status"]) == ("accepted", "correct")
        no = run(prefilling(WRONG, REST), ScriptedTeacher(FOUND), verifier=lambda q, s: s.answer == "396")
        assert (no["status"], no["trace"]["verdict"]["status"]) == ("corrected", "incorrect")

    def test_a_reference_in_the_input_reaches_nobody(self) -> None:
        student, teacher = prefilling(WRONG, REST), scripted(json.dumps({"first_wrong_step": None}))
        given: Any = {"problem": QUESTION, "reference": "canary", "answer": "canary"}
        graph = create_supercorrect_graph(student, teacher, checkpointer=InMemorySaver())
        thread: Any = {"configurable": {"thread_id": "1"}}
        result = graph.invoke(given, thread)
        assert (result["status"], result["answer"]) == ("accepted", "386")
        assert "canary" not in repr((student.prompts, teacher.prompts, result, graph.get_state(thread)))

    @pytest.mark.parametrize("text", ["", "\x00", "\ud800", "<Step1>" * 50_000, "{" * 100_000], ids=len)
    def test_hostile_student_text(self, text: str) -> None:
        result = run(scripted(text, text, text), ScriptedTeacher(FINE, FINE))
        json.dumps(result, ensure_ascii=False).encode()
        assert (result["status"], result["answer"]) == ("parse_error", None)


def test_two_problems_on_one_thread_do_not_mix() -> None:
    student, teacher = prefilling(WRONG, REST, RIGHT), ScriptedTeacher(FOUND, FINE, FINE)
    graph = create_supercorrect_graph(student, teacher, checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    assert graph.invoke({"problem": QUESTION}, config)["status"] == "corrected"
    again = graph.invoke({"problem": QUESTION}, config)
    assert (again["status"], len(again["rounds"]), len(again["trace"]["calls"])) == ("accepted", 1, 2)


def test_context_overrides_single_fields() -> None:
    config = CorrectionConfig(max_rounds=0, temperature=0.3)
    student = scripted(RIGHT)
    graph = create_supercorrect_graph(student, ScriptedTeacher(FINE), config=config)
    result = graph.invoke({"problem": QUESTION}, context=CorrectionConfig(max_rounds=1))
    assert len(result["rounds"]) == 1
    assert student.options[0]["temperature"] == 0.3


class Unfit:
    """A context that is no config; a parent graph may have such a one of its own."""


def kind(value: object) -> str:
    return type(value).__name__


@pytest.mark.parametrize("context", [5, "x", [1], Unfit(), CollectConfig(), {"other": 1}], ids=kind)
def test_a_context_of_another_kind_is_misuse(context: Any) -> None:
    student = scripted(RIGHT)
    graph = create_supercorrect_graph(student, ScriptedTeacher(FINE))
    # LangGraph makes a config of a dict, which says itself what is wrong with it
    told = "other" if isinstance(context, dict) else f"`context` is a {type(context).__name__}. Pass a Corr"
    with pytest.raises(ValueError, match=told):
        graph.invoke({"problem": QUESTION}, context=context)
    assert student.prompts == []


class TestInsideAnotherGraph:
    class Keys(TypedDict):
        problem: str
        answer: str | None
        status: str
        reason: str

    def parent(self, *critiques: Any) -> Any:
        inner = create_supercorrect_graph(prefilling(WRONG, REST), ScriptedTeacher(*critiques))
        return StateGraph(self.Keys).add_node("solve", inner).add_edge(START, "solve").compile()

    @pytest.mark.parametrize("context", [{"max_rounds": 0}, Unfit(), CollectConfig()], ids=kind)
    def test_the_parents_own_context_is_none_of_its_business(self, context: Any) -> None:
        result = self.parent(FOUND, FINE).invoke({"problem": QUESTION}, context=context)
        assert (result["status"], result["answer"]) == ("corrected", "396")

    def test_a_config_is_taken_from_there(self) -> None:
        result = self.parent().invoke({"problem": QUESTION}, context=CorrectionConfig(max_rounds=0))
        assert result["answer"] == "386"

    @pytest.mark.parametrize("context", [5, "x", [1]], ids=kind)
    def test_what_can_be_no_context_at_all_is_misuse(self, context: Any) -> None:
        with pytest.raises(ConfigError, match="`context` is a"):
            self.parent().invoke({"problem": QUESTION}, context=context)

    @pytest.mark.parametrize(
        ("limit", "answer", "status", "critiques"),
        [
            # The nodes would be student_solve, verify, teacher_critique, student_correct, verify,
            # teacher_critique and record, and LangGraph wants one more. To go on takes three further ones.
            (4, "386", "budget", []),
            (5, "386", "budget", []),
            (6, "386", "budget", [FOUND]),
            (7, "396", "budget", [FOUND]),
            (8, "396", "budget", [FOUND]),
            (9, "396", "corrected", [FOUND, FINE]),
        ],
    )
    def test_its_recursion_limit_costs_rounds_and_no_answer(
        self, limit: int, answer: str, status: str, critiques: list[Critique]
    ) -> None:
        result = self.parent(*critiques).invoke({"problem": QUESTION}, {"recursion_limit": limit})
        assert (result["status"], result["answer"]) == (status, answer)
        assert ("recursion_limit" in result["reason"]) == (status == "budget")


def test_the_longest_run_stays_within_the_recursion_limit() -> None:
    rests = [f"<Answer>{number}</Answer>" for number in range(8)]
    graph = create_supercorrect_graph(prefilling(WRONG, *rests), ScriptedTeacher(*[FOUND] * 8))
    assert isinstance(graph, CompiledStateGraph)
    assert graph.config is not None
    assert graph.config["recursion_limit"] == 68
    result = graph.invoke({"problem": QUESTION}, context=CorrectionConfig(max_rounds=8))
    assert (result["status"], result["answer"], len(result["rounds"])) == ("budget", "7", 8)


class TestSurfaces:
    def graph(self) -> Any:
        return create_supercorrect_graph(prefilling(WRONG, REST), ScriptedTeacher(FOUND, FINE))

    def test_sync_and_async_agree(self) -> None:
        sync = self.graph().invoke({"problem": QUESTION})
        there = asyncio.run(self.graph().ainvoke({"problem": QUESTION}))
        for key in ("answer", "solution", "status", "rounds"):
            assert sync[key] == there[key]

    def test_progress_events(self) -> None:
        events = list(self.graph().stream({"problem": QUESTION}, stream_mode="custom"))
        assert [(event["event"], event["round"]) for event in events] == [
            ("solution", 0),
            ("critique", 1),
            ("correction", 1),
            ("critique", 2),
            ("done", 2),
        ]
        assert events[0]["answer"] == "386"
        assert events[1]["step"] == 2
        assert (events[-1]["status"], events[-1]["answer"]) == ("corrected", "396")

    async def test_tokens_of_the_student_stream(self) -> None:
        chunks = [pair async for pair in self.graph().astream({"problem": QUESTION}, stream_mode="messages")]
        assert "".join(chunk.text for chunk, _ in chunks) == WRONG + REST
        assert len(chunks) > 2
        metadata = chunks[0][1]
        assert (metadata["tags"], metadata["round"], metadata["langgraph_node"]) == (
            ["role:student"],
            0,
            "student_solve",
        )

    async def test_run_names_reach_a_tracer(self) -> None:
        names = {
            event["name"]
            async for event in self.graph().astream_events({"problem": QUESTION}, version="v2")
            if event["event"] == "on_chat_model_start"
        }
        assert names == {"student_solve", "student_correct"}

    async def test_many_at_once(self) -> None:
        graph = create_supercorrect_graph(prefilling(*[RIGHT] * 20), ScriptedTeacher(*[FINE] * 20))
        results = await graph.abatch([{"problem": QUESTION}] * 20)
        assert [result["status"] for result in results] == ["accepted"] * 20

    async def test_a_slow_verifier_does_not_block_the_loop(self) -> None:
        def check(question: str, solution: Solution) -> Verdict:
            time.sleep(0.3)
            return Verdict(status="correct")

        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticking = asyncio.create_task(tick())
        await create_supercorrect_graph(scripted(RIGHT), verifier=check).ainvoke({"problem": QUESTION})
        ticking.cancel()
        assert ticks > 10

    def test_as_a_node_of_a_parent(self) -> None:
        class Parent(TypedDict):
            problem: str
            answer: str | None

        parent = StateGraph(Parent)
        parent.add_node("solve", self.graph())
        parent.add_edge(START, "solve")
        parent.add_edge("solve", END)
        assert parent.compile().invoke({"problem": QUESTION}, context={"other": 1})["answer"] == "396"


def test_schemas_are_described_and_have_no_place_for_a_reference() -> None:
    graph = create_supercorrect_graph(scripted(), ScriptedTeacher())
    given = graph.get_input_jsonschema()
    assert list(given["properties"]) == ["problem"]
    assert given["properties"]["problem"]["description"]
    returned = graph.get_output_jsonschema()["properties"]
    assert set(returned) == {
        "answer", "solution", "status", "reason", "rounds", "votes", "agreement", "usage", "trace",
    }  # fmt: skip
    assert all(one["description"] for one in returned.values())
    context = graph.get_context_jsonschema()
    assert context is not None
    assert context["properties"]["max_rounds"]["maximum"] == 8
    assert context["properties"]["ask_teacher"]["enum"] == ["always", "flagged"]
    assert context["properties"]["samples"]["maximum"] == 32
    assert all(one["description"] for one in context["properties"].values())
    assert "reference" not in inspect.signature(build_supercorrect_graph).parameters


def drawn(teacher: Any, **options: Any) -> set[tuple[str, str]]:
    graph = create_supercorrect_graph(scripted(), teacher, **options).get_graph()
    return {(edge.source, edge.target) for edge in graph.edges}


def test_drawing_needs_no_run() -> None:
    with_teacher = create_supercorrect_graph(scripted(), ScriptedTeacher()).get_graph()
    assert set(with_teacher.nodes) == {
        "__start__",
        "student_solve",
        "student_sample",
        "student_vote",
        "verify",
        "student_review",
        "teacher_critique",
        "human_review",
        "student_correct",
        "record",
        "__end__",
    }
    shared = {
        ("__start__", "student_solve"),
        ("__start__", "student_sample"),
        ("student_solve", "verify"),
        ("student_sample", "student_vote"),
        ("student_vote", "verify"),
        ("verify", "student_review"),
        ("verify", "record"),
        ("student_review", "record"),
        ("human_review", "student_correct"),
        ("human_review", "record"),
        ("student_correct", "verify"),
        ("record", "__end__"),
    }
    taught = shared | {("verify", "teacher_critique"), ("student_review", "teacher_critique")}

    def followed(critic: str) -> set[tuple[str, str]]:
        return {(critic, "human_review"), (critic, "student_correct"), (critic, "record")}

    assert drawn(ScriptedTeacher()) == taught | followed("teacher_critique")
    assert drawn(None) == shared | followed("student_review")
    asked = {("teacher_critique", "inspect_critique"), ("teacher_critique", "record")}
    inspected = taught | asked | followed("inspect_critique")
    assert drawn(ScriptedTeacher(), inspector=inspect_critique) == inspected
    revising = inspected | {("inspect_critique", "teacher_critique")}
    assert drawn(scripted(), inspector=inspect_critique) == revising
    alone = {("student_review", "inspect_critique")} | followed("inspect_critique")
    assert drawn(None, inspector=inspect_critique) == shared | alone


STRICT = """
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from supercorrect_agent.graph import create_supercorrect_graph
from supercorrect_agent.inspector import inspect_critique
from supercorrect_agent.state import CorrectionConfig
from tests.fakes import ScriptedTeacher, prefilling
from tests.test_graph import FINE, FOUND, QUESTION, REST, WRONG
student, teacher = prefilling(WRONG, WRONG, REST), ScriptedTeacher(FOUND, FINE)
graph = create_supercorrect_graph(
    student,
    teacher,
    inspector=inspect_critique,
    config=CorrectionConfig(samples=2, human_review=True),
    checkpointer=InMemorySaver(),
)
config = {"configurable": {"thread_id": "1"}}
graph.invoke({"problem": QUESTION}, config, interrupt_before=["student_vote"])
assert [one["text"] for one in graph.get_state(config).values["samples"]] == [WRONG, WRONG]
for _ in graph.stream(None, config, interrupt_before=["student_correct"]):
    pass
assert graph.get_state(config).next == ("human_review",)
approval = Command(resume={"decisions": [{"type": "approve"}]})
for _ in graph.stream(approval, config, interrupt_before=["student_correct"]):
    pass
assert graph.get_state(config).next == ("student_correct",)
print(graph.invoke(None, config)["answer"])
"""


def test_state_survives_strict_msgpack_and_resumes() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", STRICT],
        env={**os.environ, "LANGGRAPH_STRICT_MSGPACK": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "396", done.stderr
    assert "msgpack" not in done.stderr


class TestPlainStudents:
    """A student of any model, which may not know the tags: its answer is read from what it wrote."""

    LINES = "2+1=3\n3*4=13\nThe answer is 13."
    NUMBERED = "1. 2+1=3\n2. 3*4=13\n3. The answer is 13."
    HEADED = "Step 1: 2+1=3\nStep 2: 3*4=13\nThe answer is 13."
    TAGGED = "<Step1>2+1=3</Step1>\n<Step2>3*4=13</Step2>\n<Answer>13</Answer>"
    NOTED = Critique(step=2, cause="c", correction="3*4=12", author="t")

    @pytest.mark.parametrize("model", [scripted, prefilling])
    @pytest.mark.parametrize(
        ("first", "rest", "corrected"),
        [
            (LINES, "The answer is 12.", "2+1=3\n3*4=12\nThe answer is 12."),
            (NUMBERED, "3. The answer is 12.", "1. 2+1=3\n2. 3*4=12\n3. The answer is 12."),
            (HEADED, "The answer is 12.", "Step 1: 2+1=3\nStep 2: 3*4=12\nThe answer is 12."),
            ("2+1=3\n3*4=13\n13", "12", "2+1=3\n3*4=12\n12"),
            ("2+1=3\n3*4=13\n\\boxed{13}", "\\boxed{12}", "2+1=3\n3*4=12\n\\boxed{12}"),
            (
                TAGGED,
                "So the answer is 12.",
                "<Step1>2+1=3</Step1>\n<Step2>3*4=12</Step2>\nSo the answer is 12.",
            ),
        ],
    )
    def test_the_answer_is_read(self, model: Any, first: str, rest: str, corrected: str) -> None:
        result = run(model(first, rest), ScriptedTeacher(self.NOTED, FINE))
        assert (result["status"], result["answer"]) == ("corrected", "12")
        assert result["solution"] == corrected

    def test_what_a_reply_repeats_is_there_once(self) -> None:
        student = scripted("2+1=3\n3*4=13\n\\boxed{13}", "2+1=3\n3*4=12\n\\boxed{12}")
        result = run(student, ScriptedTeacher(self.NOTED, FINE))
        assert (result["answer"], result["solution"]) == ("12", "2+1=3\n3*4=12\n\\boxed{12}")

    @pytest.mark.parametrize("model", [scripted, prefilling])
    @pytest.mark.parametrize("first", [LINES, NUMBERED, HEADED, TAGGED])
    @pytest.mark.parametrize(
        "correction", ["3*4=12, so \\boxed{99}", "3*4=99", "Answer: 99", "x</Step2><Answer>99</Answer>"]
    )
    def test_the_teachers_answer_is_not_the_students(self, model: Any, first: str, correction: str) -> None:
        found = self.NOTED.model_copy(update={"correction": correction})
        result = run(
            model(first, "I do not know"), ScriptedTeacher(found), config=CorrectionConfig(max_rounds=1)
        )
        assert (result["status"], result["answer"]) == ("unchanged", "13")
        assert result["rounds"][0]["answer"] is None

    def test_an_unfinished_thought_is_no_answer(self) -> None:
        for first in (self.LINES, self.TAGGED):
            student = scripted(first, "<think>maybe 99")
            result = run(student, ScriptedTeacher(self.NOTED), config=CorrectionConfig(max_rounds=1))
            assert (result["status"], result["answer"]) == ("unchanged", "13")
        none = run(scripted("<think>maybe 99"), config=CorrectionConfig(max_rounds=0))
        assert (none["status"], none["answer"]) == ("parse_error", None)

    def test_a_model_may_review_itself_as_a_judge_does(self) -> None:
        assert run(scripted(RIGHT, json.dumps({"first_wrong_step": None})))["status"] == "accepted"
        verdict = json.dumps({"first_wrong_step": 2, "cause": "c", "correction": "Triple. 132*3=396"})
        result = run(scripted(WRONG, verdict, REST), config=CorrectionConfig(max_rounds=1))
        assert (result["answer"], result["solution"]) == ("396", RIGHT)
