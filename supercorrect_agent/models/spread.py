"""One model behind several servers: what begins alike goes to the same one, and none is given too much.

A server answers faster what it has read before (vLLM's prefix cache), and the calls about one problem begin
with the same words. So the first message says which server is asked, by rendezvous hashing: when a server is
added or gone, the others keep what was theirs.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import Field, PrivateAttr

from supercorrect_agent.models.served import ServedChatModel

# A server with so many times the mean of the calls under way is passed over, and one that was not reached is
# asked again after so many seconds.
_MOST_LOAD = 1.25
_AWAY_SECONDS = 10.0
_AWAY = {"APIConnectionError", "InternalServerError"}


class SpreadChatModel(ServedChatModel):
    """A model that several servers have; a call that does not reach one of them goes to the next.

    Attributes:
        servers: The same model at each address. The fields of this model itself are those of the first.
    """

    servers: list[ServedChatModel] = Field(min_length=2, exclude=True)
    _load: list[int] = PrivateAttr()
    _away_until: list[float] = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        """Begins with no call under way and every server there."""
        super().model_post_init(context)
        self._load = [0] * len(self.servers)
        self._away_until = [-math.inf] * len(self.servers)

    def order(self, messages: Sequence[BaseMessage]) -> list[int]:
        """The servers to ask, the best first: there, not overloaded, first by the first message's hash."""
        begins = str(messages[0].text) if messages else ""
        most = _MOST_LOAD * (sum(self._load) + 1) / len(self._load)
        now = time.monotonic()

        def rank(place: int) -> tuple[bool, bool, bytes]:
            url = str(self.servers[place].openai_api_base)
            mark = hashlib.blake2b(
                f"{url}\0{begins}".encode("utf-8", "surrogatepass"), digest_size=8
            ).digest()
            return self._away_until[place] > now, self._load[place] + 1 > math.ceil(most), mark

        return sorted(range(len(self.servers)), key=rank)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        *others, last = self.order(messages)
        for place in others:
            try:
                with self._under_way(place):
                    return self.servers[place]._generate(messages, stop, run_manager, **kwargs)
            except Exception as failure:
                self._raise_unless_away(failure)
        with self._under_way(last):
            return self.servers[last]._generate(messages, stop, run_manager, **kwargs)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        *others, last = self.order(messages)
        for place in others:
            try:
                with self._under_way(place):
                    return await self.servers[place]._agenerate(messages, stop, run_manager, **kwargs)
            except Exception as failure:
                self._raise_unless_away(failure)
        with self._under_way(last):
            return await self.servers[last]._agenerate(messages, stop, run_manager, **kwargs)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        place = self.order(messages)[0]
        with self._under_way(place):
            yield from self.servers[place]._stream(messages, stop, run_manager, **kwargs)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        place = self.order(messages)[0]
        with self._under_way(place):
            async for chunk in self.servers[place]._astream(messages, stop, run_manager, **kwargs):
                yield chunk

    @contextmanager
    def _under_way(self, place: int) -> Iterator[None]:
        self._load[place] += 1
        try:
            yield
        except Exception as failure:
            if _is_away(failure):
                self._away_until[place] = time.monotonic() + _AWAY_SECONDS
            raise
        finally:
            self._load[place] -= 1

    def _raise_unless_away(self, failure: Exception) -> None:
        if not _is_away(failure):
            raise failure


def _is_away(failure: Exception) -> bool:
    """Whether a server was not reached, or is about to end; a time limit is no such sign."""
    names = {kind.__name__ for kind in type(failure).__mro__}
    return not names.isdisjoint(_AWAY) and "APITimeoutError" not in names
