"""A few killable grader processes, one for each thread of a small pool.

Not multiprocessing (nor pebble): its children import the caller's ``__main__`` again, which breaks scripts
without a main guard or read from standard input, and its daemonic processes may not have children at all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import IO, ParamSpec, TypeVar, cast

_WORKER = Path(__file__).with_name("worker.py")
_START_SECONDS = 120.0
_PATIENCE = 6  # wall time allowed for a second of CPU time
_THREADS = 2
_local = threading.local()
_P = ParamSpec("_P")
_T = TypeVar("_T")


class GraderStopped(Exception):
    """There is no verdict; ``blame`` tells whether the pair is the reason, or the machine."""

    def __init__(self, reason: str, *, blame: bool) -> None:
        super().__init__(reason)
        self.blame = blame


class Grader:
    """One child process that answers one question at a time."""

    def __init__(self) -> None:
        try:
            self._process = subprocess.Popen(  # noqa: S603  (our own file, no input on the command line)
                [sys.executable, "-P", str(_WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        except OSError as error:
            raise GraderStopped(f"the grader process does not start: {error}", blame=False) from error
        self._stdin = cast(IO[bytes], self._process.stdin)
        self._stdout = cast(IO[bytes], self._process.stdout)
        self._overdue = False
        if self._reply(_START_SECONDS) != "ready":
            self.close()
            raise GraderStopped("the grader process does not start; is math-verify installed?", blame=False)

    def ask(self, target: str, answer: str, seconds: float) -> tuple[str, float]:
        """The worker's verdict on a pair of LaTeX expressions, and the seconds of CPU time it took.

        Raises:
            GraderStopped: The process used ``seconds`` of CPU time, six times as much wall time, or all its
                memory. It is gone; `thread_grader` starts another.
        """
        line = json.dumps([target, answer, seconds]) + "\n"
        try:
            self._stdin.write(line.encode("ascii"))
            self._stdin.flush()
            verdict, _, used = self._reply(_PATIENCE * seconds).partition(" ")
        except OSError:
            verdict, used = "", ""
        if verdict not in ("", "memory"):
            return verdict, float(used)
        self.close()
        if self._overdue:
            raise GraderStopped("the machine is too busy to grade this in time", blame=False)
        raise GraderStopped("out of memory" if verdict else f"no result in {seconds:.1f} seconds", blame=True)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        """Kills the process and closes its pipes."""
        self._process.kill()
        self._process.communicate()

    def _reply(self, wall_seconds: float) -> str:
        timer = threading.Timer(wall_seconds, self._give_up)
        timer.daemon = True
        timer.start()
        try:
            return self._stdout.readline().decode("ascii", "replace").strip()
        finally:
            timer.cancel()

    def _give_up(self) -> None:
        self._overdue = True
        self._process.kill()


def thread_grader() -> Grader:
    """This pool thread's process; started on first use and again after it was killed."""
    grader: Grader | None = getattr(_local, "grader", None)
    if grader and not grader.alive:
        grader.close()
        grader = None
    if grader is None:
        grader = _local.grader = Grader()
    return grader


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="math-verify")


def submit(task: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
    """Runs a task on a thread that owns a grader process. Nothing starts before the first task."""
    return _pool().submit(task, *args, **kwargs)


def running() -> bool:
    """Whether the pool was ever needed in this process."""
    return _pool.cache_info().currsize > 0


if hasattr(os, "register_at_fork"):  # threads do not survive a fork: the child starts its own
    os.register_at_fork(after_in_child=_pool.cache_clear)
