"""Many runs of a graph at once, never more than so many in flight."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


async def run_bounded(
    items: Iterable[T], work: Callable[[T], Awaitable[R]], limit: int
) -> AsyncGenerator[tuple[T, R]]:
    """Works on the items concurrently and yields each with its result as it is done, in no fixed order.

    Leaving early (an exception, Ctrl-C) cancels what is still in flight.

    Args:
        items: Drawn from lazily.
        work: What to do with one of them.
        limit: How many are in flight at once.
    """
    waiting = iter(items)
    running: dict[asyncio.Task[R], T] = {}
    try:
        while True:
            while len(running) < limit:
                try:
                    item = next(waiting)
                except StopIteration:
                    break
                running[asyncio.ensure_future(_await(work, item))] = item
            if not running:
                return
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield running.pop(task), task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _await(work: Callable[[T], Awaitable[R]], item: T) -> R:
    return await work(item)
