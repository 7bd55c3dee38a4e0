"""The progress events of a run, for whoever streams it in ``custom`` mode."""

from __future__ import annotations

from typing import Any

from langgraph.config import get_stream_writer

from supercorrect_agent.progress import summarize_usage
from supercorrect_agent.student import Student
from supercorrect_agent.types import Critique, Trace


def report(event: str, round: int, **fields: Any) -> None:
    """Sends one progress event."""
    get_stream_writer()({"event": event, "round": round, **fields})


def report_solution(student: Student, text: str) -> None:
    """Reports the first solution."""
    report("solution", 0, text=text, answer=student.read(text).answer)


def report_critique(found: Critique, number: int) -> None:
    """Reports a critique."""
    fields = found.model_dump(include={"step", "cause", "correction", "author", "readable"})
    report("critique", number, **fields)


def report_correction(student: Student, text: str, number: int, how: str) -> None:
    """Reports a revised solution."""
    report("correction", number, text=text, answer=student.read(text).answer, continuation=how)


def report_end(trace: Trace) -> None:
    """Reports how the run ended."""
    final = trace.final_solution
    answer = final.answer if final else None
    usage = summarize_usage(trace.calls)
    report("done", len(trace.rounds), status=trace.status, answer=answer, usage=usage, error=trace.error)
