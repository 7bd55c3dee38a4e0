"""Loading a model folder: weights, tokenizer, chat template and, if wanted, a LoRA adapter."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import logging

from supercorrect_agent.errors import ConfigError, ModelError

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
WEIGHT_FILES = ("*.safetensors", "pytorch_model*.bin")


def load_folder(path: Path, adapter: Path | None, device: str, dtype: str) -> tuple[Any, Any]:
    """Loads a causal language model and its tokenizer, ready for ``generate``.

    Args:
        path: The model's folder.
        adapter: The folder of a LoRA adapter, merged into the weights; ``None`` for none.
        device: ``"auto"``, or a device by torch's name.
        dtype: ``"auto"`` (float32 on a CPU, bfloat16 elsewhere), or a torch dtype by name.

    Returns:
        The model, in evaluation mode on its device, and the tokenizer.

    Raises:
        ModelError: A folder is missing, lacks a part or cannot be read.
        ConfigError: The device or dtype is unknown or not there.
    """
    check_folder(path, adapter)
    place = choose_device(device)
    kind = choose_dtype(dtype, place)
    try:
        with no_progress_bars():
            tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
            model = AutoModelForCausalLM.from_pretrained(path, dtype=kind, local_files_only=True)
            if adapter is not None:
                model = merge_adapter(model, adapter)
    except (OSError, ValueError, KeyError, RuntimeError, json.JSONDecodeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"The model in '{path}' cannot be loaded ({reason}). Check or replace the folder."
        ) from error
    if tokenizer.chat_template is None:
        raise ModelError(
            f"The tokenizer in '{path}' has no chat template. Put a chat_template.jinja beside it, "
            "or use the instruction-tuned version of the model."
        )
    keep_only_end_tokens(model, tokenizer)
    return model.to(place).eval(), tokenizer


def check_folder(path: Path, adapter: Path | None) -> None:
    """Raises ``ModelError``, naming the missing part and the remedy, if a folder cannot hold a model."""
    if not path.is_dir():
        raise ModelError(
            f"The model folder '{path}' does not exist. Pass a folder with weights and tokenizer; "
            f"`hf download NAME --local-dir {path}` fetches one."
        )
    if not (path / "config.json").is_file():
        raise ModelError(f"The model folder '{path}' has no config.json. Write it with `save_pretrained`.")
    if not any(found for pattern in WEIGHT_FILES for found in path.glob(pattern)):
        raise ModelError(f"The model folder '{path}' has no weights. Write them with `save_pretrained`.")
    if not any((path / name).is_file() for name in TOKENIZER_FILES):
        raise ModelError(
            f"The model folder '{path}' has no tokenizer. "
            "Save it beside the weights with `tokenizer.save_pretrained`."
        )
    if adapter is not None and not (adapter / "adapter_config.json").is_file():
        raise ModelError(f"'{adapter}' has no adapter_config.json. Pass a folder that PEFT has written.")


def choose_device(device: str) -> torch.device:
    """The device by name; ``"auto"`` is CUDA if there is one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"`device={device!r}` is no device. Pass 'auto', 'cpu' or 'cuda'.") from error
    if place.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"`device={device!r}` is not there: torch sees no GPU. Pass 'auto' or 'cpu'.")
    return place


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The dtype by name; ``"auto"`` is float32 on a CPU, where bfloat16 is slow, and bfloat16 elsewhere."""
    if dtype == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    kind = getattr(torch, dtype, None)
    if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
        raise ConfigError(f"`dtype={dtype!r}` is no float dtype. Pass 'auto', 'float32' or 'bfloat16'.")
    return kind


def merge_adapter(model: Any, adapter: Path) -> Any:
    """The model with a LoRA adapter added to its weights, as fast as the model alone."""
    try:
        from peft import PeftModel
    except ImportError as error:
        raise ModelError("Adapters need peft: pip install 'supercorrect-agent[train]'.") from error
    return PeftModel.from_pretrained(model, adapter).merge_and_unload()


def keep_only_end_tokens(model: Any, tokenizer: Any) -> None:
    """Drops a checkpoint's own sampling defaults (top-k, repetition penalty): the call's settings rule."""
    ends = model.generation_config.eos_token_id
    model.generation_config = GenerationConfig(pad_token_id=tokenizer.pad_token_id or 0, eos_token_id=ends)


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keeps transformers from drawing a bar over the caller's own output."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
