"""The student as TRL needs it: a causal model with or without a LoRA adapter, and its tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from supercorrect_agent.errors import ConfigError, ModelError
from training.config import TrainConfig
from training.sources import model_path

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """Loads a tokenizer that has a chat template and an end token; the pad token defaults to the end token.

    Raises:
        ModelError: There is none at ``path``, or it lacks a chat template or an end token.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"No tokenizer can be loaded from `{path}` ({_first_line(error)}). {_REMEDY}"
        ) from error
    for lacking in ("chat_template", "eos_token"):
        if getattr(tokenizer, lacking, None) is None:
            raise ModelError(
                f"The tokenizer of `{path}` has no `{lacking}`. Use an instruction-tuned checkpoint."
            )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_student(config: TrainConfig) -> PreTrainedModel:
    """Loads the weights that training starts from.

    With ``adapter`` the result is a PEFT model whose adapter ``default`` is trainable, or, for full
    fine-tuning, the base with the adapter merged in.

    Raises:
        ModelError: The model or the adapter cannot be loaded.
    """
    from transformers import AutoModelForCausalLM

    path = model_path(config.model)
    try:
        model = AutoModelForCausalLM.from_pretrained(path, dtype=_dtype(config))
    except (OSError, ValueError) as error:
        raise ModelError(f"No model can be loaded from `{path}` ({_first_line(error)}). {_REMEDY}") from error
    if config.adapter is None:
        return model
    from peft import PeftModel

    if not (config.adapter / "adapter_config.json").is_file():
        raise ModelError(
            f"`adapter={config.adapter}` is not a LoRA adapter folder. Pass the output of training.sft."
        )
    adapted = PeftModel.from_pretrained(model, str(config.adapter), is_trainable=not config.full)
    if not config.full:
        return adapted
    return adapted.merge_and_unload().requires_grad_(True)  # loading the adapter froze the base


def lora_config(config: TrainConfig) -> LoraConfig | None:
    """The fresh adapter to train, or None where all weights or an existing adapter are trained."""
    if config.full or config.adapter is not None:
        return None
    from peft import LoraConfig

    targets: str | list[str] = config.lora_target_modules
    if targets != "all-linear":
        targets = [name.strip() for name in config.lora_target_modules.split(",")]
    return LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )


def on_cpu(config: TrainConfig) -> bool:
    """Whether training runs on the CPU.

    Raises:
        ConfigError: A GPU is asked for and there is none.
    """
    import torch

    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("`device=cuda`, but no GPU is visible. Pass `--device cpu` or auto.")
    return config.device == "cpu" or not torch.cuda.is_available()


def _dtype(config: TrainConfig) -> Any:
    import torch

    if config.dtype != "auto":
        return getattr(torch, config.dtype)
    return torch.float32 if config.full or on_cpu(config) else torch.bfloat16


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


_REMEDY = "Pass a Hugging Face checkpoint folder or name, or `sandbox`."


def copy_prompts(config: TrainConfig, output: Path) -> None:
    """Takes the prompts of the base along with a whole model; an adapter is used beside its base."""
    import shutil

    from training.sources import PROMPT_FILE

    source = Path(model_path(config.model)) / PROMPT_FILE
    if config.full and source.is_file():
        shutil.copyfile(source, output / PROMPT_FILE)
