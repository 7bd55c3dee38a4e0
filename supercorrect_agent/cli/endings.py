"""How a command ends when it does not end well: exit codes, and Ctrl-C."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

EXIT_RUN_FAILED: Final = 1
EXIT_MISUSE: Final = 2
EXIT_INTERRUPTED: Final = 130
INTERRUPTED: Final = "interrupted: the command was stopped; what it had already written stays."


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """Lets Ctrl-C end the process on the spot, where nothing is under way that could be lost.

    For the seconds in which heavy libraries are imported and weights are read: some of that code takes a
    KeyboardInterrupt for a missing module, or swallows it.
    """

    def leave(*_: object) -> None:
        if os.isatty(1):
            os.write(1, b"\r\x1b[2K\x1b[?25h")  # erases the spinner's line and shows the cursor again
        os.write(2, f"{INTERRUPTED}\n".encode())
        os._exit(EXIT_INTERRUPTED)

    before = signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
