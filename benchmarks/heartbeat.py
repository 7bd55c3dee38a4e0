"""How long an event loop is blocked while work is under way on it: the longest step, and late heartbeats."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

from benchmarks.ratios import Spread, spread

INTERVAL = 0.001
LATE = (0.01, 0.05)


class Beat(NamedTuple):
    """One beat: how late it came, and what the loop's thread worked in the gap before it, in seconds."""

    late: float
    cpu: float


class Step(NamedTuple):
    """One step: the processor seconds of the loop's thread, and those of them that collected garbage."""

    cpu: float
    collecting: float


async def beat(done: asyncio.Event, interval: float = INTERVAL) -> list[Beat]:
    """Beats until all is done, and once more: the last gap counts too.

    Args:
        done: Set when the work is done.
        interval: Seconds between two beats of a loop with nothing else to do.
    """
    beats: list[Beat] = []
    while not done.is_set():
        wall, cpu = time.perf_counter(), time.thread_time()
        await asyncio.sleep(interval)
        beats.append(Beat(time.perf_counter() - wall - interval, time.thread_time() - cpu))
    return beats


async def beats_during(work: Sequence[Awaitable[Any]]) -> list[Beat]:
    """The beats while all of the work is done at once."""
    done = asyncio.Event()
    heart = asyncio.create_task(beat(done))
    await asyncio.sleep(0)  # the first gap begins before the work does
    try:
        await asyncio.gather(*work)
    finally:
        done.set()
    return await heart


async def steps_during(work: Sequence[Awaitable[Any]]) -> list[Step]:
    """Each callback that the loop runs while all of the work is done at once.

    A task holds the loop for one such step: from one ``await`` that has to wait to the next.
    """
    steps: list[Step] = []
    run = asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        started, collected = time.thread_time(), pauses.seconds
        run(handle)
        steps.append(Step(time.thread_time() - started, pauses.seconds - collected))

    with CollectorPauses() as pauses, mock.patch.object(asyncio.Handle, "_run", timed):
        await asyncio.gather(*work)
        return list(steps)  # without the step that this is: it goes on with whatever the caller does next


class CollectorPauses:
    """Adds up the processor seconds of Python's garbage collector; it is a context manager."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._started = 0.0

    def __enter__(self) -> CollectorPauses:
        gc.callbacks.append(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        gc.callbacks.remove(self._count)

    def _count(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._started = time.thread_time()
        else:
            self.seconds += time.thread_time() - self._started


@contextmanager
def frozen() -> Iterator[None]:
    """Keeps what is alive now, modules above all, from the garbage collector."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def late_share(beats: Sequence[Beat], over: float) -> float:
    """The share of beats that came more than ``over`` seconds late."""
    return sum(one.late > over for one in beats) / len(beats)


def summarize_beats(runs: Sequence[Sequence[Beat]]) -> dict[str, Any]:
    """The longest hold-up of each run, by the clock and by the processor, and the late beats of all runs."""
    every = [one for run in runs for one in run]
    return {
        "longest_wall_ms": spread([1000 * max(one.late for one in run) for run in runs]),
        "longest_cpu_ms": spread([1000 * max(one.cpu for one in run) for run in runs]),
        "beats": len(every),
        "late_share": {f"over_{1000 * over:g}_ms": round(late_share(every, over), 4) for over in LATE},
    }


def summarize_steps(runs: Sequence[Sequence[Step]]) -> dict[str, Spread]:
    """The longest step of each run, with and without the garbage collection that fell into it."""
    return {
        "longest_ms": spread([1000 * max(one.cpu for one in run) for run in runs]),
        "without_gc_ms": spread([1000 * max(one.cpu - one.collecting for one in run) for run in runs]),
    }
