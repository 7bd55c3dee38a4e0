"""A run in messages: which one asks, which one answers, and the one that says what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from supercorrect_agent.prompts import fence
from supercorrect_agent.templates import parse_solution
from supercorrect_agent.types import Critique, Solution, Step

# LangChain's key for a message that no person wrote, and our value of it.
SOURCE: Final = {"lc_source": "self_correction"}


def last_question(messages: Sequence[BaseMessage]) -> str:
    """The text of the last human message that a person wrote; "" where there is none."""
    at = _asked_at(messages)
    return "" if at is None else str(messages[at].text)


def since_question(messages: Sequence[BaseMessage]) -> Sequence[BaseMessage]:
    """The messages after the last one that a person wrote."""
    at = _asked_at(messages)
    return messages if at is None else messages[at + 1 :]


def _asked_at(messages: Sequence[BaseMessage]) -> int | None:
    asked = (at for at, one in enumerate(messages) if isinstance(one, HumanMessage) and not is_ours(one))
    return max(asked, default=None)


def is_ours(message: BaseMessage) -> bool:
    """Whether the middleware wrote this message."""
    return message.additional_kwargs.get("lc_source") == SOURCE["lc_source"]


def final_answer(messages: Sequence[BaseMessage]) -> AIMessage | None:
    """The last message, if it is an answer in words: no tool calls, and not empty."""
    last = messages[-1] if messages else None
    words = isinstance(last, AIMessage) and not last.tool_calls and str(last.text).strip()
    return last if words else None  # type: ignore[return-value]


def sent_back(messages: Sequence[BaseMessage]) -> AIMessage | None:
    """The answer to the last question that the middleware sent back to the model, the latest if several."""
    answers = [
        answer
        for answer, feedback in pairwise(since_question(messages))
        if isinstance(answer, AIMessage) and isinstance(feedback, HumanMessage) and is_ours(feedback)
    ]
    return answers[-1] if answers else None


def read_answer(message: AIMessage) -> Solution:
    """The solution in an answer; one without readable steps is one step."""
    solution = parse_solution(str(message.text))
    if solution.steps:
        return solution
    whole = Step(index=1, text=solution.raw.strip(), end=len(solution.raw))
    return solution.model_copy(update={"steps": (whole,)})


def feedback_message(solution: Solution, found: Critique) -> HumanMessage:
    """Tells the model which step of its answer is wrong, why, and how it should read.

    Args:
        solution: The model's answer.
        found: A critique that names one of its steps.
    """
    step = found.step or 0
    parts = [
        f"A reviewer has checked your answer. Its first wrong step is step {step}:",
        fence(solution.steps[step - 1].text, "step"),
        fence(found.cause.strip(), "cause"),
    ]
    if found.correction.strip():
        parts += ["The step should read:", fence(found.correction.strip(), "correction")]
    parts.append(
        "What stands before this step is right. Keep it, go on from the corrected step, and give the "
        "whole answer again. Do not mention the review."
    )
    return HumanMessage("\n".join(parts), additional_kwargs=dict(SOURCE))
