"""Traces as sessions for Hugging Face's trace viewer: the Session Trace Simple Format.

https://huggingface.co/docs/hub/session-traces-format: one file is one session, a header and then a line for
each message. Here the student is the assistant, and the teacher a tool to which it hands its solution.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from supercorrect_agent.types import Critique, Solution, Trace

HARNESS = "supercorrect-agent"
_NAME_LENGTH = 80

Json = dict[str, Any]


def format_session(trace: Trace) -> str:
    """One trace as the text of a session file."""
    return "".join(json.dumps(line) + "\n" for line in session_lines(trace))


def session_lines(trace: Trace) -> Iterator[Json]:
    """The header and the messages of one trace, without the true answer and the reference solution."""
    yield _header(trace)
    yield _message({"role": "user", "content": trace.problem.question})
    solution = trace.solution
    for number, one in enumerate(trace.rounds, 1):
        call = f"critique-{number}"
        yield _message({**_solution(solution), "toolCalls": [_call(call)]})
        yield _message(
            {
                "role": "tool",
                "toolCallId": call,
                "content": critique_text(one.critique),
                **({"model": one.critique.author} if one.critique.author else {}),
            }
        )
        solution = one.solution
    if solution is not None:
        yield _message(_solution(solution))
    if trace.error is not None:
        yield _message({"role": "system", "content": f"The run failed: {trace.error}"})


def critique_text(critique: Critique) -> str:
    """What a critique says, in its author's words where there are any."""
    if critique.raw.strip():
        return critique.raw
    if critique.step is None:
        return "No error was found." if critique.readable else "The critique could not be read."
    return f"Step {critique.step} is wrong. {critique.cause}\nCorrection: {critique.correction}"


def _header(trace: Trace) -> Json:
    return {
        "type": "session",
        "harness": HARNESS,
        "id": trace.id,
        "name": " ".join(trace.problem.question.split())[:_NAME_LENGTH],
        "created": trace.created,
        "problem_id": trace.problem.id,
        "sample": trace.sample,
        "status": trace.status,
        "verdict": trace.verdict.status if trace.verdict else None,
        "chosen": trace.chosen.index,
    }


def _message(message: Json) -> Json:
    return {"type": "message", "message": message}


def _solution(solution: Solution | None) -> Json:
    if solution is None:
        return {"role": "assistant", "content": ""}
    named = {"model": solution.model} if solution.model else {}
    return {"role": "assistant", "content": solution.raw, **named}


def _call(name: str) -> Json:
    return {"id": name, "function": {"name": "teacher_critique", "arguments": "{}"}}
