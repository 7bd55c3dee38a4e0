"""The solving graph inside other graphs: what it takes and gives there, and what a stream shows of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph
from langgraph.types import Command
from typing_extensions import TypedDict

from supercorrect_agent import create_supercorrect_graph
from tests.fakes import ScriptedTeacher, prefilling
from tests.test_graph import FINE, FOUND, QUESTION, REST, RIGHT, WRONG
from tests.test_middleware import AskingTeacher

ROUNDS = ["solution", "critique", "correction", "critique", "done"]


class SameKeys(TypedDict):
    problem: str
    answer: str | None
    status: str
    note: str


class OtherKeys(TypedDict):
    ticket: str
    reply: str


def solver(**options: Any) -> Any:
    return create_supercorrect_graph(prefilling(WRONG, REST), ScriptedTeacher(FOUND, FINE), **options)


def as_a_node() -> Any:
    return StateGraph(SameKeys).add_node("solve", solver()).add_edge(START, "solve").compile()


def called_in_a_node() -> Any:
    inner = solver()

    def answer(state: OtherKeys) -> dict[str, Any]:
        return {"reply": inner.invoke({"problem": state["ticket"]})["answer"]}

    return StateGraph(OtherKeys).add_node("solve", answer).add_edge(START, "solve").compile()


def forwarding_node() -> Any:
    """Calls the graph in a node and sends its progress events on as the parent's own."""
    inner = solver()

    def answer(state: OtherKeys) -> dict[str, Any]:
        send, result = get_stream_writer(), {}
        for mode, chunk in inner.stream({"problem": state["ticket"]}, stream_mode=["custom", "values"]):
            if mode == "custom":
                send(chunk)
            else:
                result = chunk
        return {"reply": result["answer"]}

    return StateGraph(OtherKeys).add_node("solve", answer).add_edge(START, "solve").compile()


SAME, OTHER = {"problem": QUESTION, "note": "kept"}, {"ticket": QUESTION}


def test_with_the_same_keys_it_is_added_as_a_node() -> None:
    result = as_a_node().invoke(SAME)
    assert result == {"problem": QUESTION, "note": "kept", "answer": "396", "status": "corrected"}
    assert asyncio.run(as_a_node().ainvoke(SAME)) == result


def test_with_other_keys_it_is_called_in_a_node() -> None:
    assert called_in_a_node().invoke(OTHER) == {"ticket": QUESTION, "reply": "396"}
    assert forwarding_node().invoke(OTHER)["reply"] == "396"


@pytest.mark.parametrize(("parent", "given"), [(as_a_node, SAME), (called_in_a_node, OTHER)])
def test_a_parents_stream_shows_what_is_inside_only_with_subgraphs(parent: Any, given: Any) -> None:
    modes = ["messages", "custom", "updates"]
    outside = list(parent().stream(given, stream_mode=modes))
    assert [mode for mode, _ in outside] == ["updates"]  # the parent's own node, once
    inside = list(parent().stream(given, stream_mode=modes, subgraphs=True))
    tokens = [chunk[0].text for _, mode, chunk in inside if mode == "messages"]
    assert "".join(tokens) == WRONG + REST
    assert [chunk["event"] for _, mode, chunk in inside if mode == "custom"] == ROUNDS
    assert {ns[0].split(":")[0] for ns, mode, _ in inside if mode != "updates"} == {"solve"}


def test_a_node_can_send_the_rounds_on_as_the_parents_own() -> None:
    events = list(forwarding_node().stream(OTHER, stream_mode="custom"))
    assert [event["event"] for event in events] == ROUNDS


async def test_events_of_a_parent_show_every_token() -> None:
    events = [event async for event in as_a_node().astream_events(SAME, version="v2")]
    tokens = [e["data"]["chunk"].text for e in events if e["event"] == "on_chat_model_stream"]
    assert "".join(tokens) == WRONG + REST


async def test_a_trace_shows_each_node_once_with_the_model_calls_inside() -> None:
    events = [event async for event in solver().astream_events({"problem": QUESTION}, version="v2")]
    started = [(e["name"], len(e["parent_ids"])) for e in events if e["event"].endswith("_start")]
    assert started == [
        ("supercorrect", 0),
        ("__start__", 1),
        ("student_solve", 1),
        ("student_solve", 2),
        ("verify", 1),
        ("teacher_critique", 1),
        ("student_correct", 1),
        ("student_correct", 2),
        ("verify", 1),
        ("teacher_critique", 1),
        ("record", 1),
    ]


def test_the_parents_checkpointer_serves_the_graph_inside() -> None:
    student = prefilling(RIGHT)
    inner = create_supercorrect_graph(student, AskingTeacher())
    builder = StateGraph(SameKeys).add_node("solve", inner).add_edge(START, "solve")
    parent = builder.compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    assert parent.invoke(SAME, config)["__interrupt__"][0].value == QUESTION  # type: ignore[arg-type]
    result = parent.invoke(Command(resume={"step": None}), config)
    assert (result["answer"], len(student.prompts)) == ("396", 1)


def test_its_own_checkpointer_keeps_a_thread() -> None:
    graph = solver(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    graph.invoke({"problem": QUESTION}, config)
    kept = graph.get_state(config)
    assert (kept.next, kept.values["answer"], kept.values["status"]) == ((), "396", "corrected")
