"""Stage 1: hierarchical-thought supervised fine-tuning with TRL's stock trainer.

    python -m training.sft --model sandbox --data runs/rows --output runs/sft --learning_rate 2e-4
    python -m training.sft --config training/configs/paper.yaml --model PATH --data FOLDER --output FOLDER

The loss falls on the completion only (paper eq. 5). Rows are tokenised here, in one pass, so that rows that
are too long can be refused instead of cut; TRL takes them with their labels as they are.
"""

from __future__ import annotations

import sys
from pathlib import Path

from training.config import SftConfig
from training.data import load_rows
from training.flags import run_main
from training.folders import make_folder
from training.progress import Say, print_line
from training.sources import model_path


def run_sft(config: SftConfig, *, say: Say = print_line) -> Path:
    """Trains a student on stage-1 rows.

    Returns:
        The output folder: a LoRA adapter, or for ``full`` a model; with ``run.json`` and ``log.jsonl``.

    Raises:
        SuperCorrectError: The data, the model or an argument is unusable.
    """
    rows, manifest = load_rows(config.data)
    make_folder(config.output, argument="output")

    import datasets
    from trl import SFTConfig as SftArguments
    from trl import SFTTrainer

    from training.run import common_arguments, make_arguments, quiet, save_run, train
    from training.student import load_student, load_tokenizer, lora_config
    from training.tokens import tokenize_completion, tokenize_rows

    with quiet():
        tokenizer = load_tokenizer(model_path(config.model))
        tokenized, lengths = tokenize_rows(rows, tokenizer, tokenize_completion, config.max_length)
        say(f"sft: {lengths}")
        trainer = SFTTrainer(
            model=load_student(config),
            args=make_arguments(SftArguments, common_arguments(config, config.output)),
            train_dataset=datasets.Dataset.from_list(tokenized),
            processing_class=tokenizer,
            peft_config=lora_config(config),
        )
        results = train(trainer, name="sft", say=say)
        save_run(config.output, config, {"data": manifest, "lengths": lengths, "results": results})
    return config.output


def main() -> int:
    return run_main(SftConfig, run_sft, program="training.sft")


if __name__ == "__main__":
    sys.exit(main())
