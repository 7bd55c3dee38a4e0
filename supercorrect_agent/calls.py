"""One model call and its record, and the way one text of a node serves both ``invoke`` and ``ainvoke``.

A *flow* is a generator that yields effects (a model call, a teacher's verdict) and returns its result.
Everything between two effects is pure; ``drive`` performs the effects on the spot, ``adrive`` awaits them,
and an effect that fails is raised inside the flow, at its ``yield``.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphBubbleUp

from supercorrect_agent.limits import limited_model, limits_of
from supercorrect_agent.models import can_prefill, counts_nothing, cut_reply
from supercorrect_agent.types import Call, Role

T = TypeVar("T")
_CALLS = "supercorrect_calls"
JUDGE_TOKENS = 1024
_SAMPLING = "__supercorrect_sampling"  # what begins with underscores goes into no tracer's metadata
_UNCOUNTED = (
    "'{}' streams without counting its tokens: its usage is 0, and `max_total_tokens` cannot hold it. Make "
    "the model with `stream_usage=True`, if its server can count."
)


@dataclass(frozen=True)
class Effect(Generic[T]):
    """Something that must be waited for, in its two forms."""

    run: Callable[[], T]
    arun: Callable[[], Awaitable[T]]


Flow = Generator[Effect[Any], Any, T]


def drive(flow: Flow[T]) -> T:
    """Runs a flow to its end, performing each effect in this thread."""
    try:
        effect = next(flow)
        while True:
            try:
                result = effect.run()
            except GraphBubbleUp:  # a teacher may ask a person with `interrupt`: that is not a failure
                raise
            except Exception as failure:
                effect = flow.throw(failure)
            else:
                effect = flow.send(result)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]


async def adrive(flow: Flow[T]) -> T:
    """Runs a flow to its end, awaiting each effect. A cancelled run leaves at the effect it waits for."""
    try:
        effect = next(flow)
        while True:
            try:
                result = await effect.arun()
            except GraphBubbleUp:
                raise
            except Exception as failure:
                effect = flow.throw(failure)
            else:
                effect = flow.send(result)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    finally:
        flow.close()


@dataclass(frozen=True)
class Reply:
    """What a model wrote. ``truncated`` tells that it ran into its token limit."""

    text: str
    truncated: bool
    call: Call


def model_name(model: BaseChatModel) -> str:
    """The name a model goes by in traces: what it was loaded as, else its class's type name."""
    for attribute in ("model_name", "model", "model_path"):
        name = getattr(model, attribute, None)
        if name:
            return str(name)
    return model._llm_type


def call_config(
    config: RunnableConfig | None, *, role: Role | Literal["memory"], name: str, round: int
) -> RunnableConfig:
    """The caller's config (its callbacks pass through) with run name, role and round added."""
    base = config or RunnableConfig()
    tags = [*(base.get("tags") or []), f"role:{role}"]
    metadata = {**(base.get("metadata") or {}), "role": role, "round": round}
    return {**base, "run_name": name, "tags": list(dict.fromkeys(tags)), "metadata": metadata}


def with_sampling(config: RunnableConfig, sampling: Mapping[str, Any]) -> RunnableConfig:
    """The config with how a chat model that is teacher or inspector is to sample under it."""
    return {**config, "configurable": {**config.get("configurable", {}), _SAMPLING: dict(sampling)}}


def sampling_of(config: RunnableConfig | None, model: BaseChatModel) -> dict[str, Any]:
    """How a model that is teacher or inspector is to sample; {} is its own way.

    What the config leaves open, a served or local model does greedily and within `JUDGE_TOKENS`, so that its
    verdict can be had again. Other providers' models may reason, and refuse a temperature or need more.
    """
    given = (config or {}).get("configurable", {}).get(_SAMPLING)
    if given is None:
        return {}
    known = {"temperature": 0.0, "max_tokens": JUDGE_TOKENS} if can_prefill(model) else {}
    return {**known, **given}


def note_calls(failure: Exception, calls: Sequence[Call]) -> None:
    """Notes on a failure which calls had been made before it: they cost what they cost."""
    setattr(failure, _CALLS, tuple(calls))


def calls_before(failure: Exception) -> tuple[Call, ...]:
    """The calls that a role had made when it failed, as far as it said so."""
    made: tuple[Call, ...] = getattr(failure, _CALLS, ())
    return made


def ask(
    model: BaseChatModel,
    messages: Sequence[BaseMessage],
    *,
    role: Role,
    name: str,
    prompt: str,
    config: RunnableConfig | None = None,
    round: int = 0,
    sampling: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Effect[Reply]:
    """One call of a chat model as an effect, within the limits that the config carries.

    Args:
        model: The chat model.
        messages: What it is sent.
        role: Whose call this is; becomes the tag ``role:...`` and ``Call.role``.
        name: The run name that tracers show.
        prompt: Id and version of the prompt, ``id@version``.
        config: The node's config, so that callbacks and token streaming reach the caller.
        round: The round the call belongs to; 0 is the first solution.
        sampling: Per-call keyword arguments that are recorded on the trace (temperature, max_tokens, stop).
        extra: Per-call keyword arguments that are not.
    """
    sampling = dict(sampling or {})
    options = {**sampling, **(extra or {})}
    limited = limited_model(model, name=name, options=options, limits=limits_of(config))
    child = call_config(config, role=role, name=name, round=round)
    del child["run_name"]  # the name of the model's own run, which need not be the outermost

    def reply(message: AIMessage, started: float) -> Reply:
        usage = message.usage_metadata
        if usage is None and counts_nothing(model):
            warnings.warn(_UNCOUNTED.format(model_name(model)), stacklevel=2)
        call = Call(
            role=role,
            model=model_name(model),
            prompt=prompt,
            sampling=sampling,
            input_tokens=usage["input_tokens"] if usage else 0,
            output_tokens=usage["output_tokens"] if usage else 0,
            seconds=round_seconds(time.perf_counter() - started),
            round=round,
        )
        finish = message.response_metadata.get("finish_reason")
        return Reply(storable(str(message.text)), truncated=finish == "length", call=call)

    def run() -> Reply:
        started = time.perf_counter()
        try:
            message = limited.invoke(messages, child)
        except Exception as failure:
            message = cut_reply(failure)
        return reply(message, started)

    async def arun() -> Reply:
        started = time.perf_counter()
        try:
            message = await limited.ainvoke(messages, child)
        except Exception as failure:
            message = cut_reply(failure)
        return reply(message, started)

    return Effect(run, arun)


def round_seconds(seconds: float) -> float:
    return round(seconds, 4)


def storable(text: str) -> str:
    """The text with U+FFFD for NUL and lone surrogates, which no JSON column or msgpack string can hold."""
    if text.isascii() and "\x00" not in text:
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\x00", "\ufffd")
