"""DPO's invariant, checked before a step is spent: the reference is the student that training starts from."""

from __future__ import annotations

import math
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from supercorrect_agent.errors import DataError

ROWS = 2


class CheckReference(TrainerCallback):  # type: ignore[misc]
    """Stops a run whose reference is not the policy before its first step (decision B18).

    Takes the shortest rows. The policy's log-probabilities come from a plain forward pass, the reference's
    from the data (or TRL's own reference pass); they must be equal, and with them the margin is zero.

    Raises:
        DataError: They are not.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if state.global_step:  # resumed: the policy has moved
            return
        trainer = self._trainer
        last = range(max(0, len(trainer.train_dataset) - ROWS), len(trainer.train_dataset))
        batch = trainer._prepare_inputs(trainer.data_collator([trainer.train_dataset[i] for i in last]))
        model = trainer.model_wrapped
        training = model.training
        model.eval()
        policy = log_probabilities(model, batch)
        if "ref_chosen_logps" in batch:
            reference = (batch["ref_chosen_logps"], batch["ref_rejected_logps"])
        else:
            reference = trainer.compute_ref_log_probs(trainer.ref_model or model, batch)
        model.train(training)
        rough = args.bf16 or args.fp16 or any(weights.element_size() < 4 for weights in model.parameters())
        for side, own, other in zip(("chosen", "rejected"), policy, reference, strict=True):
            compare(side, own.tolist(), other.tolist(), rough=rough)


def log_probabilities(model: Any, batch: dict[str, Any]) -> Any:
    """Summed log-probabilities of the learnt tokens, as two tensors of shape (rows,): chosen, rejected."""
    import torch

    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
        each = logits.float().log_softmax(-1).gather(2, batch["input_ids"][:, 1:, None])[..., 0]
    return (each * batch["completion_mask"][:, 1:]).sum(1).chunk(2)


def compare(side: str, policy: list[float], reference: list[float], *, rough: bool) -> None:
    """Compares log-probabilities in nats; ``rough`` allows for 16-bit sums, which depend on the padding."""
    for own, other in zip(policy, reference, strict=True):
        allowed = 0.5 + 0.02 * abs(own) if rough else 0.01 + 1e-4 * abs(own)
        if not math.isclose(own, other, rel_tol=0, abs_tol=allowed):
            raise DataError(
                f"The reference gives the {side} side of a pair the log-probability {other:.3f}, the student "
                f"that training starts from {own:.3f}: it is another model. Pass stage 1's adapter as "
                "`--adapter` and its base as `--model`."
            )
