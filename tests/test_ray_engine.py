"""The parts of ``--engine ray`` that need no Ray: what an actor stores, and when the driver gives up."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from supercorrect_agent.errors import ModelError, StoreError
from supercorrect_agent.store import MemoryTraceStore, open_store, trace_key
from supercorrect_agent.types import Problem, Trace
from training.collect_tally import Tally
from training.collect_work import Item, Unit, Work
from training.config import CollectionConfig
from training.progress import Lines
from training.ray_engine import RayRun, _Actor, _packed


def problem(number: int) -> Problem:
    return Problem(id=f"p{number}", question=f"What is {number} plus 5?", answer=str(number + 5))


def unit(number: int) -> Unit:
    each = problem(number)
    return (Item(each, 0, trace_key(each, 0)),)


def trace_of(each: Problem) -> Trace:
    return Trace(id=each.id, problem=each, status="accepted", created="2026-01-01T00:00:00+00:00")


class Collector:
    """Makes every problem into a trace; after ``p1`` the server is gone."""

    missing = False

    def __init__(self, settings: CollectionConfig) -> None:
        self.lost = ""

    async def collect(self, each: Problem, sample: int, known: Iterable[str]) -> Trace:
        self.lost = "its server" if each.id == "p1" else ""
        return trace_of(each)


class Flag:
    def __init__(self) -> None:
        self.is_up = SimpleNamespace(remote=self._is_up)

    async def _is_up(self) -> bool:
        return False


def actor(config: CollectionConfig, patch: pytest.MonkeyPatch) -> _Actor:
    patch.setattr("training.collect.ProblemCollector", Collector)
    return _Actor(config.model_dump_json(), 4, Flag())


@pytest.mark.parametrize("sync", ["never", "interval:1"])
@pytest.mark.parametrize("scheme", ["memory", "file"])
def test_what_an_actor_calls_stored_is_at_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, sync: str
) -> None:
    address = f"{scheme}://{tmp_path}/traces"
    works = actor(CollectionConfig(store=address, engine="ray", sync=sync), monkeypatch)
    rows = asyncio.run(works({"unit": [_packed(unit(2), ()), _packed(unit(3), ())]}))
    assert rows["stored"] == [True, True]
    assert sorted(trace.problem.id for trace in open_store(address)) == ["p2", "p3"]


def test_what_an_actor_finished_before_a_server_went_is_at_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"memory://{tmp_path}/traces"
    works = actor(CollectionConfig(store=address, engine="ray", sync="never"), monkeypatch)
    rows = asyncio.run(works({"unit": [_packed(unit(1), ()), _packed(unit(2), ())]}))
    assert "its server" in rows["failure"][0]
    assert sorted(trace.problem.id for trace in open_store(address)) == ["p1", "p2"]


def test_an_actor_heeds_the_sync_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []

    def note(path: Any, *, sync: str) -> Any:
        opened.append(sync)
        return open_store(path, sync=sync)

    monkeypatch.setattr("training.ray_engine.open_store", note)
    actor(CollectionConfig(store=tmp_path / "traces", engine="ray", sync="always"), monkeypatch)
    assert opened == ["always"]


class Passes(RayRun):
    """Each pass makes so many traces and stores them, or not."""

    def plan(self, made: Sequence[int], *, stored: bool) -> None:
        self.plans, self.stored = list(made), stored

    def _pass(self, ray: Any, flag: Any, units: Sequence[Unit]) -> None:
        for (item,) in units[: self.plans.pop(0)]:
            self._tally.add(trace_of(item.problem))
            if self.stored:
                self._store.append(trace_of(item.problem))


RAY = SimpleNamespace(exceptions=SimpleNamespace(RayError=ZeroDivisionError))


def passes(made: Sequence[int], *, stored: bool) -> Passes:
    store = MemoryTraceStore()
    work = Work([], samples=1, done=set(), failures=Counter(), retry_failed=0)
    run = Passes(
        CollectionConfig(store="file:///traces"), work, store, Tally(total=2, skipped=0),
        Lines(lambda line: None), standing=store.done,
    )  # fmt: skip
    run.plan(made, stored=stored)
    return run


def test_a_pass_whose_traces_are_not_in_the_store_ends_the_run() -> None:
    run = passes([2, 2, 2], stored=False)
    with pytest.raises(StoreError, match=r"made 2 traces .* none of them is in the store 'file:///traces'"):
        run._pass_until_done(RAY, None, [unit(2), unit(3)])
    assert run.plans == [2, 2]  # one pass, and no second that pays again


def test_three_passes_that_bring_nothing_end_the_run() -> None:
    run = passes([1, 0, 0, 0, 0], stored=True)
    with pytest.raises(ModelError, match="3 passes over 1 problems"):
        run._pass_until_done(RAY, None, [unit(2), unit(3)])
    assert run.plans == [0]


def test_passes_go_on_while_the_store_grows() -> None:
    run = passes([1, 0, 1], stored=True)
    run._pass_until_done(RAY, None, [unit(2), unit(3)])
    assert run.plans == []


def failed(run: RayRun, number: int) -> None:
    trace = trace_of(problem(number)).model_copy(update={"status": "error", "error": "student: 401"})
    run._take({"failure": "", "trace": trace.model_dump_json(), "stored": True})


def test_a_row_of_failures_stops_the_run() -> None:
    """64 in a row, of which none failed before."""
    store = MemoryTraceStore()
    problems = [problem(number) for number in range(200)]
    failures = Counter({trace_key(each, 0): 1 for each in problems[:100]})
    work = Work(problems, samples=1, done=set(), failures=failures, retry_failed=2)
    settings = CollectionConfig(engine="ray", concurrency=32)
    run = RayRun(
        settings, work, store, Tally(total=200, skipped=0), Lines(lambda line: None), standing=store.done
    )
    run._take({"failure": "", "trace": trace_of(problem(199)).model_dump_json(), "stored": True})
    for number in range(64):
        failed(run, number)
    assert not run.stop.asked.is_set()  # they all failed before: each on its own account
    run._take({"failure": "", "trace": trace_of(problem(198)).model_dump_json(), "stored": True})
    for number in range(100, 163):
        failed(run, number)
    assert not run.stop.asked.is_set()
    failed(run, 163)
    assert run.stop.reason == "the last 64 problems all failed: student: 401"
    assert "The collection stopped, for the last 64" in str(run.failure)
