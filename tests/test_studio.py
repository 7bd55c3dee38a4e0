"""`langgraph dev`, for real: starts the server on a free loopback port and runs problems through its API."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supercorrect_agent.sandbox.world import generate_problems
from supercorrect_agent.types import Trace

pytestmark = [pytest.mark.studio, pytest.mark.timeout(600)]

ROOT = Path(__file__).parent.parent
START_SECONDS = 240
ENDINGS = {"accepted", "corrected", "unchanged", "stalled", "budget", "parse_error"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("studio") / "server.log"
    command = [sys.executable, "-m", "langgraph_cli", "dev", "--no-browser", "--no-reload"]
    quiet = {"LANGSMITH_TRACING": "false", "LANGGRAPH_CLI_NO_ANALYTICS": "1", "OMP_NUM_THREADS": "1"}
    with log.open("w") as sink:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=ROOT,
            env={**os.environ, **quiet},
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_until_ready(process, port, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=30)


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    import httpx

    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"langgraph dev ended:\n{log.read_text()[-3000:]}")
        try:
            if httpx.get(f"http://127.0.0.1:{port}/ok", timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    pytest.fail(f"langgraph dev was not ready in {START_SECONDS} s:\n{log.read_text()[-3000:]}")


def client(url: str) -> Any:
    from langgraph_sdk import get_client

    return get_client(url=url, api_key=None)


def test_a_problem_runs_through_the_api(server: str) -> None:
    problem = generate_problems("test", 1, seed=0)[0]

    async def run() -> tuple[list[Any], dict[str, Any]]:
        sdk = client(server)
        thread = await sdk.threads.create()
        parts = [
            part
            async for part in sdk.runs.stream(
                thread["thread_id"],
                "supercorrect",
                input={"problem": problem.question},
                context={"max_rounds": 1, "max_new_tokens": 160},
                stream_mode=["custom", "messages-tuple", "values"],
            )
        ]
        return parts, await sdk.threads.get_state(thread["thread_id"])

    parts, state = asyncio.run(run())
    assert not [part.data for part in parts if part.event == "error"]
    events = [part.data["event"] for part in parts if part.event == "custom"]
    assert (events[0], events[1], events[-1]) == ("solution", "critique", "done")
    assert any(part.event == "messages" for part in parts)
    values = state["values"]
    assert values["status"] in ENDINGS
    trace = Trace.model_validate(values["trace"])
    assert trace.solution is not None
    assert trace.calls[0].sampling["max_tokens"] == 160
    assert trace.calls[0].output_tokens > 0


def test_the_schemas_are_described_and_take_no_reference(server: str) -> None:
    async def read() -> tuple[dict[str, Any], dict[str, Any]]:
        sdk = client(server)
        (assistant,) = await sdk.assistants.search(graph_id="supercorrect")
        schemas = await sdk.assistants.get_schemas(assistant["assistant_id"])
        return schemas, await sdk.assistants.get_graph(assistant["assistant_id"])

    schemas, drawn = asyncio.run(read())
    given = schemas["input_schema"]["properties"]
    assert list(given) == ["problem"]
    assert given["problem"]["description"]
    returned = schemas["output_schema"]["properties"]
    assert set(returned) == {"answer", "solution", "status", "rounds", "usage", "trace"}
    context = schemas["context_schema"]["properties"]
    assert context["max_rounds"]["description"]
    assert (context["ask_teacher"]["default"], context["ask_teacher"]["enum"]) == (
        "always",
        ["always", "flagged"],
    )
    nodes = {node["id"] for node in drawn["nodes"]}
    assert {"student_solve", "verify", "student_review", "teacher_critique"} <= nodes
    assert {"student_correct", "record"} <= nodes


def test_collecting_and_chat_run_too(server: str) -> None:
    problem = generate_problems("train", 1, seed=0)[0]

    async def run() -> tuple[dict[str, Any], dict[str, Any]]:
        sdk = client(server)
        collected = await sdk.runs.wait(
            None,
            "supercorrect_collect",
            input={"problem": problem.model_dump(mode="json"), "sample": 0},
            context={"max_new_tokens": 160},
        )
        message = {"role": "user", "content": problem.question}
        return collected, await sdk.runs.wait(None, "supercorrect_chat", input={"messages": [message]})

    collected, chat = asyncio.run(run())
    trace = Trace.model_validate(collected["trace"])
    assert (trace.problem, trace.status in ENDINGS, trace.template is not None) == (problem, True, True)
    assert [message["type"] for message in chat["messages"]] == ["human", "ai"]
    assert chat["messages"][1]["response_metadata"]["status"] in ENDINGS
