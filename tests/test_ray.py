"""``--engine ray`` on a local Ray with a scripted model server: nothing is lost, nothing is made twice."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supercorrect_agent.errors import ModelError
from supercorrect_agent.store import open_store
from tests.model_server import Answer, ModelServer, fails, model_server, says
from training.collect import run_collect
from training.config import CollectionConfig

pytestmark = [pytest.mark.ray, pytest.mark.timeout(1200)]
ray = pytest.importorskip("ray")

SETTINGS = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_raylet_start_wait_time_s": "120",
    "RAY_USAGE_STATS_ENABLED": "0",
    "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]),
}


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """One Ray for all tests: it takes up to a minute to start."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="ray-") as folder:
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        ray.init(
            num_cpus=4, _node_ip_address="127.0.0.1", _temp_dir=folder, include_dashboard=False,
            log_to_driver=False, logging_level="ERROR",
        )  # fmt: skip
        try:
            yield
        finally:
            ray.shutdown()


def answer(number: int, body: dict[str, Any]) -> Answer:
    return says("<Step1>One and one. 1+1=2</Step1>\n<Answer>\\boxed{2}</Answer>")


def config(server: ModelServer, store: Path, **more: Any) -> CollectionConfig:
    settings: dict[str, Any] = {
        "problems": "sandbox:train", "n": 24, "student": f"vllm:m@{server.url}", "store": store,
        "engine": "ray", "actors": 2, "concurrency": 8, "write_template": False, "max_rounds": 0,
        "review_correct": False,
    }  # fmt: skip
    return CollectionConfig(**{**settings, **more})


def kept(store: Path) -> Counter[tuple[str, int]]:
    return Counter((trace.problem.id, trace.sample) for trace in open_store(store, must_exist=True))


def shards(store: Path) -> list[Path]:
    return sorted(store.glob("traces-*.jsonl"))


def test_actors_write_shards_of_their_own_and_a_second_run_makes_only_what_is_missing(tmp_path: Path) -> None:
    store = tmp_path / "traces"
    with model_server(answer) as server:
        first = run_collect(config(server, store))
        asked = len(server.requests)
        assert (first["collected"], first["errors"], first["left"]) == (24, 0, 0)
        assert asked == first["calls"]["student"] == 24  # one solution of each, and no round
        assert set(kept(store).values()) == {1}
        assert len(kept(store)) == 24
        assert len(shards(store)) == 2
        again = run_collect(config(server, store, n=30, engine="asyncio"))  # either engine goes on
        assert (again["collected"], again["skipped"]) == (6, 24)
        more = run_collect(config(server, store, n=30, samples=2))
        assert (more["collected"], more["skipped"]) == (30, 30)
    assert len(kept(store)) == 60
    assert set(kept(store).values()) == {1}


def test_what_an_actor_that_was_killed_had_in_hand_is_made_by_another(tmp_path: Path) -> None:
    store, killed = tmp_path / "traces", threading.Event()

    def kill(number: int, body: dict[str, Any]) -> Answer:
        if number == 20:  # others are under way and some are stored by now
            pids = {int(shard.stem.split("-")[-2]) for shard in shards(store)} - {os.getpid()}
            os.kill(min(pids), signal.SIGKILL)
            killed.set()
        return answer(number, body)

    with model_server(kill) as server:
        found = run_collect(config(server, store, n=48))
    assert killed.is_set()
    assert set(kept(store).values()) == {1}
    assert len(kept(store)) == 48
    assert found["errors"] == 0


def test_a_problem_that_fails_is_one_failed_trace(tmp_path: Path) -> None:
    store = tmp_path / "traces"

    def refuse_the_ninth(number: int, body: dict[str, Any]) -> Answer:
        return fails(400) if number == 9 else answer(number, body)

    with model_server(refuse_the_ninth) as server:
        found = run_collect(config(server, store))
    assert (found["collected"], found["errors"]) == (24, 1)
    assert sum(trace.status == "error" for trace in open_store(store)) == 1


def test_a_server_that_is_not_there_ends_the_run_and_nothing_is_stored(tmp_path: Path) -> None:
    store = tmp_path / "traces"
    with model_server(answer) as server:
        gone = config(server, store, patience=0)
    with pytest.raises(ModelError, match=r"problems.* all failed: .*No model server answers"):
        run_collect(gone)
    assert not kept_or_none(store)


def kept_or_none(store: Path) -> int:
    return sum(1 for _ in open_store(store))


def test_a_budget_stops_the_run_and_leaves_the_rest(tmp_path: Path) -> None:
    """The actors hear of it within a second or two; all 400 problems, eight at once, would take fifteen."""
    store = tmp_path / "traces"

    def answer_slowly(number: int, body: dict[str, Any]) -> Answer:
        time.sleep(0.3)
        return answer(number, body)

    with model_server(answer_slowly) as server:  # 110 tokens a call
        found = run_collect(config(server, store, n=400, max_total_tokens=1000))
    assert found["stopped"] == "max_total_tokens=1000 is used up"
    assert 10 <= found["collected"] < 400
    assert found["left"] == 400 - found["collected"]
    assert kept_or_none(store) == found["collected"]
