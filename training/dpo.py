"""Stage 2: cross-model DPO with TRL's trainer and one override, for rows that are tokenised here.

    python -m training.dpo --model sandbox --adapter runs/sft --data runs/pairs --output runs/dpo
    python -m training.dpo --model runs/sft --full --data runs/pairs --output runs/dpo
    python -m training.dpo ... --replay runs/rows       # goes on learning 8 rows of stage 1 at every step
    accelerate launch --config_file training/accelerate/ddp.yaml -m training.dpo --config FILE

The reference (paper eq. 8, "unchanged") is the student that stage 1 left, in each of the three cases:

- ``--adapter A``: the policy starts as A, and TRL keeps a frozen copy of A as the reference;
- a fresh LoRA adapter on ``--model``: the reference is the model with the adapter off;
- ``--full``: the reference's log-probabilities are computed before the first step.

After an interruption the student is loaded as it was before stage 2, the reference's log-probabilities are
those of that student, and only then the policy's weights come from the checkpoint.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from training.config import DpoConfig
from training.data import load_manifest
from training.flags import run_main
from training.folders import make_folder
from training.progress import Say, print_line


def run_dpo(config: DpoConfig, *, say: Say = print_line) -> Path:
    """Trains a student on preference pairs.

    Returns:
        The output folder: a LoRA adapter, or for ``full`` a model; with ``run.json`` and ``log.jsonl``.

    Raises:
        SuperCorrectError: The data, the model or an argument is unusable, the folder holds another run, or
            the reference is not the student that training starts from.
    """
    manifest = load_manifest(config.data)
    make_folder(config.output, argument="output")

    from training.run import quiet, run_stage
    from training.tokens import tokenize_pair

    with quiet():
        arguments = dpo_arguments(config, manifest)
        run_stage(config, arguments, manifest, tokenize_pair, create_dpo_trainer, say=say)
    return config.output


def dpo_arguments(config: DpoConfig, manifest: Any) -> Any:
    """TRL's ``DPOConfig``.

    Raises:
        ConfigError: TRL refuses a value.
    """
    from trl import DPOConfig as DpoArguments

    from training.run import common_arguments, make_arguments

    values = {
        "beta": config.beta,
        "loss_type": list(config.loss_type),
        "loss_weights": list(config.loss_weights),
        # Without this TRL would load the reference of a merged model from the base's path.
        "precompute_ref_log_probs": config.precompute_ref_log_probs or config.full,
        "precompute_ref_batch_size": config.per_device_train_batch_size,
        **common_arguments(config, config.output),
    }
    return make_arguments(DpoArguments, values, manifest)


def create_dpo_trainer(config: DpoConfig, arguments: Any, rows: dict[str, Any], tokenizer: Any) -> Any:
    """The trainer, its reference settled, and checked before the first step.

    Args:
        config: The stage's settings.
        arguments: From `dpo_arguments`.
        rows: The split ``train``, perhaps ``test``, of `training.tokens.tokenize_pair`.
        tokenizer: The student's tokenizer.

    Raises:
        ConfigError: TRL refuses the combination of settings.
        DataError: The rows to replay are unusable.
    """
    from accelerate.utils import parse_flag_from_env
    from trl import DPOTrainer

    from training.order import GlobalOrder
    from training.reference import CheckReference
    from training.replay import WithReplay, load_replays
    from training.run import refusals
    from training.student import load_student, lora_config

    class TokenizedDPOTrainer(WithReplay, GlobalOrder, DPOTrainer):  # type: ignore[misc]
        """TRL's trainer for tokenised rows: its own step would add EOS and a new turn (decision B1)."""

        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

    # Under FSDP, TRL loads the reference of a full fine-tune from the base's path, without a merged adapter.
    merged = config.full and config.adapter is not None and parse_flag_from_env("ACCELERATE_USE_FSDP")
    model, reference = load_student(config), load_student(config) if merged else None
    with refusals():
        trainer = TokenizedDPOTrainer(
            model=model,
            ref_model=reference,
            args=arguments,
            train_dataset=rows["train"],
            eval_dataset=rows.get("test"),
            processing_class=tokenizer,
            peft_config=lora_config(config),
        )
    trainer.replays = load_replays(config, arguments, tokenizer)
    trainer.replay_weight = config.replay_weight
    trainer.add_callback(CheckReference(trainer))
    return trainer


def main() -> int:
    return run_main(DpoConfig, run_dpo, program="training.dpo")


if __name__ == "__main__":
    sys.exit(main())
