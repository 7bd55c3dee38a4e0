"""A person between critic and student: what is shown, every decision, and what cannot be waited for."""

from __future__ import annotations

import asyncio
import json
from typing import Any, get_type_hints

import pytest
from langchain.agents.middleware.human_in_the_loop import ActionRequest, HITLRequest, ReviewConfig
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command
from typing_extensions import TypedDict

from supercorrect_agent.errors import ConfigError
from supercorrect_agent.graph import SOLVE_STEPS, create_supercorrect_graph
from supercorrect_agent.state import CorrectionConfig
from supercorrect_agent.types import Critique, Inspection, Problem, Solution, Trace, Verdict
from tests.fakes import ScriptedTeacher, prefilling
from tests.test_ask_teacher import DOUBT
from tests.test_confidence import judged
from tests.test_graph import FINE, FOUND, KEPT, QUESTION, REST, WRONG, scripted

REVIEWED = CorrectionConfig(human_review=True)
THREAD: RunnableConfig = {"configurable": {"thread_id": "1"}}
GIVEN: Any = {"problem": QUESTION}


def make_graph(student: Any, *critiques: Any, config: CorrectionConfig = REVIEWED) -> Any:
    teacher = ScriptedTeacher(*critiques)
    return create_supercorrect_graph(student, teacher, config=config, checkpointer=InMemorySaver())


def request(result: dict[str, Any]) -> HITLRequest:
    """What the person is shown by a run that waits."""
    (waiting,) = result["__interrupt__"]
    json.dumps(waiting.value)
    return waiting.value  # type: ignore[no-any-return]


def answer(graph: Any, **decision: Any) -> dict[str, Any]:
    return graph.invoke(Command(resume={"decisions": [decision]}), THREAD)  # type: ignore[no-any-return]


def edit(graph: Any, **args: Any) -> dict[str, Any]:
    return answer(graph, type="edit", edited_action={"name": "student_correct", "args": args})


def rounds(result: dict[str, Any]) -> list[Any]:
    return list(Trace.model_validate(result["trace"]).rounds)


def test_the_person_is_asked_in_langchains_form() -> None:
    graph = make_graph(prefilling(WRONG), FOUND)
    shown = request(graph.invoke(GIVEN, THREAD))
    assert set(shown) == set(get_type_hints(HITLRequest))
    (action,), (review,) = shown["action_requests"], shown["review_configs"]
    assert set(action) <= set(get_type_hints(ActionRequest))
    assert set(review) <= set(get_type_hints(ReviewConfig))
    assert action["name"] == review["action_name"] == "student_correct"
    assert action["args"] == {"step": 2, "cause": FOUND.cause, "correction": FOUND.correction}
    assert review["allowed_decisions"] == ["approve", "edit", "reject"]
    assert QUESTION in action["description"]
    assert WRONG in action["description"]
    assert "'t' finds an error in step 2" in action["description"]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_approved_critique_is_followed(kind: str) -> None:
    student = prefilling(WRONG, REST)
    graph = make_graph(student, FOUND, FINE)
    approval: Any = Command(resume={"decisions": [{"type": "approve"}]})
    if kind == "sync":
        graph.invoke(GIVEN, THREAD)
        assert len(student.prompts) == 1
        result = graph.invoke(approval, THREAD)
    else:
        asyncio.run(graph.ainvoke(GIVEN, THREAD))
        result = asyncio.run(graph.ainvoke(approval, THREAD))
    assert (result["status"], result["answer"]) == ("corrected", "396")
    assert result["usage"]["teacher"]["calls"] == 2  # nobody was asked again for the wait
    first = rounds(result)[0]
    assert first.critique == FOUND
    assert first.inspections == (Inspection(check="human_review", passed=True, note="approve"),)


def test_an_edited_critique_is_followed_in_the_persons_words() -> None:
    student = prefilling(WRONG, REST)
    graph = make_graph(student, Critique(step=1, cause="Odd.", correction="47+85=133", author="t"), FINE)
    graph.invoke(GIVEN, THREAD)
    # clients that show the arguments as text send them back as text
    result = edit(graph, step="2", cause="3 times 132 is 396.", correction="Triple. 132*3=396")
    assert (result["status"], result["answer"]) == ("corrected", "396")
    assert student.prompts[1][1].text == KEPT
    first = rounds(result)[0]
    assert first.critique == FOUND.model_copy(update={"author": "human"})
    assert first.inspections == (Inspection(check="human_review", passed=True, note="edit"),)


def test_a_rejected_critique_leaves_the_solution() -> None:
    student = prefilling(WRONG)
    graph = make_graph(student, FOUND)
    graph.invoke(GIVEN, THREAD)
    result = answer(graph, type="reject", message="386 is\nmeant.")
    assert (result["status"], result["answer"], result["solution"]) == ("human", "386", WRONG)
    assert result["reason"] == "a person rejected the critique: 386 is meant."
    (only,) = rounds(result)
    assert (only.critique, only.solution) == (FOUND, None)
    assert only.inspections == (Inspection(check="human_review", passed=False, note="386 is meant."),)


def test_a_rejection_needs_no_words() -> None:
    graph = make_graph(prefilling(WRONG), FOUND)
    graph.invoke(GIVEN, THREAD)
    assert answer(graph, type="reject")["reason"] == "a person rejected the critique"


def test_a_rejection_returns_the_best_of_the_trajectory() -> None:
    graph = make_graph(prefilling(WRONG, REST), FOUND, FOUND)
    graph.invoke(GIVEN, THREAD)
    answer(graph, type="approve")
    result = answer(graph, type="reject")
    assert (result["status"], result["answer"], len(result["rounds"])) == ("human", "396", 2)


def test_a_revision_that_the_verifier_rejects_is_not_returned_for_a_rejection() -> None:
    def check(question: str, solution: Solution) -> Verdict:
        return Verdict(status="unscored" if solution.answer == "386" else "incorrect")

    graph = create_supercorrect_graph(
        prefilling(WRONG, "<Answer>393</Answer>"),
        ScriptedTeacher(FOUND, FOUND),
        verifier=check,
        config=REVIEWED,
        checkpointer=InMemorySaver(),
    )
    graph.invoke(GIVEN, THREAD)
    answer(graph, type="approve")
    result = answer(graph, type="reject")
    assert (result["status"], result["answer"], len(result["rounds"])) == ("human", "386", 2)


@pytest.mark.parametrize(
    ("resume", "fault"),
    [
        ("yes", 'resume with {"decisions": [decision]}'),
        ({"decisions": []}, "one decision"),
        ({"decisions": [{"type": "approve"}] * 2}, "one decision"),
        ({"decisions": [{"type": "respond", "message": "?"}]}, "'respond', not approve, edit or reject"),
        ({"decisions": [{"type": "edit"}]}, "an edit needs"),
    ],
    ids=["text", "none", "two", "respond", "no-args"],
)
def test_an_answer_that_cannot_be_used_is_asked_for_again(resume: Any, fault: str) -> None:
    student = prefilling(WRONG, REST)
    graph = make_graph(student, FOUND, FINE)
    graph.invoke(GIVEN, THREAD)
    (action,) = request(graph.invoke(Command(resume=resume), THREAD))["action_requests"]
    assert action["description"].startswith("Your answer could not be used: ")
    assert fault in action["description"]
    assert len(student.prompts) == 1
    assert answer(graph, type="approve")["status"] == "corrected"


@pytest.mark.parametrize("resume", [[{"type": "accept"}], {"decisions": [{"type": "accept"}]}])
def test_older_clients_accept(resume: Any) -> None:
    graph = make_graph(prefilling(WRONG, REST), FOUND, FINE)
    graph.invoke(GIVEN, THREAD)
    result = graph.invoke(Command(resume=resume), THREAD)
    assert (result["status"], result["answer"]) == ("corrected", "396")


def test_what_an_edit_leaves_out_stays_as_it_was() -> None:
    graph = make_graph(prefilling(WRONG, REST), FOUND, FINE)
    graph.invoke(GIVEN, THREAD)
    result = edit(graph, cause="three pens a box")
    kept = result["rounds"][0]
    assert (kept["step"], kept["cause"], kept["correction"]) == (
        FOUND.step,
        "three pens a box",
        FOUND.correction,
    )


@pytest.mark.parametrize(
    ("args", "fault"),
    [
        ({"step": 3, "cause": "c", "correction": "d"}, "3 is not a step: the solution has steps 1 to 2"),
        ({"step": 0, "cause": "c", "correction": "d"}, "step: "),
        ({"step": "two", "cause": "c", "correction": "d"}, "step: "),
        ({"step": True, "cause": "c", "correction": "d"}, "step: Value error, True is not a number"),
        ({"step": 2, "cause": "c", "correction": " "}, "correction: "),
    ],
    ids=["past", "before", "text", "bool", "empty"],
)
def test_an_edit_that_is_no_critique_of_this_solution_is_asked_for_again(
    args: dict[str, Any], fault: str
) -> None:
    graph = make_graph(prefilling(WRONG, REST), FOUND, FINE)
    graph.invoke(GIVEN, THREAD)
    (action,) = request(edit(graph, **args))["action_requests"]
    assert fault in action["description"]
    assert action["args"]["step"] == 2  # the critique is shown as it was
    assert edit(graph, step=2, correction="Triple. 132*3=396")["answer"] == "396"


def test_each_critique_is_reviewed_and_none_that_ends_the_run() -> None:
    graph = make_graph(prefilling(WRONG, "<Answer>393</Answer>", REST), FOUND, FOUND, FINE)
    assert "__interrupt__" in graph.invoke(GIVEN, THREAD)
    second = request(answer(graph, type="approve"))
    assert "393" in second["action_requests"][0]["description"]
    assert graph.get_state(THREAD).next == ("human_review",)
    again = answer(graph, type="approve")
    assert (again["status"], again["answer"]) == ("budget", "396")
    assert "__interrupt__" not in make_graph(prefilling(WRONG), FINE).invoke(GIVEN, THREAD)


def test_a_draft_without_an_answer_is_shown_as_such() -> None:
    graph = make_graph(prefilling("Let me think about pens.", REST), FINE, FINE)
    (action,) = request(graph.invoke(GIVEN, THREAD))["action_requests"]
    assert "No final answer can be read" in action["description"]
    assert answer(graph, type="approve")["answer"] == "396"


def test_the_students_own_critique_is_reviewed_where_there_is_no_teacher() -> None:
    graph = create_supercorrect_graph(prefilling(WRONG, DOUBT), config=REVIEWED, checkpointer=InMemorySaver())
    (action,) = request(graph.invoke(GIVEN, THREAD))["action_requests"]
    assert action["args"]["step"] == 1
    assert answer(graph, type="reject")["status"] == "human"


class TestCheckpointer:
    MESSAGE = r"`human_review=True` needs a checkpointer.*checkpointer=InMemorySaver\(\).*`thread_id`"

    def test_without_one_the_run_is_refused_before_anybody_is_asked(self) -> None:
        student = prefilling(WRONG)
        graph = create_supercorrect_graph(student, ScriptedTeacher(FOUND), config=REVIEWED)
        with pytest.raises(ConfigError, match=self.MESSAGE):
            graph.invoke(GIVEN, THREAD)
        with pytest.raises(ConfigError, match=self.MESSAGE):
            asyncio.run(graph.ainvoke(GIVEN))
        assert student.prompts == []

    def test_samples_are_refused_too(self) -> None:
        graph = create_supercorrect_graph(scripted(), ScriptedTeacher())
        context = CorrectionConfig(human_review=True, samples=2)
        with pytest.raises(ConfigError, match=self.MESSAGE):
            graph.invoke(GIVEN, context=context)

    def test_the_saver_of_a_parent_graph_will_do(self) -> None:
        class Parent(TypedDict):
            problem: str
            answer: str | None

        parent = StateGraph(Parent)
        student = prefilling(WRONG, REST)
        parent.add_node(
            "solve", create_supercorrect_graph(student, ScriptedTeacher(FOUND, FINE), config=REVIEWED)
        )
        parent.add_edge(START, "solve")
        parent.add_edge("solve", END)
        graph = parent.compile(checkpointer=InMemorySaver())
        request(graph.invoke(GIVEN, THREAD))
        assert answer(graph, type="approve")["answer"] == "396"
        assert len(student.prompts) == 2


def test_the_largest_run_there_can_be_stays_within_the_recursion_limit() -> None:
    def look(problem: Problem, solution: Solution, critique: Critique) -> list[Inspection]:
        return [Inspection(check="cause", passed=critique.cause != "bad", note="bad")]

    # 32 samples; in each of 8 rounds a review, a critique, its revision and a correction
    solved = [f"<Answer>{number}</Answer>" for number in range(8)]
    student = prefilling(*[WRONG] * 32, *[reply for one in solved for reply in (DOUBT, one)])
    judge = scripted(
        *[judged(first_wrong_step=1, cause="bad", correction="a"), judged(first_wrong_step=1)] * 8
    )
    config = CorrectionConfig(samples=32, max_rounds=8, ask_teacher="flagged", human_review=True)
    graph = create_supercorrect_graph(
        student, judge, inspector=look, config=config, checkpointer=InMemorySaver()
    )
    given: Any = GIVEN
    supersteps, waits = 0, 0
    while True:
        parts = list(graph.stream(given, THREAD, stream_mode=["updates", "checkpoints"]))
        names = [name for mode, part in parts if mode == "updates" for name in part]
        supersteps += sum(name not in ("student_sample", "__interrupt__") for name in names)
        supersteps += "student_sample" in names
        if "__interrupt__" not in names:
            break
        waits += 1
        given = Command(resume={"decisions": [{"type": "approve"}]})
    assert (waits, supersteps) == (8, SOLVE_STEPS)
    result = graph.get_state(THREAD).values
    assert (result["status"], result["answer"], len(result["rounds"])) == ("budget", "7", 8)
