"""Pure functions over a run's state: reading it, closing rounds, choosing the solution, writing the trace."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from langchain_core.language_models import BaseChatModel

from supercorrect_agent.errors import SuperCorrectError
from supercorrect_agent.models import explain_model_error
from supercorrect_agent.state import Progress
from supercorrect_agent.student import Student
from supercorrect_agent.types import (
    Alternative,
    Call,
    Chosen,
    Critique,
    Inspection,
    Problem,
    Round,
    Solution,
    Trace,
    TraceStatus,
    Verdict,
)

try:
    PACKAGE_VERSION = version("supercorrect-agent")
except PackageNotFoundError:
    PACKAGE_VERSION = "unknown"

_RANK = {"correct": 3, "unscored": 2, "incorrect": 1, "unreadable": 0}


def dump(record: Critique | Call | Verdict | Inspection | Alternative) -> dict[str, Any]:
    """A record as it is kept in the state: JSON-native, without the fields that have their default."""
    return record.model_dump(mode="json", exclude_defaults=True)


def ended(status: TraceStatus, reason: str) -> dict[str, str]:
    """The ``ending`` of a decided run."""
    return {"status": status, "reason": reason}


def failure_text(who: str, failure: Exception, model: BaseChatModel | None = None) -> str:
    """One line that says who failed and how, with the remedy where a model server is the cause."""
    if model is not None and any(kind.__module__.startswith("openai") for kind in type(failure).__mro__):
        failure = explain_model_error(failure, model)
    kind = "" if isinstance(failure, SuperCorrectError) else f"{type(failure).__name__}: "
    return f"{who}: {kind}{' '.join(str(failure).split())[:500]}"


def critique_of(state: Progress) -> Critique:
    """The open critique."""
    return Critique.model_validate(state["critique"])


def close_round(
    critique: Critique,
    *,
    solution: str | None = None,
    verdict: Verdict | None = None,
    continuation: str = "",
    review: Mapping[str, Any] | None = None,
    inspections: Iterable[Mapping[str, Any]] = (),
    alternatives: Iterable[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """One finished round, as an entry of ``history``."""
    return {
        "critique": dump(critique),
        "review": dict(review) if review else None,
        "solution": solution,
        "verdict": dump(verdict) if verdict else None,
        "continuation": continuation,
        "inspections": [dict(one) for one in inspections],
        "alternatives": [dict(one) for one in alternatives],
    }


def corrections(state: Progress) -> int:
    """How many revised solutions there are so far."""
    return sum(entry["solution"] is not None for entry in state["history"])


def current_text(state: Progress) -> str:
    """The solution that is being worked on: the last revision, else the first solution."""
    for entry in reversed(state["history"]):
        if entry["solution"] is not None:
            return str(entry["solution"])
    return state["attempt"] or ""


def previous_text(state: Progress) -> str:
    """The solution before the one that is being worked on."""
    texts = [state["attempt"], *(e["solution"] for e in state["history"] if e["solution"] is not None)]
    return texts[-2] or "" if len(texts) > 1 else ""


def last_step(state: Progress) -> int | None:
    """The step that the last finished round's critique named."""
    step: int | None = state["history"][-1]["critique"].get("step") if state["history"] else None
    return step


def spent(state: Progress) -> tuple[int, float]:
    """Tokens (in and out) and seconds of all calls so far."""
    calls = state["calls"]
    tokens = sum(call.get("input_tokens", 0) + call.get("output_tokens", 0) for call in calls)
    return tokens, sum(call.get("seconds", 0.0) for call in calls)


def summarize_usage(calls: Iterable[Call]) -> dict[str, dict[str, Any]]:
    """Input tokens, output tokens, calls and seconds of each role."""
    usage: dict[str, dict[str, Any]] = {}
    for call in calls:
        total = usage.setdefault(
            call.role, {"input_tokens": 0, "output_tokens": 0, "calls": 0, "seconds": 0.0}
        )
        total["input_tokens"] += call.input_tokens
        total["output_tokens"] += call.output_tokens
        total["calls"] += 1
        total["seconds"] = round(total["seconds"] + call.seconds, 4)
    return usage


def choose(first: Verdict | None, rounds: Iterable[Round]) -> Chosen:
    """The best of the trajectory: never an unreadable or rejected solution over a better earlier one.

    Verdicts rank correct, unscored, incorrect, unreadable; between equals the later solution wins, since a
    critic found fault with the earlier one.
    """
    best, rank = 0, _RANK[first.status] if first else -1
    for index, one in enumerate(rounds, 1):
        if one.solution is not None and one.verdict is not None and _RANK[one.verdict.status] >= rank:
            best, rank = index, _RANK[one.verdict.status]
    return Chosen(index=best)


def build_trace(
    state: Progress, problem: Problem, student: Student, *, template: Solution | None = None, sample: int = 0
) -> Trace:
    """The trace of a decided run."""
    first = Verdict.model_validate(state["verdict"]) if state["verdict"] else None
    rounds = tuple(_read_round(entry, student) for entry in state["history"])
    chosen = choose(first, rounds)
    status, reason = _named(state, chosen, rounds)
    return Trace(
        id=uuid.uuid4().hex[:16],
        problem=problem,
        template=template,
        solution=student.read(state["attempt"]) if state["attempt"] is not None else None,
        verdict=first,
        rounds=rounds,
        chosen=Chosen(index=chosen.index, reason=reason),
        status=status,
        calls=tuple(Call.model_validate(call) for call in state["calls"]),
        error=reason if status == "error" else None,
        sample=sample,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={"supercorrect-agent": PACKAGE_VERSION},
    )


def _named(state: Progress, chosen: Chosen, rounds: tuple[Round, ...]) -> tuple[TraceStatus, str]:
    """The ending, put more exactly where corrections were made and none of them helped."""
    status: TraceStatus = state["ending"]["status"]  # type: ignore[assignment]
    reason = state["ending"]["reason"]
    if status not in ("budget", "stalled") or not corrections(state):
        return status, reason
    if chosen.index == 0:
        return "unchanged", f"{reason}; no revision was better than the first solution"
    verdict = rounds[chosen.index - 1].verdict
    if verdict and verdict.status == "unreadable":
        return "parse_error", f"{verdict.reason}; {reason}"
    return status, reason


def _read_round(entry: Mapping[str, Any], student: Student) -> Round:
    return Round(
        critique=Critique.model_validate(entry["critique"]),
        review=Critique.model_validate(entry["review"]) if entry["review"] else None,
        solution=student.read(entry["solution"]) if entry["solution"] is not None else None,
        verdict=Verdict.model_validate(entry["verdict"]) if entry["verdict"] else None,
        inspections=tuple(Inspection.model_validate(one) for one in entry["inspections"]),
        alternatives=tuple(Alternative.model_validate(one) for one in entry.get("alternatives", ())),
        continuation=entry["continuation"],
    )


def describe_round(one: Round) -> dict[str, Any]:
    """A round as the solving graph returns it."""
    return {
        "step": one.critique.step,
        "cause": one.critique.cause,
        "correction": one.critique.correction,
        "author": one.critique.author,
        "solution": one.solution.raw if one.solution else None,
        "answer": one.solution.answer if one.solution else None,
        "continuation": one.continuation,
    }
