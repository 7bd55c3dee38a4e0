"""What a thread keeps of a run, and how its state can be read, edited and gone back to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from langgraph.checkpoint.base import copy_checkpoint
from langgraph.checkpoint.sqlite import SqliteSaver

from supercorrect_agent.errors import ConfigError
from supercorrect_agent.graph import create_supercorrect_graph
from supercorrect_agent.reducers import fill_in, fill_in_by_number
from supercorrect_agent.state import SolveOutput
from supercorrect_agent.types import Critique
from tests.fakes import ScriptedTeacher, prefilling
from tests.test_graph import FINE, FOUND, QUESTION, REST, RIGHT, WRONG

THREAD: Any = {"configurable": {"thread_id": "1"}}
GIVEN: Any = {"problem": QUESTION}


@pytest.fixture
def saver() -> Iterator[SqliteSaver]:
    with SqliteSaver.from_conn_string(":memory:") as saver:
        yield saver


def solver(saver: SqliteSaver, *replies: str, critiques: Sequence[Critique] = (FOUND, FINE)) -> Any:
    return create_supercorrect_graph(prefilling(*replies), ScriptedTeacher(*critiques), checkpointer=saver)


def values(graph: Any, config: Any = THREAD) -> dict[str, Any]:
    return dict(graph.get_state(config).values)


def before(graph: Any, node: str) -> Any:
    """The config of the last checkpoint that waits for a node."""
    return next(one.config for one in graph.get_state_history(THREAD) if one.next == (node,))


class TestReducers:
    def test_records_are_added_with_a_number_and_filled_in_under_it(self) -> None:
        one = {"number": 1, "a": 1}
        assert fill_in_by_number([], [[{"a": 1}], [{"b": 2}]]) == [one, {"number": 2, "b": 2}]
        assert fill_in_by_number([one], [[{"number": 1, "b": 3}]]) == [{"number": 1, "a": 1, "b": 3}]
        assert fill_in_by_number([one], [[{"number": 7, "a": 2}]]) == [one, {"number": 2, "a": 2}]
        assert one == {"number": 1, "a": 1}

    def test_a_whole_list_that_is_written_back_changes_nothing(self) -> None:
        kept = fill_in_by_number([], [[{"a": 1}, {"a": 1}]])
        assert fill_in_by_number(kept, [kept]) == kept

    def test_many_writes_at_once_are_the_same_as_one_after_another(self) -> None:
        writes = [[{"a": 1}], [{"number": 1, "b": 2}, {"a": 3}], [], [{"number": 2, "a": 4}]]
        kept: list[dict[str, Any]] = []
        for write in writes:
            kept = fill_in_by_number(kept, [write])
        assert kept == fill_in_by_number([], writes)
        assert fill_in({"a": 1}, [{"a": 2}, {"b": 3}]) == {"a": 2, "b": 3}


def test_a_thread_has_what_the_caller_got_except_the_trace(saver: SqliteSaver) -> None:
    graph = solver(saver, WRONG, REST)
    result = graph.invoke(GIVEN, THREAD)
    assert set(result) == set(SolveOutput.__annotations__)
    assert set(result) - set(values(graph)) == {"trace"}
    assert values(graph) == {**values(graph), **{key: result[key] for key in result if key != "trace"}}
    json.dumps(values(graph))


def test_a_thread_shows_the_open_round(saver: SqliteSaver) -> None:
    graph = solver(saver, WRONG, REST)
    graph.invoke(GIVEN, THREAD, interrupt_before=["student_correct"])
    state = values(graph)
    assert (state["problem"], state["first"]["solution"]) == (QUESTION, WRONG)
    assert state["first"]["verdict"]["status"] == "unscored"
    assert [(one["step"], one["cause"], one["solution"]) for one in state["rounds"]] == [
        (2, FOUND.cause, None)
    ]
    assert [call["role"] for call in state["calls"]] == ["student", "teacher"]


def test_the_open_round_can_be_edited(saver: SqliteSaver) -> None:
    graph = solver(saver, WRONG, REST)
    graph.invoke(GIVEN, THREAD, interrupt_before=["student_correct"])
    graph.update_state(THREAD, {"rounds": [{"number": 1, "correction": "Three times. 132*3=396"}]})
    result = graph.invoke(None, THREAD)
    assert result["solution"] == RIGHT.replace("Triple", "Three times")
    assert (result["rounds"][0]["step"], result["rounds"][0]["answer"]) == (2, "396")


def test_a_state_that_is_written_back_whole_is_the_same(saver: SqliteSaver) -> None:
    graph = solver(saver, WRONG, REST)
    graph.invoke(GIVEN, THREAD, interrupt_before=["student_correct"])
    state = values(graph)
    graph.update_state(THREAD, state)
    assert values(graph) == state
    assert graph.invoke(None, THREAD)["usage"]["teacher"]["calls"] == 2


@pytest.mark.parametrize("edited", [False, True])
def test_one_goes_back_to_a_step_and_the_other_branch_stays(saver: SqliteSaver, edited: bool) -> None:
    graph = solver(saver, WRONG, REST, "<Answer>395</Answer>", critiques=[FOUND, FINE, FINE])
    graph.invoke(GIVEN, THREAD)
    left = graph.get_state(THREAD)
    there = before(graph, "student_correct")
    if edited:
        there = graph.update_state(there, {"rounds": [{"number": 1, "cause": "It is not."}]})
    again = graph.invoke(None, there)
    assert (again["answer"], again["status"], len(again["rounds"])) == ("395", "corrected", 2)
    assert again["rounds"][0]["cause"] == ("It is not." if edited else FOUND.cause)
    assert values(graph) == {**values(graph), **{key: again[key] for key in again if key != "trace"}}
    assert values(graph, left.config) == left.values


def test_each_problem_of_a_thread_is_a_run_of_its_own(saver: SqliteSaver) -> None:
    graph = solver(saver, WRONG, REST, WRONG, REST, critiques=[FOUND, FINE] * 2)
    once, twice = graph.invoke(GIVEN, THREAD), graph.invoke({"problem": "Again?"}, THREAD)
    assert (twice["rounds"], twice["usage"]["student"]["calls"]) == (once["rounds"], 2)
    assert (values(graph)["problem"], len(values(graph)["calls"])) == ("Again?", 4)
    graph = solver(saver, RIGHT)
    graph.invoke(GIVEN, THREAD, interrupt_before=["teacher_critique"])
    waiting = values(graph)
    assert (waiting["answer"], waiting["status"], waiting["rounds"]) == (None, "", [])


@pytest.mark.parametrize("node", ["student_correct", "record"])
def test_a_run_whose_beginning_is_missing_is_refused(saver: SqliteSaver, node: str) -> None:
    graph = solver(saver, WRONG, REST)
    graph.invoke(GIVEN, THREAD, interrupt_before=[node])
    saver.conn.execute(
        "DELETE FROM checkpoints WHERE checkpoint_id < (SELECT max(checkpoint_id) FROM checkpoints)"
    )
    with pytest.raises(ConfigError, match="its solutions are missing"):
        graph.invoke(None, THREAD)


def test_a_finished_thread_of_an_earlier_version_goes_on(saver: SqliteSaver) -> None:
    """Its checkpoints hold plain values, `rounds` and `calls` without numbers, and keys that are gone."""
    graph = solver(saver, RIGHT)
    graph.invoke(GIVEN, THREAD)
    head = saver.get_tuple(THREAD)
    assert head is not None
    older = copy_checkpoint(head.checkpoint)
    plain = {"rounds": [{"step": 2, "solution": RIGHT}], "calls": [{"role": "student"}] * 3, "attempt": WRONG}
    older["channel_values"] = {**older["channel_values"], **plain, "problem": "Older?"}
    saver.put(head.parent_config or THREAD, older, head.metadata, {})
    assert values(graph)["rounds"] == plain["rounds"]
    graph = solver(saver, WRONG, REST)
    result = graph.invoke(GIVEN, THREAD)
    assert (result["answer"], len(result["rounds"])) == ("396", 2)
    assert [call["number"] for call in values(graph)["calls"]] == [1, 2, 3, 4]
