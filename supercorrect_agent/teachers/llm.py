"""A teacher that is any chat model: one call, a JSON verdict, one retry when the reply cannot be used."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator, model_validator

from supercorrect_agent.calls import Flow, Reply, adrive, ask, drive, model_name
from supercorrect_agent.prompts import DEFAULT_PROMPTS, Prompt, PromptSet, fence, render_prompt
from supercorrect_agent.teachers import Critiqued, Written
from supercorrect_agent.templates import parse_solution
from supercorrect_agent.types import Call, Critique, Problem, Solution

READ_LIMIT = 20_000  # characters of a reply, from its end, in which the verdict is looked for
_ESCAPE = re.compile(r'\\(\\|["/]|u[0-9a-fA-F]{4}|n|[bfrt](?![A-Za-z]))?')
_TAG = re.compile(r"</?\s*(?:step\s*\d*|generalized|answer|cause|correction)\s*:?\s*>", re.IGNORECASE)


class JudgeReply(BaseModel):
    """The verdict a judge is asked for. ``first_wrong_step`` is null when every step holds."""

    first_wrong_step: int | None
    cause: str = ""
    correction: str = ""
    confidence: float | None = Field(default=None, ge=0, le=1)

    @field_validator("first_wrong_step")
    @classmethod
    def _is_a_step(cls, step: int | None, info: ValidationInfo) -> int | None:
        last: int = info.context["steps"] if info.context else sys.maxsize
        if step is not None and not 1 <= step <= last:
            raise ValueError(f"{step} is not a step: the solution has steps 1 to {last}")
        return step

    @model_validator(mode="after")
    def _says_why(self) -> JudgeReply:
        if self.first_wrong_step is not None and not (self.cause.strip() and self.correction.strip()):
            raise ValueError("a wrong step needs both `cause` and `correction`")
        return self


class LLMTeacher:
    """A chat model as teacher. What the student wrote reaches it fenced, as material to judge."""

    def __init__(self, model: BaseChatModel, prompts: PromptSet | None = None) -> None:
        self.model = model
        self.prompts = prompts or DEFAULT_PROMPTS
        self.name = model_name(model)

    def critique(
        self,
        question: str,
        solution: Solution,
        *,
        reference: Problem | None = None,
        config: RunnableConfig | None = None,
    ) -> Critiqued:
        """Names the first wrong step of a solution, its cause and the corrected step.

        Args:
            question: The problem's text.
            solution: The solution to judge.
            reference: The problem with its true answer (grounded), or None.
            config: The caller's config.

        Returns:
            The critique, ``readable=False`` if two replies could not be used, and the calls made.
        """
        return drive(self._judge(question, solution, reference, config))

    async def acritique(
        self,
        question: str,
        solution: Solution,
        *,
        reference: Problem | None = None,
        config: RunnableConfig | None = None,
    ) -> Critiqued:
        """As ``critique``."""
        return await adrive(self._judge(question, solution, reference, config))

    def revise(
        self,
        question: str,
        solution: Solution,
        critique: Critique,
        notes: str,
        *,
        reference: Problem | None = None,
        config: RunnableConfig | None = None,
    ) -> Critiqued:
        """Writes a critique again after an inspector's notes on it; otherwise as ``critique``."""
        return drive(self._judge(question, solution, reference, config, _revise_words(critique, notes)))

    async def arevise(
        self,
        question: str,
        solution: Solution,
        critique: Critique,
        notes: str,
        *,
        reference: Problem | None = None,
        config: RunnableConfig | None = None,
    ) -> Critiqued:
        """As ``revise``."""
        return await adrive(
            self._judge(question, solution, reference, config, _revise_words(critique, notes))
        )

    def write_solution(self, problem: Problem, config: RunnableConfig | None = None) -> Written:
        """Writes the hierarchical solution of a problem from its reference (paper eq. 4).

        Returns:
            The solution, None if the reply has no readable steps or answer, and the calls made.
        """
        return drive(self._write(problem, config))

    async def awrite_solution(self, problem: Problem, config: RunnableConfig | None = None) -> Written:
        """As ``write_solution``."""
        return await adrive(self._write(problem, config))

    def _judge(
        self,
        question: str,
        solution: Solution,
        reference: Problem | None,
        config: RunnableConfig | None,
        notes: str = "",
    ) -> Flow[Critiqued]:
        values = {"problem": fence(question, "problem"), "solution": fence(solution.raw, "solution")}
        prompt = self.prompts.judge
        if reference is not None:
            prompt = self.prompts.grounded
            values["reference"] = fence(reference_text(reference), "reference")
        text = render_prompt(prompt, notes=notes, **values)
        if notes and "notes" not in prompt.placeholders:  # a user's own prompt may have no place for them
            text = f"{text}\n\n{notes}"
        messages: list[BaseMessage] = [HumanMessage(text)]
        calls: list[Call] = []
        for _ in range(2):
            reply: Reply = yield self._ask(messages, prompt, "teacher_critique", config)
            calls.append(reply.call)
            try:
                verdict = read_verdict(reply.text, steps=max(1, len(solution.steps)))
            except ValueError as unusable:
                messages += [AIMessage(reply.text), HumanMessage(_retry_words(unusable))]
            else:
                return self._critique(verdict, reply.text), tuple(calls)
        return Critique(author=self.name, raw=reply.text, readable=False), tuple(calls)

    def _critique(self, verdict: JudgeReply, raw: str) -> Critique:
        step = verdict.first_wrong_step
        found: dict[str, Any] = {}
        if step is not None:
            correction = _TAG.sub("", verdict.correction).strip()
            found = {"cause": verdict.cause.strip(), "correction": correction}
            found |= {"cause_step": step, "correction_step": step}
        return Critique(step=step, author=self.name, raw=raw, confidence=verdict.confidence, **found)

    def _write(self, problem: Problem, config: RunnableConfig | None) -> Flow[Written]:
        prompt = self.prompts.template
        text = render_prompt(
            prompt,
            problem=fence(problem.question, "problem"),
            reference=fence(reference_text(problem), "reference"),
        )
        reply: Reply = yield self._ask([HumanMessage(text)], prompt, "teacher_write", config)
        solution = parse_solution(reply.text, model=self.name)
        return (solution if solution.steps and solution.answer is not None else None), (reply.call,)

    def _ask(
        self, messages: list[BaseMessage], prompt: Prompt, name: str, config: RunnableConfig | None
    ) -> Any:
        known = (config or {}).get("metadata") or {}
        return ask(
            self.model,
            messages,
            role="teacher",
            name=name,
            prompt=f"{prompt.id}@{prompt.version}",
            config=config,
            round=known.get("round", 0),
        )


def reference_text(problem: Problem) -> str:
    """What a grounded teacher sees: the reference solution and the true answer, as far as there are any."""
    parts = [problem.reference_solution or ""]
    if problem.answer is not None:
        parts.append(f"Answer: {problem.answer}")
    return "\n".join(part for part in parts if part)


def read_verdict(text: str, *, steps: int) -> JudgeReply:
    """Reads a judge's JSON verdict out of a reply, which may wrap it in prose or a code fence.

    The last object that has the key ``first_wrong_step`` counts, so that a quotation before it does not.
    LaTeX in a string that was not escaped for JSON (``"\\frac"``) is read as it was meant.

    Args:
        text: The reply; its last ``READ_LIMIT`` characters are looked at.
        steps: How many steps the judged solution has.

    Raises:
        ValueError: No such object, or its values are out of bounds; the message says which.
    """
    found = _last_object(_ESCAPE.sub(_keep_escape, text[-READ_LIMIT:]))
    if found is None:
        raise ValueError("no JSON object with the key `first_wrong_step` was found")
    try:
        return JudgeReply.model_validate(found, context={"steps": steps})
    except ValidationError as invalid:
        faults = (f"{'.'.join(map(str, e['loc'])) or 'verdict'}: {e['msg']}" for e in invalid.errors())
        raise ValueError("; ".join(faults)) from None


def _keep_escape(match: re.Match[str]) -> str:
    return match[0] if match[1] else r"\\"


def _last_object(text: str) -> dict[str, Any] | None:
    decode: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder(strict=False).raw_decode
    last, at = None, text.find("{")
    while at != -1:
        end = at + 1
        try:
            value, end = decode(text, at)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict) and "first_wrong_step" in value:
            last = value
        at = text.find("{", end)
    return last


def _retry_words(fault: ValueError) -> str:
    return f"That reply could not be used: {fault}. Write the JSON object with every key, nothing else."


def _revise_words(critique: Critique, notes: str) -> str:
    verdict = fence(critique.raw, "verdict")
    return f"Your earlier verdict:\n{verdict}\nAn inspector found fault with it; put it right:\n{notes}"
