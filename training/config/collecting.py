"""The settings of a collection of traces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from supercorrect_agent.types import Record
from training.config.stage import StageConfig


class EstimateConfig(Record):
    """What a dry run cannot know and takes for granted."""

    accuracy: float = Field(default=0.5, ge=0, le=1, description="share of right attempts")
    chars_per_token: float = Field(default=3.5, gt=0, description="characters per token, without a tokenizer")
    solution_tokens: int = Field(
        default=300, ge=1, description="tokens of a solution where no reference solution tells its length"
    )
    review_tokens: int = Field(default=200, ge=1, description="tokens of a critique or review")
    tokens_per_second: float | None = Field(
        default=None, gt=0, description="tokens written a second, all calls together; none: no time is told"
    )


class CollectionConfig(StageConfig):
    """Collects traces: the student solves, the teacher finds the first wrong step, both review it."""

    section: ClassVar[str] = "collect"

    problems: str = Field(
        default="sandbox:train",
        description="JSON Lines, CSV or Parquet file, hf:NAME, sample:gsm8k, sample:math, or sandbox:SPLIT",
    )
    mapping: str = Field(default="auto", description="columns of the problems: auto, gsm8k or math")
    n: int | None = Field(default=None, ge=1, description="number of problems; none takes a whole file")
    split: str = Field(default="train", description="split of a file's problems without one of their own")
    holdout: int | None = Field(
        default=None, ge=1, description="so many rows at the end of a file are its split `dev`"
    )
    part: str = Field(
        default="1/1",
        pattern=r"^[1-9]\d*/[1-9]\d*$",
        description="I/N: of N disjoint parts of the problems, the I-th",
    )
    max_characters: int = Field(
        default=20_000, ge=1, description="longer questions, answers and solutions are dropped"
    )
    held_out: tuple[str, ...] = Field(default=(), description="problem files whose questions are refused")
    held_out_words: int = Field(
        default=13, ge=1, description="so many words in a row in common with one are a match (decision B7)"
    )
    on_match: Literal["drop", "refuse"] = Field(
        default="drop", description="a match with --held_out is dropped and counted, or ends the run"
    )
    student: str = Field(
        default="sandbox", description="model: sandbox, local:PATH, vllm:NAME@URL, openai:NAME"
    )
    adapter: Path | None = Field(default=None, description="LoRA adapter folder on top of a local student")
    teacher: str = Field(
        default="auto",
        description="sandbox, reference (rules over the reference solution), same_model_grounded (the "
        "student's model, which sees the reference), or a model as for --student; auto: sandbox for its own "
        "problems, else reference",
    )
    inspector: str | None = Field(
        default=None, description="model that inspects the teacher's work after the rules; none: rules alone"
    )
    prompts: str = Field(default="auto", description="auto (the student's own), default, or a TOML file")
    store: Path | str = Field(
        default=Path("traces"), description="trace store: a folder, a .jsonl file, or an address (s3://...)"
    )
    sync: str = Field(
        default="interval:1",
        description="when the disk is to have what was stored: always, interval:SECONDS, or never",
    )
    samples: int = Field(default=1, ge=1, description="attempts per problem (decision B24: 4 to 8 at T 0.7)")
    temperature: float = Field(default=0.0, ge=0, le=2, description="sampling temperature of the student")
    max_rounds: int = Field(default=1, ge=0, le=8, description="corrections per attempt")
    max_new_tokens: int = Field(default=512, ge=1, description="tokens per reply of the student")
    teacher_max_new_tokens: int | None = Field(
        default=None,
        ge=1,
        description="tokens per reply of teacher and inspector; none: 1024 of vllm: and local:, or their own",
    )
    teacher_temperature: float | None = Field(
        default=None, ge=0, le=2, description="their temperature; none: 0 of vllm: and local:, or their own"
    )
    write_template: bool = Field(
        default=True, description="the teacher writes a hierarchical solution (eq. 4)"
    )
    attempt: bool = Field(default=True, description="the student attempts the problem")
    review_correct: bool = Field(
        default=True, description="also collect `no error` reviews of right attempts"
    )
    student_review: bool = Field(
        default=True, description="the student's own review at the teacher's step (eq. 7)"
    )
    rewrite: bool = Field(
        default=False, description="the student also writes the correction behind the teacher's cause (B8)"
    )
    resamples: int = Field(
        default=0, ge=0, le=32, description="further corrections the student samples at that step (B8)"
    )
    free_review: bool = Field(
        default=False, description="also a review that names its step itself, for metrics only (B4)"
    )
    rollouts: int = Field(
        default=1, ge=1, le=32, description="corrections until one reaches the answer, at most (B5)"
    )
    revise_unreached: bool = Field(
        default=False, description="a correction that does not lead to the answer goes back to the teacher"
    )
    max_errors: int | None = Field(
        default=2, ge=1, description="distinct wrong answers of one problem that are kept; none: all (B24)"
    )
    concurrency: int = Field(default=64, ge=1, description="problems in flight at once")
    engine: Literal["asyncio", "ray"] = Field(
        default="asyncio", description="this process, or actors on a Ray cluster (docs/scale.md)"
    )
    actors: int = Field(default=1, ge=1, description="actors of --engine ray, which share --concurrency")
    ray_address: str | None = Field(
        default=None, description="Ray cluster, auto for the one of this machine; none: start one here"
    )
    telemetry: Literal["otel"] | None = Field(
        default=None, description="otel: spans to OTEL_EXPORTER_OTLP_ENDPOINT (docs/scale.md); none"
    )
    call_timeout: float | None = Field(
        default=300.0, gt=0, description="seconds for one attempt at a call of a served model"
    )
    patience: float = Field(
        default=600.0, ge=0, description="seconds for which a server may answer nobody before calls fail"
    )
    retry_failed: int = Field(
        default=2, ge=0, description="how many later runs try a failed problem again; 0 none"
    )
    max_total_tokens: int | None = Field(
        default=None, ge=1, description="no further problem once this run used so many tokens"
    )
    max_cost: float | None = Field(
        default=None, gt=0, description="no further problem once this run cost so much (needs prices)"
    )
    max_seconds: float | None = Field(
        default=None, gt=0, description="no further problem after so many seconds"
    )
    student_price: tuple[float, float] = Field(
        default=(0.0, 0.0), description="price of a million tokens of the student, in and out"
    )
    teacher_price: tuple[float, float] = Field(default=(0.0, 0.0), description="the same, of the teacher")
    inspector_price: tuple[float, float] = Field(default=(0.0, 0.0), description="the same, of the inspector")
    summary: Path | None = Field(default=None, description="file for the summary, as JSON")
    dry_run: bool = Field(
        default=False, description="count problems, calls, tokens and cost; call no model, write nothing"
    )
    estimate: EstimateConfig = EstimateConfig()

    @field_validator("store", mode="wrap")  # a Path would fold `file:///x`
    @classmethod
    def _a_path_unless_an_address(cls, value: Any, check: Callable[[Any], Path | str]) -> Path | str:
        return value if isinstance(value, str) and "://" in value else Path(check(value))

    @model_validator(mode="before")
    @classmethod
    def _fitting_teacher(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("teacher", "auto") != "auto":
            return values
        source = str(values.get("problems", "sandbox:train"))
        return {**values, "teacher": "sandbox" if source.startswith("sandbox:") else "reference"}

    @model_validator(mode="after")
    def _limits_make_sense(self) -> CollectionConfig:
        index, parts = (int(number) for number in self.part.split("/"))
        if index > parts:
            raise ValueError(
                f"`part={self.part}`: there is no part {index} of {parts}; pass 1/{parts} to {parts}/{parts}"
            )
        prices = (*self.student_price, *self.teacher_price, *self.inspector_price)
        if min(prices) < 0:
            named = (f"{role}_price" for role in ("student", "teacher", "inspector"))
            wrong = " and ".join(
                f"`{name}={getattr(self, name)}`" for name in named if min(getattr(self, name)) < 0
            )
            raise ValueError(f"{wrong} is negative; pass the price of a million tokens, in and out")
        if self.max_cost is not None and not any(prices):
            raise ValueError(
                f"`max_cost={self.max_cost:g}` needs prices; pass `student_price`, `teacher_price` or "
                "`inspector_price`, each a million tokens in and out"
            )
        return self
