"""The records every other module speaks in: frozen, JSON-native, versioned.

The names follow the paper (arXiv 2410.09008, section 4): a problem x, a hierarchical solution
(s, T, y), and a critique (k, a_k, c_k) of the first wrong step k. Parsing never drops text: ``raw``
keeps what the model wrote, so a better parser can rebuild old traces.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 2  # 2: quarantined runs, a critique's earlier versions, free reviews

VerdictStatus = Literal["correct", "incorrect", "unreadable", "unscored"]
TraceStatus = Literal[
    "accepted",  # nobody found an error in the first solution
    "corrected",  # an error was found and a revised solution was returned
    "unchanged",  # an error was suspected, but the solution in hand was kept
    "stalled",  # the same answer came back
    "budget",  # rounds, tokens or seconds ran out
    "human",  # a person decided
    "parse_error",  # a reply stayed unreadable
    "quarantined",  # the teacher's work failed the inspector's checks to the last; never trained on
    "error",  # a model or teacher failed; `Trace.error` says how
]
Role = Literal["student", "teacher", "inspector"]


class Record(BaseModel):
    """A frozen record; unknown keys are an error so that a misspelt field cannot vanish."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def content_id(text: str) -> str:
    """First 16 hex digits of the SHA-256 of the text with white space folded."""
    return hashlib.sha256(" ".join(text.split()).encode("utf-8", "replace")).hexdigest()[:16]


class Problem(Record):
    """A problem x with its true answer and, where there is one, a reference solution."""

    id: str
    question: str
    answer: str | None = None
    reference_solution: str | None = None
    source: str = "user"
    split: str = "train"

    @classmethod
    def create(cls, question: str, **fields: Any) -> Problem:
        """Builds a problem whose id is the content hash of its question."""
        return cls(id=content_id(question), question=question, **fields)


class Step(Record):
    """One step s_i. ``start`` and ``end`` are character offsets of the whole element in ``Solution.raw``."""

    index: int = Field(ge=1)
    text: str
    key: str | None = None
    start: int = 0
    end: int = 0


class Solution(Record):
    """A solution in the hierarchical thought template (paper section 4.1), as read from ``raw``."""

    steps: tuple[Step, ...] = ()
    generalized: str | None = None
    answer: str | None = None
    raw: str = ""
    model: str = ""

    @property
    def id(self) -> str:
        return content_id(self.raw)

    def prefix(self, step: int) -> str:
        """The verbatim text before step ``step``: what a correction keeps (s_1 ... s_{k-1} of eq. 7).

        Args:
            step: A step number, from 1 to the number of steps.

        Raises:
            ValueError: ``step`` is not one of this solution's steps.
        """
        if not 1 <= step <= len(self.steps):
            last = len(self.steps)
            where = f"past the last step ({last})" if step > last else "before the first step (1)"
            remedy = f"Pass a step in 1..{last}." if last else "This solution has no readable steps."
            raise ValueError(f"`step={step}` is {where} of solution '{self.id}'. {remedy}")
        return self.raw[: self.steps[step - 1].start]


class Verdict(Record):
    """What a verifier says of an answer. Unscored (no readable target) is not wrong."""

    status: VerdictStatus
    reason: str = ""

    @property
    def correct(self) -> bool:
        return self.status == "correct"


class Critique(Record):
    """The paper's (k, a_k, c_k). ``step=None`` with ``readable=True`` means that no error was found.

    ``cause_step`` and ``correction_step`` keep where the two stood in the text when they stood apart
    (paper appendix C); ``step`` is the step the cause names.
    """

    step: int | None = None
    cause: str = ""
    correction: str = ""
    author: str = ""
    raw: str = ""
    answer: str | None = None
    confidence: float | None = Field(default=None, ge=0, le=1)
    cause_step: int | None = None
    correction_step: int | None = None
    readable: bool = True

    @property
    def found_error(self) -> bool:
        return self.step is not None


class Inspection(Record):
    """One named check of a teacher's critique (paper section 4.1, "Inspector")."""

    check: str
    passed: bool
    note: str = ""


class Revision(Record):
    """An earlier version of a critique that went back to its teacher, with the checks it had met."""

    critique: Critique
    inspections: tuple[Inspection, ...] = ()


class TemplateRevision(Record):
    """An earlier version of a teacher's solution, None where it could not be read, with its checks."""

    solution: Solution | None = None
    inspections: tuple[Inspection, ...] = ()


class Call(Record):
    """One model call: who, with what, how much. Tokens are the provider's counts, seconds wall time."""

    role: Role
    model: str
    prompt: str = ""
    sampling: dict[str, Any] = Field(default_factory=dict)
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    round: int = 0


class Alternative(Record):
    """The student's own words at the teacher's step, perhaps better to learn from than the teacher's (B8).

    ``student_rewrite`` is the student's correction behind the teacher's cause, ``student_resample`` a further
    sample of its own. ``verdict`` is on the answer that the student reaches from there.
    """

    source: Literal["student_rewrite", "student_resample"]
    critique: Critique
    verdict: Verdict | None = None


class Round(Record):
    """One critique and what the student made of it. ``review`` is the student's own.

    While collecting it is on the same prefix; in a run that asks the teacher only where the student doubts
    itself, it came first. ``free_review`` is one that names its step itself, for metrics only (decision B4).
    ``revisions`` are the versions of the critique that the inspector sent back, oldest first.
    """

    critique: Critique
    revisions: tuple[Revision, ...] = ()
    review: Critique | None = None
    free_review: Critique | None = None
    solution: Solution | None = None
    verdict: Verdict | None = None
    inspections: tuple[Inspection, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    continuation: Literal["prefill", "splice", ""] = ""


class Vote(Record):
    """An answer to which samples of the student came, and how many of them."""

    answer: str
    count: int = Field(ge=1)


class Chosen(Record):
    """Which solution was returned (0 is the first, n the one of round n) and why."""

    index: int = 0
    reason: str = ""


class Trace(Record):
    """Everything one run of the graph did with one problem.

    ``template`` is the teacher's own solution; one that fails its ``template_inspections`` is not trained on.
    ``votes`` are the samples' answers, most frequent first, and ``agreement`` the share of all samples that
    gave the first of them; without a vote there are none.
    """

    schema_version: int = SCHEMA_VERSION
    id: str
    problem: Problem
    template: Solution | None = None
    template_inspections: tuple[Inspection, ...] = ()
    template_revisions: tuple[TemplateRevision, ...] = ()
    solution: Solution | None = None
    verdict: Verdict | None = None
    rounds: tuple[Round, ...] = ()
    chosen: Chosen = Chosen()
    status: TraceStatus
    calls: tuple[Call, ...] = ()
    error: str | None = None
    sample: int = 0
    votes: tuple[Vote, ...] = ()
    agreement: float | None = Field(default=None, ge=0, le=1)
    created: str = ""
    versions: dict[str, str] = Field(default_factory=dict)

    @property
    def final_solution(self) -> Solution | None:
        """The solution that was returned to the caller."""
        return self.solution if self.chosen.index == 0 else self.rounds[self.chosen.index - 1].solution
