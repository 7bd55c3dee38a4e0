"""Replay: rows that every step of stage 2 learns beside its pairs, by their plain likelihood.

A preference loss looks at a few tokens of a row and lets everything else drift; rows of stage 1 hold it
(experience replay, Rolnick et al., 2019). The chosen sides of pairs may be learnt in full likewise, where the
preference itself compares only the first words that differ. The order of the rows depends on the seed and
the step alone, so that a run that is resumed, or shared by several processes, replays what it would have
replayed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from supercorrect_agent.errors import DataError
from training.config import DpoConfig
from training.dataset_folder import load_manifest
from training.order import LengthOrder
from training.run import tokenize_file
from training.tokens import tokenize_chosen, tokenize_completion


class Replay:
    """An endless sequence of batches of rows, epoch after epoch, rows of like length together.

    Args:
        rows: Of `training.tokens.tokenize_completion`, with their ``length``.
        batch_size: Rows of one batch.
        seed: Of the order.
        pad: Id of the padding token.
    """

    def __init__(self, rows: Any, batch_size: int, seed: int, pad: int) -> None:
        self._rows, self._lengths = rows, list(rows["length"])
        self._batch_size, self._seed, self._pad = min(batch_size, len(rows)), seed, pad
        self._epoch, self._order = -1, list[int]()

    def batch(self, number: int) -> dict[str, torch.Tensor]:
        """The ``number``-th batch: ``input_ids``, ``attention_mask``, ``labels``, each (rows, tokens)."""
        epoch, place = divmod(number, len(self._lengths) // self._batch_size)
        if epoch != self._epoch:
            order = LengthOrder(self._lengths, self._batch_size, self._seed, lambda: epoch)
            self._epoch, self._order = epoch, list(order)
        start = place * self._batch_size
        rows = [self._rows[i] for i in self._order[start : start + self._batch_size]]
        ids, labels = (
            _pad([row[key] for row in rows], fill)
            for key, fill in (("input_ids", self._pad), ("labels", -100))
        )
        lengths = torch.tensor([len(row["input_ids"]) for row in rows])
        mask = (torch.arange(ids.shape[1])[None] < lengths[:, None]).long()
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def _pad(rows: Sequence[Sequence[int]], fill: int) -> torch.Tensor:
    padded = torch.full((len(rows), max(map(len, rows))), fill)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = torch.tensor(row)
    return padded


def load_replays(config: DpoConfig, arguments: Any, tokenizer: Any) -> tuple[Replay, ...]:
    """The rows that a run learns beside its pairs, tokenised: stage 1's, and chosen sides in full.

    Args:
        config: The stage's settings.
        arguments: TRL's: who writes the tokens, and the seed.
        tokenizer: The student's tokenizer.

    Raises:
        DataError: A folder is unusable, or holds the other kind of rows.
    """
    found = []
    for name, kind, tokenize in (
        ("replay", "sft", tokenize_completion),
        ("learn_chosen", "preference", tokenize_chosen),
    ):
        folder = getattr(config, name)
        if folder is None:
            continue
        held = load_manifest(folder).kind
        if held != kind:
            raise DataError(
                f"`{name}={folder}` holds rows of kind {held}. Pass a folder that "
                f"`training.data --kind {kind}` built."
            )
        rows, _ = tokenize_file(config, arguments, folder, "train", tokenizer, tokenize, name=name)
        found.append(Replay(rows, config.replay_batch_size, config.seed, tokenizer.pad_token_id))
    return tuple(found)


class WithReplay:
    """What a trainer puts in front of TRL's: the mean losses of replayed batches are added to every batch's.

    Process ``p`` of ``n`` takes the batches ``p, p + n, ...``, as with the rows themselves (`GlobalOrder`).
    """

    args: Any
    state: Any
    _metrics: Any
    replays: tuple[Replay, ...] = ()
    replay_weight: float = 1.0
    _replayed = (-1, 0)  # the step, and its batches so far

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        found = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)  # type: ignore[misc]
        if not self.replays or not model.training:
            return found
        device, number = inputs["input_ids"].device, self._next_batch()
        batches = [replay.batch(number) for replay in self.replays]
        again = sum(model(**{k: part.to(device) for k, part in batch.items()}).loss for batch in batches)
        self._metrics["train"]["replay_loss"].append(again.item())
        if return_outputs:
            return found[0] + self.replay_weight * again, found[1]
        return found + self.replay_weight * again

    def _next_batch(self) -> int:
        step, done = self.state.global_step, self._replayed[1]
        done = done if step == self._replayed[0] else 0
        self._replayed = (step, done + 1)
        micro = step * self.args.gradient_accumulation_steps + done
        return int(micro * self.args.world_size + self.args.process_index)
