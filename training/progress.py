"""How far a stage is: plain lines, at most one every few seconds, or a live bar on a terminal."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console

Say = Callable[[str], None]


def print_line(text: str) -> None:
    """Prints one line at once, so that a pipe sees it too."""
    print(text, flush=True)


class Pace:
    """Lets a line through every ``seconds``; the first call and ``force`` always pass."""

    def __init__(self, seconds: float = 5.0) -> None:
        self._seconds = seconds
        self._next = 0.0
        self.started = time.monotonic()

    def due(self, *, force: bool = False) -> bool:
        now = time.monotonic()
        if not force and now < self._next:
            return False
        self._next = now + self._seconds
        return True

    @property
    def elapsed(self) -> float:
        """Seconds since the start, never zero."""
        return max(time.monotonic() - self.started, 1e-6)


class Counts(Protocol):
    """What a stage has counted so far."""

    @property
    def done(self) -> int: ...

    @property
    def total(self) -> int: ...

    def line(self) -> str: ...

    def words(self) -> list[str]: ...


class Show(Protocol):
    """Shows how far a stage is."""

    def say(self, text: str) -> None:
        """Prints a line that stays."""
        ...

    def update(self, counts: Counts) -> None:
        """Shows new counts, if it is time to."""
        ...

    def close(self) -> None:
        """Leaves the terminal as it was."""
        ...


class Lines:
    """Plain lines."""

    def __init__(self, say: Say) -> None:
        self._say, self._pace = say, Pace()

    def say(self, text: str) -> None:
        self._say(text)

    def update(self, counts: Counts) -> None:
        if self._pace.due():
            self._say(counts.line())

    def close(self) -> None:
        pass


class Bar:
    """A live bar, above which lines and warnings scroll.

    Args:
        name: What is shown before it.
        console: The terminal; standard output if None.
    """

    def __init__(self, name: str, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        console = console or Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
        columns = (
            TextColumn(name),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[words]}"),
        )
        self._progress = Progress(*columns, console=console, transient=True)
        self._task = self._progress.add_task(name, total=None, words="")
        self._progress.start()

    def say(self, text: str) -> None:
        self._progress.console.print(text)

    def update(self, counts: Counts) -> None:
        words = ", ".join(counts.words())
        self._progress.update(self._task, completed=counts.done, total=counts.total, words=words)

    def close(self) -> None:
        self._progress.stop()


def on_terminal() -> bool:
    """Whether a live bar can be shown: not in a pipe, not in a log of a build."""
    return sys.stdout.isatty() and not os.environ.get("CI") and os.environ.get("TERM", "") != "dumb"
