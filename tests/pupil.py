"""A student for the training tests who answers by question, so that concurrent runs may ask in any order."""

from __future__ import annotations

from typing import Any, NamedTuple

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import Field

from supercorrect_agent.prompts import DEFAULT_PROMPTS, student_messages
from supercorrect_agent.sandbox.teacher import SandboxTeacher
from supercorrect_agent.types import Problem


class Sheet(NamedTuple):
    """What the pupil writes for one problem: first, in review, behind a correction, when sampled again."""

    solution: str
    review: str = ""
    rest: str = ""
    again: str = ""


class Pupil(BaseChatModel):
    """Looks the question up in its sheets; a question without one makes the call fail."""

    sheets: dict[str, Sheet]
    asked: list[str] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "supercorrect-local"  # it continues a last assistant message

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        prompt = str(messages[0].content)
        question = next((each for each in self.sheets if each in prompt), None)
        if question is None:
            raise RuntimeError("the pupil has no sheet for this problem")
        kind = "review" if prompt != student_messages(DEFAULT_PROMPTS, question)[0].content else "solution"
        if kind == "solution" and isinstance(messages[-1], AIMessage):
            kind = "rest"
        if kind == "solution" and kwargs.get("temperature"):
            kind = "again"
        self.asked.append(kind)
        usage = UsageMetadata(input_tokens=10, output_tokens=5, total_tokens=15)
        reply = AIMessage(getattr(self.sheets[question], kind), usage_metadata=usage)
        return ChatResult(generations=[ChatGeneration(message=reply)])


def right_solution(problem: Problem) -> str:
    """The sandbox teacher's own solution."""
    written, _ = SandboxTeacher().write_solution(problem)
    assert written is not None
    return written.raw


def wrong_solution(problem: Problem) -> str:
    """The same with a last step and an answer that are one too high."""
    answer = str(problem.answer)
    head, _, last = right_solution(problem).rpartition(f"={answer}</Step")
    wrong = str(int(answer) + 1)
    return f"{head}={wrong}</Step{last.replace(f'{{{answer}}}', f'{{{wrong}}}')}"


def ending(problem: Problem) -> str:
    """What follows the last step in the right solution."""
    text = right_solution(problem)
    return text[text.index("<Generalized>") :]
