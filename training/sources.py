"""Where models and prompts come from: the names that configurations use, resolved."""

from __future__ import annotations

from pathlib import Path

from supercorrect_agent.errors import ConfigError
from supercorrect_agent.models import SANDBOX_STUDENT
from supercorrect_agent.prompts import DEFAULT_PROMPTS, PromptSet, load_prompts, prompts_in


def model_path(name: str) -> str:
    """The path that transformers loads for ``sandbox``, ``local:PATH`` or a plain path."""
    if name in {"sandbox", "sandbox:student"}:
        return str(SANDBOX_STUDENT)
    return name.removeprefix("local:").partition("+")[0]


def is_local(model: str) -> bool:
    """Whether a model runs in this process."""
    return model.startswith(("sandbox", "local:"))


def chat_name(model: str) -> str:
    """The name by which `load_chat_model` finds a model that is trained here."""
    return model if is_local(model) else f"local:{model}"


def student_spec(student: str, adapter: Path | None) -> str:
    """The chat model of a student with an adapter on top.

    Raises:
        ConfigError: The student is not one of this process, so it cannot take the adapter here.
    """
    if adapter is None:
        return student
    if is_local(student):
        return f"local:{model_path(student)}+{adapter}"
    raise ConfigError(
        f"`adapter={adapter}` needs a student in this process, but `student={student}`. "
        "Use local:PATH, or load the adapter into the server and name it there."
    )


def resolve_prompts(choice: str, model: str) -> PromptSet:
    """The prompts of ``auto`` (the file in the model's folder, or the defaults), ``default`` or a file."""
    if choice == "default":
        return DEFAULT_PROMPTS
    return prompts_in(model_path(model)) if choice == "auto" else load_prompts(Path(choice))
