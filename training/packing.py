"""Whether the rows that packing puts into one sequence can see each other.

TRL packs rows without a mask: it restarts ``position_ids`` at each row and hands over the boundaries. Flash
attention keeps to them; so do transformers' masks for eager and sdpa attention, in those models whose code
passes the positions on. Any other model would learn each row with the rows before it in view, and no number
would show it. So the model at hand is asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from supercorrect_agent.errors import ConfigError
from training.probe import evaluating
from training.watch import is_sharded

LENGTHS = (12, 9)
# Shares of the largest logit that rounding may move, kernels differing with the length of a sequence.
ROUNDING = {"float32": 1e-3, "float16": 1e-2, "bfloat16": 5e-2}


def check_packing(model: Any, tokenizer: Any) -> None:
    """Compares the logits of two short random rows, each alone and both packed by TRL's own collator.

    Args:
        model: The student before its first step; left as it was.
        tokenizer: Its tokenizer, with a pad token.

    Raises:
        ConfigError: The logits of a packed row depend on the row before it, or the weights are sharded, so
            that nobody can tell.
    """
    import torch
    from accelerate import PartialState
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    if not PartialState().is_main_process:
        return  # under FSDP the others have no weights yet; if the main process refuses, all of them end
    if is_sharded(model):
        raise ConfigError(
            "`packing` cannot be checked on sharded weights. Turn `packing` off, or train with zero2."
        )
    collate = DataCollatorForLanguageModeling(pad_token_id=tokenizer.pad_token_id, padding_free=True)
    draw = torch.Generator().manual_seed(0)
    known = model.get_input_embeddings().weight.shape[0]
    rows = [torch.randint(known, (length,), generator=draw).tolist() for length in LENGTHS]
    with _where_it_runs(model):
        alone = torch.cat([_logits(model, collate([{"input_ids": row}])) for row in rows])
        packed = _logits(model, collate([{"input_ids": rows[0] + rows[1], "seq_lengths": list(LENGTHS)}]))
    moved = float((packed - alone).abs().max() / alone.abs().max())
    if not moved <= ROUNDING.get(str(model.dtype).removeprefix("torch."), 1e-3):
        attention = model.config._attn_implementation
        raise ConfigError(
            f"`packing` is not safe: with `attn_implementation={attention}` the rows of this model see those "
            f"packed before them (logits move by {moved:.0%}). Turn `packing` off, or install flash "
            "attention and set `model_init_kwargs: {attn_implementation: flash_attention_2}`."
        )


def _logits(model: Any, batch: dict[str, Any]) -> Any:
    """Logits of shape (tokens, vocabulary) in float32, computed as in training: without cache and mask."""
    import torch

    del batch["labels"]
    inputs = {
        name: value.to(model.device) if torch.is_tensor(value) else value for name, value in batch.items()
    }
    with torch.no_grad(), evaluating(model):
        return model(**inputs, use_cache=False).logits[0].float()


@contextmanager
def _where_it_runs(model: Any) -> Iterator[None]:
    """Flash attention runs on a GPU only, but a trainer has not moved the model there yet."""
    import torch

    place = model.device
    moves = "flash" in model.config._attn_implementation and place.type == "cpu" and torch.cuda.is_available()
    if moves:
        model.to("cuda")
    try:
        yield
    finally:
        if moves:
            model.to(place)
