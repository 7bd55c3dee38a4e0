"""The runner of a collection: many problems under way at once, each trace stored the moment it is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from supercorrect_agent.errors import ModelError, StoreError
from supercorrect_agent.store import TraceKey, TraceStore, trace_key
from supercorrect_agent.types import Problem, Trace
from training.collect_stop import Budgets, Stop, heed_signals
from training.collect_tally import Tally
from training.collect_work import Standing, Unit, Work
from training.config import CollectionConfig
from training.progress import Show

GIVE_UP_AFTER = 8  # runs that all fail, where a model has shown no sign of life
LEAST_ROW = 64  # runs that fail one after another before a collection stops
FIRST_LOOK, LONGEST_LOOK = 1.0, 15.0  # seconds between two looks at what another process has in hand


class Collects(Protocol):
    """Makes one attempt at one problem into a trace and raises nothing."""

    async def collect(self, problem: Problem, sample: int, known_errors: Iterable[str]) -> Trace: ...

    @property
    def lost(self) -> str:
        """Why a model that answered before is given up, or empty."""
        ...

    @property
    def missing(self) -> bool:
        """Whether a model has shown no sign of life so far."""
        ...


class Runner:
    """Collects the missing traces.

    Args:
        config: How many at once, and the budgets.
        work: What is missing.
        store: Takes the traces.
        collector: Makes them.
        tally: Counts them.
        show: Shows how far it is.
        standing: Reads anew what is in the store: what is done, and how often what failed.
        known_errors: Wrong answers already kept, as of `kept_errors`.
        on_trace: Is shown each trace after it was stored.
    """

    def __init__(
        self,
        config: CollectionConfig,
        work: Work,
        store: TraceStore,
        collector: Collects,
        tally: Tally,
        show: Show,
        *,
        standing: Callable[[], Standing],
        known_errors: Mapping[TraceKey, list[str]] | None = None,
        on_trace: Callable[[Trace], None] | None = None,
    ) -> None:
        self.config, self.work, self.store, self.collector = config, work, store, collector
        self.tally, self.show, self.stop = tally, show, Stop()
        self.failure: ModelError | None = None
        self._standing, self._on_trace = standing, on_trace
        self._known = dict(known_errors or {})
        self._budgets = Budgets(config, tally)
        self._under_way = 0
        self._failed: list[Trace] = []  # not stored as long as they may be the fault of a missing model
        self._drawing = asyncio.Lock()
        self._ended = asyncio.Event()
        self._look = FIRST_LOOK

    async def run(self) -> None:
        """Works until nothing is missing, or the run is to stop.

        Raises:
            ModelError: No run succeeds, or a server that answered before is gone.
            StoreError: The store cannot be written.
        """
        count = max(1, min(self.config.concurrency, self.work.total))
        with heed_signals(self.stop, self.show.say, lambda: self._under_way, self.show.close):
            workers = [asyncio.ensure_future(self._work()) for _ in range(count)]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
        self._store_failed()
        if self.failure is not None:
            raise self.failure

    async def _work(self) -> None:
        while (unit := await self._draw()) is not None:
            self._under_way += 1
            try:
                await self._collect(unit)
            finally:
                self._under_way -= 1
                self._ended.set()

    async def _draw(self) -> Unit | None:
        async with self._drawing:
            while not self._stops():
                if self._budgets.filled(self._under_way):
                    self._ended.clear()
                    await self._ended.wait()
                    continue
                unit = self.work.draw() or self.work.redraw()
                if unit is not None or not self.work.elsewhere:
                    return unit
                await self._look_elsewhere()
        return None

    def _stops(self) -> bool:
        spent = self._budgets.spent()
        if spent:
            self.stop.ask(spent)
        return self.stop.asked.is_set()

    async def _look_elsewhere(self) -> None:
        """Waits a while for what another process has in hand, and looks whether it is in the store now."""
        if self._look == FIRST_LOOK:
            count = len(self.work.elsewhere)
            self.show.say(f"collect: waiting for {count} that another process on this store has in hand")
        try:
            await asyncio.wait_for(self.stop.asked.wait(), self._look)
            return
        except TimeoutError:
            self._look = min(self._look * 1.5, LONGEST_LOOK)
        try:
            standing = await asyncio.to_thread(self._standing)
        except StoreError:  # a compaction takes files away while they are read
            if self._look == LONGEST_LOOK:
                raise
        else:
            self.tally.elsewhere += self.work.forget(*standing)

    async def _collect(self, unit: Unit) -> None:
        for number, item in enumerate(unit):
            if number and self._stops():
                self.work.give_back(unit[number:])
                break
            known = tuple(self._known.get(problem_key(item.problem), ()))
            trace = await self.collector.collect(item.problem, item.sample, known)
            self._keep(trace)
        self._known.pop(problem_key(unit[0].problem), None)

    def _keep(self, trace: Trace) -> None:
        self.tally.add(trace)
        if trace.status == "error" and self.tally.errors == self.tally.done and self.collector.missing:
            self._failed.append(trace)
            self._give_up_if_hopeless()
            return
        self._store_failed()
        self._store(trace)
        self._note_error(trace)
        self._stop_if_lost(trace)
        self.show.update(self.tally)

    def _store_failed(self) -> None:
        failed, self._failed = self._failed, []
        for trace in failed:
            self._store(trace)

    def _store(self, trace: Trace) -> None:
        self.store.append(trace)
        if self._on_trace is not None:
            self._on_trace(trace)

    def _note_error(self, trace: Trace) -> None:
        """Remembers a wrong answer that was kept, for the later samples of its problem."""
        answer = kept_error(trace)
        if answer is not None:
            self._known.setdefault(problem_key(trace.problem), []).append(answer)

    def _give_up_if_hopeless(self) -> None:
        """A first failure may be the problem's; when nothing at all succeeds, a model is not there."""
        failed = self._failed
        if len(failed) >= min(GIVE_UP_AFTER, self.work.total):
            self._failed = []
            raise ModelError(
                f"The first {len(failed)} problems all failed: {_reason(failed[0])}. Check `--student` and "
                "`--teacher`, and that their servers run; nothing was stored."
            )

    def _stop_if_lost(self, trace: Trace) -> None:
        lost = self.collector.lost
        if not lost and not self.work.retrying:
            lost = row_of_failures(self.tally, self.config.concurrency, trace)
        if lost and self.failure is None:
            self.stop.ask(lost)
            self.failure = stopped_for(lost)


def row_of_failures(tally: Tally, concurrency: int, trace: Trace) -> str:
    """Why a collection whose last runs all failed is to stop, or empty."""
    if tally.row < max(LEAST_ROW, 2 * concurrency):
        return ""
    return f"the last {tally.row} problems all failed: {_reason(trace)}"


def stopped_for(lost: str) -> ModelError:
    """What a collection ends with that stopped because a server is gone or everything fails."""
    return ModelError(
        f"The collection stopped, for {lost}. What was finished is stored, failed runs too; the same "
        "command goes on once the cause is mended."
    )


def problem_key(problem: Problem) -> TraceKey:
    """Tells problems apart also where two files use one id."""
    return trace_key(problem, 0)


def kept_errors(traces: Iterable[Trace]) -> dict[TraceKey, list[str]]:
    """The wrong answers that were kept so far, by `problem_key`."""
    found: dict[TraceKey, list[str]] = {}
    for trace in traces:
        answer = kept_error(trace)
        if answer is not None:
            found.setdefault(problem_key(trace.problem), []).append(answer)
    return found


def kept_error(trace: Trace) -> str | None:
    """The wrong answer of a trace that counts as an error of its problem (decision B24); "" if unreadable."""
    wrong = trace.verdict is not None and trace.verdict.status in ("incorrect", "unreadable")
    if not wrong or not trace.rounds or trace.status in ("error", "parse_error", "quarantined"):
        return None
    return (trace.solution.answer if trace.solution else None) or ""


def _reason(trace: Trace) -> str:
    return (trace.error or "no reason given").strip().rstrip(".")
