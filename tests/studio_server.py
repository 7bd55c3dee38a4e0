"""`langgraph dev` on a free loopback port, without an account."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LANGGRAPH = [sys.executable, "-m", "langgraph_cli"]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "LANGSMITH_TRACING": "false",
    "LANGGRAPH_CLI_NO_ANALYTICS": "1",
    "LANGGRAPH_NO_VERSION_CHECK": "1",
    "LANGGRAPH_STRICT_MSGPACK": "true",
    "OMP_NUM_THREADS": "1",
}
START_SECONDS = 240


@contextmanager
def running_server(folder: Path) -> Iterator[str]:
    """Starts the server with this repository's graphs; yields its address, and stops it afterwards.

    Args:
        folder: An empty folder, where the server keeps its threads and its log.
    """
    for name in ("langgraph.json", "graphs"):
        (folder / name).symlink_to(ROOT / name)
    log = folder / "server.log"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [*LANGGRAPH, "dev", "--no-browser", "--no-reload", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("w") as sink:
        process = subprocess.Popen(
            command, cwd=folder, env=ENVIRONMENT, stdout=sink, stderr=subprocess.STDOUT
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
