"""The nodes of the solving graph. Each is a flow, so that its one text serves ``invoke`` and ``ainvoke``.

Nodes decide and routers only look: a node that decides how the run ends writes ``ending``, and every router
sends a decided run to ``record``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.config import get_stream_writer
from langgraph.runtime import get_runtime
from pydantic import BaseModel

from supercorrect_agent.calls import Effect, Flow, Reply, adrive, call_config, drive
from supercorrect_agent.errors import ConfigError
from supercorrect_agent.progress import (
    build_trace,
    close_round,
    corrections,
    critique_of,
    current_text,
    describe_round,
    dump,
    ended,
    failure_text,
    last_step,
    previous_text,
    spent,
    summarize_usage,
)
from supercorrect_agent.state import CollectConfig, CorrectionConfig, SolveState, empty_progress
from supercorrect_agent.student import Student, Turn
from supercorrect_agent.teachers import Teacher
from supercorrect_agent.types import Call, Critique, Problem, Solution, Trace, Verdict

Update = dict[str, Any]
Ending = dict[str, str]
SolutionCheck = Callable[[str, Solution], Verdict]
ConfigT = TypeVar("ConfigT", bound=BaseModel)


@dataclass(frozen=True)
class Solver:
    """Who plays which role in the solving graph. ``teacher=None``: the student reviews itself."""

    student: Student
    teacher: Teacher | None
    verifier: SolutionCheck | None
    defaults: CorrectionConfig


class NodeFlow(Protocol):
    """A node's text: from the state and the run's config to the update of the state."""

    def __call__(self, state: Any, config: RunnableConfig) -> Flow[Update]: ...


def as_node(name: str, flow: NodeFlow) -> RunnableLambda[Any, Update]:
    """A graph node, in both forms, of a flow."""

    def run(state: Any, config: RunnableConfig) -> Update:
        return drive(flow(state, config))

    async def arun(state: Any, config: RunnableConfig) -> Update:
        return await adrive(flow(state, config))

    return RunnableLambda(run, arun, name=name)


def model_of(role: Student | Teacher) -> BaseChatModel | None:
    """The chat model behind a role; a teacher need not have one."""
    model = getattr(role, "model", None)
    return model if isinstance(model, BaseChatModel) else None


def run_settings(defaults: ConfigT) -> ConfigT:
    """The config of this run: what ``context=`` sets, over what the graph was created with."""
    context = get_runtime().context
    if not isinstance(context, type(defaults)):  # none given, or a parent graph's own kind of context
        return defaults
    return defaults.model_copy(update={key: getattr(context, key) for key in context.model_fields_set})


def student_turn(settings: CorrectionConfig | CollectConfig, config: RunnableConfig, round: int = 0) -> Turn:
    """The circumstances of a student's call in this run."""
    sampling = {"temperature": settings.temperature, "max_tokens": settings.max_new_tokens}
    return Turn(config, {key: value for key, value in sampling.items() if value is not None}, round)


def report(event: str, round: int, **fields: Any) -> None:
    """Sends one progress event to whoever streams the run in ``custom`` mode."""
    get_stream_writer()({"event": event, "round": round, **fields})


def student_solve(solver: Solver, state: SolveState, config: RunnableConfig) -> Flow[Update]:
    """Asks the student for a first solution, and forgets any earlier run of the thread."""
    if not state["problem"].strip():
        raise ConfigError("`problem` is empty. Pass the text of a problem.")
    fresh = dict(empty_progress())
    turn = student_turn(run_settings(solver.defaults), config)
    try:
        reply: Reply = yield solver.student.solve(state["problem"], turn)
    except Exception as failure:
        return {**fresh, "ending": ended("error", failure_text("student", failure, solver.student.model))}
    report_solution(solver.student, reply.text)
    return {**fresh, "attempt": reply.text, "calls": [dump(reply.call)]}


def report_solution(student: Student, text: str) -> None:
    """Reports the first solution."""
    report("solution", 0, text=text, answer=student.read(text).answer)


def verify(solver: Solver, state: SolveState, config: RunnableConfig) -> Flow[Update]:
    """Judges the newest solution (readable? accepted by the verifier?) and decides whether to go on."""
    revision = state["revision"]
    text = revision["text"] if revision else state["attempt"] or ""
    verdict = yield from _judge(solver, state["problem"], solver.student.read(text))
    update: Update
    if revision:
        entry = _closed(
            state,
            critique_of(state),
            solution=text,
            verdict=verdict,
            continuation=revision["continuation"],
        )
        update = {"history": [*state["history"], entry], "critique": {}, "review": {}, "revision": {}}
    else:
        update = {"verdict": dump(verdict)}
    settings = run_settings(solver.defaults)
    after = SolveState(**{**state, **update})  # type: ignore[typeddict-item]
    return {**update, "ending": _gate(after, verdict, settings)}


def _judge(solver: Solver, question: str, solution: Solution) -> Generator[Effect[Verdict], Verdict, Verdict]:
    if solution.answer is None:
        return Verdict(status="unreadable", reason="no final answer could be read")
    verifier = solver.verifier
    if verifier is None:
        return Verdict(status="unscored", reason="no reference to compare with")
    try:
        return (
            yield Effect(
                lambda: verifier(question, solution), lambda: asyncio.to_thread(verifier, question, solution)
            )
        )
    except Exception as failure:
        return Verdict(status="unscored", reason=failure_text("verifier", failure))


def _gate(state: SolveState, verdict: Verdict, settings: CorrectionConfig) -> Ending:
    """Whether the run ends with this solution; empty where a critic is to look at it."""
    done = corrections(state)
    if verdict.correct:
        return ended("corrected" if done else "accepted", "the verifier accepted the answer")
    if settings.max_rounds == 0:
        if verdict.status == "unreadable":
            return ended("parse_error", verdict.reason)
        return ended(
            "accepted" if verdict.status == "unscored" else "budget", "max_rounds=0: nobody looked at it"
        )
    if done >= settings.max_rounds:
        return ended(
            "budget", f"max_rounds={settings.max_rounds} corrections were made; nobody looked at the last"
        )
    return _overspent(state, settings)


def after_verify(solver: Solver, state: SolveState) -> str:
    """Where a run goes from ``verify``."""
    if state["ending"]:
        return "record"
    reviews = solver.teacher is None or run_settings(solver.defaults).ask_teacher == "flagged"
    return "student_review" if reviews else "teacher_critique"


def _overspent(state: SolveState, settings: CorrectionConfig, *more: Call) -> Ending:
    tokens, seconds = spent(state)
    tokens += sum(call.input_tokens + call.output_tokens for call in more)
    seconds += sum(call.seconds for call in more)
    if settings.max_total_tokens is not None and tokens >= settings.max_total_tokens:
        return ended("budget", f"{tokens} tokens used of max_total_tokens={settings.max_total_tokens}")
    if settings.max_seconds is not None and seconds >= settings.max_seconds:
        return ended("budget", f"{seconds:.1f} s used of max_seconds={settings.max_seconds:g}")
    return {}


def student_review(solver: Solver, state: SolveState, config: RunnableConfig) -> Flow[Update]:
    """Asks the student whether it doubts its own solution; where it does not, the teacher is not asked."""
    settings = run_settings(solver.defaults)
    solution = solver.student.read(current_text(state))
    number = len(state["history"]) + 1
    turn = student_turn(settings, config, number)
    try:
        found, call = yield from solver.student.review(state["problem"], solution, turn)
    except Exception as failure:
        return {"ending": ended("error", failure_text("student", failure, solver.student.model))}
    report_critique(found, number)
    update: Update = {"calls": [*state["calls"], dump(call)]}
    ending = _undoubted(state, solution, found) or _overspent(state, settings, call)
    if ending:
        return {**update, "history": [*state["history"], close_round(found)], "ending": ending}
    return {**update, "review": dump(found)}


def _undoubted(state: SolveState, solution: Solution, found: Critique) -> Ending:
    """How the student's own review ends the run; empty where the teacher is to be asked."""
    doubted = found.found_error or not found.readable or solution.answer is None
    if doubted or _verdict_of(state)["status"] == "incorrect":
        return {}
    reason = "the student's own review finds no error, and the teacher was not asked"
    return ended("corrected" if corrections(state) else "accepted", reason)


def critique(solver: Solver, state: SolveState, config: RunnableConfig) -> Flow[Update]:
    """Asks the teacher (or the student itself) for the first wrong step; decides whether to correct it."""
    settings = run_settings(solver.defaults)
    solution = solver.student.read(current_text(state))
    number = len(state["history"]) + 1
    try:
        found, calls = yield from _find_error(
            solver, state["problem"], solution, student_turn(settings, config, number)
        )
    except Exception as failure:
        who, critic = ("teacher", solver.teacher) if solver.teacher else ("student", solver.student)
        review = state.get("review")
        alone = [close_round(Critique.model_validate(review))] if review else []
        ending = ended("error", failure_text(who, failure, model_of(critic)))
        return {"history": [*state["history"], *alone], "ending": ending}
    report_critique(found, number)
    update: Update = {"calls": [*state["calls"], *map(dump, calls)]}
    ending = _after_critique(solver.student, state, solution, found) or _overspent(state, settings, *calls)
    if ending:
        return {**update, "history": [*state["history"], _closed(state, found)], "ending": ending}
    return {**update, "critique": dump(found)}


def _closed(state: SolveState, found: Critique, **outcome: Any) -> Update:
    """The round of a critique with the student's own review, a key that older checkpoints lack."""
    return close_round(found, review=state.get("review"), **outcome)


def _find_error(
    solver: Solver, question: str, solution: Solution, turn: Turn
) -> Flow[tuple[Critique, tuple[Call, ...]]]:
    teacher = solver.teacher
    if teacher is None:
        found, call = yield from solver.student.review(question, solution, turn)
        return found, (call,)
    number = turn.round
    child = call_config(turn.config, role="teacher", name="teacher_critique", round=number)
    found, calls = yield Effect(
        lambda: teacher.critique(question, solution, config=child),
        lambda: teacher.acritique(question, solution, config=child),
    )
    return found, tuple(call.model_copy(update={"round": number}) for call in calls)


def report_critique(found: Critique, number: int) -> None:
    """Reports a critique."""
    fields = found.model_dump(include={"step", "cause", "correction", "author", "readable"})
    report("critique", number, **fields)


def _after_critique(student: Student, state: SolveState, solution: Solution, found: Critique) -> Ending:
    """How a critique ends the run; empty where there is something to correct."""
    if not found.readable:
        return ended("parse_error", f"the critique by '{found.author}' could not be read")
    readable = solution.answer is not None
    steps = len(solution.steps)
    if found.step is None:
        return _no_error_found(state) if readable else {}
    if steps and found.step > steps:
        return ended("parse_error", f"the critique names step {found.step} of a solution with {steps} steps")
    before = student.read(previous_text(state)).answer if corrections(state) else None
    if before is not None and found.step == last_step(state) and before == solution.answer:
        return ended("stalled", f"step {found.step} was corrected and the answer is still {before}")
    return {}


def _no_error_found(state: SolveState) -> Ending:
    done = corrections(state)
    if _verdict_of(state)["status"] == "incorrect":  # only a user's verifier says so
        return ended(
            "stalled" if done else "unchanged", "the critic finds no error in what the verifier rejects"
        )
    return ended("corrected" if done else "accepted", "the critic finds no error")


def _verdict_of(state: SolveState) -> dict[str, Any]:
    """The verdict on the solution that is being worked on."""
    verdict: dict[str, Any] = state["history"][-1]["verdict"] if corrections(state) else state["verdict"]
    return verdict


def student_correct(solver: Solver, state: SolveState, config: RunnableConfig) -> Flow[Update]:
    """Has the student go on from the corrected step, behind the verbatim text that was right."""
    settings = run_settings(solver.defaults)
    found = critique_of(state)
    number = len(state["history"]) + 1
    try:
        text, how, call = yield from solver.student.correct(
            state["problem"],
            solver.student.read(current_text(state)),
            found,
            student_turn(settings, config, number),
            keep_prefix=settings.keep_prefix,
        )
    except Exception as failure:
        ending = ended("error", failure_text("student", failure, solver.student.model))
        return {"history": [*state["history"], _closed(state, found)], "critique": {}, "ending": ending}
    report_correction(solver.student, text, number, how)
    return {"revision": {"text": text, "continuation": how}, "calls": [*state["calls"], dump(call)]}


def report_correction(student: Student, text: str, number: int, how: str) -> None:
    """Reports a revised solution."""
    report("correction", number, text=text, answer=student.read(text).answer, continuation=how)


def record(solver: Solver, state: SolveState, config: RunnableConfig) -> Flow[Update]:
    """Writes the trace and what the caller gets."""
    trace = build_trace(state, Problem.create(state["problem"]), solver.student)
    final = trace.final_solution
    update: Update = {
        "answer": final.answer if final else None,
        "solution": final.raw if final else None,
        "status": trace.status,
        "rounds": [describe_round(one) for one in trace.rounds],
        "usage": summarize_usage(trace.calls),
        "trace": trace.model_dump(mode="json"),
    }
    report_end(trace)
    return update
    yield  # a flow without effects


def report_end(trace: Trace) -> None:
    """Reports how the run ended."""
    final = trace.final_solution
    answer = final.answer if final else None
    usage = summarize_usage(trace.calls)
    report("done", len(trace.rounds), status=trace.status, answer=answer, usage=usage, error=trace.error)
