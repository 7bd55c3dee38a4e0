"""A real vLLM server (CPU build) on a loopback port. `sh tests/install_vllm.sh` makes its environment."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.tiny import build_tiny_model

PYTHON = Path(__file__).parent.parent / ".venv-vllm" / "bin" / "python"
MODEL_NAME = "tiny"
MAX_LORA_RANK = 16
CONTEXT = 8192  # one token a byte: prompts that quote a sampled, random reply have passed 4,096
START_SECONDS = 900


def skip_without_vllm() -> None:
    if not PYTHON.exists():
        pytest.skip(f"{PYTHON.parent.parent.name} is absent; make it with `sh tests/install_vllm.sh`")


@contextmanager
def serve(model: Path, log: Path, *, context: int = CONTEXT, executor: str = "uni") -> Iterator[str]:
    """Serves a model as ``MODEL_NAME``, ready for adapters; yields the URL, ends the server afterwards.

    vLLM's default executor, "mp", has the model in a process of its own, and whichever of the two waits for
    the other spins: on two cores that is all there is, for the client too. "uni" has both in one process.
    """
    port = free_port()
    command = [str(PYTHON), "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    command += ["--served-model-name", MODEL_NAME, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--dtype", "float32", "--max-model-len", str(context), "--enforce-eager"]
    command += ["--gpu-memory-utilization", "0.1"]  # the share of the machine's memory on a CPU
    command += ["--enable-lora", "--max-lora-rank", str(MAX_LORA_RANK)]
    command += ["--distributed-executor-backend", executor]
    settings = {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # else a CPU build takes "mp" where "uni" was asked for
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    with log.open("wb") as output:
        server = subprocess.Popen(
            command,
            env={**os.environ, **settings},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}", server, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        end_group(server)


def wait_until_healthy(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):  # noqa: S310
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    state = "is still starting" if server.poll() is None else f"ended with code {server.returncode}"
    raise RuntimeError(f"The vLLM server {state}. Its log ends:\n{log.read_text(errors='replace')[-3000:]}")


def end_group(server: subprocess.Popen[bytes]) -> None:
    """Ends the server and the processes it started; they form a group of their own."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, sign)
            server.wait(timeout=20)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="session")
def vllm_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server with the tiny random model, named ``MODEL_NAME``; started once for all tests."""
    skip_without_vllm()
    folder = tmp_path_factory.mktemp("vllm")
    model = build_tiny_model(folder / "model", context=CONTEXT)
    with serve(model, folder / "server.log") as url:
        yield url
