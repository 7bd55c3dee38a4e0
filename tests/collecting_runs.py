"""What the tests of the runner share: sums as problems, a student that answers them, and how it is called."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from supercorrect_agent.store import open_store
from supercorrect_agent.types import Trace
from tests.commands import heed_ctrl_c
from tests.model_server import Answer, question_of, says
from training.collect import run_collect
from training.config import CollectionConfig

ROOT = Path(__file__).parent.parent
_ASKED = re.compile(r"What is (\d+) plus (\d+)\?")


def sums(count: int) -> list[dict[str, Any]]:
    return [{"id": f"p{i}", "question": f"What is {i} plus 5?", "answer": str(i + 5)} for i in range(count)]


def write_problems(path: Path, lines: Iterable[Any]) -> Path:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def solves(body: dict[str, Any]) -> Answer:
    """The right solution of the sum in a request."""
    asked = _ASKED.search(question_of(body))
    assert asked is not None
    first, second = map(int, asked.groups())
    return says(
        f"<Step1>{first}+{second}={first + second}</Step1>\n<Answer>\\boxed{{{first + second}}}</Answer>"
    )


def config(problems: Path, student: str, store: Path, **settings: Any) -> CollectionConfig:
    """A student that only solves: one call a problem, unless ``settings`` say more."""
    plain = {"write_template": False, "review_correct": False, "student_review": False, "max_rounds": 0}
    base = {"problems": str(problems), "student": f"vllm:m@{student}", "store": store, "concurrency": 8}
    return CollectionConfig.model_validate({**base, **plain, **settings})


def collect(settings: CollectionConfig, said: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    return run_collect(settings, say=said)


def flags(settings: CollectionConfig) -> list[str]:
    """The same as flags of the command."""
    words: list[str] = []
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        words += [f"--{name}", *map(str, value if isinstance(value, tuple) else [value])]
    return words


def start(settings: CollectionConfig, *more: str, **options: Any) -> subprocess.Popen[str]:
    """The command in a process of its own, which heeds Ctrl-C."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    base = {"preexec_fn": heed_ctrl_c, "cwd": ROOT, "env": environment, **pipes}
    command = [sys.executable, "-m", "training.collect", *flags(settings), *more]
    return subprocess.Popen(command, **{**base, **options})


class Forks:
    """Starts runs within milliseconds, one at a time (see ``forking_collect``)."""

    def __enter__(self) -> Forks:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        command = [sys.executable, "-m", "tests.forking_collect"]
        self._host = subprocess.Popen(
            command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL, bufsize=1, **pipes
        )
        self._expect("ready")
        return self

    def start(self, settings: CollectionConfig) -> int:
        """The number of the new process."""
        assert self._host.stdin is not None
        self._host.stdin.write(json.dumps(flags(settings)) + "\n")
        return int(self._read())

    def kill(self, process: int) -> None:
        """Kills a run, and waits until it is gone."""
        os.kill(process, signal.SIGKILL)
        self._expect("ended")

    def __exit__(self, *_: object) -> None:
        assert self._host.stdin is not None
        assert self._host.stdout is not None
        self._host.stdin.close()
        self._host.stdout.close()
        self._host.wait(60)

    def _expect(self, word: str) -> None:
        found = self._read()
        assert found == word, found

    def _read(self) -> str:
        assert self._host.stdout is not None
        return self._host.stdout.readline().strip()


def stored(store: Path) -> list[Trace]:
    return list(open_store(store))


def counts(traces: Iterable[Trace]) -> Counter[tuple[str, int]]:
    """How often each attempt is in the store, failed ones left out."""
    return Counter((trace.problem.id, trace.sample) for trace in traces if trace.status != "error")


def each_once(count: int, samples: int = 1) -> Counter[tuple[str, int]]:
    return Counter({(f"p{i}", sample): 1 for i in range(count) for sample in range(samples)})
