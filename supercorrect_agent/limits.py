"""How long one call of a model may take, and how often it is tried.

The limits travel in the config that a node hands on, so that they also bind a chat model that a teacher asks.
A call that fails for a passing reason is tried again here and nowhere else: the models that
``load_chat_model`` makes do not retry, and one that does (``max_retries``) is left to it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig

from supercorrect_agent.models import is_transient, retries_itself, timeout_kwargs, unusable_reply
from supercorrect_agent.pacing import Endpoint, Pacing

if TYPE_CHECKING:
    from langchain_core.runnables.retry import ExponentialJitterParams

T = TypeVar("T")

# Seconds before a second attempt: 1 to 1.5; twice as long before each further one.
RETRY_WAIT: ExponentialJitterParams = {"exp_base": 2, "max": 30, "jitter": 0.5}
CALL_THREAD = "supercorrect-call"
SPENT = "max_seconds of the run are used up"
_KEY = "__supercorrect_limits"  # what begins with underscores goes into no tracer's metadata


class OutOfTime(TimeoutError):
    """The seconds of a run are used up."""


@dataclass(frozen=True)
class CallLimits:
    """The limits of each model call: seconds for one attempt, and how many further attempts.

    ``until`` is the time (``time.monotonic``) at which the seconds of the whole run are used up: no call, no
    attempt and no waiting between two goes on after it. With ``pacing`` the asynchronous calls of one server
    wait together, for as long as that foresees, and ``retries`` is not looked at.
    """

    timeout: float | None = None
    retries: int = 2
    until: float | None = None
    pacing: Pacing | None = None

    @property
    def left(self) -> float | None:
        """The seconds that are left to the run; None without a limit.

        Raises:
            OutOfTime: There are none.
        """
        if self.until is None:
            return None
        seconds = self.until - time.monotonic()
        if seconds <= 0:
            raise OutOfTime(SPENT)
        return seconds


def with_limits(config: RunnableConfig, limits: CallLimits) -> RunnableConfig:
    """The config with the limits of all calls made under it."""
    return {**config, "configurable": {**config.get("configurable", {}), _KEY: limits}}


def limits_of(config: RunnableConfig | None) -> CallLimits:
    """The limits that a config carries, else the default ones."""
    found = (config or {}).get("configurable", {}).get(_KEY)
    return found if isinstance(found, CallLimits) else CallLimits()


def limited_model(
    model: BaseChatModel, *, name: str, options: Mapping[str, Any], limits: CallLimits
) -> Runnable[Sequence[BaseMessage], AIMessage]:
    """The model for one call, within its limits.

    Args:
        model: The chat model.
        name: The run name that tracers show.
        options: The keywords of the call.
        limits: Seconds and further attempts.
    """
    attempt = Attempt(model, name, options, limits.timeout)
    attempts = Attempts(attempt, 0 if retries_itself(model) else limits.retries)
    if limits.pacing is not None:
        attempts = Paced(attempt, attempts.retries, limits.pacing.endpoint(model))
    return attempts if limits.until is None else Bounded(attempts, limits)


class Bounded(Runnable[Sequence[BaseMessage], AIMessage]):
    """A model call with all its attempts, which ends with the seconds of the run."""

    def __init__(self, attempts: Attempts, limits: CallLimits) -> None:
        self._attempts, self._limits = attempts, limits

    def invoke(
        self, input: Sequence[BaseMessage], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AIMessage:
        return run_within(partial(self._attempts.invoke, input, config), self._limits.left, OutOfTime(SPENT))

    async def ainvoke(
        self, input: Sequence[BaseMessage], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AIMessage:
        call = partial(self._attempts.ainvoke, input, config)
        return await arun_within(call, self._limits.left, OutOfTime(SPENT))


class Attempts(Runnable[Sequence[BaseMessage], AIMessage]):
    """A model call that is tried again where it fails for a passing reason.

    Most calls succeed at once and are nothing but that call. After a failure LangChain's retry takes over: it
    meets that failure as its own first attempt, and waits, counts and tags from there.
    """

    def __init__(self, attempt: Attempt, retries: int) -> None:
        self._attempt, self.retries = attempt, retries

    def invoke(
        self, input: Sequence[BaseMessage], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AIMessage:
        try:
            return self._attempt.invoke(input, config)
        except Exception as failure:
            further = self._further(failure)
        return further.invoke(input, config)

    async def ainvoke(
        self, input: Sequence[BaseMessage], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AIMessage:
        try:
            return await self._attempt.ainvoke(input, config)
        except Exception as failure:
            further = self._further(failure)
        return await further.ainvoke(input, config)

    def _further(self, failure: Exception) -> Runnable[Sequence[BaseMessage], AIMessage]:
        if not self.retries or not is_transient(failure):
            raise failure
        self._attempt.failed = failure
        return self._attempt.with_retry(
            retry_if_exception_type=is_transient,
            exponential_jitter_params=RETRY_WAIT,
            stop_after_attempt=1 + self.retries,
        )


class Paced(Attempts):
    """A model call that keeps pace with all others to its server, in its asynchronous form."""

    def __init__(self, attempt: Attempt, retries: int, endpoint: Endpoint) -> None:
        super().__init__(attempt, retries)
        self._endpoint = endpoint

    async def ainvoke(
        self, input: Sequence[BaseMessage], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AIMessage:
        return await self._endpoint.call(partial(self._attempt.ainvoke, input, config))


class Attempt(Runnable[Sequence[BaseMessage], AIMessage]):
    """One attempt at a model call; where ``failed`` is set, it has been made and ended so."""

    failed: Exception | None = None

    def __init__(
        self, model: BaseChatModel, name: str, options: Mapping[str, Any], seconds: float | None
    ) -> None:
        self.name = f"{name}_attempts"  # of the run that holds the further ones
        self._model, self._run_name, self._options, self._seconds = model, name, options, seconds

    def invoke(
        self, input: Sequence[BaseMessage], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AIMessage:
        self._fail_again()
        options = dict(self._options)
        if self._seconds is not None:
            options |= timeout_kwargs(self._model, self._seconds)
        call = partial(self._model.invoke, list(input), self._named(config), **options)
        try:
            return run_within(call, self._seconds)
        except Exception as failure:
            self._raise_named(failure)

    async def ainvoke(
        self, input: Sequence[BaseMessage], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AIMessage:
        self._fail_again()
        call = partial(self._model.ainvoke, list(input), self._named(config), **self._options)
        try:
            return await arun_within(call, self._seconds)
        except Exception as failure:
            self._raise_named(failure)

    def _raise_named(self, failure: Exception) -> NoReturn:
        named = unusable_reply(failure, self._model)
        if named is failure:
            raise failure
        raise named from failure

    def _fail_again(self) -> None:
        failed, self.failed = self.failed, None
        if failed is not None:
            raise failed

    def _named(self, config: RunnableConfig | None) -> RunnableConfig:
        return {**(config or RunnableConfig()), "run_name": self._run_name}


def run_within(call: Callable[[], T], seconds: float | None, late: TimeoutError | None = None) -> T:
    """Makes a call and waits for its result, at most so long.

    A thread cannot be stopped: a call that is given up runs on in its own, a daemon, until it returns. Its
    result is thrown away.

    Args:
        call: The call.
        seconds: How long; None without end.
        late: What is raised if there is no result then; one that names ``call_timeout`` if None.

    Raises:
        TimeoutError: There is none after ``seconds``.
    """
    if seconds is None:
        return call()
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as failure:  # Ctrl-C too belongs to whoever waits
            future.set_exception(failure)

    threading.Thread(target=copy_context().run, args=(work,), name=CALL_THREAD, daemon=True).start()
    try:
        return future.result(seconds)
    except TimeoutError:
        if future.done():  # the call's own error, or a result at the last moment
            return future.result()
        raise late or _late(seconds) from None


async def arun_within(
    call: Callable[[], Awaitable[T]], seconds: float | None, late: TimeoutError | None = None
) -> T:
    """As ``run_within``; a call that is given up is cancelled.

    A model without an async form of its own runs in a thread of the loop's executor, which goes on until the
    call returns.
    """
    if seconds is None:
        return await call()
    try:
        async with asyncio.timeout(seconds) as limit:
            return await call()
    except TimeoutError:
        if not limit.expired():  # the call's own
            raise
        raise late or _late(seconds) from None


def _late(seconds: float | None) -> TimeoutError:
    return TimeoutError(f"no reply within call_timeout={seconds} s")
