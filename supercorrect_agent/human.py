"""The person between critic and student: an interrupt that LangChain's review clients can show and answer.

The request and its answer have the forms of LangChain's ``HumanInTheLoopMiddleware``: one action, named
after the node that it would set going, which is approved, edited or rejected. What comes before an interrupt
runs again when the run goes on, so no model is asked here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import RunnableConfig
from langgraph.types import interrupt
from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator

from supercorrect_agent.calls import Flow, storable
from supercorrect_agent.events import report
from supercorrect_agent.progress import (
    critique_of,
    current_text,
    dump,
    ended,
    in_round,
    open_round,
    round_number,
    told,
)
from supercorrect_agent.running import Update
from supercorrect_agent.solver import Solver
from supercorrect_agent.state import SolveState
from supercorrect_agent.types import Critique, Inspection, Solution

if TYPE_CHECKING:
    from langchain.agents.middleware.human_in_the_loop import HITLRequest

ACTION = "student_correct"
AUTHOR = "human"
DECISIONS = "approve, edit or reject"


class Edit(BaseModel):
    """What a person puts in place of a critique."""

    step: int = Field(ge=1)
    cause: str = ""
    correction: str

    @field_validator("step", mode="before")
    @classmethod
    def _is_a_number(cls, step: Any) -> Any:
        if isinstance(step, bool):
            raise ValueError(f"{step} is not a number")
        return step

    @field_validator("step")
    @classmethod
    def _is_a_step(cls, step: int, info: ValidationInfo) -> int:
        last: int = info.context["steps"] if info.context else step
        if step > last:
            raise ValueError(f"{step} is not a step: the solution has steps 1 to {last}")
        return step

    @field_validator("correction")
    @classmethod
    def _says_something(cls, correction: str) -> str:
        if not correction.strip():
            raise ValueError("it is empty; write the step as it should be")
        return correction.strip()


@dataclass(frozen=True)
class Decision:
    """A person's decision: what it was, what the student is to follow, and the person's words."""

    kind: str
    critique: Critique
    message: str = ""


def human_review(solver: Solver, state: SolveState, config: RunnableConfig) -> Flow[Update]:
    """Has a person approve, edit or reject the critique; rejected, the solution stands."""
    solution = solver.student.read(current_text(state))
    decision = decide(state["problem"], solution, critique_of(state))
    report("human_review", round_number(state), decision=decision.kind, step=decision.critique.step)
    accepted = decision.kind != "reject"
    check = Inspection(check="human_review", passed=accepted, note=decision.message or decision.kind)
    inspections = [*open_round(state).get("inspections", ()), dump(check)]
    edited = told(decision.critique) if decision.kind == "edit" else {}
    update = in_round(state, **edited, inspections=inspections)
    if accepted:
        return update
    reason = ": ".join(filter(None, ("a person rejected the critique", decision.message)))
    return {**update, "ending": ended("human", reason)}
    yield  # a flow without effects


def decide(problem: str, solution: Solution, found: Critique) -> Decision:
    """Waits for a person's decision; an answer that cannot be used is asked for again, with what is wrong."""
    fault = ""
    while True:
        answer = interrupt(build_request(problem, solution, found, fault))
        try:
            return read_decision(answer, solution, found)
        except ValueError as unusable:
            fault = str(unusable)


def build_request(problem: str, solution: Solution, found: Critique, fault: str = "") -> HITLRequest:
    """What the person sees.

    Args:
        problem: The problem's text.
        solution: The solution that is criticised.
        found: The critique.
        fault: Why an earlier answer of the person could not be used.
    """
    error = f"'{found.author}' finds an error in step {found.step}; its correction would be followed."
    parts = [
        f"Your answer could not be used: {fault}." if fault else "",
        error if found.found_error else "No final answer can be read; the student would write it all again.",
        f"Problem:\n{problem}",
        f"Solution:\n{solution.raw}",
    ]
    args = {"step": found.step, "cause": found.cause, "correction": found.correction}
    return {
        "action_requests": [
            {"name": ACTION, "args": args, "description": "\n\n".join(part for part in parts if part)}
        ],
        "review_configs": [{"action_name": ACTION, "allowed_decisions": ["approve", "edit", "reject"]}],
    }


def read_decision(answer: Any, solution: Solution, found: Critique) -> Decision:
    """Reads what a client resumed with: ``{"decisions": [decision]}``, or ``[decision]`` of an older one.

    ``accept`` is another word for ``approve``. What an edit leaves out stays as it was.

    Raises:
        ValueError: It is no such answer, or an edit is no critique of this solution; the message says why.
    """
    decisions = answer.get("decisions") if isinstance(answer, dict) else answer
    if not isinstance(decisions, list) or len(decisions) != 1 or not isinstance(decisions[0], dict):
        raise ValueError('resume with {"decisions": [decision]}, one decision')
    decision: dict[str, Any] = decisions[0]
    kind = decision.get("type")
    if kind in ("approve", "accept"):
        return Decision("approve", found)
    if kind == "reject":
        return Decision(kind, found, storable(" ".join(str(decision.get("message") or "").split())))
    if kind == "edit":
        return Decision(kind, _read_edit(decision, solution, found))
    raise ValueError(f"the decision's type is {kind!r}, not {DECISIONS}")


def _read_edit(decision: dict[str, Any], solution: Solution, found: Critique) -> Critique:
    edited = decision.get("edited_action")
    args = edited.get("args") if isinstance(edited, dict) else None
    if not isinstance(args, dict):
        raise ValueError('an edit needs {"edited_action": {"name": ..., "args": {step, cause, correction}}}')
    args = {"step": found.step, "cause": found.cause, "correction": found.correction, **args}
    try:
        edit = Edit.model_validate(args, context={"steps": max(1, len(solution.steps))})
    except ValidationError as invalid:
        faults = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in invalid.errors())
        raise ValueError("; ".join(faults)) from None
    cause, correction = storable(edit.cause.strip()), storable(edit.correction)
    return Critique(step=edit.step, cause=cause, correction=correction, author=AUTHOR)
