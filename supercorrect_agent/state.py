"""What a run may be told (the configs), and what it keeps while it runs (the states).

States are JSON-native (str, int, list, dict): they survive ``LANGGRAPH_STRICT_MSGPACK=true`` and a checkpoint
can be read without this package. Solutions are kept as the raw text the student wrote and parsed again where
needed. The first node leaves nothing of an earlier run (``progress.begin_run``), so that a thread can be used
for one problem after another; parallel samples arrive before any node could do so, and carry the name of
their run.

A saver may store an ordinary key whole with every checkpoint, and there are 29 of them in a run of eight
rounds. So the keys that hold texts (``problem``, ``first``, ``rounds``, ``calls``) are of LangGraph's
``DeltaChannel``: what the nodes write is stored once, and the value is made of it again (``reducers``). That
channel is beta in LangGraph 1.2. Relied upon is that a reducer gets all writes in their order, that an
``Overwrite`` starts anew and ends the search for older writes, that a plain value in an older checkpoint is
taken as it is, and that a saver keeps the checkpoints and writes of the thread's last run. Where these are
pruned, the four keys come back empty: ``answer``, ``solution``, ``status``, ``reason`` and ``usage``, which
are ordinary, stay, and a run that is still under way is refused (``progress.solutions``), as is one that a
version without these keys began. ``trace`` says everything once more: it is returned and never stored.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from langgraph.channels import DeltaChannel, UntrackedValue
from langgraph.managed import RemainingSteps
from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import TypedDict

from supercorrect_agent.reducers import fill_in, fill_in_by_number, keep_storable

MAX_ROUNDS = 8
MAX_SAMPLES = 32
MAX_EXAMPLES = 8

# Why a wrong attempt has no critique, as the run's reason says it; the builders drop it by the same name.
ERROR_KEPT = "error already kept"
TOO_MANY_ERRORS = "max_errors"
BEYOND_TEACHER = "the teacher cannot judge it"


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
        description="No further call once this many tokens, in and out, were used, by all samples too; null "
        "is no cap.",
    )
    max_seconds: float | None = Field(
        default=None,
        gt=0,
        description="No call goes on once this many seconds were spent waiting for models: samples that run "
        "side by side count once, and a person's time does not count. Null is no cap.",
    )
    max_new_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Most tokens the student writes in one call; null leaves it to the model.",
    )
    temperature: float | None = Field(
        default=None, ge=0, le=2, description="The student's temperature; null leaves it to the model."
    )
    max_examples: int = Field(
        default=3,
        ge=0,
        le=MAX_EXAMPLES,
        description="Most worked examples from the memory that the student is shown when it first solves "
        "the problem; 0 leaves the memory alone, and a graph without one has none to show.",
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
    samples: int = Field(
        default=1,
        ge=1,
        le=MAX_SAMPLES,
        description="How often the student solves the problem, side by side; the answer that most samples "
        "agree on goes on.",
    )
    sample_temperature: float | None = Field(
        default=0.7,
        ge=0,
        le=2,
        description="The student's temperature where there are several samples, which 0 would make one; null "
        "leaves it to the model.",
    )
    accept_agreement: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Accept the answer without a critic where at least this share of all samples agree on "
        "it; null never does, and neither does a single sample.",
    )
    min_confidence: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="An error that the critic names with less confidence than this is not corrected; a "
        "critique that states no confidence counts as sure.",
    )
    human_review: bool = Field(
        default=False,
        description="A person approves, edits or rejects each critique before the student follows it; needs "
        "a checkpointer.",
    )
    call_timeout: float | None = Field(
        default=None,
        gt=0,
        description="Most seconds for one attempt at a model call; null leaves it to the model's client.",
    )
    retries: int = Field(
        default=2,
        ge=0,
        le=8,
        description="Further attempts at a model call that failed for the connection, the load or the "
        "server; a model that retries by itself (max_retries) is left to that.",
    )

    @model_validator(mode="after")
    def _samples_differ(self) -> CorrectionConfig:
        if self.samples > 1 and self.sample_temperature == 0:
            raise ValueError(
                f"`samples={self.samples}` with `sample_temperature=0` would be one solution {self.samples} "
                "times, which agrees with itself. Raise `sample_temperature`, or set `samples=1`."
            )
        return self


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
    teacher_max_new_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Most tokens a chat model that is teacher or inspector writes in one call; null: 1024 of "
        "a vLLM server's or a local model, the model's own limit otherwise.",
    )
    teacher_temperature: float | None = Field(
        default=None,
        ge=0,
        le=2,
        description="The temperature of such a model; null: 0 of a vLLM server's or a local model, so that a "
        "verdict can be had again, the model's own otherwise.",
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
    free_review: bool = Field(
        default=False,
        description="The student also reviews its attempt without being told the step: for metrics only, "
        "never trained on (decision B4).",
    )
    rollouts: int = Field(
        default=1,
        ge=1,
        le=32,
        description="How often the student may go on from the teacher's correction until it reaches the "
        "answer (decision B5); the further times are sampled as `resamples` are.",
    )
    revise_unreached: bool = Field(
        default=False,
        description="A correction from which the student does not reach the answer goes back to the teacher "
        "as one that fails a check does; off: it stays, and is not trained on.",
    )
    inspector: bool = Field(
        default=True,
        description="Ask the graph's model inspector, if it has one, about what passes the rules.",
    )
    max_errors: int | None = Field(
        default=2,
        ge=1,
        description="Most distinct wrong answers of one problem that the teacher is shown, those of "
        "`known_errors` included (decision B24); null is no cap.",
    )


Rounds = Annotated[
    list[dict[str, Any]],
    Field(
        description="One entry a critique: number, step (null: no error found), cause, correction, author, "
        "and the revised solution with its answer and how it was continued (prefill, splice or anew). Where "
        "there are any: its verdict, the student's own reviews, inspections, earlier versions of the "
        "critique and details of it."
    ),
    DeltaChannel(fill_in_by_number),
]


class SolveInput(TypedDict):
    """What the solving graph takes. There is no key for a reference answer."""

    problem: Annotated[
        str,
        Field(description="The problem to solve, as plain text.", title="Problem"),
        DeltaChannel(keep_storable, snapshot_frequency=1),  # in the one checkpoint that follows the input
    ]


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
    reason: Annotated[str, Field(description="Why the run ended so, in one sentence.")]
    rounds: Rounds
    votes: Annotated[
        list[dict[str, Any]],
        Field(
            description="Where there were several samples: each answer and its count, most frequent first. "
            "Samples without a readable answer have no vote."
        ),
    ]
    agreement: Annotated[
        float | None,
        Field(description="The share of all samples that agree on the first of the votes; null without."),
    ]
    usage: Annotated[
        dict[str, dict[str, Any]],
        Field(description="Per role: input_tokens, output_tokens, calls and seconds."),
    ]
    trace: Annotated[
        dict[str, Any],
        Field(description="The whole run as a Trace record, ready for a trace store. No thread keeps it."),
        UntrackedValue,
    ]


class Decided(TypedDict):
    """Whether the run is decided: all that most routers look at."""

    ending: Annotated[
        dict[str, str], Field(description="Status and reason once the run is decided, else empty.")
    ]


class Progress(Decided):
    """The keys both flows keep while they run."""

    first: Annotated[
        dict[str, Any],
        Field(description="The student's first solution (null: none) and the verdict on it."),
        DeltaChannel(fill_in),
    ]
    rounds: Rounds
    calls: Annotated[
        list[dict[str, Any]],
        Field(description="Every model call so far, with its number."),
        DeltaChannel(fill_in_by_number),
    ]


class Inspected(Decided):
    """How the inspector found the open critique."""

    notes: Annotated[
        str, Field(description="What the teacher is to put right in the open critique, or empty.")
    ]
    revisions: Annotated[int, Field(description="How often the teacher has revised the open critique.")]


def collect_samples(kept: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Adds samples to those of the same run, in order; those of an earlier run of the thread go.

    Args:
        kept: The samples so far.
        new: Further samples; none clears them all.
    """
    runs = {one["run"] for one in new}
    return sorted([*(one for one in kept if one["run"] in runs), *new], key=lambda one: int(one["index"]))


class SolveState(SolveInput, SolveOutput, Progress, Inspected):
    """Everything the solving graph keeps."""

    samples: Annotated[
        list[dict[str, Any]],
        Field(description="The samples that no vote was taken on yet."),
        collect_samples,
    ]
    overlap: Annotated[float, Field(description="The seconds that were saved by sampling side by side.")]
    examples: Annotated[
        list[str], Field(description="Worked examples from the memory that no student has seen yet.")
    ]
    memory_failure: Annotated[str, Field(description="Why the memory could give no examples, or empty.")]
    remaining_steps: RemainingSteps  # LangGraph's own count; nobody writes it, and no checkpoint has it


class CollectInput(TypedDict):
    """What the collecting graph takes."""

    problem: Annotated[dict[str, Any], Field(description="A Problem record with its true answer.")]
    sample: NotRequired[
        Annotated[
            int, Field(description="Which of several attempts at the same problem this is, from 0.", ge=0)
        ]
    ]
    known_errors: NotRequired[
        Annotated[
            list[str],
            Field(
                description="The answers of wrong attempts at the problem that were kept already, empty "
                "where one had none: a further attempt that comes to one of them ends at once."
            ),
        ]
    ]


class CollectOutput(TypedDict):
    """What the collecting graph returns."""

    trace: Annotated[dict[str, Any], Field(description="The whole run as a Trace record.")]


class CollectState(CollectInput, CollectOutput, Progress, Inspected):
    """Everything the collecting graph keeps."""

    template: Annotated[str | None, Field(description="The teacher's own hierarchical solution.")]
    template_inspections: Annotated[
        list[dict[str, Any]], Field(description="What it was checked for, and how it was found.")
    ]
    template_revisions: Annotated[
        list[dict[str, Any]], Field(description="Its earlier versions, each with the checks it had met.")
    ]
