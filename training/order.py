"""The order of the rows: the same for the same global batch, however many processes share it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from transformers.trainer_pt_utils import get_length_grouped_indices


class LengthOrder(torch.utils.data.Sampler[int]):
    """Rows of similar length side by side, drawn anew for each epoch from the seed and the epoch alone.

    transformers' own sampler groups by the batch of one process, and draws from the global random state,
    which a resumed epoch does not find as it was.

    Args:
        lengths: Tokens of each row.
        batch_size: Rows of one optimiser step, over all processes.
        seed: Of the order.
        epoch: Gives the number of the epoch that starts.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int, epoch: Callable[[], int]) -> None:
        self._lengths, self._batch_size, self._seed, self._epoch = lengths, batch_size, seed, epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed + self._epoch())
        return iter(get_length_grouped_indices(self._lengths, self._batch_size, generator=generator))

    def __len__(self) -> int:
        return len(self._lengths)


class GlobalOrder:
    """What both trainers put in front of TRL's: ``group_by_length`` over the global batch.

    Process ``p`` of ``n`` takes the batches ``p, p + n, ...`` of the order, so that one process with two
    steps of accumulation and two processes with one train on the same rows in the same steps. (Only the last
    step of an epoch may differ: several processes complete it with rows from the start.)
    """

    args: Any
    state: Any
    train_dataset: Any

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)  # type: ignore[misc]
        rows = self.train_dataset if train_dataset is None else train_dataset
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return LengthOrder(_lengths(rows), global_batch(self.args), seed, lambda: int(self.state.epoch or 0))


def global_batch(arguments: Any) -> int:
    """Rows of one optimiser step, over all processes."""
    per_process: int = arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps
    return per_process * int(arguments.world_size)


def _lengths(rows: Any) -> list[int]:
    if "length" in rows.column_names:
        return list(rows["length"])
    return [len(ids) for ids in rows["input_ids"]]  # packed
