"""An HTTP server that runs in a thread for as long as a test needs it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import HTTPServer
from typing import TypeVar

ServerT = TypeVar("ServerT", bound=HTTPServer)


@contextmanager
def running(server: ServerT) -> Iterator[ServerT]:
    """Serves until the block ends."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
