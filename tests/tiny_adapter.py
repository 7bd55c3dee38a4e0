"""A LoRA adapter for the tiny model as training makes it, with random weights that change what it writes."""

from __future__ import annotations

from pathlib import Path

from training.config import SftConfig
from training.student import load_student, lora_config


def build_tiny_adapter(
    model: Path, folder: Path, *, rank: int = 8, seed: int = 0, spread: float = 0.1
) -> Path:
    """Writes an adapter for the model in ``model`` into ``folder``; returns the folder.

    A fresh adapter changes nothing, since its B is zero: here both factors are random, normal with the
    standard deviation ``spread``.
    """
    import torch
    from peft import get_peft_model

    config = SftConfig(model=str(model), lora_r=rank, lora_alpha=2 * rank, device="cpu")
    adapted = get_peft_model(load_student(config), lora_config(config))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_" in name:
                weight.copy_(spread * torch.randn(weight.shape, generator=generator))
    adapted.save_pretrained(folder)
    return folder
