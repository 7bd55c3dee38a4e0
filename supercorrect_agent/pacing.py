"""Servers and their pace: who is told to wait makes every caller wait, and an outage costs no call.

A bulk run has hundreds of calls under way at one address. When that answers 429, or is restarted, a retry for
each call alone would ask it hundreds of times a second and give up after a few of them. So the calls of one
address share what is known of it: until when it wants to be left alone, how many calls it takes at once, and
when it last answered anybody.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime
from typing import Literal, TypeVar

from langchain_core.language_models import BaseChatModel

from supercorrect_agent.models import LOCAL_TYPE, UnusableReply, http_status, is_transient

T = TypeVar("T")
Fault = Literal["busy", "down", "broken", "late", "unusable", "request", "refused"]

PATIENCE = 600.0  # seconds
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 20.0  # seconds; each pause is twice as long as the last
BROKEN = 90.0  # seconds for which status 500 may be the server's fault and not the request's
NEVER_THERE = 8  # calls that fail at an address where nobody was ever met
LATE_RETRIES = 1  # further attempts at a call that met its time limit, which are dear
_BUSY, _REQUEST = {429, 503, 529}, {400, 413, 422}


class Pacing:
    """The pace of every server of one run; it belongs to one event loop.

    Args:
        patience: Seconds for which an address may answer nobody, or turn one call away, before calls fail.
        retries: Further attempts at a call that fails while others at the address succeed.
        call_timeout: Most seconds for one attempt; None: as long as the client waits. A model in this process
            takes as long as it takes.
    """

    def __init__(
        self, *, patience: float = PATIENCE, retries: int = 2, call_timeout: float | None = None
    ) -> None:
        self.patience, self.retries, self.call_timeout = patience, retries, call_timeout
        self._endpoints: dict[str, Endpoint] = {}
        self._models: list[BaseChatModel] = []

    def endpoint(self, model: BaseChatModel) -> Endpoint:
        """The address of a model; a model without one is an address of its own."""
        url = getattr(model, "openai_api_base", None)
        name = str(url) if url else f"{type(model).__name__}:{id(model)}"
        if name not in self._endpoints:
            self._models.append(model)  # lives as long as its number stands for it
            timeout = None if model._llm_type == LOCAL_TYPE else self.call_timeout
            self._endpoints[name] = Endpoint(name, self.patience, self.retries, timeout)
        return self._endpoints[name]

    @property
    def lost(self) -> str:
        """Why an address is given up that answered before, or empty."""
        return next((one.lost for one in self._endpoints.values() if one.lost), "")

    @property
    def missing(self) -> bool:
        """Whether an address that was asked has shown no sign of life, or none was asked at all."""
        asked = [one for one in self._endpoints.values() if one.asked]
        return not asked or any(not one.alive for one in asked)


class Endpoint:
    """One address: its calls wait for each other's sake.

    Attributes:
        name: The address.
        asked: Whether a call to it has ended, however.
        alive: Whether there is somebody: it replied, was busy, found fault with a request, or kept silent.
        lost: Why no further call has a chance, or empty.
    """

    def __init__(self, name: str, patience: float, retries: int, timeout: float | None) -> None:
        self.name, self._patience, self._retries, self._timeout = name, patience, retries, timeout
        self.asked = self.alive = False
        self._failed = 0
        self.lost = ""
        self._answered_at = -math.inf
        self._paused_at, self._pause_until, self._pause = -math.inf, -math.inf, 0.0
        self._most, self._under_way = math.inf, 0
        self._queue: deque[asyncio.Future[None]] = deque()

    async def call(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Makes a call, as often as it takes.

        Args:
            attempt: Makes one attempt.

        Raises:
            Exception: The attempt's own: it is not a passing one, or patience or retries are used up.
        """
        own, first_failure = 0, math.inf
        while True:
            await self._enter()
            begun = _now()
            try:
                reply = await self._in_time(attempt)
            except Exception as failure:
                now = _now()
                first_failure = min(first_failure, now)
                wait, counts = self._judge(failure, begun, own)
                own += counts
                if wait is None or self._is_over(failure, now - first_failure):
                    self._count_out()
                    raise
            else:
                self._answered()
                return reply
            finally:
                self._leave()
            await asyncio.sleep(wait)

    async def _in_time(self, attempt: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(self._timeout) as limit:
                return await attempt()
        except TimeoutError:
            if not limit.expired():  # the call's own
                raise
            raise TimeoutError(f"no reply within call_timeout={self._timeout} s") from None

    def _judge(self, failure: Exception, begun: float, own: int) -> tuple[float | None, bool]:
        """How long this call waits for its next attempt (None: there is none), and whether it counts."""
        fault, hint = fault_of(failure), retry_after(failure)
        self.asked = True
        self.alive |= fault in ("busy", "broken", "late", "unusable", "request")
        if fault in ("request", "refused") or (self.lost and fault != "unusable"):
            return None, True
        outage = fault in ("down", "broken") and begun > self._answered_at > -math.inf
        if fault == "busy" or outage:
            if hint is not None and hint > self._patience:
                self.lost = f"{self.name} asks for a pause of {hint:.0f} s (patience={self._patience:g})"
                return None, True
            self._slow_down(begun, hint)
            return 0.0, False  # the pause is everybody's
        most = LATE_RETRIES if fault == "late" else self._retries
        pause: float = min(FIRST_PAUSE * 2**own, LONGEST_PAUSE)
        return (None if own >= most else max(hint or 0.0, _jittered(pause))), True

    def _is_over(self, failure: Exception, waited: float) -> bool:
        """Whether a call has waited too long; an address that answered nobody all the while is lost."""
        fault = fault_of(failure)
        if waited <= (min(BROKEN, self._patience) if fault == "broken" else self._patience):
            return False
        if fault in ("busy", "down") and _now() - self._answered_at >= waited:
            self.lost = f"{self.name} has answered nobody for {waited:.0f} s (patience={self._patience:g})"
            self._pause_until = -math.inf  # those that still wait learn of it at once
        return True

    def _count_out(self) -> None:
        """Gives an address up of which many calls failed and that has shown no sign of life at all."""
        self._failed += 1
        if not self.alive and self._failed >= NEVER_THERE:
            self.lost = self.lost or f"{self.name} has not answered a single call"

    def _slow_down(self, begun: float, hint: float | None) -> None:
        now = _now()
        if begun >= self._paused_at:  # else it is of the burst that the present pause is for
            self._pause = min(max(2 * self._pause, FIRST_PAUSE), LONGEST_PAUSE)
            self._paused_at, self._most = now, max(1.0, min(self._most, self._under_way) / 2)
            wanted = _jittered(self._pause) if hint is None else max(hint, FIRST_PAUSE)  # some say 0
            self._pause_until = now + wanted
        elif hint is not None:
            self._pause_until = max(self._pause_until, now + hint)

    def _answered(self) -> None:
        self.asked = self.alive = True
        self.lost, self._pause, self._answered_at = "", 0.0, _now()
        self._most += 1  # twice as many with every round trip, until it is busy again

    async def _enter(self) -> None:
        if self._under_way >= self._most:
            turn = asyncio.get_running_loop().create_future()
            self._queue.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():  # it had its turn already
                    self._leave()
                raise
        else:
            self._under_way += 1
        try:
            while (wait := self._pause_until - _now()) > 0:
                await asyncio.sleep(wait)
        except asyncio.CancelledError:
            self._leave()
            raise

    def _leave(self) -> None:
        self._under_way -= 1
        while self._queue and self._under_way < self._most:
            turn = self._queue.popleft()
            if not turn.done():
                self._under_way += 1
                turn.set_result(None)


def fault_of(failure: BaseException) -> Fault:
    """What a failed call says of its server.

    ``busy`` and ``down`` pass with time, ``broken`` (status 500) perhaps too, ``late`` is a call that met its
    time limit, ``unusable`` a reply that is none, ``request`` one that the server finds fault with,
    ``refused`` anything else.
    """
    status = http_status(failure)
    if status in _BUSY:
        return "busy"
    if status in _REQUEST:
        return "request"
    if status == 500:
        return "broken"
    if isinstance(failure, UnusableReply):
        return "unusable"
    if isinstance(failure, TimeoutError) or "Timeout" in type(failure).__name__:
        return "late"
    return "down" if is_transient(failure) else "refused"


def retry_after(failure: BaseException) -> float | None:
    """The seconds after which a server wants to be asked again, if it says so."""
    headers = getattr(getattr(failure, "response", None), "headers", None) or {}
    try:
        if headers.get("retry-after-ms"):
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        text = headers.get("retry-after")
        if not text:
            return None
        if text.strip().replace(".", "", 1).isdigit():
            return float(text)
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def _now() -> float:
    return asyncio.get_running_loop().time()


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(1.0, 1.25)  # noqa: S311
