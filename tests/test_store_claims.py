"""Claims: processes on one store share the work, nothing is done twice, and a killed one loses nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from supercorrect_agent.errors import StoreError
from supercorrect_agent.store import Claims, TraceKey, claims, open_store, trace_key
from supercorrect_agent.types import Problem, Trace

WORKER = """
import sys
from supercorrect_agent.store import Claims, open_store, trace_key
from supercorrect_agent.types import Problem, Trace

path, count, stop_at = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with open_store(path) as store, Claims(path) as claims:
    done, made = store.done(), 0
    for number in range(count):
        problem = Problem(id=f"p{number}", question=f"question {number}")
        key = trace_key(problem, 0)
        if key in done or not claims.claim(key):
            continue
        if made == stop_at:  # a run that is claimed, but never stored
            print("ready", flush=True)
            sys.stdin.read()
        store.append(Trace(id=f"t{number}", problem=problem, status="accepted"))
        made += 1
"""


TOGETHER = """
import multiprocessing
import sys
import time
from supercorrect_agent.store import Claims

def begin(wanted):
    moment, path = wanted
    while time.time() < moment:  # all at one moment
        pass
    Claims(path).close()

if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(4) as pool:
        for number in range(40):
            moment = time.time() + 0.02
            pool.map(begin, [(moment, f"{sys.argv[1]}/{number}")] * 4, chunksize=1)
"""


def start(path: Path, count: int, stop_at: int = -1) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKER, str(path), str(count), str(stop_at)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def wait_until_ready(worker: subprocess.Popen[str]) -> None:
    assert worker.stdout is not None
    assert worker.stdout.readline() == "ready\n"


def counts(path: Path) -> Counter[str]:
    return Counter(trace.problem.id for trace in open_store(path))


def key(number: int) -> TraceKey:
    return trace_key(Problem(id=f"p{number}", question=f"question {number}"), 0)


@pytest.mark.parametrize("name", ["folder", "one.jsonl"])
def test_two_processes_share_the_work(tmp_path: Path, name: str) -> None:
    workers = [start(tmp_path / name, 200) for _ in range(2)]
    assert [worker.wait(60) for worker in workers] == [0, 0]
    assert counts(tmp_path / name) == {f"p{number}": 1 for number in range(200)}


def test_processes_that_begin_at_one_moment_all_may_claim(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", TOGETHER, str(tmp_path)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["folder", "one.jsonl"])
def test_what_a_killed_process_had_begun_is_taken_over_and_nothing_is_made_twice(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    late = start(path, 60, stop_at=0)  # reads what is done before the other has done anything
    wait_until_ready(late)
    killed = start(path, 60, stop_at=20)
    wait_until_ready(killed)
    killed.send_signal(signal.SIGKILL)
    killed.wait(60)
    late.communicate("", timeout=60)
    assert late.returncode == 0
    assert counts(path) == {f"p{number}": 1 for number in range(60)}


def test_a_claim_is_given_once_until_it_is_released(tmp_path: Path) -> None:
    with Claims(tmp_path) as mine, Claims(tmp_path) as theirs:
        assert mine.claim(key(1))
        assert not theirs.claim(key(1))
        assert not mine.claim(key(1))
        theirs.release(key(1))  # not theirs to give
        assert not theirs.claim(key(1))
        mine.release(key(1))
        assert theirs.claim(key(1))


def test_what_was_stored_stays_claimed_and_what_failed_does_not(tmp_path: Path) -> None:
    with open_store(tmp_path) as store, Claims(tmp_path) as gone:
        for number, status in ((1, "accepted"), (2, "error")):
            problem = Problem(id=f"p{number}", question=f"question {number}")
            assert gone.claim(key(number))
            store.append(Trace.model_validate({"id": "t", "problem": problem, "status": status}))
        assert gone.claim(key(3))
    with Claims(tmp_path) as mine:
        assert [mine.claim(key(number)) for number in (1, 2, 3)] == [False, True, True]


def test_the_store_is_read_once_for_all_that_died_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        killed = Claims(tmp_path)
        assert killed.claim(key(number))
        assert killed._alive is not None
        os.close(killed._alive)
    reads: list[object] = []
    monkeypatch.setattr(claims, "open_store", lambda path: reads.append(path) or open_store(path))
    with Claims(tmp_path) as ours:
        assert all(ours.claim(key(number)) for number in range(5))
        assert len(reads) == 1
        with Claims(tmp_path) as theirs:
            assert not theirs.claim(key(0))
            assert ours.claim(key(7))
            assert not theirs.claim(key(7))


def test_an_address_has_no_claims(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"at an address.*`--part 1/2`"):
        Claims("memory://claimed")


def test_a_path_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(StoreError, match=r"^Runs cannot be claimed in '.*taken/traces/claims': .*\.$"):
        Claims(tmp_path / "taken" / "traces")


def test_a_full_disk_asks_for_space(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: SQLite needs 32 KiB beside its table."""
    code = "import sys; from supercorrect_agent.store import Claims; Claims(sys.argv[1])"
    limited = 'ulimit -f 20 && exec "$0" -c "$1" "$2"'
    command = ["sh", "-c", limited, sys.executable, code, str(tmp_path / "t")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "StoreError: Runs cannot be claimed" in ended.stderr
    assert "Free space there" in ended.stderr
    assert "Make it writable" not in ended.stderr


def test_a_disk_that_fills_up_asks_for_space(tmp_path: Path) -> None:
    with Claims(tmp_path / "t") as claims:
        claims._database.execute("PRAGMA max_page_count = 1")
        keys = (TraceKey(number.to_bytes(16)) for number in range(1000))
        with pytest.raises(StoreError, match=r"database or disk is full\. Free space there"):
            all(claims.claim(key) for key in keys)
