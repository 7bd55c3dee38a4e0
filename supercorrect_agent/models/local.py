"""A chat model in this process: transformers behind LangChain's interface, calls answered in batches."""

from __future__ import annotations

import asyncio
import contextlib
import queue
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import ConfigDict, Field, PrivateAttr

from supercorrect_agent.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from supercorrect_agent.models.engine import Engine, Reply, Request

ROLES = {"human": "user", "ai": "assistant", "system": "system"}


class LocalChatModel(BaseChatModel):
    """A student in this process.

    Calls made at the same time, by threads or by tasks, share one batched ``generate``; each keeps its own
    temperature, ``max_tokens`` and stop strings. If the last message is an ``AIMessage``, the model continues
    it and the reply holds only the new text. Every message carries ``usage_metadata`` (tokens, counted from
    the ids), and ``finish_reason`` and ``model_name`` in ``response_metadata``.

    Attributes:
        model_path: A folder with a causal language model, its tokenizer and chat template.
        adapter_path: A folder with a LoRA adapter of PEFT, merged into the model when it is loaded.
        device: ``"cpu"``, ``"cuda"``, or ``"auto"``: CUDA if there is one.
        dtype: A torch dtype by name, or ``"auto"``: float32 on a CPU, bfloat16 on CUDA.
        temperature: 0 decodes greedily.
        max_tokens: The largest number of new tokens of a reply.
        max_batch: The largest number of calls decoded together.
        seed: Makes sampling repeatable: the n-th call with a prompt draws the same tokens in every run.

    Raises:
        ModelError: The folder is missing or lacks a part, or a prompt is longer than the model's context.
        ConfigError: A call passes an option this model does not know.
    """

    model_config = ConfigDict(extra="forbid")

    model_path: Path
    adapter_path: Path | None = None
    device: str = "auto"
    dtype: str = "auto"
    temperature: float = Field(default=0.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=512, gt=0)
    max_batch: int = Field(default=128, gt=0)
    seed: int | None = None
    _engine: Engine = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        super().model_post_init(context)
        from supercorrect_agent.models.engine import Engine
        from supercorrect_agent.models.folder import load_folder

        model, tokenizer = load_folder(self.model_path, self.adapter_path, self.device, self.dtype)
        self._engine = Engine(model, tokenizer, max_batch=self.max_batch, seed=self.seed)

    @property
    def model_name(self) -> str:
        name = self.model_path.name
        return f"{name}+{self.adapter_path.name}" if self.adapter_path else name

    @property
    def _llm_type(self) -> str:
        return "supercorrect-local"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        fields = ("model_path", "adapter_path", "temperature", "top_p", "max_tokens", "seed")
        return {"model_name": self.model_name, **{name: str(getattr(self, name)) for name in fields}}

    def close(self) -> None:
        """Frees the model; calls that still wait fail with a ``ModelError``."""
        self._engine.close()

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        future = self._engine.submit(self._request(messages, stop, kwargs))
        try:
            return self._result(future.result())
        finally:
            future.cancel()  # of use only when the wait was interrupted

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        future = self._engine.submit(self._request(messages, stop, kwargs))
        return self._result(await asyncio.wrap_future(future))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        future = self._engine.submit(self._request(messages, stop, kwargs, on_text=pieces.put))
        future.add_done_callback(lambda _: pieces.put(None))
        try:
            while (piece := pieces.get()) is not None:
                chunk = ChatGenerationChunk(message=AIMessageChunk(content=piece))
                if run_manager:
                    run_manager.on_llm_new_token(piece, chunk=chunk)
                yield chunk
            yield self._last_chunk(future.result())
        finally:
            future.cancel()

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def put(piece: str | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

        future = self._engine.submit(self._request(messages, stop, kwargs, on_text=put))
        future.add_done_callback(lambda _: put(None))
        try:
            while (piece := await pieces.get()) is not None:
                chunk = ChatGenerationChunk(message=AIMessageChunk(content=piece))
                if run_manager:
                    await run_manager.on_llm_new_token(piece, chunk=chunk)
                yield chunk
            yield self._last_chunk(future.result())
        finally:
            future.cancel()

    def _request(
        self,
        messages: Sequence[BaseMessage],
        stop: Sequence[str] | None,
        options: dict[str, Any],
        on_text: Callable[[str], None] | None = None,
    ) -> Request:
        from supercorrect_agent.models.engine import Request

        if not messages:
            raise ModelError("There are no messages to answer. Pass at least one.")
        sampling: dict[str, Any] = {
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": None,
        }
        for name, value in options.items():
            if name in sampling:
                sampling[name] = sampling[name] if value is None else value
            elif name != "stream":  # LangChain's own
                known = ", ".join(sampling)
                raise ConfigError(f"A local model has no option `{name}={value!r}`. Options: {known}, stop.")
        check_sampling(sampling)
        strings = tuple(string for string in stop or () if string)
        return Request([as_chat(message) for message in messages], stop=strings, on_text=on_text, **sampling)

    def _result(self, reply: Reply) -> ChatResult:
        metadata = {"finish_reason": reply.finish_reason, "model_name": self.model_name}
        message = AIMessage(reply.text, usage_metadata=_usage(reply), response_metadata=metadata)
        return ChatResult(generations=[ChatGeneration(message=message, generation_info=metadata)])

    def _last_chunk(self, reply: Reply) -> ChatGenerationChunk:
        message = AIMessageChunk(
            content="",
            usage_metadata=_usage(reply),
            response_metadata={"finish_reason": reply.finish_reason, "model_name": self.model_name},
            chunk_position="last",
        )
        return ChatGenerationChunk(message=message)


def _usage(reply: Reply) -> UsageMetadata:
    return UsageMetadata(
        input_tokens=reply.input_tokens,
        output_tokens=reply.output_tokens,
        total_tokens=reply.input_tokens + reply.output_tokens,
    )


def check_sampling(sampling: dict[str, Any]) -> None:
    """Raises ``ConfigError`` for a setting of a single call that makes no sense."""
    bounds = {
        "max_tokens": (sampling["max_tokens"] >= 1, "at least 1"),
        "temperature": (sampling["temperature"] >= 0, "0 (greedy) or more"),
        "top_p": (0 < sampling["top_p"] <= 1, "above 0 and at most 1"),
    }
    for name, (holds, remedy) in bounds.items():
        if not holds:
            raise ConfigError(f"`{name}={sampling[name]}` is out of range. Pass a number that is {remedy}.")


def as_chat(message: BaseMessage) -> dict[str, str]:
    """A message as the chat templates read it."""
    if message.type not in ROLES:
        raise ModelError(
            f"A local model cannot read a message of type '{message.type}'. "
            "Pass system, human and AI messages only, or use a served model."
        )
    return {"role": ROLES[message.type], "content": str(message.text)}
