"""A teacher that is any chat model: one call, a JSON verdict, one retry when the reply cannot be used.

``same_model_grounded`` makes one of the student's own model, which sees the reference (decision B25).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig

from supercorrect_agent.calls import (
    Effect,
    Flow,
    Reply,
    adrive,
    ask,
    drive,
    model_name,
    note_calls,
    sampling_of,
)
from supercorrect_agent.models import schema_kwargs
from supercorrect_agent.problems import without_calculator_marks
from supercorrect_agent.prompts import (
    DEFAULT_PROMPTS,
    Prompt,
    PromptSet,
    fence,
    render_prompt,
    review_messages,
)
from supercorrect_agent.teachers import Critiqued, Written
from supercorrect_agent.teachers.verdict import READ_LIMIT, VERDICT_SCHEMA, as_critique, read_verdict
from supercorrect_agent.templates import parse_critique, parse_solution
from supercorrect_agent.types import Call, Critique, Problem, Solution

VerdictT = TypeVar("VerdictT")
_PRIVILEGED = "Only you see this reference. Judge by it, and do not mention it:"


class LLMTeacher:
    """A chat model as teacher. What the student wrote reaches it fenced, as material to judge.

    Its verdict follows a JSON schema where the model is known to take one (``models.schema_kwargs``), and is
    read out of whatever it writes in any case.

    Args:
        model: The chat model.
        prompts: Its prompts; the default ones if None.
        name: What it is called on traces; the model's name if None.
        writes_traces: Whether the model may answer by a correction trace, as a student learns to write them.
            One that gave no JSON verdict is then asked for a trace the second time, if it is grounded.
    """

    def __init__(
        self,
        model: BaseChatModel,
        prompts: PromptSet | None = None,
        *,
        name: str | None = None,
        writes_traces: bool = False,
    ) -> None:
        self.model = model
        self.prompts = prompts or DEFAULT_PROMPTS
        self.name = name or model_name(model)
        self._writes_traces = writes_traces

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

    def revise_solution(
        self, problem: Problem, earlier: Solution | None, notes: str, config: RunnableConfig | None = None
    ) -> Written:
        """Writes the solution again after an inspector's notes on it; otherwise as ``write_solution``."""
        return drive(self._write(problem, config, _rewrite_words(earlier, notes)))

    async def arevise_solution(
        self, problem: Problem, earlier: Solution | None, notes: str, config: RunnableConfig | None = None
    ) -> Written:
        """As ``revise_solution``."""
        return await adrive(self._write(problem, config, _rewrite_words(earlier, notes)))

    def _judge(
        self,
        question: str,
        solution: Solution,
        reference: Problem | None,
        config: RunnableConfig | None,
        notes: str = "",
    ) -> Flow[Critiqued]:
        values = {"problem": fence(question, "problem"), "solution": fence(solution.raw, "solution")}
        prompt, again = self.prompts.judge, None
        if reference is not None:
            prompt = self.prompts.grounded
            values["reference"] = fence(reference_text(reference), "reference")
            if self._writes_traces:
                again = partial(self._ask_for_trace, question, solution, values["reference"], config, notes)
        found, raw, calls = yield from ask_twice(
            lambda messages: self._ask(messages, prompt, "teacher_critique", config, VERDICT_SCHEMA),
            _with_notes(prompt, notes, **values),
            lambda reply: self._read(reply, solution),
            again=again,
        )
        return found or Critique(author=self.name, raw=raw, readable=False), calls

    def _read(self, reply: str, solution: Solution) -> Critique:
        """The critique in a reply: its JSON verdict, or a correction trace where the model may write one.

        Raises:
            ValueError: There is neither; the message says what is wrong with the verdict.
        """
        try:
            verdict = read_verdict(reply, steps=max(1, len(solution.steps)))
        except ValueError:
            trace = parse_critique(reply, author=self.name)
            if self._writes_traces and _is_whole(trace):
                return trace
            raise
        return as_critique(verdict, author=self.name, raw=reply)

    def _ask_for_trace(
        self, question: str, solution: Solution, reference: str, config: RunnableConfig | None, notes: str
    ) -> Effect[Reply]:
        """Asks as a student is asked to review, with the reference behind it."""
        prompt = self.prompts.review
        (asked,) = review_messages(self.prompts, question, solution.raw)
        text = "\n\n".join(filter(None, [asked.text, f"{_PRIVILEGED}\n{reference}", notes]))
        known = prompt.model_copy(update={"id": f"{prompt.id}+reference"})
        return self._ask([HumanMessage(text)], known, "teacher_critique", config)

    def _write(self, problem: Problem, config: RunnableConfig | None, notes: str = "") -> Flow[Written]:
        prompt = self.prompts.template
        request = _with_notes(
            prompt,
            notes,
            problem=fence(problem.question, "problem"),
            reference=fence(reference_text(problem), "reference"),
        )
        reply: Reply = yield self._ask([HumanMessage(request)], prompt, "teacher_write", config)
        solution = parse_solution(reply.text, model=self.name)
        return (solution if solution.steps and solution.answer is not None else None), (reply.call,)

    def _ask(
        self,
        messages: list[BaseMessage],
        prompt: Prompt,
        name: str,
        config: RunnableConfig | None,
        schema: dict[str, Any] | None = None,
    ) -> Effect[Reply]:
        known = (config or {}).get("metadata") or {}
        return ask(
            self.model,
            messages,
            role="teacher",
            name=name,
            prompt=f"{prompt.id}@{prompt.version}",
            config=config,
            round=known.get("round", 0),
            sampling=sampling_of(config, self.model),
            extra=schema_kwargs(self.model, "verdict", schema) if schema else None,
        )


def same_model_grounded(model: BaseChatModel, prompts: PromptSet | None = None) -> LLMTeacher:
    """The student's own model as its teacher: it sees the reference, which the student does not (B25).

    No second model is loaded and no API is asked. It goes by the model's name with ``+reference``. A model
    that writes no JSON is asked for a correction trace, the form in which students review.

    Args:
        model: The student's model, as it is loaded.
        prompts: The student's prompts; the default ones if None.
    """
    return LLMTeacher(model, prompts, name=f"{model_name(model)}+reference", writes_traces=True)


def reference_text(problem: Problem) -> str:
    """What a grounded teacher sees: the reference solution and the true answer, as far as there are any."""
    parts = [without_calculator_marks(problem.reference_solution or "")]
    if problem.answer is not None:
        parts.append(f"Answer: {problem.answer}")
    return "\n".join(part for part in parts if part)


def ask_twice(
    call: Callable[[list[BaseMessage]], Effect[Reply]],
    request: str,
    read: Callable[[str], VerdictT],
    *,
    again: Callable[[], Effect[Reply]] | None = None,
) -> Flow[tuple[VerdictT | None, str, tuple[Call, ...]]]:
    """Asks for a verdict, and once more, with what was wrong, where the reply cannot be used.

    Args:
        call: Makes the call for messages.
        request: What is asked.
        read: Reads a reply; a ValueError says why it cannot be used.
        again: Makes the second call, where that is to be another than the first with what was wrong.

    Returns:
        The verdict, None if neither reply could be used; the last reply; and the calls made.
    """
    messages: list[BaseMessage] = [HumanMessage(request)]
    calls: list[Call] = []
    asked = call(messages)
    for _ in range(2):
        try:
            reply: Reply = yield asked
        except Exception as failure:
            note_calls(failure, calls)
            raise
        calls.append(reply.call)
        try:
            return read(reply.text), reply.text, tuple(calls)
        except ValueError as unusable:
            messages += [AIMessage(_as_sent_back(reply.text)), HumanMessage(_retry_words(unusable))]
            asked = again() if again else call(messages)
    return None, reply.text, tuple(calls)


def _as_sent_back(reply: str) -> str:
    """An unusable reply as its author sees it again: what was looked at, and words where it had none."""
    return reply[-READ_LIMIT:] if reply.strip() else "(an empty reply)"


def _retry_words(fault: ValueError) -> str:
    return f"That reply could not be used: {fault}. Write the JSON object with every key, nothing else."


def _revise_words(critique: Critique, notes: str) -> str:
    verdict, faults = fence(critique.raw, "verdict"), fence(notes, "notes")
    return f"Your earlier verdict:\n{verdict}\nAn inspector found fault with it; put it right:\n{faults}"


def _rewrite_words(earlier: Solution | None, notes: str) -> str:
    written = fence(earlier.raw if earlier else "(nothing that could be read)", "draft")
    faults = fence(notes, "notes")
    return f"Your earlier version:\n{written}\nAn inspector found fault with it; put it right:\n{faults}"


def _with_notes(prompt: Prompt, notes: str, **values: str) -> str:
    text = render_prompt(prompt, notes=notes, **values)
    if notes and "notes" not in prompt.placeholders:  # a user's own prompt may have no place for them
        return f"{text}\n\n{notes}"
    return text


def _is_whole(trace: Critique) -> bool:
    """Whether a correction trace says what is wrong and how it should be, or judges every step right."""
    if trace.found_error:
        return bool(trace.cause.strip() and trace.correction.strip())
    return trace.readable and trace.answer is not None and "<evaluate" in trace.raw.lower()
