"""The offline default: word problems with exact truth, their symbolic teacher and a small student."""

from __future__ import annotations

from pathlib import Path

from supercorrect_agent.prompts import PromptSet, load_prompts


def student_path() -> Path:
    """The folder of the packaged student: weights, tokenizer, chat template and its own prompts."""
    return Path(__file__).parent / "student"


def sandbox_prompts() -> PromptSet:
    """The prompts that the packaged student was trained with."""
    return load_prompts(student_path() / "prompts.toml")
