"""Collections in processes of their own: killed, stopped, two at a time, and on a disk that is full."""

from __future__ import annotations

import json
import random
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supercorrect_agent.store import open_store
from tests.collecting_runs import (
    Forks,
    config,
    counts,
    each_once,
    solves,
    start,
    stored,
    sums,
    write_problems,
)
from tests.commands import heed_ctrl_c
from tests.model_server import Answer, ModelServer, model_server

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with model_server(lambda number, body: solves(body)) as running:
        yield running


def finish(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    out, error = process.communicate(timeout=300)
    assert process.returncode == code, error
    assert "Traceback" not in error
    return out, error


def test_twenty_kills_lose_nothing_and_make_nothing_twice(server: ModelServer, tmp_path: Path) -> None:
    """2,000 problems. Most kills come after a random number of requests, five at a random time of the start.

    Three of the killed runs, and the last one, are started as a user does; the others are forked from a
    process that has imported everything, for the sake of the test's time.
    """
    problems = write_problems(tmp_path / "sums.jsonl", sums(2000))
    settings = config(problems, server.url, tmp_path / "traces", concurrency=16)
    chance = random.Random(6)

    def wait(early: bool) -> None:
        """Until the moment of the kill."""
        if early:  # while it imports, or reads the problems, the store and its claims
            time.sleep(chance.uniform(0.0, 1.0))
        else:
            server.wait_for(len(server.requests) + chance.randrange(1, 120), 120)

    with Forks() as forks:
        for kill in range(20):
            if kill in (0, 8, 16):
                with start(settings) as process:
                    wait(early=kill == 8)
                    process.kill()
            else:
                run = forks.start(settings)
                wait(early=kill % 5 == 3)
                forks.kill(run)
    killed = stored(tmp_path / "traces")
    assert 0 < len(killed) < 2000
    finish(start(settings, "--summary", str(tmp_path / "summary.json")))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["skipped"], summary["collected"]) == (len(killed), 2000 - len(killed))
    traces = stored(tmp_path / "traces")
    assert len(traces) == 2000
    assert counts(traces) == each_once(2000)
    assert {
        (trace.status, trace.solution and trace.solution.answer == trace.problem.answer) for trace in traces
    } == {("accepted", True)}


def test_two_runners_share_the_work_and_one_may_be_killed(server: ModelServer, tmp_path: Path) -> None:
    """The one that is left does what the other had in hand, and its share."""
    problems = write_problems(tmp_path / "sums.jsonl", sums(300))
    settings = config(problems, server.url, tmp_path / "traces", samples=2, temperature=0.7)
    killed, survivor = start(settings), start(settings)
    with killed, survivor:
        assert server.wait_for(100, 120)
        killed.kill()
        finish(survivor)
    traces = stored(tmp_path / "traces")
    assert len(traces) == 600
    assert counts(traces) == each_once(300, samples=2)


def test_two_runners_make_nothing_twice(server: ModelServer, tmp_path: Path) -> None:
    problems = write_problems(tmp_path / "sums.jsonl", sums(200))
    settings = config(problems, server.url, tmp_path / "traces")
    summaries = [tmp_path / f"{name}.json" for name in "ab"]
    both = [start(settings, "--summary", str(each)) for each in summaries]
    for process in both:
        finish(process)
    assert counts(stored(tmp_path / "traces")) == each_once(200)
    assert len(server.requests) == 200  # nothing was even asked twice
    made = [json.loads(each.read_text()) for each in summaries]
    assert sum(one["collected"] for one in made) == 200
    assert all(one["collected"] + one["elsewhere"] + one["skipped"] == 200 for one in made)


def test_a_full_disk_ends_in_one_sentence_and_loses_nothing(server: ModelServer, tmp_path: Path) -> None:
    """Files may not grow beyond 64 kB: the store takes some traces and then no more."""
    problems = write_problems(tmp_path / "sums.jsonl", sums(200))
    settings = config(problems, server.url, tmp_path / "traces")

    def small_disk() -> None:
        heed_ctrl_c()
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, 64 * 1024))

    _, error = finish(start(settings, preexec_fn=small_disk), 2)
    assert "cannot be written" in error or "cannot be claimed" in error
    kept = stored(tmp_path / "traces")
    assert 0 < len(kept) < 200
    assert open_store(tmp_path / "traces").skipped == 0
    finish(start(settings))
    traces = stored(tmp_path / "traces")
    assert len(traces) == 200
    assert counts(traces) == each_once(200)


class Gate:
    """Answers five requests at once, and the others only when it is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()

    def __call__(self, number: int, body: dict[str, Any]) -> Answer:
        if number > 5:
            assert self.opened.wait(120)
        return solves(body)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_waits_for_what_is_under_way(number: signal.Signals, code: int, tmp_path: Path) -> None:
    """Five are done and eight under way: 13 are stored, and no other was begun."""
    problems = write_problems(tmp_path / "sums.jsonl", sums(100))
    gate = Gate()
    with model_server(gate) as server:
        settings = config(problems, server.url, tmp_path / "traces")
        process = start(settings, "--summary", str(tmp_path / "summary.json"))
        assert server.wait_for(13, 120)
        process.send_signal(number)
        assert process.stdout is not None
        heard = next(line for line in process.stdout if number.name in line)
        assert "waiting for 8 problems under way" in heard
        gate.opened.set()
        out, error = finish(process, code)
        assert len(server.requests) == 13
    assert counts(stored(tmp_path / "traces")).total() == 13
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["stopped"], summary["collected"], summary["left"]) == (number.name, 13, 87)
    assert "13/100 traces" in out.splitlines()[-1]
    assert ("interrupted: what was finished is saved" in error) == (number == signal.SIGINT)


def test_the_second_signal_does_not_wait(tmp_path: Path) -> None:
    problems = write_problems(tmp_path / "sums.jsonl", sums(100))
    gate = Gate()
    with model_server(gate) as server:
        process = start(config(problems, server.url, tmp_path / "traces"))
        assert server.wait_for(13, 120)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert any("SIGINT" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        gate.opened.set()
    assert process.returncode == 130
    assert counts(stored(tmp_path / "traces")).total() == 5


def test_sigterm_before_the_first_problem_ends_the_same_way(tmp_path: Path) -> None:
    """While the problems are still being read, from a pipe that nobody writes to."""
    import os

    pipe = tmp_path / "problems.jsonl"
    os.mkfifo(pipe)
    process = start(config(pipe, "http://127.0.0.1:9", tmp_path / "traces"))
    with pipe.open("w"):  # returns once the other side reads
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 143
