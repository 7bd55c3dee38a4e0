"""``ask_teacher="flagged"``: the student's own review decides whether the teacher is asked at all."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver

from supercorrect_agent.errors import ConfigError
from supercorrect_agent.graph import create_supercorrect_graph
from supercorrect_agent.prompts import DEFAULT_PROMPTS, render_prompt
from supercorrect_agent.state import CorrectionConfig
from supercorrect_agent.types import Critique, Solution, Trace, Verdict
from tests.fakes import ScriptedTeacher, prefilling
from tests.test_graph import FINE, FOUND, KEPT, QUESTION, REST, RIGHT, WRONG

FLAGGED = CorrectionConfig(ask_teacher="flagged")
SURE = "<Step1>47+85=132<Evaluate>It holds.</Evaluate></Step1>"
DOUBT = "<Step1>47+85=132<Evaluate>wrong</Evaluate><Cause>Odd.</Cause><Correction>47+85=133"
UNREADABLE = "Looks good to me!"
THREAD: RunnableConfig = {"configurable": {"thread_id": "1"}}


def run(student: Any, teacher: Any, config: CorrectionConfig = FLAGGED, **options: Any) -> dict[str, Any]:
    graph = create_supercorrect_graph(student, teacher, config=config, **options)
    return graph.invoke({"problem": QUESTION})


def callers(result: dict[str, Any]) -> list[tuple[str, int]]:
    return [(call["role"], call.get("round", 0)) for call in result["trace"]["calls"]]


def rounds(result: dict[str, Any]) -> list[tuple[str, int | None, str | None]]:
    """Of each round: who criticised, which step, and who reviewed it before."""
    found = Trace.model_validate(result["trace"]).rounds
    return [
        (one.critique.author, one.critique.step, one.review.author if one.review else None) for one in found
    ]


def reject(question: str, solution: Solution) -> Verdict:
    return Verdict(status="correct" if solution.answer == "396" else "incorrect")


class TestWhoIsAsked:
    def test_a_student_that_finds_nothing_is_believed(self) -> None:
        student, teacher = prefilling(WRONG, SURE), ScriptedTeacher()
        result = run(student, teacher)
        assert (result["status"], result["answer"], teacher.seen) == ("accepted", "386", [])
        assert result["trace"]["chosen"]["reason"] == (
            "the student's own review finds no error, and the teacher was not asked"
        )
        assert [message.text for message in student.prompts[1]] == [
            render_prompt(DEFAULT_PROMPTS.review, problem=QUESTION, solution=WRONG)
        ]
        assert student.options[1]["stop"] == ["</Correction>"]
        assert rounds(result) == [("scripted", None, None)]
        assert callers(result) == [("student", 0), ("student", 1)]
        # words: 5 of the solution, 2 of the review
        assert result["usage"]["teacher"]["calls"] == 0
        assert (result["usage"]["student"]["calls"], result["usage"]["student"]["output_tokens"]) == (2, 7)

    def test_a_student_that_doubts_itself_gets_the_teacher_and_reviews_its_revision(self) -> None:
        student, teacher = prefilling(WRONG, DOUBT, REST, SURE), ScriptedTeacher(FOUND)
        result = run(student, teacher)
        assert (result["status"], result["answer"], result["solution"]) == ("corrected", "396", RIGHT)
        assert len(teacher.seen) == 1
        assert student.prompts[2][1].text == KEPT  # the teacher's step, not the student's
        assert rounds(result) == [("t", 2, "scripted"), ("scripted", None, None)]
        assert Trace.model_validate(result["trace"]).rounds[0].review == Critique(
            step=1, cause="Odd.", correction="47+85=133", author="scripted", raw=f"{DOUBT}</Correction>",
            cause_step=1, correction_step=1,
        )  # fmt: skip
        assert callers(result) == [
            ("student", 0), ("student", 1), ("teacher", 1), ("student", 1), ("student", 2),
        ]  # fmt: skip
        assert result["usage"]["teacher"] == {
            "input_tokens": 7, "output_tokens": 3, "calls": 1, "seconds": 0.5,
        }  # fmt: skip

    @pytest.mark.parametrize("review", [DOUBT, UNREADABLE], ids=["doubt", "unreadable"])
    def test_a_teacher_that_finds_nothing_overrules_the_review(self, review: str) -> None:
        teacher = ScriptedTeacher(FINE)
        result = run(prefilling(RIGHT, review), teacher)
        assert (result["status"], result["answer"], len(teacher.seen)) == ("accepted", "396", 1)
        assert result["trace"]["chosen"]["reason"] == "the critic finds no error"
        (one,) = Trace.model_validate(result["trace"]).rounds
        assert one.review is not None
        assert one.review.readable == (review == DOUBT)

    def test_a_verifier_that_rejects_is_not_overruled_by_the_student(self) -> None:
        teacher = ScriptedTeacher(FOUND)
        result = run(prefilling(WRONG, SURE, REST), teacher, verifier=reject)
        assert (result["status"], result["answer"], len(teacher.seen)) == ("corrected", "396", 1)
        assert rounds(result) == [("t", 2, "scripted")]

    def test_a_verifier_that_rejects_a_revision_is_not_overruled_either(self) -> None:
        teacher = ScriptedTeacher(FOUND, FINE)
        result = run(prefilling(WRONG, DOUBT, "<Answer>393</Answer>", SURE), teacher, verifier=reject)
        assert (result["status"], result["answer"], len(teacher.seen)) == ("stalled", "393", 2)
        assert rounds(result) == [("t", 2, "scripted"), ("t", None, "scripted")]

    def test_a_solution_without_an_answer_is_shown_to_the_teacher(self) -> None:
        teacher = ScriptedTeacher(FINE)
        result = run(prefilling("Let me think about pens.", SURE, RIGHT, SURE), teacher)
        assert (result["status"], result["answer"], len(teacher.seen)) == ("corrected", "396", 1)

    def test_without_a_teacher_it_changes_nothing(self) -> None:
        replies = (WRONG, DOUBT, "<Answer>387</Answer>", SURE)
        flagged, always = (
            run(prefilling(*replies), None, config) for config in (FLAGGED, CorrectionConfig())
        )
        for key in ("answer", "solution", "status", "rounds"):
            assert flagged[key] == always[key]
        assert (callers(flagged), flagged["status"]) == (callers(always), "corrected")


class TestLaterRounds:
    def test_the_same_answer_to_the_same_step_of_the_teacher_is_a_stall(self) -> None:
        student = prefilling(WRONG, DOUBT, "<Answer>386</Answer>", DOUBT)
        teacher = ScriptedTeacher(FOUND, FOUND)
        result = run(student, teacher)
        assert (result["status"], result["answer"], len(teacher.seen)) == ("stalled", "386", 2)
        assert rounds(result) == [("t", 2, "scripted"), ("t", 2, "scripted")]

    def test_a_review_of_the_revision_that_cannot_be_read_asks_the_teacher_again(self) -> None:
        teacher = ScriptedTeacher(FOUND, FINE)
        result = run(prefilling(WRONG, DOUBT, REST, UNREADABLE), teacher)
        assert (result["status"], result["answer"], len(teacher.seen)) == ("corrected", "396", 2)

    def test_the_longest_run_stays_within_the_recursion_limit(self) -> None:
        rests = [each for number in range(8) for each in (DOUBT, f"<Answer>{number}</Answer>")]
        graph = create_supercorrect_graph(prefilling(WRONG, *rests), ScriptedTeacher(*[FOUND] * 8))
        longest = CorrectionConfig(max_rounds=8, ask_teacher="flagged")
        steps = list(graph.stream({"problem": QUESTION}, context=longest, stream_mode="updates"))
        assert len(steps) == 1 + 8 * 4 + 2
        assert (steps[-1]["record"]["status"], steps[-1]["record"]["answer"]) == ("budget", "7")


class TestFailuresAndCaps:
    def test_a_review_that_fails_ends_the_run_as_a_failing_critic_does(self) -> None:
        result = run(prefilling(WRONG, TimeoutError("slow")), ScriptedTeacher())
        assert (result["status"], result["answer"], result["rounds"]) == ("error", "386", [])
        assert result["trace"]["error"] == "student: TimeoutError: slow"

    def test_a_teacher_that_fails_leaves_the_review(self) -> None:
        result = run(prefilling(WRONG, DOUBT), ScriptedTeacher(ConnectionError("down")))
        assert (result["status"], result["answer"]) == ("error", "386")
        assert result["trace"]["error"] == "teacher: ConnectionError: down"
        assert rounds(result) == [("scripted", 1, None)]

    def test_a_correction_that_fails_leaves_critique_and_review(self) -> None:
        result = run(prefilling(WRONG, DOUBT, TimeoutError("slow")), ScriptedTeacher(FOUND))
        assert (result["status"], rounds(result)) == ("error", [("t", 2, "scripted")])

    @pytest.mark.parametrize(
        ("review", "status"),
        [(DOUBT, "budget"), (UNREADABLE, "budget"), (SURE, "accepted")],
        ids=["doubt", "unreadable", "sure"],
    )
    def test_a_spent_budget_keeps_a_doubted_solution_from_the_teacher(self, review: str, status: str) -> None:
        solving = len(render_prompt(DEFAULT_PROMPTS.solve, problem=QUESTION).split()) + 5
        config = CorrectionConfig(ask_teacher="flagged", max_total_tokens=solving + 1)
        teacher = ScriptedTeacher()
        result = run(prefilling(WRONG, review), teacher, config)
        assert (result["status"], result["answer"], teacher.seen) == (status, "386", [])
        assert rounds(result) == [("scripted", 1 if review == DOUBT else None, None)]

    def test_tokens_that_solving_used_up_leave_no_review_either(self) -> None:
        student = prefilling(WRONG)
        config = CorrectionConfig(ask_teacher="flagged", max_total_tokens=20)
        assert (run(student, ScriptedTeacher(), config)["status"], len(student.prompts)) == ("budget", 1)


class TestSurfaces:
    @pytest.mark.parametrize("kind", ["sync", "async"])
    def test_the_context_of_a_run_overrides_the_graph(self, kind: str) -> None:
        def solve(config: CorrectionConfig, context: CorrectionConfig) -> list[tuple[str, int]]:
            graph = create_supercorrect_graph(prefilling(RIGHT, SURE), ScriptedTeacher(FINE), config=config)
            given: Any = {"problem": QUESTION}
            if kind == "sync":
                return callers(graph.invoke(given, context=context))
            return callers(asyncio.run(graph.ainvoke(given, context=context)))

        own, taught = [("student", 0), ("student", 1)], [("student", 0), ("teacher", 1)]
        always = CorrectionConfig()
        assert solve(always, FLAGGED) == own
        assert solve(FLAGGED, CorrectionConfig(ask_teacher="always")) == taught
        assert solve(FLAGGED, CorrectionConfig(max_rounds=1)) == own
        assert solve(always, CorrectionConfig(max_rounds=1)) == taught

    @pytest.mark.parametrize(
        ("config", "critics"),
        [(FLAGGED, ["student_review", "teacher_critique"]), (CorrectionConfig(), ["teacher_critique"])],
        ids=["flagged", "always"],
    )
    async def test_streamed_nodes(self, config: CorrectionConfig, critics: list[str]) -> None:
        replies = (WRONG, DOUBT, REST) if config is FLAGGED else (WRONG, REST)
        short = config.model_copy(update={"max_rounds": 1})
        given: Any = {"problem": QUESTION}

        def graph() -> Any:
            return create_supercorrect_graph(prefilling(*replies), ScriptedTeacher(FOUND), config=short)

        expected = ["student_solve", "verify", *critics, "student_correct", "verify", "record"]
        there = [name async for step in graph().astream(given, stream_mode="updates") for name in step]
        assert [name for step in graph().stream(given, stream_mode="updates") for name in step] == expected
        assert there == expected

    def test_progress_events_name_who_criticises(self) -> None:
        graph = create_supercorrect_graph(
            prefilling(WRONG, DOUBT, REST, SURE), ScriptedTeacher(FOUND), config=FLAGGED
        )
        events = list(graph.stream({"problem": QUESTION}, stream_mode="custom"))
        assert [(event["event"], event["round"], event.get("author")) for event in events] == [
            ("solution", 0, None),
            ("critique", 1, "scripted"),
            ("critique", 1, "t"),
            ("correction", 1, None),
            ("critique", 2, "scripted"),
            ("done", 2, None),
        ]

    def test_a_run_resumes_between_review_and_teacher(self) -> None:
        teacher = ScriptedTeacher(FOUND)
        graph = create_supercorrect_graph(
            prefilling(WRONG, DOUBT, REST, SURE), teacher, config=FLAGGED, checkpointer=InMemorySaver()
        )
        graph.invoke({"problem": QUESTION}, THREAD, interrupt_before=["teacher_critique"])
        waiting = graph.get_state(THREAD)
        assert (waiting.next, teacher.seen) == (("teacher_critique",), [])
        json.dumps(waiting.values)
        result = graph.invoke(None, THREAD)
        assert rounds(result) == [("t", 2, "scripted"), ("scripted", None, None)]

    def test_a_review_stays_with_its_round_and_its_problem(self) -> None:
        graph = create_supercorrect_graph(
            prefilling(WRONG, DOUBT, REST, RIGHT),
            ScriptedTeacher(FOUND, FINE, FINE),
            checkpointer=InMemorySaver(),
        )
        given: Any = {"problem": QUESTION}
        graph.invoke(given, THREAD, context=FLAGGED, interrupt_before=["student_correct"])
        assert rounds(graph.invoke(None, THREAD)) == [("t", 2, "scripted"), ("t", None, None)]
        assert rounds(graph.invoke(given, THREAD)) == [("t", None, None)]

    def test_the_review_of_a_decided_run_is_forgotten_by_the_next(self) -> None:
        graph = create_supercorrect_graph(
            prefilling(RIGHT, DOUBT, RIGHT), ScriptedTeacher(FINE, FINE), checkpointer=InMemorySaver()
        )
        given: Any = {"problem": QUESTION}
        assert rounds(graph.invoke(given, THREAD, context=FLAGGED)) == [("t", None, "scripted")]
        assert rounds(graph.invoke(given, THREAD)) == [("t", None, None)]

    def test_a_run_that_an_earlier_version_began_is_refused(self) -> None:
        graph = create_supercorrect_graph(
            prefilling(REST), ScriptedTeacher(FINE), checkpointer=InMemorySaver()
        )
        older = {
            "problem": QUESTION, "attempt": WRONG, "verdict": {"status": "unscored"}, "revision": {},
            "critique": FOUND.model_dump(mode="json"), "history": [], "calls": [], "ending": {},
        }  # fmt: skip
        graph.update_state(THREAD, older, as_node="teacher_critique")
        with pytest.raises(ConfigError, match="another version of supercorrect-agent began it"):
            graph.invoke(None, THREAD)
