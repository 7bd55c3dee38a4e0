"""What comes out of a decided run: which solution is returned, and the trace."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from supercorrect_agent.progress import corrections, read_critique, solutions
from supercorrect_agent.state import Progress
from supercorrect_agent.student import Student
from supercorrect_agent.types import (
    Alternative,
    Call,
    Chosen,
    Critique,
    Inspection,
    Problem,
    Revision,
    Round,
    Solution,
    Trace,
    TraceStatus,
    Verdict,
    Vote,
)

try:
    PACKAGE_VERSION = version("supercorrect-agent")
except PackageNotFoundError:
    PACKAGE_VERSION = "unknown"

UNSTATED = 0.5  # what a critique that states no confidence counts for against a majority
_RANK = {"correct": 3, "unscored": 2, "incorrect": 1, "unreadable": 0}


def choose(first: Verdict | None, rounds: Sequence[Round], agreement: float | None = None) -> Chosen:
    """The best of the trajectory, however the run ended: never simply the last.

    Verdicts come first: correct, unscored, incorrect, unreadable; no critic's word can raise a solution above
    its own. Of equals, one in which the critic found no error goes before one that nobody confirmed, and
    then the later before the earlier, with which a critic found fault. Samples that agree are evidence as
    well, where no verifier has its say: no unconfirmed revision replaces the majority's solution unless the
    critique of that one outweighs them, because it states more confidence than their agreement or a person
    approved it. One that states none counts as ``UNSTATED``: it outweighs no true majority.

    Args:
        first: The verdict on the first solution; None where there is none.
        rounds: The rounds, in order.
        agreement: The share of all samples that agree on the first solution's answer; None without a vote.

    Returns:
        Which solution it is; with a reason only where the samples decided.
    """
    voted = agreement if first is not None and first.status == "unscored" else None
    best, most, kept = 0, _evidence(first, rounds), ""
    for index, one in enumerate(rounds, 1):
        if one.solution is None or one.verdict is None:
            continue
        evidence = _evidence(one.verdict, rounds[index:])
        if best == 0 and voted and evidence == most and not _outweighs(rounds[0], voted):
            kept = _kept(rounds[0].critique, voted)
        elif evidence >= most:
            best, most, kept = index, evidence, ""
    return Chosen(index=best, reason=kept)


def _evidence(verdict: Verdict | None, later: Sequence[Round]) -> tuple[int, bool]:
    """What speaks for a solution: its verdict, and whether the critic found no error in it afterwards."""
    if verdict is None:
        return -1, False
    confirmed = bool(later) and verdict.status != "unreadable" and _finds_no_error(later[0])
    return _RANK[verdict.status], confirmed


def _finds_no_error(one: Round) -> bool:
    found = one.critique
    return found.readable and found.step is None and all(check.passed for check in one.inspections)


def _outweighs(doubt: Round, agreement: float) -> bool:
    """Whether a critique of the majority's solution counts for more than the agreement on it."""
    if any(one.check == "human_review" and one.passed for one in doubt.inspections):
        return True
    confidence = doubt.critique.confidence
    return (UNSTATED if confidence is None else confidence) > agreement


def _kept(doubt: Critique, agreement: float) -> str:
    stated = "no confidence" if doubt.confidence is None else f"a confidence of {doubt.confidence:g}"
    agreed = f"{agreement:.0%} of the samples agree on its answer"
    return f"the first solution stands: {agreed}, and the critique of it states {stated}"


def build_trace(
    state: Progress,
    problem: Problem,
    student: Student,
    *,
    template: Solution | None = None,
    sample: int = 0,
    votes: Iterable[Mapping[str, Any]] = (),
    agreement: float | None = None,
    remark: str = "",
) -> Trace:
    """The trace of a decided run; ``remark`` is something that its reason has to mention besides."""
    solutions(state)  # refuses a run whose beginning is missing
    first = _read_verdict(state["first"])
    rounds = tuple(_read_round(entry, student) for entry in state["rounds"])
    chosen = choose(first, rounds, agreement)
    status, reason = _named(state, chosen, rounds, remark)
    return Trace(
        id=uuid.uuid4().hex[:16],
        problem=problem,
        template=template,
        solution=_read_solution(state["first"], student),
        verdict=first,
        rounds=rounds,
        chosen=Chosen(index=chosen.index, reason=reason),
        status=status,
        calls=tuple(_read_call(**entry) for entry in state["calls"]),
        error=state["ending"]["reason"] if status == "error" else None,
        sample=sample,
        votes=tuple(Vote.model_validate(vote) for vote in votes),
        agreement=agreement,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={"supercorrect-agent": PACKAGE_VERSION},
    )


def _named(
    state: Progress, chosen: Chosen, rounds: tuple[Round, ...], remark: str
) -> tuple[TraceStatus, str]:
    """The ending, put more exactly where corrections were made and none of them helped."""
    status: TraceStatus = state["ending"]["status"]  # type: ignore[assignment]
    said = (state["ending"]["reason"], state["ending"].get("left"), chosen.reason, remark)
    *before, last = filter(None, said)
    reason = "; ".join([*(part.rstrip(".") for part in before), last])
    if status not in ("budget", "stalled") or not corrections(state):
        return status, reason
    if chosen.index == 0:
        better = "" if chosen.reason else "; no revision was better than the first solution"
        return "unchanged", f"{reason}{better}"
    verdict = rounds[chosen.index - 1].verdict
    if verdict and verdict.status == "unreadable":
        return "parse_error", f"{verdict.reason}; {reason}"
    return status, reason


def _read_call(number: int, **fields: Any) -> Call:
    return Call(**fields)


def _read_solution(entry: Mapping[str, Any], student: Student) -> Solution | None:
    return None if entry.get("solution") is None else student.read(entry["solution"])


def _read_verdict(entry: Mapping[str, Any]) -> Verdict | None:
    return Verdict.model_validate(entry["verdict"]) if entry.get("verdict") else None


def _read_review(entry: Mapping[str, Any], key: str) -> Critique | None:
    return Critique.model_validate(entry[key]) if entry.get(key) else None


def _read_round(entry: Mapping[str, Any], student: Student) -> Round:
    return Round(
        critique=read_critique(entry),
        revisions=tuple(Revision.model_validate(one) for one in entry.get("revisions", ())),
        review=_read_review(entry, "review"),
        free_review=_read_review(entry, "free_review"),
        solution=_read_solution(entry, student),
        verdict=_read_verdict(entry),
        inspections=tuple(Inspection.model_validate(one) for one in entry.get("inspections", ())),
        alternatives=tuple(Alternative.model_validate(one) for one in entry.get("alternatives", ())),
        continuation=entry.get("continuation", ""),
    )
