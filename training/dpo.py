"""Stage 2: cross-model DPO with TRL's trainer and one override, for rows that are tokenised here.

    python -m training.dpo --model sandbox --adapter runs/sft --data runs/pairs --output runs/dpo
    python -m training.dpo --model runs/sft --full --data runs/pairs --output runs/dpo

The reference (paper eq. 8, "unchanged") is the student that stage 1 left, in each of the three cases:

- ``--adapter A``: the policy starts as A, and TRL keeps a frozen copy of A as the reference;
- a fresh LoRA adapter on ``--model``: the reference is the model with the adapter off;
- ``--full``: the reference's log-probabilities are computed before the first step.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from training.config import DpoConfig
from training.data import load_rows
from training.flags import run_main
from training.folders import make_folder
from training.progress import Say, print_line
from training.sources import model_path


def run_dpo(config: DpoConfig, *, say: Say = print_line) -> Path:
    """Trains a student on preference pairs.

    Returns:
        The output folder: a LoRA adapter, or for ``full`` a model; with ``run.json`` and ``log.jsonl``.

    Raises:
        SuperCorrectError: The data, the model or an argument is unusable, or the reference is not the student
            that training starts from.
    """
    rows, manifest = load_rows(config.data)
    make_folder(config.output, argument="output")

    from training.run import quiet, save_run, train
    from training.student import load_tokenizer
    from training.tokens import tokenize_pair, tokenize_rows

    with quiet():
        tokenizer = load_tokenizer(model_path(config.model))
        tokenized, lengths = tokenize_rows(rows, tokenizer, tokenize_pair, config.max_length)
        say(f"dpo: {lengths}")
        trainer = create_dpo_trainer(config, tokenized, tokenizer)
        results = train(trainer, name="dpo", say=say)
        save_run(config.output, config, {"data": manifest, "lengths": lengths, "results": results})
    return config.output


def create_dpo_trainer(config: DpoConfig, tokenized: list[dict[str, Any]], tokenizer: Any) -> Any:
    """The trainer, its reference settled and checked at the first step.

    Args:
        config: The stage's settings.
        tokenized: Rows of `training.tokens.tokenize_pair`.
        tokenizer: The student's tokenizer.
    """
    import datasets
    from trl import DPOConfig as DpoArguments
    from trl import DPOTrainer

    from training.run import CheckReference, common_arguments, make_arguments
    from training.student import load_student, lora_config

    class TokenizedDPOTrainer(DPOTrainer):  # type: ignore[misc]
        """TRL's trainer for tokenised rows: its own step would add EOS and a new turn (decision B1)."""

        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

    arguments = make_arguments(
        DpoArguments,
        {
            "beta": config.beta,
            "loss_type": list(config.loss_type),
            "loss_weights": list(config.loss_weights),
            # Without this TRL would load the reference of a merged model from the base's path.
            "precompute_ref_log_probs": config.precompute_ref_log_probs or config.full,
            "precompute_ref_batch_size": config.per_device_train_batch_size,
            **common_arguments(config, config.output),
        },
    )
    return TokenizedDPOTrainer(
        model=load_student(config),
        args=arguments,
        train_dataset=datasets.Dataset.from_list(tokenized),
        processing_class=tokenizer,
        peft_config=lora_config(config),
        callbacks=[CheckReference()],
    )


def main() -> int:
    return run_main(DpoConfig, run_dpo, program="training.dpo")


if __name__ == "__main__":
    sys.exit(main())
