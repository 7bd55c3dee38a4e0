"""Telemetry: off unless asked for, spans by role when it is, and no key in any of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from supercorrect_agent.errors import ConfigError
from supercorrect_agent.graph import create_supercorrect_graph
from supercorrect_agent.models import load_chat_model
from supercorrect_agent.telemetry import HIDDEN, enable_telemetry
from tests.durable_run import QUESTION
from tests.http_server import running
from tests.model_server import Answer, model_server, says
from training.collect import run_collect
from training.config import CollectionConfig

pytest.importorskip("openinference.instrumentation.langchain")
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

CANARY = "canary-4f1d9a7e6b52"
SOLUTION = "<Step1>One and one. 1+1=2</Step1>\n<Answer>\\boxed{2}</Answer>"
FINE = json.dumps({"first_wrong_step": None, "cause": "", "correction": "", "confidence": 0.9})


def says_by_role(number: int, body: dict[str, Any]) -> Answer:
    return says(FINE if body["model"] == "teacher" else SOLUTION)


def solve(url: str, **more: Any) -> dict[str, Any]:
    """One run whose student and teacher are behind a server, both with the canary as key."""
    student, teacher = (
        load_chat_model(f"vllm:{name}@{url}", api_key=CANARY) for name in ("student", "teacher")
    )
    result: dict[str, Any] = create_supercorrect_graph(student, teacher, **more).invoke({"problem": QUESTION})
    return result


def spans_of(respond: Any, secrets: tuple[str, ...] = ()) -> tuple[dict[str, Any], list[Any]]:
    exporter = InMemorySpanExporter()
    with model_server(respond) as server, enable_telemetry(exporter=exporter, secrets=secrets):
        result = solve(server.url)
    return result, list(exporter.get_finished_spans())


def everything(spans: list[Any]) -> str:
    return "\n".join(span.to_json() for span in spans)


def test_the_graph_its_nodes_and_each_call_by_role_are_spans() -> None:
    result, spans = spans_of(says_by_role)
    assert result["status"] == "accepted"
    calls = {span.name: span for span in spans if span.attributes["openinference.span.kind"] == "LLM"}
    assert {name: span.attributes["tag.tags"] for name, span in calls.items()} == {
        "student_solve": ("role:student",),
        "teacher_critique": ("role:teacher",),
    }
    student = calls["student_solve"].attributes
    assert student["llm.token_count.prompt"] == 100
    assert student["llm.token_count.completion"] == 10
    assert json.loads(student["metadata"])["role"] == "student"
    assert QUESTION in student["input.value"]
    root = next(span for span in spans if span.parent is None)
    assert root.name == "supercorrect"
    assert {span.context.trace_id for span in spans} == {root.context.trace_id}


def test_after_it_is_closed_nothing_is_traced() -> None:
    exporter = InMemorySpanExporter()
    with model_server(says_by_role) as server:
        with enable_telemetry(exporter=exporter):
            pass
        solve(server.url)
    assert exporter.get_finished_spans() == ()


def test_it_is_turned_on_once() -> None:
    with (
        enable_telemetry(exporter=InMemorySpanExporter()),
        pytest.raises(ConfigError, match="instrumented already"),
    ):
        enable_telemetry(exporter=InMemorySpanExporter())


def test_prompts_are_hidden_where_openinference_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("INPUTS", "OUTPUTS", "LLM_INVOCATION_PARAMETERS"):
        monkeypatch.setenv(f"OPENINFERENCE_HIDE_{name}", "true")
    _, spans = spans_of(says_by_role)
    text = everything(spans)
    assert "student_solve" in text
    assert QUESTION not in text
    assert "One and one" not in text


def test_a_key_is_in_no_span_not_even_where_the_server_repeats_it() -> None:
    def refuse(number: int, body: dict[str, Any]) -> Answer:
        words = f"Key {CANARY} and Bearer {CANARY}, or sk-proj-0123456789abc, are wrong"
        return Answer(json.dumps({"error": {"message": words}}).encode(), 401)

    result, spans = spans_of(refuse, secrets=(CANARY,))
    assert result["status"] == "error"
    text = everything(spans)
    assert f"Key {HIDDEN} and Bearer {HIDDEN}, or {HIDDEN}, are wrong" in text
    assert CANARY not in text
    assert "0123456789abc" not in text


def test_a_key_in_a_list_is_hidden_too() -> None:
    exporter = InMemorySpanExporter()
    with enable_telemetry(exporter=exporter, secrets=(CANARY,)) as telemetry:
        span = telemetry._provider.get_tracer("mine").start_span("call")
        span.set_attribute("words", [f"Key {CANARY}", "plain"])
        span.set_attribute("numbers", [1, 2])
        span.end()
    (found,) = exporter.get_finished_spans()
    assert found.attributes is not None
    assert found.attributes["words"] == (f"Key {HIDDEN}", "plain")
    assert found.attributes["numbers"] == (1, 2)


@pytest.mark.parametrize("endpoint", [None, "", "localhost:4318", "grpc://127.0.0.1:4317"])
def test_without_an_address_it_does_not_start(endpoint: str | None) -> None:
    with pytest.raises(ConfigError, match=r"`endpoint=.*is no address to send spans to"):
        enable_telemetry(endpoint)


class Receiver(BaseHTTPRequestHandler):
    """Takes what is sent by OTLP."""

    server: Collector

    def do_POST(self) -> None:
        request = ExportTraceServiceRequest()
        request.ParseFromString(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.got.append((self.path, request))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: Any) -> None: ...


class Collector(HTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.got: list[tuple[str, Any]] = []


@pytest.fixture
def collector() -> Iterator[Collector]:
    with running(Collector()) as server:
        yield server


def collection(store: Path, **more: Any) -> CollectionConfig:
    return CollectionConfig(problems="sandbox:train", n=2, store=store, max_new_tokens=8, **more)


def test_a_collection_sends_its_spans_to_the_address_of_the_environment(
    collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
    with model_server(says_by_role) as server:
        student = f"vllm:student@{server.url}"
        found = run_collect(collection(tmp_path / "traces", student=student, telemetry="otel"))
    assert found["collected"] == 2
    assert {path for path, _ in collector.got} == {"/v1/traces"}
    spans = [
        span
        for _, request in collector.got
        for group in request.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]
    names = [span.name for span in spans]
    assert names.count("supercorrect_collect") == 2
    assert names.count("student_solve") == 4  # the node and the call in it, of each problem


def test_a_collection_without_an_address_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="Set OTEL_EXPORTER_OTLP_ENDPOINT"):
        run_collect(collection(tmp_path / "traces", telemetry="otel"))


ALONE = """
import socket, sys
def refuse(*args, **kwargs):
    raise AssertionError("a connection was made")
socket.socket.connect = socket.socket.connect_ex = refuse
socket.getaddrinfo = socket.create_connection = refuse
import langsmith
clients = []
def note(self, *args, **kwargs):
    clients.append(self)
    raise RuntimeError("no client in a test")
langsmith.Client.__init__ = note
from training.collect import run_collect
from training.config import CollectionConfig
found = run_collect(CollectionConfig(
    problems="sandbox:train", n=1, store=sys.argv[1], attempt=False, student="vllm:m@http://127.0.0.1:1"
))
assert (found["collected"], found["errors"]) == (1, 0), found
assert not {"openinference", "ray", "supercorrect_agent.telemetry"} & set(sys.modules)
print("clients of LangSmith:", len(clients) > 0)
"""


@pytest.mark.parametrize(("tracing", "clients"), [(None, False), ("false", False), ("true", True)])
def test_by_default_no_connection_is_opened_and_langsmith_is_for_its_own_variable(
    tracing: str | None, clients: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LANGSMITH_TRACING", "LANGSMITH_API_KEY", "LANGCHAIN_TRACING_V2", "LANGCHAIN_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    if tracing:
        monkeypatch.setenv("LANGSMITH_TRACING", tracing)
    command = [sys.executable, "-c", ALONE, str(tmp_path / "traces")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent.parent
    )
    assert done.stdout.splitlines()[-1:] == [f"clients of LangSmith: {clients}"], done.stderr


def test_it_is_off_in_a_file_and_on_the_command_line_by_none() -> None:
    assert CollectionConfig().telemetry is None
    assert CollectionConfig.model_validate({"telemetry": "none"}).telemetry is None
    again = CollectionConfig.model_validate_json(CollectionConfig(telemetry="otel").model_dump_json())
    assert again.telemetry == "otel"
