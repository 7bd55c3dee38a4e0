"""Stage 1: hierarchical-thought supervised fine-tuning with TRL's stock trainer.

    python -m training.sft --model sandbox --data runs/rows --output runs/sft --learning_rate 2e-4
    accelerate launch --config_file training/accelerate/ddp.yaml -m training.sft --config FILE

The loss falls on the completion only (paper eq. 5). Rows are tokenised here, in one pass, so that rows that
are too long can be refused instead of cut; TRL takes them with their labels as they are. The same command
goes on from the last whole checkpoint after an interruption.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from supercorrect_agent.errors import ConfigError
from training.config import SftConfig
from training.data import load_manifest
from training.flags import run_main
from training.folders import make_folder
from training.progress import Say, print_line


def run_sft(config: SftConfig, *, say: Say = print_line) -> Path:
    """Trains a student on stage-1 rows.

    Returns:
        The output folder: a LoRA adapter, or for ``full`` a model; with ``run.json`` and ``log.jsonl``.

    Raises:
        SuperCorrectError: The data, the model or an argument is unusable, or the folder holds another run.
    """
    manifest = load_manifest(config.data)
    make_folder(config.output, argument="output")

    from trl import SFTConfig as SftArguments

    from training.run import common_arguments, make_arguments, quiet, run_stage
    from training.tokens import tokenize_completion

    with quiet():
        packing = {"packing": config.packing, "max_length": config.max_length} if config.packing else {}
        values = {**common_arguments(config, config.output), **packing}
        arguments = make_arguments(SftArguments, values, manifest)
        run_stage(config, arguments, manifest, tokenize_completion, create_sft_trainer, say=say)
    return config.output


def create_sft_trainer(config: SftConfig, arguments: Any, rows: dict[str, Any], tokenizer: Any) -> Any:
    """The trainer.

    Args:
        config: The stage's settings.
        arguments: TRL's, from `training.run.make_arguments`.
        rows: The split ``train``, perhaps ``test``, of `training.tokens.tokenize_completion`.
        tokenizer: The student's tokenizer.

    Raises:
        ConfigError: Packing is asked for, but rows would see each other, or ``max_length`` is missing; TRL
            refuses the combination of settings.
    """
    from trl import SFTTrainer

    from training.order import GlobalOrder
    from training.run import refusals
    from training.student import load_student, lora_config

    class OrderedSFTTrainer(GlobalOrder, SFTTrainer):  # type: ignore[misc]
        """TRL's trainer with the row order of the global batch."""

    model = load_student(config)
    if config.packing:
        from training.packing import check_packing

        if config.max_length is None:
            raise ConfigError("`packing=true` needs the size of a sequence. Pass `--max_length` in tokens.")
        check_packing(model, tokenizer)
    with refusals():
        return OrderedSFTTrainer(
            model=model,
            args=arguments,
            train_dataset=rows["train"],
            eval_dataset=rows.get("test"),
            processing_class=tokenizer,
            peft_config=lora_config(config),
        )


def main() -> int:
    return run_main(SftConfig, run_sft, program="training.sft")


if __name__ == "__main__":
    sys.exit(main())
