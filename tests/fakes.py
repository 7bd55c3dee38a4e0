"""Scripted stand-ins for the roles: no network, every prompt recorded, an error when the script runs out."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig
from pydantic import Field, PrivateAttr

from supercorrect_agent.models import PREFILL_METADATA
from supercorrect_agent.types import Call, Critique, Problem, Solution


class ScriptExhausted(RuntimeError):
    """A scripted model was called once more than its script foresees."""


class ScriptedChatModel(BaseChatModel):
    """Plays its replies in order. A reply is a text, an AIMessage, or an exception to raise.

    ``prompts`` holds the messages of each call and ``options`` its keyword arguments (with ``stop``). Usage
    is the number of words: of all messages as input tokens, of the reply as output tokens.
    """

    replies: list[Any]
    model_name: str = "scripted"
    max_retries: int = 1  # a script is played once: nobody is to call again on the model's behalf
    prompts: list[list[BaseMessage]] = Field(default_factory=list)
    options: list[dict[str, Any]] = Field(default_factory=list)
    _one_at_a_time: threading.Lock = PrivateAttr(default_factory=threading.Lock)  # samples ask side by side

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def next_reply(self, messages: Sequence[BaseMessage], options: dict[str, Any]) -> AIMessage:
        """Records the call and returns the reply that is due."""
        with self._one_at_a_time:
            due = len(self.prompts)
            self.prompts.append(list(messages))
            self.options.append(options)
        if due >= len(self.replies):
            raise ScriptExhausted(
                f"{self.model_name} has {len(self.replies)} replies; this is call {due + 1}"
            )
        reply = self.replies[due]
        if isinstance(reply, BaseException):
            raise reply
        message = reply if isinstance(reply, AIMessage) else AIMessage(reply)
        inputs = sum(len(str(one.text).split()) for one in messages)
        outputs = len(str(message.text).split())
        usage = UsageMetadata(input_tokens=inputs, output_tokens=outputs, total_tokens=inputs + outputs)
        return message.model_copy(update={"usage_metadata": usage})

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        message = self.next_reply(messages, {**kwargs, "stop": stop})
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        message = self.next_reply(messages, {**kwargs, "stop": stop})
        pieces = str(message.text).splitlines(keepends=True)
        for number, piece in enumerate(pieces, 1):
            usage = message.usage_metadata if number == len(pieces) else None
            chunk = ChatGenerationChunk(message=AIMessageChunk(piece, usage_metadata=usage))
            if run_manager:
                run_manager.on_llm_new_token(piece, chunk=chunk)
            yield chunk


def prefilling(*replies: Any) -> ScriptedChatModel:
    """A scripted model that goes on from a final assistant message, as local and vLLM models do."""
    return ScriptedChatModel(replies=list(replies), metadata=PREFILL_METADATA)


class ScriptedTeacher:
    """Plays critiques in order; a critique may be an exception to raise. Records what it was given."""

    name = "scripted-teacher"

    def __init__(self, *critiques: Critique | Exception, template: Solution | None = None) -> None:
        self.critiques = list(critiques)
        self.template = template
        self.seen: list[tuple[str, Solution, Problem | None]] = []

    def critique(
        self,
        question: str,
        solution: Solution,
        *,
        reference: Problem | None = None,
        config: RunnableConfig | None = None,
    ) -> tuple[Critique, tuple[Call, ...]]:
        due = len(self.seen)
        self.seen.append((question, solution, reference))
        if due >= len(self.critiques):
            raise ScriptExhausted(f"{self.name} has {len(self.critiques)} critiques; this is call {due + 1}")
        found = self.critiques[due]
        if isinstance(found, Exception):
            raise found
        return found, (Call(role="teacher", model=self.name, input_tokens=7, output_tokens=3, seconds=0.5),)

    async def acritique(
        self,
        question: str,
        solution: Solution,
        *,
        reference: Problem | None = None,
        config: RunnableConfig | None = None,
    ) -> tuple[Critique, tuple[Call, ...]]:
        return self.critique(question, solution, reference=reference, config=config)

    def write_solution(
        self, problem: Problem, config: RunnableConfig | None = None
    ) -> tuple[Solution | None, tuple[Call, ...]]:
        return self.template, ()

    async def awrite_solution(
        self, problem: Problem, config: RunnableConfig | None = None
    ) -> tuple[Solution | None, tuple[Call, ...]]:
        return self.template, ()
