"""Collecting on a Ray cluster: Ray Data feeds asynchronous actors, each with a graph and a shard of its own.

The driver finds out what is missing from the store, as on one machine, and hands it out. An actor makes it
into traces and appends them to the store itself, the moment they are there; the driver reads them only to
count. Nothing is made twice: Ray itself tries nothing again. What was in the hands of an actor that died is
missing from the store after the pass, and is handed out once more.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from supercorrect_agent.errors import ConfigError, ModelError, StoreError
from supercorrect_agent.store import TraceKey, TraceStore, open_store, trace_key
from supercorrect_agent.store.places import RemotePlace
from supercorrect_agent.types import Problem, Trace
from training.collect_runner import (
    GIVE_UP_AFTER,
    Collects,
    kept_error,
    problem_key,
    row_of_failures,
    stopped_for,
)
from training.collect_stop import SIGNALS, Budgets, Stop
from training.collect_tally import Tally
from training.collect_work import Unit, Work
from training.config import CollectionConfig
from training.progress import Show
from training.telemetry import telemetry

PASS = 100_000  # units; what is left of a pass is handed back before a run can stop
BATCH = 8  # units
_BATCHES_AT_ONCE = 4  # of one call of an asynchronous actor, by Ray Data
_PATIENCE = 3  # passes in a row that bring nothing


class RayRun:
    """One collection on Ray.

    Args:
        config: The run's settings.
        work: What is missing.
        store: Takes the failures that no actor could make sure of; the actors open it themselves.
        tally: Counts the traces.
        show: Shows how far it is.
        standing: Reads anew which attempts are done, after a pass.
        known_errors: Wrong answers already kept, as of `kept_errors`.
        on_trace: Is shown each trace after it was stored.
    """

    def __init__(
        self,
        config: CollectionConfig,
        work: Work,
        store: TraceStore,
        tally: Tally,
        show: Show,
        *,
        standing: Callable[[], set[TraceKey]],
        known_errors: Mapping[TraceKey, list[str]] | None = None,
        on_trace: Callable[[Trace], None] | None = None,
    ) -> None:
        self.config, self.stop = config, Stop()
        self.failure: ModelError | None = None
        self._work, self._store, self._tally, self._show = work, store, tally, show
        self._standing, self._on_trace = standing, on_trace
        self._known = dict(known_errors or {})
        self._failed: set[TraceKey] = set()
        self._waiting: list[Trace] = []  # failures that may be the fault of a model that is not there
        self._budgets = Budgets(config, tally)

    def run(self) -> None:
        """Works until nothing is missing, or the run is to stop.

        Raises:
            ModelError: No run succeeds, or a server that answered before is gone.
            StoreError: What the actors made is not in the store.
            ConfigError: Ray is not installed.
            KeyboardInterrupt: A second signal came.
        """
        with _cluster(self.config) as ray, self._signals():
            flag = ray.remote(num_cpus=0)(_Flag).remote()
            while units := list(islice(iter(self._work.draw, None), PASS)):
                self._pass_until_done(ray, flag, units)
                if self.stop.asked.is_set():
                    break
        self._store_failures()
        if self.failure is not None:
            raise self.failure

    def _store_failures(self) -> None:
        if self._waiting and self._tally.errors == self._tally.done:
            raise ModelError(
                f"All {self._tally.done} problems failed: {self._waiting[0].error}. Check `--student` and "
                "`--teacher`, and that their servers run; nothing was stored."
            )
        for trace in self._waiting:
            self._store.append(trace)
            if self._on_trace is not None:
                self._on_trace(trace)

    def _pass_until_done(self, ray: Any, flag: Any, units: Sequence[Unit]) -> None:
        idle = 0
        while units and not self.stop.asked.is_set():
            made, missing = self._tally.done, sum(map(len, units))
            try:
                self._pass(ray, flag, units)
            except ray.exceptions.RayError as error:
                reason = (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
                raise ModelError(
                    f"Ray gave the collection up: {reason[:300]}. What was finished is stored; the same "
                    "command goes on once the cause is mended."
                ) from error
            if self.stop.asked.is_set():
                return
            units = self._left(units)
            idle = 0 if sum(map(len, units)) < missing else idle + 1
            if idle:
                self._give_up_if_hopeless(idle, len(units), self._tally.done - made)

    def _left(self, units: Sequence[Unit]) -> list[Unit]:
        done = self._standing()
        left = (
            tuple(one for one in unit if one.key not in done and one.key not in self._failed)
            for unit in units
        )
        return [unit for unit in left if unit]

    def _give_up_if_hopeless(self, idle: int, units: int, made: int) -> None:
        """What was made and paid for must be in the store; actors that die are given a few passes."""
        if made:
            raise StoreError(
                f"The actors made {made} traces in a pass, and none of them is in the store "
                f"'{self.config.store}'. Pass a `--store` that all machines reach under this name."
            )
        if idle >= _PATIENCE:
            raise ModelError(
                f"{idle} passes over {units} problems brought no trace: the actors die. See Ray's "
                "logs, and whether every machine of the cluster reaches the store and has this package."
            )

    def _pass(self, ray: Any, flag: Any, units: Sequence[Unit]) -> None:
        rows = [{"unit": _packed(unit, self._known.get(problem_key(unit[0].problem), ()))} for unit in units]
        actors = min(self.config.actors, -(-len(rows) // BATCH))
        each = -(-self.config.concurrency // actors)
        calls = max(1, -(-2 * each // (BATCH * _BATCHES_AT_ONCE)))  # so that none waits for a slow batch
        blocks = max(1, min(len(rows) // BATCH, 8 * actors * calls))
        made = ray.data.from_items(rows, override_num_blocks=blocks).map_batches(
            _Actor,
            fn_constructor_args=(self.config.model_dump_json(), each, flag),
            batch_size=BATCH,
            compute=ray.data.ActorPoolStrategy(
                size=actors, max_tasks_in_flight_per_actor=calls + 1, max_concurrent_calls_per_actor=calls
            ),
            ray_remote_args_fn=_one_try,
        )
        told = False
        for row in made.iter_rows():
            self._take(row)
            self._look_at_budgets()
            if self.stop.asked.is_set() and not told:
                told = ray.get(flag.wave.remote())  # what is under way is finished, all else comes back empty

    def _take(self, row: Mapping[str, Any]) -> None:
        if row["failure"]:
            self.stop.ask(row["failure"])
            raise ModelError(row["failure"])
        if not row["trace"]:
            return
        trace = Trace.model_validate_json(row["trace"])
        self._tally.add(trace)
        if trace.status == "error":
            self._note_failure(trace)
        if not row["stored"]:
            self._waiting.append(trace)
            return
        if self._on_trace is not None:
            self._on_trace(trace)
        self._show.update(self._tally)

    def _note_failure(self, trace: Trace) -> None:
        key = trace_key(trace.problem, trace.sample)
        self._failed.add(key)
        lost = row_of_failures(self._tally, self.config.concurrency, trace)
        if lost and self.failure is None and not self._work.failed_before(key):
            self.stop.ask(lost)
            self.failure = stopped_for(lost)

    def _look_at_budgets(self) -> None:
        spent = self._budgets.spent()
        if spent:
            self.stop.ask(spent)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """The first SIGINT or SIGTERM stops the run once what is under way has ended; the second, at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def heed(number: int, _: object) -> None:
            if self.stop.signal is not None:
                raise KeyboardInterrupt
            self.stop.signal = signal.Signals(number)
            self.stop.ask(self.stop.signal.name)
            self._show.say(f"collect: {self.stop.signal.name}: waiting for what is under way; once more ends")

        before = {number: signal.signal(number, heed) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class _Flag:
    """Tells every actor that the run is to stop. It lives in an actor of its own."""

    def __init__(self) -> None:
        self._up = False

    def wave(self) -> bool:
        """Says so."""
        self._up = True
        return True

    def is_up(self) -> bool:
        """Whether it was said."""
        return self._up


class _Actor:
    """Makes units into traces and appends them to a shard of its own."""

    def __init__(self, config: str, at_once: int, flag: Any) -> None:
        from training.collect import ProblemCollector

        settings = CollectionConfig.model_validate_json(config)
        telemetry(settings.telemetry).__enter__()  # for as long as the actor lives
        self._collector: Collects = ProblemCollector(settings)
        self._store = open_store(settings.store, sync=settings.sync)
        self._in_parts = isinstance(self._store.place, RemotePlace)
        self._store.ensure_writable()
        self._flag, self._stopped, self._looked_at = flag, False, 0.0
        self._turns = asyncio.Semaphore(at_once)
        self._failures, self._succeeded = 0, False

    async def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """The traces of a batch of units, as JSON; one empty row for what was not begun."""
        units = (self._unit(json.loads(text)) for text in batch["unit"])
        made = await asyncio.gather(*units, return_exceptions=True)
        rows: list[tuple[str, bool]] = []
        try:
            if self._in_parts:  # nothing is stored there before a part is written
                self._store.flush()
            for each in made:
                if isinstance(each, BaseException):
                    raise each
                rows += each
        except (ModelError, StoreError) as error:
            return {"trace": [""], "stored": [False], "failure": [str(error)]}
        rows = rows or [("", False)]
        return {
            "trace": [text for text, _ in rows],
            "stored": [stored for _, stored in rows],
            "failure": [""] * len(rows),
        }

    async def _unit(self, unit: Mapping[str, Any]) -> list[tuple[str, bool]]:
        problem, known = Problem.model_validate(unit["problem"]), list(unit["known"])
        made: list[tuple[str, bool]] = []
        async with self._turns:
            for sample in unit["samples"]:
                if await self._stops():
                    break
                trace = await self._collector.collect(problem, sample, known)
                made.append((trace.model_dump_json(), self._keep(trace)))
                error = kept_error(trace)
                if error is not None:
                    known.append(error)
        return made

    def _keep(self, trace: Trace) -> bool:
        """Stores a trace, but not a failure that may be the fault of a model that is not there."""
        if trace.status == "error" and not self._succeeded and self._collector.missing:
            self._failures += 1
            if self._failures < GIVE_UP_AFTER:
                return False
            raise ModelError(
                f"The first {self._failures} problems of an actor all failed: {trace.error}. Check "
                "`--student` and `--teacher`, and that every machine of the cluster reaches their servers."
            )
        self._succeeded = True
        self._store.append(trace)
        if self._collector.lost:
            raise ModelError(
                f"The collection stopped, for {self._collector.lost}. What was finished is stored; the same "
                "command goes on once the cause is mended."
            )
        return True

    async def _stops(self) -> bool:
        now = asyncio.get_running_loop().time()
        if not self._stopped and now > self._looked_at + 1:
            self._looked_at = now
            self._stopped = await self._flag.is_up.remote()
        return self._stopped


def _one_try() -> dict[str, int]:
    """An actor that died is started again, what it had in hand is not."""
    return {"max_restarts": -1, "max_task_retries": 0}


def _packed(unit: Unit, known: Sequence[str]) -> str:
    """What an actor has to know of a unit, as JSON."""
    samples = [item.sample for item in unit]
    return json.dumps(
        {"problem": unit[0].problem.model_dump(mode="json"), "samples": samples, "known": list(known)}
    )


@contextlib.contextmanager
def _cluster(config: CollectionConfig) -> Iterator[Any]:
    """Ray, connected to the cluster at ``ray_address`` or to one that is started on this machine."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else Ray reports its use to its makers
    try:
        import ray
        import ray.data
    except ImportError:
        remedy = "Install it: pip install 'supercorrect-agent[ray]'."
        raise ConfigError(f"`engine=ray` needs Ray, which is not installed. {remedy}") from None
    with contextlib.nullcontext() if ray.is_initialized() else _started(ray, config.ray_address):
        context = ray.data.DataContext.get_current()
        before = context.enable_progress_bars, context.max_errored_blocks
        # a block whose actor died is handed out again by us
        context.enable_progress_bars, context.max_errored_blocks = False, -1
        try:
            yield ray
        finally:
            context.enable_progress_bars, context.max_errored_blocks = before


@contextlib.contextmanager
def _started(ray: Any, address: str | None) -> Iterator[None]:
    folder = tempfile.mkdtemp(prefix="ray-")  # short: a socket's path has at most 107 characters
    local = {"_node_ip_address": "127.0.0.1", "_temp_dir": folder, "include_dashboard": False}
    ray.init(address, log_to_driver=False, logging_level="WARNING", **({} if address else local))
    try:
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
