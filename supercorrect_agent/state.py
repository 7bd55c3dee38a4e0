"""What a run may be told (the configs), and what it keeps while it runs (the states).

States are JSON-native (str, int, list, dict): they survive ``LANGGRAPH_STRICT_MSGPACK=true`` and a checkpoint
can be read without this package. Solutions are kept as the raw text the student wrote and parsed again where
needed. The keys a caller never needs are reset by the first node, so that a thread can be used for one
problem after another.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

MAX_ROUNDS = 8


class CorrectionConfig(BaseModel):
    """How one run of the solving graph is bounded: given at creation, or in part as ``context=`` per run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_rounds: int = Field(
        default=2,
        ge=0,
        le=MAX_ROUNDS,
        description="Most corrections; 0 returns the first solution unchecked.",
    )
    max_total_tokens: int | None = Field(
        default=None,
        ge=1,
        description="No further call once this many tokens, in and out, were used; null is no cap.",
    )
    max_seconds: float | None = Field(
        default=None,
        gt=0,
        description="No further call once the calls took this many seconds; null is no cap.",
    )
    max_new_tokens: int | None = Field(
        default=512,
        ge=1,
        description="Most tokens the student writes in one call; null leaves it to the model.",
    )
    temperature: float | None = Field(
        default=0.0, ge=0, le=2, description="The student's temperature; null leaves it to the model."
    )
    keep_prefix: bool = Field(
        default=True,
        description="Continue from the verbatim steps before the error; off: write everything anew.",
    )
    ask_teacher: Literal["always", "flagged"] = Field(
        default="always",
        description="Ask the teacher about every solution (always), or only where the student's own review "
        "finds an error or cannot be read (flagged).",
    )


class CollectConfig(BaseModel):
    """How one run of the collecting graph goes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_rounds: int = Field(default=1, ge=0, le=MAX_ROUNDS, description="Most corrections of one attempt.")
    temperature: float | None = Field(
        default=0.7,
        ge=0,
        le=2,
        description="The student's temperature, 0.7 to 0.8 in decision B24; null: the model's.",
    )
    max_new_tokens: int | None = Field(
        default=512, ge=1, description="Most tokens the student writes in one call."
    )
    write_template: bool = Field(
        default=True, description="The teacher writes a hierarchical solution (stage 1)."
    )
    attempt: bool = Field(default=True, description="The student solves the problem; off: the template only.")
    review_correct: bool = Field(
        default=False, description="The teacher reviews right attempts too (decision B20)."
    )
    student_review: bool = Field(
        default=True,
        description="The student writes its own cause and correction of the step the teacher names.",
    )
    rewrite: bool = Field(
        default=False,
        description="The student also writes the correction behind the teacher's cause (decision B8).",
    )
    resamples: int = Field(
        default=0,
        ge=0,
        le=32,
        description="Further reviews the student samples at the teacher's step (decision B8), at the "
        "temperature above, or at 0.7 where that is 0 or null.",
    )


class SolveInput(TypedDict):
    """What the solving graph takes. There is no key for a reference answer."""

    problem: Annotated[str, Field(description="The problem to solve, as plain text.", title="Problem")]


class SolveOutput(TypedDict):
    """What the solving graph returns."""

    answer: Annotated[str | None, Field(description="The final answer, or null if none could be read.")]
    solution: Annotated[str | None, Field(description="The returned solution, as the student wrote it.")]
    status: Annotated[
        str,
        Field(
            description="How the run ended: accepted, corrected, unchanged, stalled, budget, human, "
            "parse_error or error."
        ),
    ]
    rounds: Annotated[
        list[dict[str, Any]],
        Field(
            description="One entry a critique: step (null: no error found), cause, correction, author, and "
            "the revised solution with its answer and how it was continued (prefill, splice or anew)."
        ),
    ]
    usage: Annotated[
        dict[str, dict[str, Any]],
        Field(description="Per role: input_tokens, output_tokens, calls and seconds."),
    ]
    trace: Annotated[
        dict[str, Any], Field(description="The whole run as a Trace record, ready for a trace store.")
    ]


class Progress(TypedDict):
    """The keys both flows keep while they run."""

    attempt: Annotated[str | None, Field(description="The student's first solution.")]
    verdict: Annotated[dict[str, Any], Field(description="The verdict on the first solution.")]
    critique: Annotated[dict[str, Any], Field(description="The critique being worked on, or empty.")]
    review: Annotated[
        dict[str, Any], Field(description="The student's own critique of the same solution, or empty.")
    ]
    revision: Annotated[
        dict[str, Any], Field(description="The revised solution that is not judged yet, or empty.")
    ]
    history: Annotated[list[dict[str, Any]], Field(description="The finished rounds.")]
    calls: Annotated[list[dict[str, Any]], Field(description="Every model call so far.")]
    ending: Annotated[
        dict[str, str], Field(description="Status and reason once the run is decided, else empty.")
    ]


class SolveState(SolveInput, SolveOutput, Progress):
    """Everything the solving graph keeps."""


class CollectInput(TypedDict):
    """What the collecting graph takes."""

    problem: Annotated[dict[str, Any], Field(description="A Problem record with its true answer.")]
    sample: NotRequired[
        Annotated[
            int, Field(description="Which of several attempts at the same problem this is, from 0.", ge=0)
        ]
    ]


class CollectOutput(TypedDict):
    """What the collecting graph returns."""

    trace: Annotated[dict[str, Any], Field(description="The whole run as a Trace record.")]


class CollectState(CollectInput, CollectOutput, Progress):
    """Everything the collecting graph keeps."""

    template: Annotated[str | None, Field(description="The teacher's own hierarchical solution.")]
    alternatives: Annotated[
        list[dict[str, Any]], Field(description="The student's further words at the same step.")
    ]
    inspections: Annotated[list[dict[str, Any]], Field(description="The checks of the open critique.")]
    notes: Annotated[
        str, Field(description="What the teacher is to put right in the open critique, or empty.")
    ]
    revisions: Annotated[int, Field(description="How often the teacher has revised the open critique.")]


def empty_progress() -> Progress:
    """The keys of a run that has not begun."""
    return Progress(
        attempt=None, verdict={}, critique={}, review={}, revision={}, history=[], calls=[], ending={}
    )
