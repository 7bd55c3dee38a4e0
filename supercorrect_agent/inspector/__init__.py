"""The inspector (paper section 4.1, decision B12): rule checks of a teacher's work, then a chat model's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableConfig

from supercorrect_agent.inspector.rules import (
    failed_checks,
    failed_notes,
    inspect_answer,
    inspect_arithmetic,
    inspect_critique,
    inspect_template,
    inspect_trace,
    speaks_of_reference,
)
from supercorrect_agent.types import Call, Critique, Inspection, Problem, Solution

if TYPE_CHECKING:
    from supercorrect_agent.prompts import PromptSet

__all__ = [
    "JUDGEABLE",
    "REACHES_ANSWER",
    "UNAVAILABLE",
    "Inspected",
    "Inspector",
    "TemplateInspector",
    "as_inspector",
    "failed_checks",
    "failed_notes",
    "inspect_answer",
    "inspect_arithmetic",
    "inspect_critique",
    "inspect_template",
    "inspect_trace",
    "speaks_of_reference",
]

Inspected = tuple[tuple[Inspection, ...], tuple[Call, ...]]
UNAVAILABLE = "inspector"  # the check that fails where the inspector's verdict could not be read
REACHES_ANSWER = "reaches_answer"  # the check of a correction by where the student comes from it
JUDGEABLE = "judgeable"  # the check that fails where a teacher says that a problem is beyond it


@runtime_checkable
class Inspector(Protocol):
    """Checks critiques. Calls that it made are returned with the checks."""

    name: str

    def inspect(
        self, problem: Problem, solution: Solution, critique: Critique, config: RunnableConfig | None = None
    ) -> Inspected: ...

    async def ainspect(
        self, problem: Problem, solution: Solution, critique: Critique, config: RunnableConfig | None = None
    ) -> Inspected: ...


@runtime_checkable
class TemplateInspector(Inspector, Protocol):
    """An inspector that checks the hierarchical solutions that a teacher writes, too."""

    def inspect_template(
        self, problem: Problem, template: Solution, config: RunnableConfig | None = None
    ) -> Inspected: ...

    async def ainspect_template(
        self, problem: Problem, template: Solution, config: RunnableConfig | None = None
    ) -> Inspected: ...


def as_inspector(spec: str | BaseChatModel, prompts: PromptSet | None = None) -> Inspector:
    """Makes an inspector of a chat model, or of a string that ``load_chat_model`` takes.

    Args:
        spec: The model.
        prompts: Its prompts; the default ones if None.

    Raises:
        ModelError: The named model cannot be loaded.
    """
    from supercorrect_agent.inspector.llm import LLMInspector
    from supercorrect_agent.models import load_chat_model

    return LLMInspector(load_chat_model(spec), prompts)
