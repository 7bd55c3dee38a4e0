"""What keeps a critique from being followed: little confidence, or an inspection that it fails."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableLambda

from supercorrect_agent.errors import ModelError
from supercorrect_agent.graph import create_supercorrect_graph
from supercorrect_agent.inspector import inspect_critique
from supercorrect_agent.state import CorrectionConfig
from supercorrect_agent.types import Critique, Inspection, Problem, Solution, Trace
from tests.fakes import ScriptedTeacher, prefilling
from tests.test_ask_teacher import DOUBT, FLAGGED
from tests.test_graph import FINE, FOUND, QUESTION, REST, WRONG, run, scripted

NO_CAUSE = FOUND.model_copy(update={"cause": " "})


def judged(**fields: Any) -> str:
    """A judge's reply."""
    found = {"first_wrong_step": 2, "cause": "3 times 132 is 396.", "correction": "Triple. 132*3=396"}
    return json.dumps(found | fields)


def sure(confidence: float | None) -> Critique:
    return FOUND.model_copy(update={"confidence": confidence})


class TestMinConfidence:
    SURE = CorrectionConfig(min_confidence=0.5)

    def test_an_unsure_critique_is_not_followed(self) -> None:
        result = run(prefilling(WRONG), ScriptedTeacher(sure(0.4)), config=self.SURE)
        assert (result["status"], result["answer"], result["solution"]) == ("unchanged", "386", WRONG)
        assert result["reason"] == "step 2 is doubted with a confidence of 0.4, below min_confidence=0.5"
        assert result["rounds"][0]["step"] == 2

    @pytest.mark.parametrize("confidence", [0.5, 1.0, None])
    def test_a_sure_critique_is(self, confidence: float | None) -> None:
        result = run(prefilling(WRONG, REST), ScriptedTeacher(sure(confidence), FINE), config=self.SURE)
        assert (result["status"], result["answer"]) == ("corrected", "396")

    def test_by_default_what_is_rather_doubted_than_believed_is_not_followed(self) -> None:
        assert run(prefilling(WRONG, REST), ScriptedTeacher(sure(0.5), FINE))["status"] == "corrected"
        assert run(prefilling(WRONG, REST), ScriptedTeacher(sure(0.49)))["status"] == "unchanged"

    def test_a_revision_that_is_doubted_without_confidence_stands(self) -> None:
        result = run(prefilling(WRONG, REST), ScriptedTeacher(sure(0.9), sure(0.1)), config=self.SURE)
        assert (result["status"], result["answer"]) == ("unchanged", "396")

    def test_that_no_error_was_found_needs_no_confidence(self) -> None:
        fine = FINE.model_copy(update={"confidence": 0.0})
        assert run(prefilling(WRONG), ScriptedTeacher(fine), config=self.SURE)["status"] == "accepted"

    def test_a_draft_without_an_answer_does_not_stand_for_it(self) -> None:
        unsure = sure(0.1).model_copy(update={"step": 1})
        student = prefilling("Let me think about pens.", REST)
        result = run(student, ScriptedTeacher(unsure, FINE), config=self.SURE)
        assert (result["status"], result["answer"]) == ("corrected", "396")

    def test_a_judge_states_its_confidence(self) -> None:
        result = run(prefilling(WRONG), scripted(judged(confidence=0.3)), config=self.SURE)
        assert (result["status"], result["answer"]) == ("unchanged", "386")

    def test_the_context_of_a_run_sets_it(self) -> None:
        graph = create_supercorrect_graph(prefilling(WRONG), ScriptedTeacher(sure(0.4)))
        assert graph.invoke({"problem": QUESTION}, context=self.SURE)["status"] == "unchanged"


def inspections(result: dict[str, Any], round: int = 0) -> list[tuple[str, bool]]:
    found = Trace.model_validate(result["trace"]).rounds[round].inspections
    return [(one.check, one.passed) for one in found]


def failed(result: dict[str, Any], round: int = 0) -> list[str]:
    return [check for check, passed in inspections(result, round) if not passed]


def inspected(
    student: Any, teacher: Any, inspector: Any = inspect_critique, **options: Any
) -> dict[str, Any]:
    return run(student, teacher, inspector=inspector, **options)


class TestInspector:
    def test_a_critique_that_passes_is_followed_and_its_checks_are_on_the_round(self) -> None:
        result = inspected(prefilling(WRONG, REST), ScriptedTeacher(FOUND, FINE))
        assert (result["status"], result["answer"]) == ("corrected", "396")
        checks = ["readable", "leak", "step_in_range", "cause", "correction"]
        assert inspections(result) == [(check, True) for check in checks]
        assert inspections(result, 1) == [("readable", True), ("leak", True)]

    def test_one_that_fails_is_not_followed(self) -> None:
        student = prefilling(WRONG)
        result = inspected(student, ScriptedTeacher(NO_CAUSE))
        assert (result["status"], result["answer"], len(student.prompts)) == ("unchanged", "386", 1)
        told = "the critique was not followed: it failed the inspection (cause)"
        assert result["reason"] == f"{told}: The cause of the error is empty."
        assert failed(result) == ["cause"]

    def test_without_an_inspector_the_same_critique_is_followed(self) -> None:
        assert run(prefilling(WRONG, REST), ScriptedTeacher(NO_CAUSE, FINE))["status"] == "corrected"

    @pytest.mark.parametrize(
        ("critique", "check", "status"),
        [
            (FOUND.model_copy(update={"step": 9}), "step_in_range", "unchanged"),
            (FOUND.model_copy(update={"correction": "Triple. 132*3=386"}), "correction", "unchanged"),
            (FOUND.model_copy(update={"cause": "The answer key says 396."}), "leak", "unchanged"),
            (Critique(author="t", readable=False), "readable", "parse_error"),
        ],
        ids=["range", "correction", "leak", "unreadable"],
    )
    def test_what_the_rules_find(self, critique: Critique, check: str, status: str) -> None:
        result = inspected(prefilling(WRONG), ScriptedTeacher(critique))
        assert (result["status"], result["answer"], failed(result)) == (status, "386", [check])

    def test_it_sees_neither_answer_nor_reference(self) -> None:
        seen: list[tuple[Problem, Solution, Critique]] = []

        def look(problem: Problem, solution: Solution, critique: Critique) -> list[Inspection]:
            seen.append((problem, solution, critique))
            return []

        assert inspected(prefilling(WRONG, REST), ScriptedTeacher(FOUND, FINE), look)["status"] == "corrected"
        problem, solution, critique = seen[0]
        assert (problem, solution.raw, critique) == (Problem.create(QUESTION), WRONG, FOUND)
        assert (problem.answer, problem.reference_solution) == (None, None)

    def test_that_no_error_was_found_is_inspected_too(self) -> None:
        def doubt(problem: Problem, solution: Solution, critique: Critique) -> list[Inspection]:
            return [Inspection(check="second_opinion", passed=critique.found_error, note="It is wrong.")]

        result = inspected(prefilling(WRONG), ScriptedTeacher(FINE), doubt)
        assert (result["status"], failed(result)) == ("unchanged", ["second_opinion"])

    def test_the_students_own_review_is_inspected_where_there_is_no_teacher(self) -> None:
        empty = DOUBT.replace("<Cause>Odd.</Cause>", "<Cause> </Cause>")
        result = inspected(prefilling(WRONG, empty), None)
        assert (result["status"], failed(result)) == ("unchanged", ["cause"])

    def test_a_review_that_only_calls_the_teacher_is_not(self) -> None:
        empty = DOUBT.replace("<Cause>Odd.</Cause>", "<Cause> </Cause>")
        result = inspected(
            prefilling(WRONG, empty, REST, "Hm."), ScriptedTeacher(FOUND, FINE), config=FLAGGED
        )
        assert (result["status"], failed(result)) == ("corrected", [])

    def test_an_inspector_that_fails_lets_nothing_pass(self) -> None:
        def broken(problem: Problem, solution: Solution, critique: Critique) -> list[Inspection]:
            raise RuntimeError("no")

        result = inspected(prefilling(WRONG), ScriptedTeacher(FOUND), broken)
        assert (result["status"], result["answer"], result["rounds"][0]["step"]) == ("error", "386", 2)
        assert result["reason"] == "inspector: RuntimeError: no; the critique was not followed"

    def test_one_that_returns_no_inspections_lets_nothing_pass(self) -> None:
        result = inspected(prefilling(WRONG), ScriptedTeacher(FOUND), lambda *args: [True])
        told = "inspector: `inspector` returned a bool. Let it return Inspection records."
        assert (result["status"], result["trace"]["error"]) == ("error", told)

    def test_it_runs_beside_the_loop(self) -> None:
        threads: list[threading.Thread] = []

        def look(problem: Problem, solution: Solution, critique: Critique) -> list[Inspection]:
            threads.append(threading.current_thread())
            return []

        graph = create_supercorrect_graph(scripted(WRONG), ScriptedTeacher(FINE), inspector=look)
        asyncio.run(graph.ainvoke({"problem": QUESTION}))
        assert threads[0] is not threading.main_thread()


class Runs(BaseCallbackHandler):
    """Keeps the name, the role and the round of each run that has a role."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, int]] = []

    def on_chain_start(self, *args: Any, **kwargs: Any) -> None:
        roles = [tag for tag in kwargs.get("tags") or [] if tag.startswith("role:")]
        if roles:
            self.seen.append((kwargs["name"], roles[0], kwargs["metadata"]["round"]))


def look_by_keys(given: dict[str, Any]) -> list[Inspection]:
    assert isinstance(given["problem"], Problem)
    return list(inspect_critique(given["problem"], given["solution"], given["critique"]))


def looked(**fields: Any) -> str:
    """A model inspector's reply."""
    fine = {"format_ok": True, "cause_ok": True, "correction_ok": True, "answer_ok": True, "problems": []}
    return json.dumps({"first_error_step": 2, **fine, **fields})


class TestModelAsInspector:
    NONE = looked(first_error_step=None)

    def test_a_critique_that_it_shares_is_followed_and_its_calls_are_counted(self) -> None:
        inspector = scripted(looked(), self.NONE)
        teacher = ScriptedTeacher(FOUND, FINE)
        result = create_supercorrect_graph(prefilling(WRONG, REST), teacher, inspector=inspector).invoke(
            {"problem": QUESTION}
        )
        assert (result["status"], result["answer"]) == ("corrected", "396")
        checks = ["inspector", *(f"inspector_{name}" for name in ("format", "step", "cause", "correction"))]
        assert inspections(result) == [(check, True) for check in [*checks, "inspector_answer"]]
        calls = Trace.model_validate(result["trace"]).calls
        assert [(call.role, call.round) for call in calls if call.role == "inspector"] == [
            ("inspector", 1),
            ("inspector", 2),
        ]
        assert result["usage"]["inspector"]["calls"] == 2
        assert "There is none." in inspector.prompts[0][0].text  # no reference

    async def test_one_that_it_does_not_share_is_not(self) -> None:
        inspector = scripted(looked(first_error_step=1))
        graph = create_supercorrect_graph(prefilling(WRONG), ScriptedTeacher(FOUND), inspector=inspector)
        result = await graph.ainvoke({"problem": QUESTION})
        assert (result["status"], result["answer"]) == ("unchanged", "386")
        assert failed(result) == ["inspector_step"]
        assert "The inspector finds step 1 wrong first." in result["reason"]

    def test_it_is_asked_twice_for_a_verdict_that_can_be_read(self) -> None:
        inspector = scripted("I agree.", "I do.")
        graph = create_supercorrect_graph(prefilling(WRONG), ScriptedTeacher(FOUND), inspector=inspector)
        result = graph.invoke({"problem": QUESTION})
        assert (result["status"], result["answer"], failed(result)) == ("unchanged", "386", ["inspector"])
        assert result["usage"]["inspector"]["calls"] == 2

    def test_one_that_is_down_costs_no_answer(self) -> None:
        inspector = scripted(looked())
        inspector.replies = [ConnectionError("down")]
        graph = create_supercorrect_graph(prefilling(WRONG), ScriptedTeacher(FOUND), inspector=inspector)
        result = graph.invoke({"problem": QUESTION})
        assert (result["status"], result["answer"]) == ("error", "386")
        assert result["reason"].startswith("inspector: ConnectionError: down; the critique was not followed")

    def test_the_rules_may_be_named(self) -> None:
        graph = create_supercorrect_graph(prefilling(WRONG), ScriptedTeacher(NO_CAUSE), inspector="rules")
        assert failed(graph.invoke({"problem": QUESTION})) == ["cause"]

    def test_it_may_be_named(self) -> None:
        with pytest.raises(ModelError, match="names no chat model"):
            create_supercorrect_graph(prefilling(), ScriptedTeacher(), inspector="nobody")


class TestInspectorsRun:
    SEEN = [("inspect_critique", "role:inspector", 1), ("inspect_critique", "role:inspector", 2)]

    @pytest.mark.parametrize(
        "inspector", [inspect_critique, RunnableLambda(look_by_keys)], ids=["call", "run"]
    )
    @pytest.mark.parametrize("kind", ["sync", "async"])
    def test_a_tracer_sees_it_with_its_role_and_round(self, inspector: Any, kind: str) -> None:
        graph = create_supercorrect_graph(
            prefilling(WRONG, REST), ScriptedTeacher(FOUND, FINE), inspector=inspector
        )
        runs, given = Runs(), {"problem": QUESTION}
        config: Any = {"callbacks": [runs]}
        result = graph.invoke(given, config) if kind == "sync" else asyncio.run(graph.ainvoke(given, config))
        assert (result["status"], len(inspections(result))) == ("corrected", 5)
        assert runs.seen == self.SEEN

    async def test_so_does_whoever_reads_events(self) -> None:
        graph = create_supercorrect_graph(
            prefilling(WRONG, REST), ScriptedTeacher(FOUND, FINE), inspector=inspect_critique
        )
        events = [event async for event in graph.astream_events({"problem": QUESTION}, version="v2")]
        ended = [e for e in events if "role:inspector" in e["tags"] and e["event"] == "on_chain_end"]
        assert [(e["name"], e["metadata"]["round"]) for e in ended] == [
            ("inspect_critique", n) for n in (1, 2)
        ]
        assert [one.check for one in ended[1]["data"]["output"]] == ["readable", "leak"]

    def test_it_may_ask_models_of_its_own_whose_runs_are_below(self) -> None:
        second = scripted("It is wrong.")
        inspector = (
            RunnableLambda(lambda given: given["critique"].cause)
            | second
            | RunnableLambda(lambda said: [Inspection(check="second_opinion", passed=False, note=said.text)])
        )
        result = inspected(prefilling(WRONG), ScriptedTeacher(FOUND), inspector)
        assert (result["status"], failed(result)) == ("unchanged", ["second_opinion"])
        assert second.prompts[0][0].text == FOUND.cause


class TestRevision:
    def test_a_teacher_that_can_revises_once_by_the_notes(self) -> None:
        judge = scripted(judged(cause="See the answer key."), judged(), judged(first_wrong_step=None))
        result = inspected(prefilling(WRONG, REST), judge)
        assert (result["status"], result["answer"], len(result["rounds"])) == ("corrected", "396", 2)
        assert result["rounds"][0]["cause"] == "3 times 132 is 396."
        assert "- It speaks of a reference" in judge.prompts[1][-1].text
        assert (failed(result), result["usage"]["teacher"]["calls"]) == ([], 3)
        trace = Trace.model_validate(result["trace"])
        assert [call.round for call in trace.calls if call.role == "teacher"] == [1, 1, 2]

    def test_it_revises_no_second_time(self) -> None:
        judge = scripted(judged(cause="See the answer key."), judged(cause="By the answer key."))
        result = inspected(prefilling(WRONG), judge)
        assert (result["status"], result["answer"], len(judge.prompts)) == ("unchanged", "386", 2)
        assert (result["rounds"][0]["cause"], failed(result)) == ("By the answer key.", ["leak"])

    def test_each_round_has_a_revision_of_its_own(self) -> None:
        leak = judged(cause="See the answer key.")
        judge = scripted(leak, judged(), leak, judged(first_wrong_step=None))
        result = inspected(prefilling(WRONG, "<Answer>393</Answer>"), judge)
        assert (result["status"], result["answer"], len(judge.prompts)) == ("corrected", "393", 4)

    def test_a_revised_critique_may_be_too_unsure(self) -> None:
        judge = scripted(judged(cause="See the answer key."), judged(confidence=0.2))
        result = inspected(prefilling(WRONG), judge, config=CorrectionConfig(min_confidence=0.5))
        assert (result["status"], "min_confidence" in result["reason"]) == ("unchanged", True)

    def test_a_spent_budget_leaves_no_revision(self) -> None:
        judge = scripted(judged(cause="See the answer key."))
        result = inspected(prefilling(WRONG), judge, config=CorrectionConfig(max_total_tokens=150))
        assert (result["status"], failed(result), len(judge.prompts)) == ("unchanged", ["leak"], 1)

    def test_a_teacher_that_fails_then_leaves_its_critique_on_the_trace(self) -> None:
        judge = scripted(judged(cause="See the answer key."), ValueError("no"))
        result = inspected(prefilling(WRONG), judge)
        assert (result["status"], result["answer"], result["rounds"][0]["step"]) == ("error", "386", 2)
        assert result["reason"].endswith("ValueError: no; the critique was not followed")

    @pytest.mark.parametrize("kind", ["sync", "async"])
    def test_streamed_nodes(self, kind: str) -> None:
        judge = scripted(judged(cause="See the answer key."), judged(), judged(first_wrong_step=None))
        graph = create_supercorrect_graph(prefilling(WRONG, REST), judge, inspector=inspect_critique)
        given: Any = {"problem": QUESTION}

        async def names() -> list[str]:
            return [name async for step in graph.astream(given, stream_mode="updates") for name in step]

        sync = kind == "sync"
        found = (
            [name for step in graph.stream(given, stream_mode="updates") for name in step]
            if sync
            else asyncio.run(names())
        )
        assert found == [
            "student_solve", "verify", "teacher_critique", "inspect_critique", "teacher_critique",
            "inspect_critique", "student_correct", "verify", "teacher_critique", "inspect_critique", "record",
        ]  # fmt: skip
