"""Why a collection stops before its problems are through: a signal, a budget, a server that is gone."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from training.collect_tally import Tally
from training.config import CollectionConfig
from training.progress import Say

EXIT_TERMINATED = 143
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether to draw further problems, and if not, why.

    Attributes:
        reason: Why not, or empty.
        signal: The signal that said so, if one did.
        asked: Is set when the run is to stop.
    """

    def __init__(self) -> None:
        self.reason = ""
        self.signal: signal.Signals | None = None
        self.asked = asyncio.Event()

    def ask(self, reason: str) -> None:
        """Stops the run; the first reason stays."""
        self.reason = self.reason or reason
        self.asked.set()


class Budgets:
    """The tokens, the money and the seconds of one run, all calls of its traces together."""

    def __init__(self, config: CollectionConfig, tally: Tally) -> None:
        self._tally = tally
        self._limits: list[tuple[str, float, Callable[[], float]]] = [
            (name, limit, spent)
            for name, limit, spent in (
                ("max_total_tokens", config.max_total_tokens, lambda: float(tally.tokens.total())),
                ("max_cost", config.max_cost, lambda: sum(tally.cost.values())),
                ("max_seconds", config.max_seconds, lambda: tally.pace.elapsed),
            )
            if limit is not None
        ]

    def spent(self) -> str:
        """Which budget is used up, or empty."""
        for name, limit, spent in self._limits:
            if spent() >= limit:
                return f"{name}={limit:g} is used up"
        return ""

    def filled(self, under_way: int) -> bool:
        """Whether what is under way will probably use a budget up, as far as runs have cost so far."""
        done = self._tally.done
        if not (done and under_way):
            return False
        return any(
            spent() * (1 + under_way / done) >= limit
            for name, limit, spent in self._limits
            if name != "max_seconds"
        )


@contextmanager
def heed_signals(
    stop: Stop, say: Say, under_way: Callable[[], int], leave: Callable[[], None]
) -> Iterator[None]:
    """Stops a run at the first SIGINT or SIGTERM once what is under way has ended; at the second, at once.

    Args:
        stop: What is told.
        say: Takes one line about it.
        under_way: How many problems there are to wait for.
        leave: Is called before the process ends at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()

    def heed(number: signal.Signals) -> None:
        if stop.signal is not None:
            leave()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(128 + number)  # threads of a model in this process would hold an ordinary exit up
        stop.signal = number
        stop.ask(number.name)
        say(f"collect: {number.name}: waiting for {under_way()} problems under way; once more ends at once")

    before: dict[signal.Signals, Any] = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        loop.add_signal_handler(number, heed, number)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
