"""Several samples side by side: the vote on their answers, and what it spares and costs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatResult
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import PrivateAttr, ValidationError

from supercorrect_agent.calls import drive
from supercorrect_agent.errors import ConfigError
from supercorrect_agent.gate import spent
from supercorrect_agent.graph import create_supercorrect_graph
from supercorrect_agent.prompts import DEFAULT_PROMPTS, render_prompt
from supercorrect_agent.state import CorrectionConfig, collect_samples
from supercorrect_agent.types import Solution, Trace, Verdict, Vote
from supercorrect_agent.verification import MathVerifier
from supercorrect_agent.voting import overlap, vote
from tests.fakes import ScriptedChatModel, ScriptedTeacher, prefilling
from tests.test_graph import FINE, FOUND, QUESTION, REST, RIGHT, WRONG

ALSO_RIGHT = RIGHT.replace("Triple.", "Three times that:")
THREE = CorrectionConfig(samples=3)
IN_TURN: RunnableConfig = {"max_concurrency": 1}  # so that the script's replies go to the samples in order
THREAD: RunnableConfig = {"configurable": {"thread_id": "1"}}


def run(
    student: Any, teacher: Any = None, config: CorrectionConfig = THREE, **options: Any
) -> dict[str, Any]:
    graph = create_supercorrect_graph(student, teacher, config=config, **options)
    return graph.invoke({"problem": QUESTION}, IN_TURN)


def rejecting(question: str, solution: Solution) -> Verdict:
    return Verdict(status="correct" if solution.answer == "396" else "incorrect")


class TestVote:
    def parties(self, *answers: str | None) -> list[list[int]]:
        return drive(vote(answers, MathVerifier()))

    def test_equal_answers_vote_together_however_they_are_written(self) -> None:
        found = self.parties("386", "1/2", None, "0.5", " 386", "\\frac{1}{2}")
        assert found == [[1, 3, 5], [0, 4]]

    def test_between_equal_parties_the_first_is_first(self) -> None:
        assert self.parties("2", "1", "1", "2", "3") == [[0, 3], [1, 2], [4]]

    def test_what_has_no_mathematical_reading_votes_by_its_text(self) -> None:
        strange = "\\qquad"
        assert self.parties(strange, "7", strange) == [[0, 2], [1]]

    def test_once_the_time_is_up_answers_vote_by_their_text(self) -> None:
        class Unasked(MathVerifier):
            def verify(self, *, answer: str | None, target: str | None) -> Verdict:
                raise AssertionError("nobody is to be asked")

        assert drive(vote(["1/2", "0.5", " 1/2 "], Unasked(), seconds=0)) == [[0, 2], [1]]

    def test_nobody_votes(self) -> None:
        assert self.parties(None, None) == []


def test_samples_of_an_earlier_run_go_and_those_of_one_run_are_in_order() -> None:
    old, first, second = ({"run": run, "index": index} for run, index in (("a", 0), ("b", 0), ("b", 1)))
    assert collect_samples([old], [second]) == [second]
    assert collect_samples([second], [first]) == [first, second]
    assert collect_samples([first, second], []) == []


def test_seconds_side_by_side_count_once() -> None:
    # 0 to 2 and 1 to 3 cover 3 seconds, 5 to 6 one more; the failed one from 6 to 8 was waited for as well
    spans = [(1.0, 3.0), (0.0, 2.0), (5.0, 6.0)]
    samples: list[dict[str, Any]] = [
        {"started": start, "ended": end, "call": {"seconds": end - start}} for start, end in spans
    ]
    assert overlap(samples) == 5 - 4
    assert overlap([*samples, {"started": 6.0, "ended": 8.0, "failure": "down"}]) == 5 - 6
    state: Any = {"calls": [one["call"] for one in samples], "overlap": 1.0}
    assert spent(state) == (0, 4.0)


class TestMajority:
    def test_the_first_solution_of_the_majority_goes_on(self) -> None:
        student, teacher = prefilling(WRONG, RIGHT, ALSO_RIGHT), ScriptedTeacher(FINE)
        result = run(student, teacher)
        assert (result["status"], result["answer"], result["solution"]) == ("accepted", "396", RIGHT)
        assert result["votes"] == [{"answer": "396", "count": 2}, {"answer": "386", "count": 1}]
        assert result["agreement"] == 2 / 3
        assert teacher.seen[0][1].raw == RIGHT
        trace = Trace.model_validate(result["trace"])
        assert trace.votes == (Vote(answer="396", count=2), Vote(answer="386", count=1))
        assert (trace.agreement, len(trace.rounds)) == (2 / 3, 1)
        assert [(call.role, call.round) for call in trace.calls] == [("student", 0)] * 3 + [("teacher", 1)]
        assert result["usage"]["student"]["calls"] == 3

    def test_a_wrong_majority_is_corrected_as_any_solution(self) -> None:
        result = run(prefilling(WRONG, RIGHT, WRONG, REST), ScriptedTeacher(FOUND, FINE))
        assert (result["status"], result["answer"]) == ("corrected", "396")
        assert result["votes"][0] == {"answer": "386", "count": 2}

    def test_sync_and_async_agree(self) -> None:
        def graph() -> Any:
            return create_supercorrect_graph(
                prefilling(WRONG, RIGHT, RIGHT), ScriptedTeacher(FINE), config=THREE
            )

        sync = graph().invoke({"problem": QUESTION})
        there = asyncio.run(graph().ainvoke({"problem": QUESTION}))
        for key in ("answer", "solution", "status", "reason", "rounds", "votes", "agreement"):
            assert sync[key] == there[key]

    def test_unreadable_samples_do_not_vote_but_count(self) -> None:
        result = run(prefilling("Hm.", "Hm.", RIGHT), ScriptedTeacher(FINE))
        assert (result["answer"], result["votes"]) == ("396", [{"answer": "396", "count": 1}])
        assert result["agreement"] == 1 / 3

    def test_without_any_readable_sample_the_critic_is_asked_about_the_first(self) -> None:
        student = prefilling("Hm.", "Well.", "Hm.", RIGHT)
        result = run(student, ScriptedTeacher(FINE, FINE))
        assert (result["status"], result["answer"]) == ("corrected", "396")
        assert (result["votes"], result["agreement"]) == ([], 0.0)
        assert student.prompts[3][1].text == "Hm."

    def test_a_sample_that_fails_is_missed_and_no_more(self) -> None:
        result = run(prefilling(RIGHT, ConnectionError("down"), RIGHT), ScriptedTeacher(FINE))
        assert (result["status"], result["agreement"]) == ("accepted", 2 / 3)
        assert result["usage"]["student"]["calls"] == 2

    def test_where_all_samples_fail_there_is_no_answer(self) -> None:
        result = run(prefilling(*[ConnectionError("down")] * 3), ScriptedTeacher())
        assert (result["status"], result["answer"], result["votes"]) == ("error", None, [])
        assert result["trace"]["error"] == "all 3 samples failed: student: ConnectionError: down"
        assert result["reason"].endswith("; there is no answer")

    def test_a_single_solution_is_no_vote(self) -> None:
        student = prefilling(RIGHT)
        result = run(student, ScriptedTeacher(FINE), CorrectionConfig(accept_agreement=0.1))
        assert (result["votes"], result["agreement"], len(result["rounds"])) == ([], None, 1)
        assert "temperature" not in student.options[0]
        assert (result["trace"]["votes"], result["trace"]["agreement"]) == ([], None)


class TestAgreement:
    def test_enough_agreement_spares_the_critic(self) -> None:
        teacher = ScriptedTeacher()
        config = CorrectionConfig(samples=3, accept_agreement=0.66)
        result = run(prefilling(RIGHT, WRONG, RIGHT), teacher, config)
        assert (result["status"], result["answer"], teacher.seen) == ("accepted", "396", [])
        assert result["reason"] == "67% of the samples agree (accept_agreement=0.66); no critic was asked"

    @pytest.mark.parametrize(("share", "asked"), [(0.7, 0), (0.71, 1)])
    def test_the_share_itself_is_enough(self, share: float, asked: int) -> None:
        teacher = ScriptedTeacher(FINE)
        config = CorrectionConfig(samples=10, accept_agreement=share)
        run(prefilling(*[RIGHT] * 7, *[WRONG] * 3), teacher, config)
        assert len(teacher.seen) == asked

    def test_unreadable_and_failed_samples_do_not_agree(self) -> None:
        teacher = ScriptedTeacher(FINE)
        config = CorrectionConfig(samples=3, accept_agreement=0.5)
        run(prefilling(RIGHT, "Hm.", ConnectionError("down")), teacher, config)
        assert len(teacher.seen) == 1

    def test_a_verifier_that_rejects_is_not_outvoted(self) -> None:
        config = CorrectionConfig(samples=2, accept_agreement=1.0)
        result = run(prefilling(WRONG, WRONG, REST), ScriptedTeacher(FOUND), config, verifier=rejecting)
        assert (result["status"], result["answer"]) == ("corrected", "396")

    def test_a_revision_is_not_accepted_for_the_agreement_on_what_it_replaced(self) -> None:
        def check(question: str, solution: Solution) -> Verdict:
            return Verdict(status="incorrect" if solution.answer == "386" else "unscored")

        config = CorrectionConfig(samples=2, accept_agreement=1.0)
        teacher = ScriptedTeacher(FOUND, FINE)
        result = run(prefilling(WRONG, WRONG, REST), teacher, config, verifier=check)
        assert (result["status"], len(teacher.seen)) == ("corrected", 2)


class TestAgainstTheMajority:
    """A critique alone does not turn an answer over that the samples agree on."""

    ONCE = CorrectionConfig(samples=3, max_rounds=1)
    ELSEWHERE = "<Answer>393</Answer>"
    STANDS = (
        "the first solution stands: {} of the samples agree on its answer, and the critique of it states {}"
    )

    def test_a_wrong_critique_that_nobody_confirms_costs_no_right_answer(self) -> None:
        result = run(prefilling(RIGHT, RIGHT, RIGHT, self.ELSEWHERE), ScriptedTeacher(FOUND), self.ONCE)
        assert (result["status"], result["answer"], result["solution"]) == ("unchanged", "396", RIGHT)
        ended = "max_rounds=1 corrections were made; no critic looked at the last"
        assert result["reason"] == f"{ended}; {self.STANDS.format('100%', 'no confidence')}"
        trace = Trace.model_validate(result["trace"])
        assert (trace.chosen.index, result["rounds"][0]["answer"]) == (0, "393")

    def test_without_a_vote_the_correction_is_returned(self) -> None:
        alone = CorrectionConfig(max_rounds=1)
        result = run(prefilling(RIGHT, self.ELSEWHERE), ScriptedTeacher(FOUND), alone)
        assert (result["status"], result["answer"]) == ("budget", "393")

    def test_a_critique_that_is_surer_than_the_samples_is_followed(self) -> None:
        sure = FOUND.model_copy(update={"confidence": 0.9})
        result = run(prefilling(WRONG, WRONG, RIGHT, REST), ScriptedTeacher(sure), self.ONCE)
        assert (result["status"], result["answer"]) == ("budget", "396")

    def test_a_revision_that_the_critic_confirms_is_returned(self) -> None:
        result = run(prefilling(*[WRONG] * 3, REST), ScriptedTeacher(FOUND, FINE))
        assert (result["status"], result["answer"], result["agreement"]) == ("corrected", "396", 1.0)

    def test_another_ending_says_it_too(self) -> None:
        down = ScriptedTeacher(FOUND.model_copy(update={"confidence": 0.6}), ConnectionError("down"))
        result = run(prefilling(RIGHT, RIGHT, WRONG, self.ELSEWHERE), down)
        assert (result["status"], result["answer"]) == ("error", "396")
        ended = "teacher: ConnectionError: down; nobody checked the last revision"
        assert result["reason"] == f"{ended}; {self.STANDS.format('67%', 'a confidence of 0.6')}"


class Meeting(ScriptedChatModel):
    """Answers only once all its callers are waiting: it would wait for ever for calls made one by one."""

    parties: int
    _barrier: threading.Barrier = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        super().model_post_init(context)
        self._barrier = threading.Barrier(self.parties, timeout=60)

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        self._barrier.wait()
        return super()._generate(messages, *args, **kwargs)


class TestSideBySide:
    @pytest.mark.parametrize("kind", ["sync", "async"])
    def test_the_samples_are_asked_for_at_once(self, kind: str) -> None:
        student = Meeting(replies=[RIGHT] * 3, parties=3, disable_streaming=True)
        graph = create_supercorrect_graph(student, ScriptedTeacher(FINE), config=THREE)
        given: Any = {"problem": QUESTION}
        result = graph.invoke(given) if kind == "sync" else asyncio.run(graph.ainvoke(given))
        assert (result["status"], result["agreement"]) == ("accepted", 1.0)

    def test_samples_have_a_temperature_of_their_own(self) -> None:
        student = prefilling(*[WRONG] * 3, REST)
        run(student, ScriptedTeacher(FOUND, FINE), CorrectionConfig(samples=3, temperature=0.2))
        assert [options["temperature"] for options in student.options] == [0.7, 0.7, 0.7, 0.2]
        student = prefilling(RIGHT, RIGHT)
        left = CorrectionConfig(samples=2, sample_temperature=None)
        run(student, ScriptedTeacher(FINE), left)
        assert "temperature" not in student.options[0]

    def test_a_cache_does_not_answer_for_the_samples(self) -> None:
        student = ScriptedChatModel(replies=[WRONG, RIGHT, RIGHT], cache=InMemoryCache())
        result = run(student, ScriptedTeacher(FINE))
        assert (len(student.prompts), result["answer"]) == (3, "396")

    def test_progress_events_and_streamed_nodes(self) -> None:
        graph = create_supercorrect_graph(prefilling(*[RIGHT] * 3), ScriptedTeacher(FINE), config=THREE)
        modes = ["custom", "updates"]
        parts = list(graph.stream({"problem": QUESTION}, stream_mode=modes))
        assert [part["event"] for mode, part in parts if mode == "custom"] == [
            "vote", "solution", "critique", "done",
        ]  # fmt: skip
        assert [name for mode, part in parts if mode == "updates" for name in part] == [
            *["student_sample"] * 3, "student_vote", "verify", "teacher_critique", "record",
        ]  # fmt: skip


class Slow(list[Any]):
    """Tells its length once two callers have asked for it, or nobody else does."""

    def __init__(self) -> None:
        super().__init__()
        self.barrier = threading.Barrier(2)

    def __len__(self) -> int:
        with contextlib.suppress(threading.BrokenBarrierError):
            self.barrier.wait(0.2)
        return super().__len__()


def test_each_caller_of_a_scripted_model_gets_a_reply_of_its_own() -> None:
    student = prefilling(WRONG, RIGHT)
    student.prompts = Slow()
    with ThreadPoolExecutor(2) as threads:
        replies = [message.text for message in threads.map(student.invoke, [QUESTION] * 2)]
    assert sorted(replies) == sorted([WRONG, RIGHT])


class TestCaps:
    def test_the_tokens_of_all_samples_count(self) -> None:
        one = len(render_prompt(DEFAULT_PROMPTS.solve, problem=QUESTION).split()) + 5
        teacher = ScriptedTeacher(FINE)
        result = run(prefilling(*[WRONG] * 3), teacher, CorrectionConfig(samples=3, max_total_tokens=3 * one))
        assert (result["status"], result["answer"], teacher.seen) == ("budget", "386", [])
        more = CorrectionConfig(samples=3, max_total_tokens=3 * one + 1)
        assert run(prefilling(*[WRONG] * 3), ScriptedTeacher(FINE), more)["status"] == "accepted"

    def test_without_rounds_the_vote_is_the_answer(self) -> None:
        result = run(prefilling(WRONG, RIGHT, RIGHT), None, CorrectionConfig(samples=3, max_rounds=0))
        assert (result["status"], result["answer"]) == ("accepted", "396")

    @pytest.mark.parametrize(
        "wrong",
        [{"samples": 0}, {"samples": 33}, {"accept_agreement": 0.0}, {"sample_temperature": 2.5}],
        ids=str,
    )
    def test_bounds(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            CorrectionConfig(**wrong)

    def test_samples_that_would_be_one_solution_are_refused(self) -> None:
        with pytest.raises(ValidationError, match="would be one solution 3 times"):
            CorrectionConfig(samples=3, sample_temperature=0)
        cold = CorrectionConfig(sample_temperature=0)  # which a single solution does not use
        student = prefilling()
        graph = create_supercorrect_graph(student, config=cold)
        for context in (CorrectionConfig(samples=2), {"samples": 2}):
            with pytest.raises(ConfigError, match=r"`context` does not suit .* one solution 2 times"):
                graph.invoke({"problem": QUESTION}, context=context)
        assert student.prompts == []

    def test_an_empty_problem_is_refused_before_anybody_is_asked(self) -> None:
        student = prefilling()
        graph = create_supercorrect_graph(student, config=THREE)
        with pytest.raises(ConfigError, match="`problem` is empty"):
            graph.invoke({"problem": " "})
        assert student.prompts == []


class TestThreads:
    def graph(self, *replies: str) -> Any:
        fine = [FINE] * 3
        return create_supercorrect_graph(
            prefilling(*replies), ScriptedTeacher(*fine), config=THREE, checkpointer=InMemorySaver()
        )

    def test_runs_of_one_thread_do_not_mix(self) -> None:
        graph, given = self.graph(*[RIGHT] * 3, WRONG, *[WRONG] * 2), {"problem": QUESTION}
        assert graph.invoke(given, THREAD)["votes"] == [{"answer": "396", "count": 3}]
        alone = graph.invoke(given, THREAD, context=CorrectionConfig(samples=1))
        assert (alone["answer"], alone["votes"], alone["agreement"]) == ("386", [], None)
        again = graph.invoke(given, THREAD, context=CorrectionConfig(samples=2))
        assert (again["votes"], len(again["trace"]["calls"])) == ([{"answer": "386", "count": 2}], 3)

    def test_samples_of_a_run_that_was_left_have_no_vote_in_the_next(self) -> None:
        graph, given = self.graph(*[RIGHT] * 3, *[WRONG] * 3), {"problem": QUESTION}
        graph.invoke(given, THREAD, interrupt_before=["student_vote"])
        waiting = graph.get_state(THREAD).values
        assert len(waiting["samples"]) == 3
        json.dumps(waiting)
        assert graph.invoke(given, THREAD)["votes"] == [{"answer": "386", "count": 3}]
        assert graph.get_state(THREAD).values["samples"] == []

    def test_a_run_resumes_between_samples_and_vote(self) -> None:
        graph = self.graph(RIGHT, RIGHT, WRONG)
        graph.invoke({"problem": QUESTION}, THREAD, interrupt_before=["student_vote"])
        assert graph.invoke(None, THREAD)["agreement"] == 2 / 3
