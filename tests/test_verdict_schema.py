"""A judge over HTTP is held to the verdict's schema where its model takes one; tokens and streams stay."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from supercorrect_agent.graph import create_supercorrect_graph
from supercorrect_agent.models import load_chat_model
from supercorrect_agent.teachers.verdict import VERDICT_SCHEMA
from tests.durable_run import QUESTION, RIGHT
from tests.http_server import running
from tests.test_canary import completion

FOLLOWED = {
    "type": "json_schema",
    "json_schema": {"name": "verdict", "schema": VERDICT_SCHEMA, "strict": True},
}
CUT = '{"first_wrong_step": 2, "cau'


class Provider(BaseHTTPRequestHandler):
    """Answers as ``completion`` does, in one piece or as a stream; a reply may be cut by its token limit."""

    server: Server

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        judge = request["model"] != "student"
        cut = self.server.cut and judge and not self.server.asked(judge=True)
        self.server.requests.append(request)
        seen = {**request, "model": "teacher", "messages": request["messages"][:1]} if judge else request
        done = completion(seen)
        choice = done["choices"][0]
        if cut:
            choice["message"]["content"], choice["finish_reason"] = CUT, "length"
        streamed = request.get("stream")
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream" if streamed else "application/json")
        self.end_headers()
        self.wfile.write(self.events(done) if streamed else json.dumps(done).encode())

    def events(self, done: dict[str, Any]) -> bytes:
        choice = done["choices"][0]
        text: str = choice["message"]["content"]
        deltas = [{"role": "assistant", "content": text[:7]}, {"content": text[7:]}, {}]
        chunk = {**done, "object": "chat.completion.chunk", "usage": None}
        parts = [
            {**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas
        ]
        parts[-1]["choices"][0]["finish_reason"] = choice["finish_reason"]
        parts.append({**chunk, "choices": [], "usage": done["usage"]})
        lines = [*(json.dumps(part) for part in parts), "[DONE]"]
        return "".join(f"data: {line}\n\n" for line in lines).encode()

    def log_message(self, *args: Any) -> None: ...


class Server(ThreadingHTTPServer):
    cut = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Provider)
        self.requests: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def asked(self, *, judge: bool) -> list[dict[str, Any]]:
        return [request for request in self.requests if (request["model"] != "student") == judge]


@pytest.fixture
def server() -> Iterator[Server]:
    with running(Server()) as server:
        yield server


def judge_of(server: Server, spec: str, **fields: Any) -> Any:
    if spec.startswith("vllm:"):
        return load_chat_model(f"{spec}@{server.url}", **fields)
    return load_chat_model(spec, base_url=server.url, api_key="none", **fields)


def graph_of(server: Server, judge: Any) -> Any:
    return create_supercorrect_graph(f"vllm:student@{server.url}", judge)


def tokens(result: dict[str, Any], role: str) -> tuple[int, int, int]:
    used = result["usage"][role]
    return used["calls"], used["input_tokens"], used["output_tokens"]


@pytest.mark.parametrize(
    ("spec", "fields", "followed"),
    [
        ("vllm:teacher", {}, True),
        ("openai:gpt-4o", {}, True),  # which LangChain knows to take one
        ("openai:gpt-4", {}, False),  # and this one not to
        ("openai:teacher", {}, False),  # of which it knows nothing
        ("openai:teacher", {"profile": {"structured_output": True}}, True),
        ("vllm:teacher", {"profile": {"structured_output": False}}, False),
        ("vllm:teacher", {"extra_body": {"top_k": 5}}, True),
    ],
    ids=str,
)
def test_who_is_held_to_the_schema(server: Server, spec: str, fields: dict[str, Any], followed: bool) -> None:
    result = graph_of(server, judge_of(server, spec, **fields)).invoke({"problem": QUESTION})
    assert (result["status"], result["solution"]) == ("corrected", RIGHT)
    asked = server.asked(judge=True)
    assert [request.get("response_format") for request in asked] == [FOLLOWED if followed else None] * 2
    assert {request.get("top_k") for request in asked} == {fields.get("extra_body", {}).get("top_k")}
    assert all("response_format" not in request for request in server.asked(judge=False))
    # the server says 5 tokens in and 4 out a call
    assert tokens(result, "teacher") == tokens(result, "student") == (2, 10, 8)


@pytest.mark.parametrize("spec", ["vllm:teacher", "openai:gpt-4o"])
async def test_its_tokens_stream_and_are_counted_once(server: Server, spec: str) -> None:
    graph = graph_of(server, judge_of(server, spec))
    said, result = "", {}
    async for mode, part in graph.astream({"problem": QUESTION}, stream_mode=["messages", "values"]):
        if mode == "values":
            result = part
        elif "role:teacher" in part[1]["tags"]:
            said += part[0].text
    assert all(request["stream"] for request in server.requests)
    assert [request.get("response_format") for request in server.asked(judge=True)] == [FOLLOWED] * 2
    verdicts = said.replace("}{", "}\n{").splitlines()
    assert [json.loads(verdict)["first_wrong_step"] for verdict in verdicts] == [2, None]
    assert (result["status"], tokens(result, "teacher")) == ("corrected", (2, 10, 8))


@pytest.mark.parametrize("spec", ["vllm:teacher", "openai:gpt-4o"])
@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream"])
async def test_a_verdict_that_its_token_limit_cut_is_asked_for_again(
    server: Server, spec: str, way: str
) -> None:
    server.cut = True
    graph, given = graph_of(server, judge_of(server, spec)), {"problem": QUESTION}
    if way == "stream":
        parts = [part async for part in graph.astream(given, stream_mode=["messages", "values"])]
        result = [part for mode, part in parts if mode == "values"][-1]
    else:
        result = graph.invoke(given) if way == "invoke" else await graph.ainvoke(given)
    assert (result["status"], result["solution"]) == ("corrected", RIGHT)
    assert server.asked(judge=True)[1]["messages"][1] == {"role": "assistant", "content": CUT}
    assert tokens(result, "teacher") == (3, 15, 12)
