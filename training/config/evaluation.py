"""The settings of an evaluation, of the gate behind it, and of serving what passed."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from training.config.choices import Arm, Style
from training.config.stage import StageConfig


class EvaluationConfig(StageConfig):
    """Measures a student on problems it has never seen; the graph never sees the answers."""

    section: ClassVar[str] = "evaluate"

    student: str = Field(
        default="sandbox", description="model: sandbox, local:PATH, vllm:NAME@URL, openai:NAME"
    )
    adapter: Path | None = Field(default=None, description="LoRA adapter folder on top of a local student")
    teacher: str = Field(default="sandbox", description="teacher of the arms `teacher` and `asked`")
    prompts: str = Field(default="auto", description="auto (the student's own), default, or a TOML file")
    style: Style = Field(default="hierarchical", description="plain solves with the plain prompt")
    problems: str = Field(
        default="sandbox:test", description="a file, a data set, sample:NAME or sandbox:SPLIT"
    )
    holdout: int | None = Field(
        default=None, ge=1, description="only so many rows at the end of the file, its split `dev`"
    )
    n: int | None = Field(default=200, ge=1, description="number of problems; none takes a whole file")
    arms: tuple[Arm, ...] = Field(
        default=("single", "review", "teacher", "retry"),
        description="single pass; its own review; with the teacher; wrong ones re-sampled without a "
        "critique; asked: the teacher only where its own review finds an error",
    )
    max_rounds: int = Field(default=1, ge=1, le=8, description="corrections, and re-samplings, per problem")
    max_new_tokens: int = Field(default=512, ge=1, description="tokens per reply")
    retry_temperature: float = Field(default=0.7, gt=0, le=2, description="temperature of the retry control")
    concurrency: int = Field(default=128, ge=1, description="problems in flight at once")
    output: Path = Field(default=Path("runs/evaluation.json"), description="JSON file with every outcome")


class GateConfig(StageConfig):
    """Whether a trained student may replace the present one: paired tests on the development split."""

    problems: str = Field(default="sandbox:dev", description="JSON Lines file, or sandbox:dev")
    n: int | None = Field(default=300, ge=1, description="number of problems; none takes a whole file")
    arm: Arm = Field(default="review", description="the way of use whose accuracy counts")
    alpha: float = Field(default=0.05, gt=0, lt=1, description="level of both paired tests")


class ServeConfig(StageConfig):
    """Where a promoted student is served."""

    url: str | None = Field(
        default=None, description="running vLLM server that loads the adapter; none: write the command"
    )
    name: str = Field(
        default="supercorrect", pattern="^[^-]", description="name under which the student is served"
    )
    timeout: float = Field(default=120.0, gt=0, description="seconds the server may take to load it")
