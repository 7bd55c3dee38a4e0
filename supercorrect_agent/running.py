"""What both graphs are made of: nodes and routers in their two forms, and the settings of the present run.

Neither is a run of its own in a tracer: LangGraph shows the node, with what it read and wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, Protocol, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.runnables.config import var_child_runnable_config
from langgraph.config import get_config
from langgraph.runtime import get_runtime
from langgraph.types import Send
from pydantic import BaseModel, ValidationError

from supercorrect_agent.calls import Flow, adrive, drive
from supercorrect_agent.errors import ConfigError
from supercorrect_agent.state import CollectConfig, CorrectionConfig
from supercorrect_agent.student import Turn

Update = dict[str, Any]
Target = str | list[Send]
ConfigT = TypeVar("ConfigT", bound=BaseModel)


class NodeFlow(Protocol):
    """A node's text: from the state and the run's config to the update of the state."""

    def __call__(self, state: Any, config: RunnableConfig) -> Flow[Update]: ...


class Node(Runnable[Any, Update]):
    """A graph node, in both forms, of a flow."""

    def __init__(self, name: str, flow: NodeFlow) -> None:
        self.name, self._flow = name, flow

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Update:
        return drive(self._flow(input, config or RunnableConfig()))

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Update:
        return await adrive(self._flow(input, config or RunnableConfig()))


class Router(RunnableLambda[Any, Target]):
    """A router that answers on the spot: under ``ainvoke`` LangGraph sends a plain function to a thread.

    LangGraph reads only those keys of the state for it that are in the annotation of its argument.
    """

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Target:
        outer = var_child_runnable_config.set(config)  # where `get_runtime` looks
        try:
            return self.func(input)
        finally:
            var_child_runnable_config.reset(outer)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Target:
        return self.invoke(input, config)


def model_of(role: object) -> BaseChatModel | None:
    """The chat model behind a role; only a student always has one."""
    model = getattr(role, "model", None)
    return model if isinstance(model, BaseChatModel) else None


def run_settings(defaults: ConfigT) -> ConfigT:
    """The config of this run: what ``context=`` sets, over what the graph was created with.

    Raises:
        ConfigError: The context is of another kind, or does not go together with the graph's own config.
    """
    context = getattr(get_runtime(), "context", None)  # `update_state` asks a router outside of any run
    if context is None:
        return defaults
    kind = type(defaults)
    if not isinstance(context, kind):
        if _is_a_parents(context):
            return defaults
        raise ConfigError(
            f"`context` is a {type(context).__name__}. Pass a {kind.__name__}, or a dict of its fields."
        )
    given = {key: getattr(context, key) for key in context.model_fields_set}
    try:
        return kind.model_validate({**dict(defaults), **given})
    except ValidationError as invalid:
        fault = invalid.errors()[0]["msg"]
        raise ConfigError(f"`context` does not suit the config of the graph: {fault}") from None


def _is_a_parents(context: object) -> bool:
    """Whether a context may be that of a graph around this one, which has other fields than ours."""
    inside = "|" in get_config().get("configurable", {}).get("checkpoint_ns", "")
    return inside and (isinstance(context, Mapping) or is_dataclass(context) or hasattr(context, "__dict__"))


def student_turn(settings: CorrectionConfig | CollectConfig, config: RunnableConfig, round: int = 0) -> Turn:
    """The circumstances of a student's call in this run."""
    sampling = {"temperature": settings.temperature, "max_tokens": settings.max_new_tokens}
    return Turn(config, {key: value for key, value in sampling.items() if value is not None}, round)
