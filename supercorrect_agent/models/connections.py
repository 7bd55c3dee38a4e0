"""An HTTP client for a model server, which keeps its connections open between calls.

A kept connection belongs to the event loop that it was opened in and fails in any other, such as that of the
next ``asyncio.run``. So each loop has connections of its own here, which are closed when their loop ends. A
call without a loop opens one and closes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from importlib import import_module
from typing import Any

import openai

# openai 3 is made of httpx2, earlier ones of httpx
_home = next(kind for kind in openai.DefaultAsyncHttpxClient.__mro__ if kind.__name__ == "AsyncClient")
httpx: Any = import_module(_home.__module__.partition(".")[0])

# Servers close a connection that rests (vLLM and every other one on uvicorn after 5 s). A request that meets
# the closing fails, so ours is closed before.
_LIMITS = httpx.Limits(max_connections=100_000, max_keepalive_connections=1000, keepalive_expiry=3.0)
_NONE_KEPT = httpx.Limits(max_connections=100_000, max_keepalive_connections=0)


def http_clients() -> dict[str, Any]:
    """The clients of a ``ChatOpenAI``, as its keywords."""
    return {
        "http_client": openai.DefaultHttpxClient(limits=_NONE_KEPT),
        "http_async_client": ClientPerLoop(),
        "http_socket_options": (),  # those of a client that LangChain would make, about which it warns
    }


class ClientPerLoop(openai.DefaultAsyncHttpxClient):
    """Sends each request through the client of the running event loop.

    That is ``aiohttp`` where it is installed, which takes half the processor time of ``httpx``.
    """

    def __init__(self) -> None:
        super().__init__(limits=_LIMITS)
        self._of_loops: dict[asyncio.AbstractEventLoop, tuple[Any, object]] = {}

    async def send(self, request: Any, **options: Any) -> Any:
        """Sends a request."""
        client = await self._of_this_loop()
        try:
            return await client.send(request, **options)
        except httpx.ConnectTimeout as error:  # what is made of every failed connection of `aiohttp`
            cause = error.__cause__
            if cause is None or isinstance(cause, TimeoutError | httpx.HTTPError):
                raise
            raise httpx.ConnectError(str(error), request=request) from cause

    async def _of_this_loop(self) -> Any:
        loop = asyncio.get_running_loop()
        if loop not in self._of_loops:
            for other in list(self._of_loops):
                if other.is_closed():
                    self._of_loops.pop(other, None)
            opened = _open_client()
            self._of_loops[loop] = await anext(opened), opened
        return self._of_loops[loop][0]


async def _open_client() -> AsyncGenerator[Any, None]:
    """A client that ends with its loop: ``asyncio.run`` closes the generators that are left at its end."""
    try:
        client = openai.DefaultAioHttpClient(limits=_LIMITS)
    except RuntimeError:  # `aiohttp` is not there
        client = openai.DefaultAsyncHttpxClient(limits=_LIMITS)
    try:
        yield client
    finally:
        await client.aclose()
