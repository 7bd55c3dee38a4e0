"""An inspector that is a chat model: it checks what the rules let through (decision B12)."""

from __future__ import annotations

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig

from supercorrect_agent.calls import Effect, Flow, Reply, adrive, ask, drive, model_name, sampling_of
from supercorrect_agent.inspector import UNAVAILABLE, Inspected
from supercorrect_agent.inspector.verdict import (
    TEMPLATE_SCHEMA,
    VERDICT_SCHEMA,
    as_checks,
    as_template_checks,
    read_inspection,
)
from supercorrect_agent.models import schema_kwargs
from supercorrect_agent.prompts import DEFAULT_PROMPTS, PromptSet, fence, render_prompt
from supercorrect_agent.teachers.llm import ask_twice, reference_text
from supercorrect_agent.types import Critique, Inspection, Problem, Solution


class LLMInspector:
    """A chat model as inspector. It sees the reference, if there is one, and all that was written fenced.

    Its verdict follows a JSON schema where the model is known to take one (``models.schema_kwargs``).
    """

    def __init__(self, model: BaseChatModel, prompts: PromptSet | None = None) -> None:
        self.model = model
        self.prompts = prompts or DEFAULT_PROMPTS
        self.name = model_name(model)

    def inspect(
        self, problem: Problem, solution: Solution, critique: Critique, config: RunnableConfig | None = None
    ) -> Inspected:
        """Checks a critique.

        Args:
            problem: The problem, with its true answer and reference solution where these may be seen.
            solution: The solution that was judged.
            critique: The teacher's critique of it.
            config: The caller's config.

        Returns:
            The checks, and the calls made. If two replies could not be used there is only the check
            ``inspector``, which then failed.
        """
        return drive(self._inspect(problem, solution, critique, config))

    async def ainspect(
        self, problem: Problem, solution: Solution, critique: Critique, config: RunnableConfig | None = None
    ) -> Inspected:
        """As ``inspect``."""
        return await adrive(self._inspect(problem, solution, critique, config))

    def inspect_template(
        self, problem: Problem, template: Solution, config: RunnableConfig | None = None
    ) -> Inspected:
        """Checks a teacher's own hierarchical solution against the problem and its reference.

        Args:
            problem: The problem, with its true answer and reference solution.
            template: The solution.
            config: The caller's config.

        Returns:
            The checks and the calls made, as ``inspect`` does.
        """
        return drive(self._inspect_template(problem, template, config))

    async def ainspect_template(
        self, problem: Problem, template: Solution, config: RunnableConfig | None = None
    ) -> Inspected:
        """As ``inspect_template``."""
        return await adrive(self._inspect_template(problem, template, config))

    def _inspect(
        self, problem: Problem, solution: Solution, critique: Critique, config: RunnableConfig | None
    ) -> Flow[Inspected]:
        request = render_prompt(
            self.prompts.inspect,
            problem=fence(problem.question, "problem"),
            reference=fence(reference_text(problem) or "There is none.", "reference"),
            solution=fence(solution.raw, "solution"),
            critique=fence(_critique_text(critique), "critique"),
        )
        verdict, _, calls = yield from ask_twice(
            lambda messages: self._ask(messages, config),
            request,
            lambda reply: read_inspection(reply, steps=max(1, len(solution.steps))),
        )
        if verdict is not None:
            answers = Inspection(check=UNAVAILABLE, passed=True)
            return (answers, *as_checks(verdict, critique)), calls
        return (self._unavailable(),), calls

    def _inspect_template(
        self, problem: Problem, template: Solution, config: RunnableConfig | None
    ) -> Flow[Inspected]:
        request = render_prompt(
            self.prompts.inspect_template,
            problem=fence(problem.question, "problem"),
            reference=fence(reference_text(problem) or "There is none.", "reference"),
            solution=fence(template.raw, "solution"),
        )
        verdict, _, calls = yield from ask_twice(
            lambda messages: self._ask(messages, config, about="template"),
            request,
            lambda reply: read_inspection(reply, steps=max(1, len(template.steps))),
        )
        if verdict is not None:
            return (Inspection(check=UNAVAILABLE, passed=True), *as_template_checks(verdict)), calls
        return (self._unavailable(),), calls

    def _unavailable(self) -> Inspection:
        note = f"No verdict could be read in the replies of the inspector '{self.name}'."
        return Inspection(check=UNAVAILABLE, passed=False, note=note)

    def _ask(
        self, messages: list[BaseMessage], config: RunnableConfig | None, *, about: str = "critique"
    ) -> Effect[Reply]:
        prompt = self.prompts.inspect_template if about == "template" else self.prompts.inspect
        schema = TEMPLATE_SCHEMA if about == "template" else VERDICT_SCHEMA
        known = (config or {}).get("metadata") or {}
        return ask(
            self.model,
            messages,
            role="inspector",
            name=f"inspect_{about}",
            prompt=f"{prompt.id}@{prompt.version}",
            config=config,
            round=known.get("round", 0),
            sampling=sampling_of(config, self.model),
            extra=schema_kwargs(self.model, "inspection", schema),
        )


def _critique_text(critique: Critique) -> str:
    if critique.step is None:
        return "Every step is right."
    named = f"First wrong step: {critique.step}"
    return f"{named}\nCause: {critique.cause}\nCorrected step {critique.step}: {critique.correction}"
