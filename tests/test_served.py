"""Models behind servers: connections are kept within one event loop, several servers share one model."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from supercorrect_agent.errors import ModelError
from supercorrect_agent.models import explain_model_error, is_transient, load_chat_model
from tests.http_server import running
from tests.model_server import Answer, ModelServer, fails, model_server, says


class Connections(ThreadingHTTPServer):
    """Keeps connections open, and counts them and what was asked over each."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Keeping)
        self.asked: Counter[int] = Counter()
        self.closed = threading.Semaphore(0)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Keeping(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Connections

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked[self.client_address[1]] += 1
        body = says("Yes.").body
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def finish(self) -> None:
        super().finish()
        self.server.closed.release()

    def log_message(self, *args: Any) -> None: ...


@pytest.fixture
def keeping() -> Iterator[Connections]:
    with running(Connections()) as server:
        yield server


async def ask(model: Any, times: int) -> list[str]:
    return [(await model.ainvoke("Well?")).text for _ in range(times)]


def test_calls_of_one_event_loop_share_a_connection_which_ends_with_it(keeping: Connections) -> None:
    model = load_chat_model(f"vllm:m@{keeping.url}")
    for loops in (1, 2, 3):  # a connection of the last one would fail in the next
        assert asyncio.run(ask(model, 4)) == ["Yes."] * 4
        assert sorted(keeping.asked.values()) == [4] * loops
        assert keeping.closed.acquire(timeout=30)  # not at the end of the process


def test_two_loops_at_once_have_connections_of_their_own(keeping: Connections) -> None:
    model = load_chat_model(f"vllm:m@{keeping.url}")
    threads = [threading.Thread(target=lambda: asyncio.run(ask(model, 3))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(keeping.asked.values()) == [3, 3]


def test_a_call_says_all_that_it_was_told_to(keeping: Connections) -> None:
    with model_server(lambda number, body: says("Yes.")) as server:
        model = load_chat_model(f"vllm:m@{server.url}", temperature=0.5, extra_body={"top_k": 3})
        reply = asyncio.run(
            model.ainvoke("Well?", max_tokens=7, stop=["."], timeout=30, extra_headers={"X-Of": "me"})
        )
        plain = model.invoke("Well?", max_tokens=7, stop=["."])
    sent, usual = server.requests
    assert {key: sent[key] for key in ("model", "temperature", "stop", "top_k", "max_completion_tokens")} == {
        "model": "m", "temperature": 0.5, "stop": ["."], "top_k": 3, "max_completion_tokens": 7,
    }  # fmt: skip
    assert sent["messages"] == [{"role": "user", "content": "Well?"}]
    assert sent.keys() == usual.keys()  # of the usual way, in which OpenAI's client makes the body
    assert reply.text == plain.text == "Yes."
    assert reply.usage_metadata == plain.usage_metadata
    assert reply.response_metadata["finish_reason"] == "stop"


def test_a_reply_with_half_a_character_is_read_like_any_other() -> None:
    with model_server(lambda number, body: says("Yes\x00\ud800.")) as server:
        model = load_chat_model(f"vllm:m@{server.url}")
        assert asyncio.run(ask(model, 1)) == [model.invoke("Well?").text] == ["Yes\x00\ud800."]


@pytest.mark.parametrize("status", [400, 404, 429, 503])
def test_an_error_is_the_one_of_openais_client(status: int) -> None:
    with model_server(lambda number, body: fails(status, retry_after="7")) as server:
        model = load_chat_model(f"vllm:m@{server.url}")
        with pytest.raises(Exception, match=f"status {status}") as caught:
            asyncio.run(ask(model, 1))
    assert caught.value.response.status_code == status  # type: ignore[attr-defined]
    assert caught.value.response.headers["retry-after"] == "7"  # type: ignore[attr-defined]
    assert is_transient(caught.value) == (status in (429, 503))


def test_a_server_that_is_not_there_is_told_from_one_that_is_late() -> None:
    with model_server(lambda number, body: says("Yes.")) as server:
        spec = f"vllm:m@{server.url}"
    with pytest.raises(Exception, match="onnection error") as caught:
        asyncio.run(ask(load_chat_model(spec), 1))
    assert is_transient(caught.value)
    assert str(explain_model_error(caught.value, spec)).startswith("No model server answers at http://127")
    answered = threading.Event()
    with model_server(lambda number, body: says("Yes.") if answered.wait(60) else None) as server:
        spec = f"vllm:m@{server.url}"
        with pytest.raises(Exception, match="timed out") as caught:
            asyncio.run(load_chat_model(spec, timeout=0.2).ainvoke("Well?"))
        answered.set()
    assert "did not answer in time" in str(explain_model_error(caught.value, spec))


QUESTIONS = [f"What is {number} and {number}?" for number in range(60)]


async def ask_each(model: Any, questions: list[str]) -> None:
    for question in questions:
        await model.ainvoke(question)


def questions_at(server: ModelServer) -> set[str]:
    return {body["messages"][0]["content"] for body in server.requests}


def test_what_begins_alike_goes_to_the_same_server() -> None:
    with (
        model_server(lambda number, body: says("1")) as one,
        model_server(lambda number, body: says("2")) as two,
    ):
        model = load_chat_model(f"vllm:m@{one.url},{two.url}/v1")
        asyncio.run(ask_each(model, QUESTIONS))
        first = questions_at(one)
        assert 15 < len(first) < 45  # of 60, by a fair hash: 30 give or take 15 in all but 1 of 10,000 cases
        asyncio.run(ask_each(model, QUESTIONS))
        again = load_chat_model(f"vllm:m@{two.url},{one.url}")  # whatever order they are listed in
        asyncio.run(ask_each(again, QUESTIONS))
        for question in QUESTIONS:
            again.invoke(question)
    assert questions_at(one) == first
    assert questions_at(two) == set(QUESTIONS) - first
    assert (len(one.requests), len(two.requests)) == (4 * len(first), 4 * (60 - len(first)))


def test_a_server_that_is_gone_is_passed_over() -> None:
    with model_server(lambda number, body: says("1")) as gone:
        pass
    with model_server(lambda number, body: says("2")) as there:
        model = load_chat_model(f"vllm:m@{gone.url},{there.url}")
        asyncio.run(ask_each(model, QUESTIONS[:10]))
        assert len(there.requests) == 10
        assert model.order([HumanMessage(question) for question in QUESTIONS[:1]])[0] == 1  # type: ignore[attr-defined]
    with pytest.raises(Exception, match="onnection error"):
        asyncio.run(model.ainvoke("Well?"))


def test_a_fault_of_the_request_is_not_tried_elsewhere() -> None:
    with (
        model_server(lambda number, body: fails(400)) as one,
        model_server(lambda number, body: fails(400)) as two,
    ):
        with pytest.raises(Exception, match="status 400"):
            asyncio.run(load_chat_model(f"vllm:m@{one.url},{two.url}").ainvoke("Well?"))
        assert len(one.requests) + len(two.requests) == 1


def test_no_server_is_given_too_much() -> None:
    """20 calls that begin alike, all under way: one server may have 1.25 times its half, rounded up."""
    waiting, most = threading.Event(), Counter[str]()

    def hold(name: str) -> Any:
        def respond(number: int, body: dict[str, Any]) -> Answer:
            most[name] += 1
            if most.total() == 20:
                waiting.set()
            waiting.wait(60)
            return says("1")

        return respond

    async def ask_at_once(model: Any) -> None:
        await asyncio.gather(*(model.ainvoke("Well?") for _ in range(20)))

    with model_server(hold("one")) as one, model_server(hold("two")) as two:
        asyncio.run(ask_at_once(load_chat_model(f"vllm:m@{one.url},{two.url}")))
    assert sorted(most.values()) == [7, 13]  # ceil(1.25 * 20 / 2)


async def test_a_stream_comes_from_one_of_the_servers() -> None:
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    choice = {"index": 0, "delta": {"role": "assistant", "content": "Yes."}, "finish_reason": "stop"}
    text = f"data: {json.dumps({**chunk, 'choices': [choice]})}\n\ndata: [DONE]\n\n"
    answer = Answer(text.encode(), 200, {"Content-Type": "text/event-stream"})
    with model_server(lambda number, body: answer) as one, model_server(lambda number, body: answer) as two:
        model = load_chat_model(f"vllm:m@{one.url},{two.url}")
        assert "".join([str(part.text) async for part in model.astream("Well?")]) == "Yes."
        assert "".join(str(part.text) for part in model.stream("Well?")) == "Yes."
        assert sorted([len(one.requests), len(two.requests)]) == [0, 2]


@pytest.mark.parametrize(
    "spec", ["vllm:m@http://a:1,", "vllm:m@http://a:1,b:2", "vllm:@http://a:1,http://b:1"]
)
def test_a_list_with_a_gap_names_no_server(spec: str) -> None:
    with pytest.raises(ModelError, match=r"names no server.*comma between"):
        load_chat_model(spec)
