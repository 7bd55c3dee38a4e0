"""Serving: the command a server is started with, and what a server's answers mean.

The other side here is a small HTTP server that answers as vLLM 0.32 does; tests/test_vllm.py has a real one.
"""

from __future__ import annotations

import json
import shlex
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from supercorrect_agent.errors import ConfigError, ModelError
from tests.vllm_server import free_port
from training.config import ServeConfig
from training.serve import max_lora_rank, serve_adapter, serve_command
from training.sources import model_path


def make_adapter(folder: Path, **settings: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({"r": 8, **settings}))
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    return folder


def quiet(line: str) -> None:
    pass


class FakeVllm(HTTPServer):
    """Keeps what it was asked; ``refusal`` is the status and body that a load gets instead of a success."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FakeRoutes)
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.refusal: tuple[int, Any] | None = None
        self.cards = [{"id": "base", "root": "/models/base"}]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class FakeRoutes(BaseHTTPRequestHandler):
    server: FakeVllm

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, body))
        if self.server.refusal is not None:
            return self.reply(*self.server.refusal)
        self.server.cards.append({"id": body["lora_name"], "root": body["lora_path"]})
        return self.reply(200, "Success: LoRA adapter added successfully.")

    def do_GET(self) -> None:
        self.reply(200, {"data": self.server.cards} if self.path == "/v1/models" else "")

    def reply(self, status: int, body: Any) -> None:
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[FakeVllm]:
    with FakeVllm() as fake:
        thread = threading.Thread(target=fake.serve_forever, daemon=True)
        thread.start()
        yield fake
        fake.shutdown()
        thread.join()


def test_without_a_server_the_command_is_written_for_the_shell(tmp_path: Path) -> None:
    base = tmp_path / "a base"
    base.mkdir()
    adapter = make_adapter(tmp_path / "it's an adapter", r=12)
    lines: list[str] = []
    served = serve_adapter(adapter, f"local:{base}", ServeConfig(name="pupil"), say=lines.append)
    assert (served.loaded, served.url, served.name) == (False, None, "pupil")
    assert shlex.split(served.command) == [
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True", "vllm", "serve", str(base),
        "--served-model-name", "pupil-base", "--host", "127.0.0.1", "--port", "8000",
        "--enable-lora", "--max-lora-rank", "16", "--lora-modules", f"pupil={adapter}",
    ]  # fmt: skip
    assert (adapter / "serve.sh").read_text() == f"#!/bin/sh\n{served.command}\n"
    assert lines == [f"serve: start the student with: {served.command}"]


def test_the_written_script_starts_what_it_says(tmp_path: Path) -> None:
    """With a `vllm` on the path that prints its arguments and the variable."""
    adapter = make_adapter(tmp_path / "it's an adapter")
    fake = tmp_path / "bin" / "vllm"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\necho "$VLLM_ALLOW_RUNTIME_LORA_UPDATING"\nprintf "%s\\n" "$@"\n')
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    serve_adapter(adapter, "hub/name", ServeConfig(name="pupil"), say=quiet)
    done = subprocess.run(
        ["sh", str(adapter / "serve.sh")],
        env={"PATH": f"{fake.parent}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert lines[:3] == ["True", "serve", "hub/name"]
    assert lines[-1] == f"pupil={adapter}"


def test_the_sandbox_is_served_from_the_package(tmp_path: Path) -> None:
    words = shlex.split(serve_command(make_adapter(tmp_path / "a"), "sandbox", ServeConfig()))
    assert words[3] == model_path("sandbox")


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        ({"r": 1}, 8),
        ({"r": 8}, 8),
        ({"r": 9}, 16),
        ({"r": 129}, 256),
        ({"r": 257}, 320),
        ({"r": 512}, 512),
        ({"r": 8, "rank_pattern": {"q_proj": 33}}, 64),
    ],
)
def test_the_rank_is_rounded_up_to_one_that_vllm_accepts(
    tmp_path: Path, settings: dict[str, Any], limit: int
) -> None:
    assert max_lora_rank(make_adapter(tmp_path / "a", **settings)) == limit


def test_a_rank_beyond_vllms_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has rank 513, and vLLM serves up to 512\. Merge it"):
        serve_adapter(make_adapter(tmp_path / "a", r=513), "sandbox", ServeConfig(), say=quiet)


@pytest.mark.parametrize(("name", "folder"), [("a=b", "plain"), ("plain", "a,b")])
def test_names_that_vllm_would_misread_are_passed_as_json(tmp_path: Path, name: str, folder: str) -> None:
    adapter = make_adapter(tmp_path / folder)
    value = shlex.split(serve_command(adapter, "sandbox", ServeConfig(name=name)))[-1]
    assert json.loads(value) == {"name": name, "path": str(adapter)}


def test_a_running_server_takes_the_adapter_under_a_path_of_its_content(
    tmp_path: Path, server: FakeVllm
) -> None:
    adapter = make_adapter(tmp_path / "adapter")
    config = ServeConfig(url=f"{server.url}/v1/", name="pupil")  # as it stands in `vllm:NAME@URL`, too
    assert serve_adapter(adapter, "sandbox", config, say=quiet).loaded
    serve_adapter(adapter, "sandbox", config, say=quiet)
    (adapter / "adapter_model.safetensors").write_bytes(b"other weights")
    serve_adapter(adapter, "sandbox", config, say=quiet)
    assert [route for route, _ in server.asked] == ["/v1/load_lora_adapter"] * 3
    bodies = [body for _, body in server.asked]
    assert all(body["lora_name"] == "pupil" and body["load_inplace"] is True for body in bodies)
    first, again, changed = (Path(body["lora_path"]) for body in bodies)
    assert first == again != changed
    for path in (first, changed):
        assert path.is_absolute()
        assert path.resolve() == adapter


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        ((404, {"detail": "Not Found"}), ["VLLM_ALLOW_RUNTIME_LORA_UPDATING is not set"]),
        (
            (404, {"error": {"message": "The lora adapter '/x' cannot be found.", "code": 404}}),
            ["404: The lora adapter '/x' cannot be found)"],
        ),
        (
            (500, {"error": {"message": "LoRA rank 8 is greater than max_lora_rank 1.\ntrace", "code": 500}}),
            ["500: LoRA rank 8 is greater than max_lora_rank 1)"],
        ),
        ((500, "Internal Server Error"), ["500: Internal Server Error"]),
        ((200, "taken, but forgotten"), ["took `pupil`, but lists {'base': '/models/base'}"]),
    ],
)
def test_a_refusal_is_explained_with_the_command_that_helps(
    tmp_path: Path, server: FakeVllm, refusal: tuple[int, Any], words: list[str]
) -> None:
    server.refusal = refusal
    adapter = make_adapter(tmp_path / "adapter")
    config = ServeConfig(url=server.url, name="pupil")
    with pytest.raises(ModelError) as caught:
        serve_adapter(adapter, "sandbox", config, say=quiet)
    message = str(caught.value)
    for word in [server.url, *words, f"Start the server with: {serve_command(adapter, 'sandbox', config)}"]:
        assert word in message
    assert f"--port {server.server_port} " in message
    assert "\n" not in message


def test_a_server_that_is_not_vllm(tmp_path: Path, server: FakeVllm) -> None:
    server.cards = ["not", "cards"]  # type: ignore[list-item]
    with pytest.raises(ModelError, match="lists no models, so it is not vLLM"):
        serve_adapter(make_adapter(tmp_path / "a"), "sandbox", ServeConfig(url=server.url), say=quiet)


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    config = ServeConfig(url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(ModelError, match=r"does not answer \(.*refused.*\)\. Start the server with: VLLM"):
        serve_adapter(make_adapter(tmp_path / "a"), "sandbox", config, say=quiet)


def test_a_server_that_says_nothing(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()  # connections are taken, and never answered
        config = ServeConfig(url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=0.05)
        with pytest.raises(ModelError, match=r"did not answer within `timeout=0\.05` seconds"):
            serve_adapter(make_adapter(tmp_path / "a"), "sandbox", config, say=quiet)


def test_a_whole_model_needs_a_new_server(tmp_path: Path, server: FakeVllm) -> None:
    model = tmp_path / "whole model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    lines: list[str] = []
    served = serve_adapter(model, "sandbox", ServeConfig(url=server.url, name="pupil"), say=lines.append)
    assert not served.loaded
    assert shlex.split(served.command) == [
        "vllm", "serve", str(model), "--served-model-name", "pupil",
        "--host", "127.0.0.1", "--port", str(server.server_port),
    ]  # fmt: skip
    assert lines == [f"serve: a running server cannot load a whole model; restart it with: {served.command}"]
    assert server.asked == []
    assert (model / "serve.sh").is_file()


def test_what_is_no_student_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no adapter_config\.json and no config\.json"):
        serve_adapter(tmp_path / "absent", "sandbox", ServeConfig(), say=quiet)
    broken = make_adapter(tmp_path / "broken")
    (broken / "adapter_config.json").write_text('{"r": ')
    with pytest.raises(ModelError, match=r"adapter_config\.json` cannot be read"):
        serve_adapter(broken, "sandbox", ServeConfig(), say=quiet)


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "ftp://host", "http://", "http://host:port", "file:///etc"]
)
def test_what_is_no_url_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"`url=.*` is not a server\. Write one such as http://127"):
        serve_adapter(make_adapter(tmp_path / "a"), "sandbox", ServeConfig(url=url), say=quiet)
    assert not (tmp_path / "a" / "serve.sh").exists()


def test_the_command_line(tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter")
    command = [sys.executable, "-m", "training.serve", "--adapter", str(adapter), "--name", "pupil"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert f"--lora-modules pupil={adapter}" in done.stdout
    done = subprocess.run(command[:3], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: `adapter` is missing. Pass --adapter")
