"""How any inspector is asked about a critique: a model's own class, a callable, or a Runnable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda

from supercorrect_agent.calls import Effect, Flow, call_config
from supercorrect_agent.errors import ConfigError
from supercorrect_agent.inspector import Inspected, Inspector, TemplateInspector
from supercorrect_agent.types import Critique, Inspection, Problem, Solution

CritiqueCheck = Callable[[Problem, Solution, Critique], Sequence[Inspection]]
RunnableCheck = Runnable[dict[str, Any], Sequence[Inspection]]
AnyInspector = Inspector | CritiqueCheck | RunnableCheck
InspectorSpec = str | BaseChatModel | AnyInspector


def ask_inspector(
    inspector: AnyInspector,
    problem: Problem,
    solution: Solution,
    critique: Critique,
    config: RunnableConfig,
    *,
    round: int,
) -> Flow[Inspected]:
    """An inspector's checks of a critique, and the calls for them.

    Args:
        inspector: Who checks.
        problem: The problem; with its reference where the inspector may see that.
        solution: The solution that was judged.
        critique: The teacher's critique of it.
        config: The node's config.
        round: The round of the critique.

    Raises:
        ConfigError: A callable or Runnable returned something else than inspections.
    """
    child = call_config(config, role="inspector", name="inspect_critique", round=round)
    if isinstance(inspector, Inspector):
        own = inspector
        checks, calls = yield Effect(
            lambda: own.inspect(problem, solution, critique, child),
            lambda: own.ainspect(problem, solution, critique, child),
        )
        return checks, tuple(call.model_copy(update={"round": round}) for call in calls)
    inspection = _as_runnable(inspector)
    given = {"problem": problem, "solution": solution, "critique": critique}
    returned = yield Effect(lambda: inspection.invoke(given, child), lambda: inspection.ainvoke(given, child))
    found = tuple(returned)
    for check in found:
        if not isinstance(check, Inspection):
            raise ConfigError(
                f"`inspector` returned a {type(check).__name__}. Let it return Inspection records."
            )
    return found, ()


def ask_about_template(
    inspector: TemplateInspector, problem: Problem, template: Solution, config: RunnableConfig
) -> Flow[Inspected]:
    """An inspector's checks of a teacher's own solution, and the calls for them."""
    child = call_config(config, role="inspector", name="inspect_template", round=0)
    inspected: Inspected = yield Effect(
        lambda: inspector.inspect_template(problem, template, child),
        lambda: inspector.ainspect_template(problem, template, child),
    )
    return inspected


def _as_runnable(inspector: CritiqueCheck | RunnableCheck) -> RunnableCheck:
    if isinstance(inspector, Runnable):
        return inspector
    check = inspector
    return RunnableLambda(lambda given: tuple(check(given["problem"], given["solution"], given["critique"])))
