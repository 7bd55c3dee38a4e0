"""Decoding a batch of calls with transformers' ``generate``, each with its own limit, stops and sampling.

``generate`` itself knows only one setting for a whole batch and computes finished rows to the end. Here a
stopping criterion watches the rows and pauses ``generate`` when a quarter of them are done; the others go
on from the same cache. So a batch costs what its rows cost, not what its longest row costs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import DynamicCache, StoppingCriteria, StoppingCriteriaList
from transformers.cache_utils import DynamicLayer

PAUSE_SHARE = 0.25
SPARE_TOKENS = 64


class Speller:
    """Turns ids into text: special tokens are left out, every space stays as the model wrote it."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._pieces: dict[int, str] = {}

    def text(self, ids: Sequence[int], after: Sequence[int] = ()) -> str:
        """The text of ``ids``, read where it stands: after the ids ``after``, whose own text is left out."""
        whole = self._decode([*after, *ids])
        return whole[len(self._decode(after)) :] if after else whole

    def piece(self, token: int) -> str:
        """The text of one token alone; a part of a character reads as U+FFFD."""
        if token not in self._pieces:
            self._pieces[token] = self._decode([token])
        return self._pieces[token]

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text


@dataclass(eq=False)
class Row:
    """One call while it is decoded.

    Attributes:
        prompt: The ids of the prompt.
        context: Those last prompt ids that the reply's text joins on to; empty if the reply is a new turn.
        limit: The largest number of new tokens.
        stop: Strings that end the reply; they are no part of its text.
        end_ids: Ids that end the reply.
        temperature: 0 takes the likeliest token.
        draw: The source of this row's random numbers.
        cancelled: Tells whether nobody waits for this row any more.
        on_text: Is given each new piece of text as soon as it is settled.
        on_finish: Is called once, when the reply is complete.
    """

    prompt: list[int]
    context: list[int]
    limit: int
    stop: tuple[str, ...]
    end_ids: frozenset[int]
    temperature: float
    top_p: float
    draw: torch.Generator
    speller: Speller
    cancelled: Callable[[], bool]
    on_finish: Callable[[Row], None]
    on_text: Callable[[str], None] | None = None
    ids: list[int] = field(default_factory=list)
    text: str = ""
    finish_reason: str = ""
    sent: int = 0

    @property
    def done(self) -> bool:
        return bool(self.finish_reason) or self.cancelled()

    def take(self, token: int) -> None:
        """Adds one new token, and ends the row if that was its last."""
        self.ids.append(token)
        ended = token in self.end_ids
        cut = None if ended else self._find_stop(token)
        if ended or cut is not None:
            self.finish_reason = "stop"
        elif len(self.ids) >= self.limit:
            self.finish_reason = "length"
        if not self.finish_reason and self.on_text is None:
            return
        self.text = self.speller.text(self.ids[:-1] if ended else self.ids, self.context)[:cut]
        if self.on_text is not None:
            self._send(self.on_text)
        if self.finish_reason:
            self.on_finish(self)

    def _find_stop(self, token: int) -> int | None:
        """Where the earliest stop string begins, if ``token`` completed one."""
        piece = self.speller.piece(token)
        if not any(s[-1] in piece or s[-1].isspace() or "\ufffd" in piece for s in self.stop):
            return None
        text = self.speller.text(self.ids, self.context)
        found = [at for at in (text.find(stop) for stop in self.stop) if at >= 0]
        return min(found, default=None)

    def _send(self, on_text: Callable[[str], None]) -> None:
        settled = len(self.text) if self.finish_reason else settled_length(self.text, self.stop)
        if settled > self.sent:
            on_text(self.text[self.sent : settled])
            self.sent = settled


def settled_length(text: str, stop: Sequence[str]) -> int:
    """How many characters of ``text`` can no longer become part of a stop string or of another character."""
    end = len(text.rstrip("\ufffd"))
    for string in stop:
        for size in range(min(len(string) - 1, end), 0, -1):
            if text.startswith(string[:size], end - size):
                end -= size
                break
    return end


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """A cache layer with spare room: copying all keys for every new token took half of the time."""

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._room: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Adds states of shape (rows, heads, new tokens, head size); returns all of them, as views."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        old, size = self.get_seq_length(), self.get_seq_length() + key_states.shape[-2]
        if self._room is None or self._room[0].shape[-2] < size:
            self._room = (_grow(self.keys, key_states, old), _grow(self.values, value_states, old))
        keys, values = self._room
        keys[:, :, old:size] = key_states
        values[:, :, old:size] = value_states
        self.keys, self.values = keys[:, :, :size], values[:, :, :size]
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        super().batch_select_indices(indices)
        self._room = None


def _grow(states: torch.Tensor, new: torch.Tensor, old: int) -> torch.Tensor:
    size = (old + new.shape[-2]) * 5 // 4 + SPARE_TOKENS
    room = new.new_empty(*new.shape[:2], size, new.shape[-1])
    if old:
        room[:, :, :old] = states
    return room


class Watch(StoppingCriteria):  # type: ignore[misc]
    """Hands new tokens to their rows; ends ``generate`` for all when a quarter of the rows are done."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.paused = False

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        if not self.paused:  # on some devices `generate` runs a step too far and takes it back
            for row, token in zip(self.rows, input_ids[:, -1].tolist(), strict=True):
                if not row.done:
                    row.take(token)
            done = sum(row.done for row in self.rows)
            self.paused = done >= PAUSE_SHARE * len(self.rows)
        return torch.full((len(self.rows),), self.paused, device=input_ids.device)


class Choose:
    """Draws the next token of the rows with a temperature, each from its own random numbers.

    The draw happens before ``generate`` takes the likeliest token: all other tokens get a score of minus
    infinity. So a row's text depends on its own seed and not on the rows beside it.
    """

    def __init__(self, rows: Sequence[Row], device: torch.device) -> None:
        self.rows = [row for row in rows if row.temperature > 0]
        self.index = torch.tensor([i for i, row in enumerate(rows) if row.temperature > 0], device=device)
        self.temperature = torch.tensor([[row.temperature] for row in self.rows], device=device)
        self.top_p = torch.tensor([[row.top_p] for row in self.rows], device=device)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores of shape (rows, vocabulary) in, the same shape out."""
        likeliest, tokens = torch.softmax(scores[self.index] / self.temperature, -1).sort(-1, True)
        mass = likeliest.cumsum(-1)
        last = mass.shape[-1] - 1
        kept = mass.gather(1, (mass < self.top_p).sum(-1, keepdim=True).clamp(max=last))
        draws = torch.stack([torch.rand(1, generator=row.draw) for row in self.rows]).to(mass.device)
        chosen = tokens.gather(1, (mass < draws * kept).sum(-1, keepdim=True).clamp(max=last))
        scores[self.index] = torch.full_like(mass, -torch.inf).scatter(1, chosen, 0.0)
        return scores


def new_cache(model: Any) -> DynamicCache:
    """An empty cache for ``model``; full-attention layers get spare room, other kinds stay stock."""
    cache = DynamicCache(config=model.config)
    cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def decode(model: Any, rows: Sequence[Row], pad_id: int) -> None:
    """Decodes ``rows`` together until each is done or cancelled; results arrive through the rows' callbacks.

    Args:
        model: A causal language model of transformers.
        rows: At least one row; every prompt holds at least one id.
        pad_id: The id that fills the left of shorter prompts, where nothing attends to it.
    """
    width = max(len(row.prompt) for row in rows)
    padded = [[pad_id] * (width - len(row.prompt)) + row.prompt for row in rows]
    ids = torch.tensor(padded, device=model.device)
    spaces = torch.tensor([[width - len(row.prompt)] for row in rows], device=model.device)
    mask = (torch.arange(width, device=model.device) >= spaces).long()
    cache = new_cache(model)
    with torch.inference_mode():
        while rows:
            ids = _generate(model, rows, ids, mask, cache)
            mask = torch.nn.functional.pad(mask, (0, ids.shape[1] - mask.shape[1]), value=1)
            keep = [i for i, row in enumerate(rows) if not row.done]
            rows = [rows[i] for i in keep]
            if rows:
                index = torch.tensor(keep, device=ids.device)
                ids, mask = ids[index], mask[index]
                cache.batch_select_indices(index)


def _generate(
    model: Any, rows: Sequence[Row], ids: torch.Tensor, mask: torch.Tensor, cache: DynamicCache
) -> torch.Tensor:
    """Runs ``generate`` until the watch pauses it; returns ids of shape (rows, old and new tokens)."""
    sampled = any(row.temperature > 0 for row in rows)
    grown: torch.Tensor = model.generate(
        ids,
        attention_mask=mask,
        past_key_values=cache,
        do_sample=False,
        max_new_tokens=max(row.limit - len(row.ids) for row in rows),
        logits_processor=[Choose(rows, ids.device)] if sampled else [],
        stopping_criteria=StoppingCriteriaList([Watch(rows)]),
    )
    return grown
