"""Counts over traces, as plain JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from supercorrect_agent.types import Call, Inspection, Round, Trace, Verdict

_ROLES = ("student", "teacher", "inspector")
_ERRORS = 10
"""So many kinds of failures are named."""
_ERROR_LENGTH = 100


class Price(NamedTuple):
    """What a million tokens cost, read and written."""

    input: float
    output: float


def summarize_traces(
    traces: Iterable[Trace], *, prices: Mapping[str, Price] | None = None, errors: bool = False
) -> dict[str, Any]:
    """Counts over traces, which are read once.

    Args:
        traces: From a store, or a list.
        prices: By role; adds what the calls cost.
        errors: Whether to count how runs failed, by the first line of the message.

    Returns:
        ``traces``, ``problems``; ``status`` (traces by ending); ``first`` and ``final`` with ``scored``,
        ``correct`` and ``accuracy`` (unscored answers excluded, unreadable ones wrong; None when nothing was
        scored); ``rounds`` and ``first_error_step`` (histograms with string keys); ``usage`` by role with
        ``calls``, ``input_tokens``, ``output_tokens`` and ``seconds``, and ``cost`` where there is a price.

        Where there is something to count, also ``inspector`` (by check: ``made`` and ``caught``, over all
        versions of a critique), ``revisions`` (critiques that went back to their teacher), ``quarantined``
        (by the checks that failed to the last), ``free_review`` (``scored``, ``correct``, ``accuracy`` of the
        step that the student names itself, against the teacher's), ``cost`` (of all roles) and ``errors``.
    """
    counts = _Counts()
    for trace in traces:
        counts.add(trace)
    return counts.summary(prices or {}, errors=errors)


def final_verdict(trace: Trace) -> Verdict | None:
    """What the verifier says of the solution that was returned."""
    return trace.verdict if trace.chosen.index == 0 else trace.rounds[trace.chosen.index - 1].verdict


class _Counts:
    """The sums of the traces so far."""

    def __init__(self) -> None:
        self.traces = self.revisions = 0
        self.problems: set[str] = set()
        self.status: Counter[str] = Counter()
        self.rounds: Counter[int] = Counter()
        self.error_steps: Counter[int] = Counter()
        self.first, self.final, self.free_review = _Share(), _Share(), _Share()
        self.made: Counter[str] = Counter()
        self.caught: Counter[str] = Counter()
        self.quarantined: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.usage: dict[str, _Usage] = {}

    def add(self, trace: Trace) -> None:
        self.traces += 1
        self.problems.add(trace.problem.id)
        self.status[trace.status] += 1
        self.first.add(trace.verdict)
        self.final.add(final_verdict(trace))
        self.rounds[len(trace.rounds)] += 1
        if trace.rounds and trace.rounds[0].critique.step is not None:
            self.error_steps[trace.rounds[0].critique.step] += 1
        for one in trace.rounds:
            self._add_round(one)
        if trace.status == "quarantined":
            self.quarantined[_reason(trace)] += 1
        if trace.status == "error":
            self.errors[_first_line(trace.error)] += 1
        for call in trace.calls:
            self.usage.setdefault(call.role, _Usage()).add(call)

    def _add_round(self, one: Round) -> None:
        self.revisions += len(one.revisions)
        for check in (
            *one.inspections,
            *(check for version in one.revisions for check in version.inspections),
        ):
            self.made[check.check] += 1
            self.caught[check.check] += not check.passed
        if one.free_review is not None:
            self.free_review.count(one.free_review.readable and one.free_review.step == one.critique.step)

    def summary(self, prices: Mapping[str, Price], *, errors: bool) -> dict[str, Any]:
        usage = {role: self.usage[role].summary(prices.get(role)) for role in _ROLES if role in self.usage}
        inspector = {
            name: {"made": self.made[name], "caught": self.caught[name]} for name in sorted(self.made)
        }
        found: dict[str, Any] = {
            "traces": self.traces,
            "problems": len(self.problems),
            "status": dict(sorted(self.status.items())),
            "first": self.first.summary(),
            "final": self.final.summary(),
            "rounds": _histogram(self.rounds),
            "first_error_step": _histogram(self.error_steps),
            "usage": usage,
        }
        extra: dict[str, Any] = {
            "inspector": inspector,
            "revisions": self.revisions,
            "quarantined": dict(self.quarantined.most_common()),
            "free_review": self.free_review.summary() if self.free_review.scored else None,
            "cost": sum(one.get("cost", 0.0) for one in usage.values()) if prices else None,
            "errors": dict(self.errors.most_common(_ERRORS)) if errors else None,
        }
        return found | {name: value for name, value in extra.items() if value}


class _Share:
    """How many of the scored are right."""

    def __init__(self) -> None:
        self.scored = self.correct = 0

    def add(self, verdict: Verdict | None) -> None:
        if verdict is not None and verdict.status != "unscored":
            self.count(verdict.correct)

    def count(self, right: bool) -> None:
        self.scored += 1
        self.correct += right

    def summary(self) -> dict[str, Any]:
        share = self.correct / self.scored if self.scored else None
        return {"scored": self.scored, "correct": self.correct, "accuracy": share}


class _Usage:
    """What the calls of one role took."""

    def __init__(self) -> None:
        self.calls = self.input_tokens = self.output_tokens = 0
        self.seconds = 0.0

    def add(self, call: Call) -> None:
        self.calls += 1
        self.input_tokens += call.input_tokens
        self.output_tokens += call.output_tokens
        self.seconds += call.seconds

    def summary(self, price: Price | None) -> dict[str, Any]:
        found: dict[str, Any] = {
            "calls": self.calls,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "seconds": self.seconds,
        }
        if price is not None:
            cost = self.input_tokens * price.input + self.output_tokens * price.output
            found["cost"] = cost / 1_000_000
        return found


def _histogram(counts: Counter[int]) -> dict[str, int]:
    return {str(number): counts[number] for number in sorted(counts)}


def _reason(trace: Trace) -> str:
    """The checks that the teacher's work failed to the last; else what the run says."""
    last: tuple[Inspection, ...] = trace.rounds[-1].inspections if trace.rounds else ()
    failed = [check.check for check in last if not check.passed]
    return ", ".join(failed) or _first_line(trace.error or trace.chosen.reason)


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0][:_ERROR_LENGTH] or "no reason given"
