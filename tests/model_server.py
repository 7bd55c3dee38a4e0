"""A model server that behaves as a test wants: an OpenAI-compatible address in a thread."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from tests.http_server import running


class Answer(NamedTuple):
    """What the server sends back for one request."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = {}


def says(text: str) -> Answer:
    """A chat completion; usage is 100 tokens in, 10 out."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    body = {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [choice],
        "usage": usage,
    }
    return Answer(json.dumps(body).encode())


def fails(status: int, **headers: str) -> Answer:
    """An error as OpenAI words it; ``retry_after="1"`` becomes a header."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(json.dumps({"error": {"message": f"status {status}"}}).encode(), status, named)


Respond = Callable[[int, dict[str, Any]], Answer | None]


class ModelServer(ThreadingHTTPServer):
    """Answers each request with ``respond(number, body)``, numbered from 1; None closes the connection.

    Attributes:
        requests: Bodies so far.
        most: The most requests that were under way at once.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, respond: Respond, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.respond = respond
        self.requests: list[dict[str, Any]] = []
        self.most = self._now = 0
        self._counting = threading.Condition()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def wait_for(self, count: int, seconds: float = 60) -> bool:
        """Waits until so many requests came; whether they did."""
        with self._counting:
            return self._counting.wait_for(lambda: len(self.requests) >= count, seconds)

    def enter(self, body: dict[str, Any]) -> int:
        with self._counting:
            self.requests.append(body)
            self._now += 1
            self.most = max(self.most, self._now)
            self._counting.notify_all()
            return len(self.requests)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: the other side was killed, or no longer listens."""

    def leave(self) -> None:
        with self._counting:
            self._now -= 1


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ModelServer

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        sent = self.rfile.read(length)
        if len(sent) < length:  # its sender was killed
            return
        body = json.loads(sent)
        number = self.server.enter(body)
        try:
            answer = self.server.respond(number, body)
        finally:
            self.server.leave()
        self.close_connection = True
        if answer is None:
            return
        self.send_response(answer.status)
        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(len(answer.body)),
            "Connection": "close",
            **answer.headers,
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def model_server(respond: Respond, port: int = 0) -> Iterator[ModelServer]:
    """A server that runs until the block ends."""
    with running(ModelServer(respond, port)) as server:
        yield server


def question_of(body: dict[str, Any]) -> str:
    """All that a request says, in one text."""
    return "\n".join(str(message["content"]) for message in body["messages"])
