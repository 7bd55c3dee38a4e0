"""Plain progress lines, at most one every few seconds, for terminals, logs and the demo alike."""

from __future__ import annotations

import time
from collections.abc import Callable

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
