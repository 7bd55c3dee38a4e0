"""Counts over traces, as plain JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from supercorrect_agent.types import Call, Trace, Verdict

_ROLES = ("student", "teacher", "inspector")


def summarize_traces(traces: Iterable[Trace]) -> dict[str, Any]:
    """Counts over traces, as plain JSON.

    Returns:
        ``traces``, ``problems``; ``status`` (traces by ending); ``first`` and ``final`` with ``scored``,
        ``correct`` and ``accuracy`` (unscored answers excluded, unreadable ones wrong; None when nothing was
        scored); ``rounds`` and ``first_error_step`` (histograms with string keys); ``usage`` by role with
        ``calls``, ``input_tokens``, ``output_tokens`` and ``seconds``.
    """
    first: list[Verdict | None] = []
    final: list[Verdict | None] = []
    problems: set[str] = set()
    status: Counter[str] = Counter()
    rounds: Counter[int] = Counter()
    error_steps: Counter[int] = Counter()
    calls: list[Call] = []
    for trace in traces:
        problems.add(trace.problem.id)
        status[trace.status] += 1
        first.append(trace.verdict)
        final.append(_final_verdict(trace))
        rounds[len(trace.rounds)] += 1
        if trace.rounds and trace.rounds[0].critique.step is not None:
            error_steps[trace.rounds[0].critique.step] += 1
        calls.extend(trace.calls)
    return {
        "traces": len(first),
        "problems": len(problems),
        "status": dict(sorted(status.items())),
        "first": _accuracy(first),
        "final": _accuracy(final),
        "rounds": {str(count): rounds[count] for count in sorted(rounds)},
        "first_error_step": {str(step): error_steps[step] for step in sorted(error_steps)},
        "usage": {role: _usage(calls, role) for role in _ROLES if any(call.role == role for call in calls)},
    }


def _final_verdict(trace: Trace) -> Verdict | None:
    return trace.verdict if trace.chosen.index == 0 else trace.rounds[trace.chosen.index - 1].verdict


def _accuracy(verdicts: Iterable[Verdict | None]) -> dict[str, Any]:
    scored = [verdict for verdict in verdicts if verdict is not None and verdict.status != "unscored"]
    correct = sum(verdict.correct for verdict in scored)
    return {
        "scored": len(scored),
        "correct": correct,
        "accuracy": correct / len(scored) if scored else None,
    }


def _usage(calls: Iterable[Call], role: str) -> dict[str, Any]:
    own = [call for call in calls if call.role == role]
    return {
        "calls": len(own),
        "input_tokens": sum(call.input_tokens for call in own),
        "output_tokens": sum(call.output_tokens for call in own),
        "seconds": sum(call.seconds for call in own),
    }
