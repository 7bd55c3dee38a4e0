"""Where models, prompts and problems come from: the names that configurations use, resolved."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from supercorrect_agent.errors import ConfigError, DataError
from supercorrect_agent.models import SANDBOX_STUDENT
from supercorrect_agent.prompts import DEFAULT_PROMPTS, PromptSet, load_prompts, prompts_in
from supercorrect_agent.types import Problem

_GSM8K_ANSWER = re.compile(r"^(?P<solution>.*?)\n?####\s*(?P<answer>.+?)\s*$", re.S)
_GSM8K_CALCULATOR = re.compile(r"<<[^<>]*>>")


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


def load_problems(
    source: str, *, n: int | None = None, seed: int = 0, split: str = "train", argument: str = "problems"
) -> list[Problem]:
    """Problems of the sandbox (``sandbox:SPLIT``) or of a JSON Lines file.

    A line holds ``question`` and ``answer``, and perhaps ``solution`` (or ``reference_solution``), ``id`` and
    ``split``. GSM8K's own lines are read as they are: ``answer`` is split at ``####``.

    Args:
        source: Name or path.
        n: How many; of a file, a random choice that depends on ``seed``. None takes all of a file.
        seed: Seed of the sandbox's generator or of the choice.
        split: Split of a file's problems that name none.
        argument: What the user calls the source, for messages.

    Raises:
        DataError: The file is missing or a line is unusable; ``n`` is missing for the sandbox.
    """
    if source.startswith("sandbox:"):
        return _sandbox_problems(source.removeprefix("sandbox:"), n, seed)
    problems = list(_read_problems(Path(source), split, argument))
    if not problems:
        raise DataError(
            f"`{source}` holds no problems. Write one JSON object with `question` and `answer` a line."
        )
    if n is not None and n < len(problems):
        problems = random.Random(seed).sample(problems, n)
    return problems


def _sandbox_problems(split: str, n: int | None, seed: int) -> list[Problem]:
    from supercorrect_agent.sandbox.world import SPLITS, generate_problems

    known = next((name for name in SPLITS if name == split), None)
    if known is None:
        raise DataError(
            f"`sandbox:{split}` is not a split of the sandbox. Choose one of {', '.join(SPLITS)}."
        )
    if n is None:
        raise DataError(f"`sandbox:{split}` has no end. Pass the number of problems, such as `--n 500`.")
    return generate_problems(known, n, seed=seed)


def _read_problems(path: Path, split: str, argument: str) -> Iterator[Problem]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # JSON may hold other line ends
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"`{argument}={path}` cannot be read ({error}). Pass a JSON Lines file, or sandbox:train."
        ) from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _read_problem(line, f"{path}:{number}", split, path.stem)


def _read_problem(line: str, where: str, split: str, source: str) -> Problem:
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where} is not JSON ({error}). Write one JSON object a line.") from error
    question = (fields.get("question") or fields.get("problem")) if isinstance(fields, dict) else None
    if not isinstance(question, str) or not question.strip():
        raise DataError(
            f"{where} has no `question`. Write one JSON object with `question` and `answer` a line."
        )
    answer, solution = _answer(fields)
    made = Problem.create(
        question,
        answer=answer,
        reference_solution=solution,
        source=source,
        split=str(fields.get("split") or split),
    )
    return made.model_copy(update={"id": str(fields["id"])}) if fields.get("id") is not None else made


def _answer(fields: dict[str, Any]) -> tuple[str | None, str | None]:
    answer = fields.get("answer")
    text = None if answer is None else str(answer)
    solution = fields.get("solution") or fields.get("reference_solution")
    gsm8k = _GSM8K_ANSWER.match(text) if text else None
    if gsm8k is None:
        return text, None if solution is None else str(solution)
    worked = _GSM8K_CALCULATOR.sub("", gsm8k["solution"]).strip()
    return gsm8k["answer"].replace(",", ""), str(solution) if solution else worked or None
