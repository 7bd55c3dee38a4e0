"""The student as TRL needs it: a causal model with or without a LoRA adapter, and its tokenizer."""

from __future__ import annotations

import importlib.util
import os
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
            f"No tokenizer can be loaded from `{path}` ({first_line(error)}). {_REMEDY}"
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
    fine-tuning, the base with the adapter merged in. With ``load_in_4bit`` the base has 4-bit weights; TRL
    prepares it for training. TRL's ``model_init_kwargs`` (an ``attn_implementation``, say) are heeded here.

    Raises:
        ModelError: The model or the adapter cannot be loaded.
        ConfigError: A 4-bit base is asked for where there can be none.
    """
    from transformers import AutoModelForCausalLM

    path = model_path(config.model)
    given = config.trl.get("model_init_kwargs") or {}
    settings = {"dtype": _dtype(config), **four_bits(config), **given}
    try:
        model = AutoModelForCausalLM.from_pretrained(path, **settings)
    except unloadable() as error:
        raise ModelError(f"No model can be loaded from `{path}` ({first_line(error)}). {_REMEDY}") from error
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # bitsandbytes would repack the weights at the first evaluation; no gradient passes through that
            module.support_avx512bf16_for_cpu = False
    if config.adapter is not None:
        return _with_adapter(model, config.adapter, config)
    if not config.full:
        _check_targets(model, config.lora_target_modules)
    return model


def _with_adapter(model: Any, adapter: Path, config: TrainConfig) -> Any:
    from peft import PeftModel

    if not (adapter / "adapter_config.json").is_file():
        raise ModelError(
            f"`adapter={adapter}` is not a LoRA adapter folder. Pass the output of training.sft."
        )
    try:
        adapted = PeftModel.from_pretrained(model, str(adapter), is_trainable=not config.full)
    except unloadable() as error:
        raise ModelError(
            f"`adapter={adapter}` cannot be put on `model={config.model}` ({first_line(error)}). "
            "Pass the base it was trained on, and a folder that is whole."
        ) from error
    if not config.full:
        return adapted
    return adapted.merge_and_unload().requires_grad_(True)  # loading the adapter froze the base


def _check_targets(model: Any, names: str) -> None:
    """PEFT passes over a name that no module has as long as another one has any."""
    if names == "all-linear":
        return
    found = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    lacking = [name for name in _names(names) if name.rpartition(".")[2] not in found]
    if lacking:
        linear = {name.rpartition(".")[2] for name, module in model.named_modules() if _is_linear(module)}
        raise ConfigError(
            f"`lora_target_modules={names}`: the model has no `{lacking[0]}`. "
            f"Choose among {', '.join(sorted(linear - {'lm_head'}))}, or pass all-linear."
        )


def _is_linear(module: Any) -> bool:
    import torch

    return isinstance(module, torch.nn.Linear)


def _names(joined: str) -> list[str]:
    return [name.strip() for name in joined.split(",") if name.strip()]


def four_bits(config: TrainConfig) -> dict[str, Any]:
    """The arguments that load the base in 4 bits, or none.

    The settings are QLoRA's (https://arxiv.org/abs/2305.14314, section 3): NF4, quantised constants, and
    products in bfloat16. The adapter may be served on the base in full precision.

    Raises:
        ConfigError: All weights are to be trained, or bitsandbytes is not installed.
    """
    if not config.load_in_4bit:
        return {}
    if config.full:
        raise ConfigError(
            "`load_in_4bit=true` does not go with `full=true`: 4-bit weights cannot be trained. Drop one."
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            "`load_in_4bit=true` needs bitsandbytes. Install it: pip install 'supercorrect-agent[qlora]'."
        )
    import torch
    from transformers import BitsAndBytesConfig

    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    # Such weights cannot be moved later: each process loads them onto its own device.
    device = "cpu" if on_cpu(config) else int(os.environ.get("LOCAL_RANK", "0"))
    return {"quantization_config": settings, "device_map": {"": device}}


def lora_config(config: TrainConfig) -> LoraConfig | None:
    """The fresh adapter to train, or None where all weights or an existing adapter are trained."""
    if config.full or config.adapter is not None:
        return None
    from peft import LoraConfig

    targets: str | list[str] = config.lora_target_modules
    if targets != "all-linear":
        targets = _names(config.lora_target_modules)
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


def unloadable() -> tuple[type[Exception], ...]:
    """What transformers and PEFT raise for folders and settings of which they make nothing."""
    from safetensors import SafetensorError

    return (OSError, ValueError, TypeError, RuntimeError, ImportError, SafetensorError)


def first_line(error: Exception) -> str:
    """The first line of a library's message, without its full stop or colon."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")


_REMEDY = "Pass a Hugging Face checkpoint folder or name, or `sandbox`."


def copy_prompts(config: TrainConfig, output: Path) -> None:
    """Takes the prompts of the base along with a whole model; an adapter is used beside its base."""
    import shutil

    from supercorrect_agent.prompts import PROMPT_FILE

    source = Path(model_path(config.model)) / PROMPT_FILE
    if config.full and source.is_file():
        shutil.copyfile(source, output / PROMPT_FILE)
