"""One background thread that gathers concurrent calls to a model and answers them in batches.

Callers, in threads or in an event loop, put a ``Request`` into the queue and wait for its future. Only the
thread touches the model and the tokenizer, neither of which may be used by two threads at once.
"""

from __future__ import annotations

import queue
import secrets
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch

from supercorrect_agent.errors import ModelError
from supercorrect_agent.models.decoding import Row, Speller, decode

# Calls that belong together arrive a few milliseconds apart.
QUIET_SECONDS = 0.005
# While fewer calls wait than the last batch held, the others are probably on their way: worth a wait of
# this share of that batch's time.
PATIENCE_SHARE = 0.05
MAX_PATIENCE_SECONDS = 0.25
# Prompts are decoded together if padding at most doubles the shortest of them, or is this short.
FREE_PADDING = 64
# A continued message is joined to the text of its last ids: no character takes more bytes than this.
CONTEXT_TOKENS = 4


@dataclass(frozen=True)
class Reply:
    """A finished call. Tokens are those the model read and wrote, the one that ended the reply included."""

    text: str
    finish_reason: str
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, eq=False)
class Request:
    """One call: chat messages as role and content, and its own sampling settings."""

    messages: Sequence[dict[str, str]]
    max_tokens: int
    temperature: float
    top_p: float
    stop: tuple[str, ...] = ()
    seed: int | None = None
    on_text: Callable[[str], None] | None = None
    future: Future[Reply] = field(default_factory=Future)

    def answer(self, row: Row) -> None:
        reply = Reply(row.text, row.finish_reason, len(row.prompt), len(row.ids))
        with suppress(InvalidStateError):  # the caller has cancelled
            self.future.set_result(reply)

    def fail(self, error: BaseException) -> None:
        with suppress(InvalidStateError):  # the caller has cancelled, or has its answer already
            self.future.set_exception(error)


class Engine:
    """The way to a model and its thread, which ends when this is closed or collected, or the program ends."""

    def __init__(self, model: Any, tokenizer: Any, *, max_batch: int, seed: int | None) -> None:
        worker = _Worker(model, tokenizer, max_batch, seed)
        thread = threading.Thread(target=worker.run, name="local-chat-model", daemon=True)
        self._worker = worker
        self._thread = thread
        self._finish = weakref.finalize(self, _finish, worker, thread)
        thread.start()

    def submit(self, request: Request) -> Future[Reply]:
        """Queues a call; its future ends with a ``Reply`` or with the error that befell it."""
        self._worker.submit(request)
        return request.future

    def close(self) -> None:
        """Ends the thread after its current step; calls that still wait fail with a ``ModelError``."""
        self._finish()


def _finish(worker: _Worker, thread: threading.Thread) -> None:
    worker.close()
    if thread is not threading.current_thread():  # the garbage collector runs anywhere
        thread.join(timeout=10)


class _Worker:
    """What the thread works on. It does not refer to the engine, so that an unused engine is collected."""

    def __init__(self, model: Any, tokenizer: Any, max_batch: int, seed: int | None) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.max_batch = max_batch
        self.seed = seed
        # a `SimpleQueue` may be written to by a finalizer that interrupts its own reader
        self.waiting: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self.lock = threading.Lock()
        self.closed = False
        self.speller = Speller(tokenizer)
        self.end_ids = end_token_ids(model, tokenizer)
        self.asked: Counter[int] = Counter()
        self.last_size = 1
        self.last_seconds = 0.0

    def submit(self, request: Request) -> None:
        with self.lock:
            if self.closed:
                raise _closed()
            self.waiting.put(request)

    def close(self) -> None:
        with self.lock:
            self.closed = True
            self.waiting.put(None)

    def run(self) -> None:
        """Answers calls until the engine is closed. Whatever goes wrong reaches the callers it concerns."""
        while not self.closed:
            requests = self.gather()
            started = time.monotonic()
            try:
                self.serve(requests)
            except BaseException as error:  # a caller must never wait for a thread that is gone
                for request in requests:
                    request.fail(error)
            if requests:
                self.last_size, self.last_seconds = len(requests), time.monotonic() - started
        while not self.waiting.empty():
            if late := self.waiting.get():
                late.fail(_closed())
        self.model = self.tokenizer = None  # frees the memory of a closed model

    def gather(self) -> list[Request]:
        """Waits for a call, then for those that belong with it."""
        first = self.waiting.get()
        requests = [first] if first else []
        patience = min(self.last_seconds * PATIENCE_SHARE, MAX_PATIENCE_SECONDS)
        deadline = time.monotonic() + patience
        while 0 < len(requests) < self.max_batch and not self.closed:
            more_expected = len(requests) < self.last_size
            wait = max(QUIET_SECONDS, deadline - time.monotonic() if more_expected else 0)
            try:
                following = self.waiting.get(timeout=wait)
            except queue.Empty:
                break
            if following is not None:
                requests.append(following)
        return requests

    def serve(self, requests: Sequence[Request]) -> None:
        rows = []
        for request in requests:
            if request.future.cancelled():
                continue
            try:
                rows.append(self.start(request))
            except Exception as error:
                request.fail(error)
        for group in alike(rows):
            decode(self.model, group, self.pad_id)
        if self.closed:
            for request in requests:
                request.fail(_closed())

    def start(self, request: Request) -> Row:
        """Renders and tokenizes one call.

        Raises:
            ModelError: The prompt leaves no room for a reply in the model's context.
        """
        text = render(self.tokenizer, request.messages)
        prompt = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        room = context_length(self.model) - len(prompt)
        if room < 1:
            raise ModelError(
                f"The prompt has {len(prompt)} tokens, but this model reads {context_length(self.model)} "
                "at most, reply included. Shorten the problem or use a model with a longer context."
            )
        continues = request.messages[-1]["role"] == "assistant"
        return Row(
            prompt=prompt,
            context=prompt[-CONTEXT_TOKENS:] if continues else [],
            limit=min(request.max_tokens, room),
            stop=request.stop,
            end_ids=self.end_ids,
            temperature=request.temperature,
            top_p=request.top_p,
            draw=self.random_source(request, prompt),
            speller=self.speller,
            cancelled=lambda: self.closed or request.future.cancelled(),
            on_finish=request.answer,
            on_text=request.on_text,
        )

    def random_source(self, request: Request, prompt: Sequence[int]) -> torch.Generator:
        """The random numbers of one call.

        With a seed they depend on the prompt and on how often it was asked before, but not on the calls
        beside it, so that concurrent runs repeat too.
        """
        if request.temperature == 0:
            return torch.default_generator
        if request.seed is not None:
            seed = request.seed
        elif self.seed is not None:
            key = hash(tuple(prompt))
            self.asked[key] += 1
            seed = hash((self.seed, key, self.asked[key]))
        else:
            seed = secrets.randbits(63)
        return torch.Generator().manual_seed(seed % 2**63)

    @property
    def pad_id(self) -> int:
        return int(self.tokenizer.pad_token_id or 0)


def _closed() -> ModelError:
    return ModelError("This local model was closed. Load it again with `load_chat_model`.")


def alike(rows: Sequence[Row]) -> list[list[Row]]:
    """Groups rows so that padding at most doubles a prompt; long prompts would slow the short ones down."""
    groups: list[list[Row]] = []
    for row in sorted(rows, key=lambda row: len(row.prompt)):
        if groups and len(row.prompt) <= max(2 * len(groups[-1][0].prompt), FREE_PADDING):
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def render(tokenizer: Any, messages: Sequence[dict[str, str]]) -> str:
    """The prompt text of a chat; a last assistant message is left open, for the model to continue."""
    partial = messages[-1]["content"] if messages[-1]["role"] == "assistant" else None
    text: str = tokenizer.apply_chat_template(
        list(messages),
        tokenize=False,
        add_generation_prompt=partial is None,
        continue_final_message=partial is not None,
    )
    if partial is not None and not text.endswith(partial):  # many templates trim white space off a message
        text = text.rstrip() + partial[len(partial.rstrip()) :]
    return text


def context_length(model: Any) -> int:
    """The largest number of tokens the model was built for, prompt and reply together."""
    length: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return length or sys.maxsize


def end_token_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Ids that end a reply: the tokenizer's own and those the checkpoint adds, an end of turn say."""
    listed = getattr(model.generation_config, "eos_token_id", None)
    ids = listed if isinstance(listed, list) else [listed]
    return frozenset(token for token in [*ids, tokenizer.eos_token_id] if token is not None)
