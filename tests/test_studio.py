"""`langgraph dev`, for real: starts the server on a free loopback port and uses its API, as Studio does."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from supercorrect_agent.sandbox.world import generate_problems
from supercorrect_agent.types import Trace
from tests.studio_server import ENVIRONMENT, LANGGRAPH, ROOT, running_server

pytestmark = [pytest.mark.studio, pytest.mark.timeout(600)]

GRAPHS = json.loads((ROOT / "langgraph.json").read_text(encoding="utf-8"))["graphs"]
ENDINGS = {"accepted", "corrected", "unchanged", "stalled", "budget", "parse_error", "quarantined"}
REVIEWED = {"human_review": True, "max_rounds": 1, "max_new_tokens": 160}
APPROVE = {"type": "approve"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running server."""
    with running_server(tmp_path_factory.mktemp("studio")) as url:
        yield url


@pytest.fixture
async def sdk(server: str) -> AsyncIterator[Any]:
    """A client of the server, without a key."""
    from langgraph_sdk import get_client

    async with get_client(url=server, api_key=None) as client:
        yield client


async def assistant_of(sdk: Any, graph: str) -> str:
    """The assistant that the server makes for each graph."""
    (found,) = await sdk.assistants.search(graph_id=graph, metadata={"created_by": "system"})
    return str(found["assistant_id"])


def validate(config: Path) -> subprocess.CompletedProcess[str]:
    command = [*LANGGRAPH, "validate", "--config", str(config)]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)


def test_the_configuration_is_valid() -> None:
    done = validate(ROOT / "langgraph.json")
    assert done.returncode == 0, done.stderr
    assert "(3 graphs found)" in done.stdout
    assert "warning" not in done.stdout


def test_a_broken_configuration_is_not(tmp_path: Path) -> None:
    text = (ROOT / "langgraph.json").read_text(encoding="utf-8")
    broken = tmp_path / "langgraph.json"
    broken.write_text(text.replace('"graphs"', '"graph"'), encoding="utf-8")
    done = validate(broken)
    assert done.returncode == 1
    assert "No graphs found" in done.stderr


async def test_the_server_names_and_describes_the_three_graphs(sdk: Any) -> None:
    served = {one["graph_id"]: one["description"] for one in await sdk.assistants.search()}
    assert set(served) == {"supercorrect", "supercorrect_collect", "supercorrect_chat"}
    assert served == {name: graph["description"] for name, graph in GRAPHS.items()}


@pytest.mark.parametrize(
    ("graph", "given", "returned", "settings"),
    [
        (
            "supercorrect",
            {"problem"},
            "answer solution status reason rounds votes agreement usage trace",
            {"max_rounds", "ask_teacher", "human_review"},
        ),
        ("supercorrect_collect", {"problem", "sample", "known_errors"}, "trace", {"max_rounds", "rewrite"}),
        ("supercorrect_chat", {"messages"}, "messages", {"max_rounds", "ask_teacher", "human_review"}),
    ],
)
async def test_every_field_of_the_schemas_is_described(
    sdk: Any, graph: str, given: set[str], returned: str, settings: set[str]
) -> None:
    schemas = await sdk.assistants.get_schemas(await assistant_of(sdk, graph))
    assert set(schemas["input_schema"]["properties"]) == given
    assert set(schemas["output_schema"]["properties"]) == set(returned.split())
    assert settings <= set(schemas["context_schema"]["properties"])
    for kind in ("input_schema", "output_schema", "context_schema", "config_schema"):
        fields = schemas[kind]["properties"]
        assert fields
        assert [name for name, field in fields.items() if not field.get("description")] == [], kind


async def test_the_context_has_bounds_and_choices(sdk: Any) -> None:
    schemas = await sdk.assistants.get_schemas(await assistant_of(sdk, "supercorrect"))
    context = schemas["context_schema"]["properties"]
    assert (context["max_rounds"]["minimum"], context["max_rounds"]["maximum"]) == (0, 8)
    assert context["max_rounds"]["default"] == 2
    assert context["ask_teacher"]["enum"] == ["always", "flagged"]
    assert context["human_review"]["default"] is False


def ways(drawn: dict[str, Any], *, conditional: bool) -> dict[str, set[str]]:
    """Where the edges of one kind lead from each node."""
    found: dict[str, set[str]] = {}
    for edge in drawn["edges"]:
        if edge.get("conditional", False) is conditional:
            found.setdefault(edge["source"], set()).add(edge["target"])
    return found


async def test_the_solving_graph_is_drawn_with_its_conditions(sdk: Any) -> None:
    drawn = await sdk.assistants.get_graph(await assistant_of(sdk, "supercorrect"))
    assert ways(drawn, conditional=True) == {
        "__start__": {"student_solve", "student_sample"},
        "verify": {"student_review", "teacher_critique", "record"},
        "student_review": {"teacher_critique", "record"},
        "teacher_critique": {"human_review", "student_correct", "record"},
        "human_review": {"student_correct", "record"},
    }
    assert ways(drawn, conditional=False) == {
        "student_solve": {"verify"},
        "student_sample": {"student_vote"},
        "student_vote": {"verify"},
        "student_correct": {"verify"},
        "record": {"__end__"},
    }


async def test_the_collecting_graph_is_drawn_with_its_conditions(sdk: Any) -> None:
    drawn = await sdk.assistants.get_graph(await assistant_of(sdk, "supercorrect_collect"))
    conditions = ways(drawn, conditional=True)
    assert conditions["teacher_write"] == {"student_solve", "record"}
    assert conditions["inspect"] == {"teacher_critique", "student_review", "record"}
    assert conditions["student_correct"] == {"verify", "record"}


async def test_the_chat_graph_is_drawn_with_the_solving_graph_inside(sdk: Any) -> None:
    assistant = await assistant_of(sdk, "supercorrect_chat")
    outside = await sdk.assistants.get_graph(assistant)
    assert {node["id"] for node in outside["nodes"]} == {"__start__", "student_answer", "__end__"}
    inside = ways(await sdk.assistants.get_graph(assistant, xray=True), conditional=True)
    after_critique = {"human_review", "student_correct", "record"}
    assert inside["student_answer:teacher_critique"] == {f"student_answer:{name}" for name in after_critique}


@pytest.mark.parametrize("graph", sorted(GRAPHS))
async def test_nodes_are_named_after_who_does_what(sdk: Any, graph: str) -> None:
    drawn = await sdk.assistants.get_graph(await assistant_of(sdk, graph), xray=True)
    names = {node["id"].split(":")[-1] for node in drawn["nodes"]} - {"__start__", "__end__"}
    nobody = {"verify", "inspect", "record"}  # done by rules
    assert {name for name in names if not re.fullmatch(r"(student|teacher|human)_[a-z]+", name)} <= nobody


async def test_a_run_is_streamed(sdk: Any) -> None:
    problem = generate_problems("test", 1, seed=0)[0]
    thread = (await sdk.threads.create())["thread_id"]
    parts = [
        part
        async for part in sdk.runs.stream(
            thread,
            "supercorrect",
            input={"problem": problem.question},
            context={"max_rounds": 1, "max_new_tokens": 160},
            stream_mode=["custom", "messages-tuple", "values"],
        )
    ]
    assert not [part.data for part in parts if part.event == "error"]
    events = [part.data["event"] for part in parts if part.event == "custom"]
    assert (events[0], events[1], events[-1]) == ("solution", "critique", "done")
    assert any(part.event == "messages" for part in parts)
    values = [part.data for part in parts if part.event == "values"][-1]
    assert values["status"] in ENDINGS
    assert (await sdk.threads.get_state(thread))["values"]["answer"] == values["answer"]
    trace = Trace.model_validate(values["trace"])
    assert trace.solution is not None
    assert trace.calls[0].sampling["max_tokens"] == 160
    assert trace.calls[0].output_tokens > 0


async def waiting(
    sdk: Any, assistant: str, context: dict[str, Any] | None, key: str = "problem"
) -> tuple[str, Any]:
    """A thread whose run waits for a person, and what that person is asked."""
    for problem in generate_problems("test", 20, seed=0):
        thread = (await sdk.threads.create())["thread_id"]
        given = problem.question if key == "problem" else [{"role": "user", "content": problem.question}]
        await sdk.runs.wait(thread, assistant, input={key: given}, context=context)
        state = await sdk.threads.get_state(thread)
        if state["next"]:
            assert (await sdk.threads.get(thread))["status"] == "interrupted"
            (asked,) = state["interrupts"]
            return thread, asked["value"]
    pytest.fail("no solution of 20 problems was criticized")


async def resume(
    sdk: Any, thread: str, assistant: str, context: dict[str, Any] | None, **decision: Any
) -> Any:
    """What a run returns after a decision, with which it ends."""
    command = {"resume": {"decisions": [decision]}}
    values = await sdk.runs.wait(thread, assistant, command=command, context=context)
    state = await sdk.threads.get_state(thread)
    assert (state["next"], state["interrupts"]) == ([], [])
    return values


async def test_an_approved_critique_is_followed(sdk: Any) -> None:
    thread, asked = await waiting(sdk, "supercorrect", REVIEWED)
    assert set(asked) == {"action_requests", "review_configs"}
    (action,), (review,) = asked["action_requests"], asked["review_configs"]
    assert review == {"action_name": "student_correct", "allowed_decisions": ["approve", "edit", "reject"]}
    assert (action["name"], set(action["args"])) == ("student_correct", {"step", "cause", "correction"})
    values = await resume(sdk, thread, "supercorrect", REVIEWED, **APPROVE)
    (only,) = values["rounds"]
    assert {key: only[key] for key in action["args"]} == action["args"]
    assert action["args"]["correction"] in only["solution"]
    # one correction was allowed, so that nobody looks at it
    assert (values["status"], values["answer"]) == ("budget", only["answer"])


async def test_an_edited_critique_is_followed_in_the_persons_words(sdk: Any) -> None:
    thread, asked = await waiting(sdk, "supercorrect", REVIEWED)
    step = asked["action_requests"][0]["args"]["step"]
    args = {"step": step, "cause": "It is seven.", "correction": "Seven are left. 3+4=7"}
    edited = {"name": "student_correct", "args": args}
    values = await resume(sdk, thread, "supercorrect", REVIEWED, type="edit", edited_action=edited)
    (only,) = values["rounds"]
    assert (only["author"], only["step"], only["cause"]) == ("human", step, "It is seven.")
    assert "Seven are left. 3+4=7" in only["solution"]
    assert values["status"] == "budget"


async def test_a_rejected_critique_ends_the_run_and_the_thread_keeps_its_history(sdk: Any) -> None:
    thread, asked = await waiting(sdk, "supercorrect", REVIEWED)
    values = await resume(sdk, thread, "supercorrect", REVIEWED, type="reject", message="It is right.")
    assert (values["status"], values["reason"]) == ("human", "a person rejected the critique: It is right.")
    history = (await sdk.threads.get_history(thread))[::-1]
    assert [state["next"] for state in history] == [
        ["__start__"],
        ["student_solve"],
        ["verify"],
        ["teacher_critique"],
        ["human_review"],
        ["record"],
        [],
    ]
    (waited,) = history[4]["tasks"]
    assert (waited["name"], waited["interrupts"][0]["value"]) == ("human_review", asked)
    for key in ("answer", "solution", "status", "reason", "rounds", "usage"):
        assert history[-1]["values"][key] == values[key], key


async def test_an_assistant_keeps_the_context_which_a_resumed_run_would_have_to_repeat(sdk: Any) -> None:
    thread, _ = await waiting(sdk, "supercorrect", REVIEWED)
    without = await resume(sdk, thread, "supercorrect", None, **APPROVE)
    assistant = (await sdk.assistants.create("supercorrect", context=REVIEWED))["assistant_id"]
    try:
        thread, _ = await waiting(sdk, assistant, None)
        kept = await resume(sdk, thread, assistant, None, **APPROVE)
    finally:
        await sdk.assistants.delete(assistant)
    limits = [
        [call["sampling"].get("max_tokens") for call in values["trace"]["calls"] if call["role"] == "student"]
        for values in (without, kept)
    ]
    assert [limits[0][:2], limits[1]] == [[160, None], [160, 160]]


async def test_collecting_runs_too(sdk: Any) -> None:
    problem = generate_problems("train", 1, seed=0)[0]
    collected = await sdk.runs.wait(
        None,
        "supercorrect_collect",
        input={"problem": problem.model_dump(mode="json"), "sample": 0},
        context={"max_new_tokens": 160},
    )
    trace = Trace.model_validate(collected["trace"])
    assert (trace.problem, trace.status in ENDINGS, trace.template is not None) == (problem, True, True)


async def test_the_chat_asks_a_person_and_answers_in_a_message(sdk: Any) -> None:
    thread, asked = await waiting(sdk, "supercorrect_chat", REVIEWED, key="messages")
    assert asked["action_requests"][0]["name"] == "student_correct"
    values = await resume(sdk, thread, "supercorrect_chat", REVIEWED, **APPROVE)
    question, answer = values["messages"]
    assert (question["type"], answer["type"]) == ("human", "ai")
    assert asked["action_requests"][0]["args"]["correction"] in answer["content"]
    assert answer["response_metadata"]["status"] == "budget"
