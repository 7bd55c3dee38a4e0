"""An API key stays in the client that needs it: not in a checkpoint, a trace, a log, a repr or an error."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.load import dumps
from langgraph.checkpoint.sqlite import SqliteSaver

from supercorrect_agent.graph import create_supercorrect_graph
from supercorrect_agent.models import load_chat_model
from supercorrect_agent.state import CorrectionConfig
from supercorrect_agent.teachers.llm import LLMTeacher
from tests.durable_run import QUESTION, REST, RIGHT, WRONG
from tests.http_server import running

CANARY = "canary-4f1d9a7e6b52"
FOUND = {"first_wrong_step": 2, "cause": "3 times 132 is 396.", "correction": "Triple. 132*3=396"}
FINE = {"first_wrong_step": None}


class Provider(BaseHTTPRequestHandler):
    """A model server on the loopback: answers as ``status`` says; an error of its may repeat the key."""

    server: Server

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.keys.append(self.headers["Authorization"])
        status = self.server.status
        body = completion(request) if status == 200 else self.error()
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def error(self) -> dict[str, Any]:
        words = "Something is wrong"
        if self.server.repeats:
            words += f" with {self.headers['Authorization']}"
        return {"error": {"message": words, "type": "error", "code": None}}

    def log_message(self, *args: Any) -> None: ...


class Server(ThreadingHTTPServer):
    status = 200
    repeats = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Provider)
        self.keys: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


def completion(request: dict[str, Any]) -> dict[str, Any]:
    """What the student (wrong first, then right) or the teacher says."""
    last = request["messages"][-1]
    if request["model"] == "teacher":
        text = json.dumps(FOUND if "132*3=386" in last["content"] else FINE)
    else:
        goes_on = last["role"] == "assistant" or "Beginning of the solution" in last["content"]
        text = REST if goes_on else WRONG
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [choice],
        "usage": usage,
    }


@pytest.fixture
def server() -> Iterator[Server]:
    with running(Server()) as server:
        yield server


class Watcher(BaseCallbackHandler):
    """Sees all that a tracer sees of a run, and keeps it as text."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_chain_start(self, *args: Any, **kwargs: Any) -> None:
        self.seen.append(repr((args, kwargs)))

    def on_chain_end(self, *args: Any, **kwargs: Any) -> None:
        self.seen.append(repr((args, kwargs)))

    def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
        self.seen.append(repr((args, kwargs)))

    def on_llm_end(self, *args: Any, **kwargs: Any) -> None:
        self.seen.append(repr((args, kwargs)))

    def on_llm_error(self, *args: Any, **kwargs: Any) -> None:
        self.seen.append(repr((args, kwargs)))


def models(server: Server, provider: str) -> tuple[Any, Any]:
    """A student and a teacher that hold the key."""
    address = f"@{server.url}" if provider == "vllm" else ""
    options: dict[str, Any] = {} if provider == "vllm" else {"base_url": server.url}
    student, teacher = (
        load_chat_model(f"{provider}:{role}{address}", api_key=CANARY, max_retries=0, **options)
        for role in ("student", "teacher")
    )
    return student, teacher


def everything_a_run_leaves(
    server: Server, provider: str, folder: Path
) -> tuple[dict[str, Any], dict[str, str]]:
    """The result of a run, and every text that it leaves, by where it is found."""
    student, teacher = models(server, provider)
    watcher = Watcher()
    events: list[Any] = []
    config: Any = {"configurable": {"thread_id": "1"}, "callbacks": [watcher]}
    with SqliteSaver.from_conn_string(str(folder / "saver.sqlite")) as saver:
        once = CorrectionConfig(retries=0)
        graph = create_supercorrect_graph(student, teacher, config=once, checkpointer=saver)
        for event in graph.stream(
            {"problem": QUESTION}, config, stream_mode=["custom", "debug", "values"], durability="sync"
        ):
            events.append(event)
        state = graph.get_state(config)
    with sqlite3.connect(folder / "saver.sqlite") as database:
        tables = ("SELECT * FROM checkpoints", "SELECT * FROM writes")
        rows = [database.execute(table).fetchall() for table in tables]
    assert all(rows)
    result = [event for mode, event in events if mode == "values"][-1]
    return result, {
        "result and trace": json.dumps(result),
        "checkpoints and writes": repr(rows),
        "files": repr([file.read_bytes() for file in folder.iterdir()]),
        "events": repr(events),
        "callbacks": repr(watcher.seen),
        "state": repr(state),
        "graph": f"{graph!r} {graph} {graph.config!r} {graph.get_graph()!r} {graph.get_graph().to_json()}",
        "models": f"{student!r} {student} {student.model_dump()!r} {teacher!r} {vars(LLMTeacher(teacher))!r}",
        "serialized": dumps(student) + dumps(teacher),
    }


def assert_nowhere(left: dict[str, str], caplog: Any, capfd: Any) -> None:
    out, err = capfd.readouterr()
    left = {**left, "log": caplog.text, "output": out + err}
    assert [place for place, text in left.items() if CANARY in text] == []


@pytest.mark.parametrize("provider", ["openai", "vllm"])
@pytest.mark.parametrize("status", [200, 401, 500])
def test_a_key_stays_where_it_is_needed(
    server: Server, provider: str, status: int, tmp_path: Path, caplog: Any, capfd: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    server.status = status
    result, left = everything_a_run_leaves(server, provider, tmp_path)
    assert set(server.keys) == {f"Bearer {CANARY}"}  # so there was something to leak
    assert len(caplog.records) > 0
    if status == 200:
        assert (result["status"], result["answer"]) == ("corrected", "396")
        assert result["solution"].replace("\n\n", "\n") == RIGHT
    else:
        assert (result["status"], result["answer"]) == ("error", None)
        assert ("refused the API key" in result["trace"]["error"]) == (status == 401)
    assert_nowhere(left, caplog, capfd)


@pytest.mark.parametrize("status", [400, 401, 500])
def test_a_server_that_repeats_the_key_in_its_error_does_not_spread_it(
    server: Server, status: int, tmp_path: Path, caplog: Any, capfd: Any
) -> None:
    server.status, server.repeats = status, True
    result, left = everything_a_run_leaves(server, "vllm", tmp_path)
    assert result["status"] == "error"
    # what a tracer is handed is the client's own exception, before this package sees it
    assert_nowhere({place: text for place, text in left.items() if place != "callbacks"}, caplog, capfd)


@pytest.mark.parametrize("spec", ["openai:student", "vllm:student@http://127.0.0.1:9"])
def test_a_model_that_cannot_be_made_does_not_name_the_key(spec: str) -> None:
    with pytest.raises(Exception, match="temperature") as caught:
        load_chat_model(spec, api_key=CANARY, temperature="hot")
    seen: BaseException | None = caught.value
    while seen is not None:
        assert CANARY not in f"{seen} {seen!r}"
        seen = seen.__cause__
