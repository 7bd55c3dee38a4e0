"""The nodes of the solving graph. Each is a flow, so that its one text serves ``invoke`` and ``ainvoke``.

Nodes decide and routers only look: a node that decides how the run ends writes ``ending``, and every router
sends a decided run to ``record``.
"""

from __future__ import annotations

from langchain_core.runnables import RunnableConfig

from supercorrect_agent.calls import Flow, Reply, calls_before
from supercorrect_agent.events import (
    report_correction,
    report_critique,
    report_end,
    report_solution,
)
from supercorrect_agent.gate import (
    after_critique,
    after_failure,
    after_inspection,
    after_review,
    after_verdict,
    overspent,
)
from supercorrect_agent.inspector import failed_notes
from supercorrect_agent.memory import memory_remark
from supercorrect_agent.outcome import build_trace
from supercorrect_agent.progress import (
    after,
    begin_run,
    corrections,
    critique_of,
    current_text,
    dump,
    in_round,
    last_answers,
    open_round,
    revised,
    round_number,
    summarize_usage,
    told,
    unset,
    with_verdict,
)
from supercorrect_agent.running import Update, model_of
from supercorrect_agent.solver import Solver, check_run
from supercorrect_agent.state import SolveState
from supercorrect_agent.student import unless_contradicted
from supercorrect_agent.teachers import RevisingTeacher
from supercorrect_agent.types import Critique, Problem


def student_solve(solver: Solver, state: SolveState, config: RunnableConfig) -> Flow[Update]:
    """Asks the student for a first solution, and forgets any earlier run of the thread."""
    check_run(state["problem"], solver.settings(), config)
    try:
        examples = state.get("examples", ())
        reply: Reply = yield solver.student.solve(state["problem"], solver.turn(config), examples)
    except Exception as failure:
        ending = after_failure("student", failure, solver.student.model, left="there is no answer")
        return {**begin_run(state), "ending": ending}
    report_solution(solver.student, reply.text)
    return begin_run(state, [dump(reply.call)], solution=reply.text)


def verify(solver: Solver, state: SolveState, config: RunnableConfig) -> Flow[Update]:
    """Judges the newest solution (readable? accepted by the verifier?) and decides whether to go on.

    A run in which the student failed comes through here, already decided.
    """
    if state["ending"]:
        return {}
    verdict = yield from solver.judge(state["problem"], solver.student.read(current_text(state)))
    update: Update = {**unset(state, "notes", "revisions"), **with_verdict(state, verdict)}
    now = after(state, update)
    ending = after_verdict(now, verdict, last_answers(now, solver.student, 3), solver.settings())
    return {**update, "ending": ending}


def student_review(solver: Solver, state: SolveState, config: RunnableConfig) -> Flow[Update]:
    """Asks the student whether it doubts its own solution; where it does not, the teacher is not asked."""
    solution = solver.student.read(current_text(state))
    number = round_number(state)
    try:
        turn = solver.turn(config, number, state)
        found, call = yield from solver.student.review(state["problem"], solution, turn)
        found = unless_contradicted(solution, found)
    except Exception as failure:
        ending = after_failure("student", failure, solver.student.model, left=_unchecked(state))
        return {"ending": ending}
    report_critique(found, number)
    update: Update = {"calls": [dump(call)]}
    ending = after_review(after(state, update), solution, found, solver.settings())
    if ending:
        return {**update, **in_round(state, **told(found)), "ending": ending}
    return {**update, **in_round(state, review=dump(found))}


def critique(solver: Solver, state: SolveState, config: RunnableConfig) -> Flow[Update]:
    """Asks the teacher (or the student itself) for the first wrong step; with notes, to revise that.

    Decides whether to correct that step, unless an inspector comes first.
    """
    solution = solver.student.read(current_text(state))
    number = round_number(state)
    try:
        found, calls = yield from solver.find_error(state, solution, solver.turn(config, number, state))
    except Exception as failure:
        made = [dump(call) for call in calls_before(failure)]
        return {**_critic_failed(solver, state, failure), "calls": made}
    report_critique(found, number)
    update: Update = {**in_round(state, **told(found)), "calls": [dump(call) for call in calls]}
    if solver.inspector is not None:
        return update
    return update | _decided(solver, after(state, update))


def inspect_critique(solver: Solver, state: SolveState, config: RunnableConfig) -> Flow[Update]:
    """Has the critique inspected: one that fails goes back to the teacher once, and then is not followed."""
    found, solution = critique_of(state), solver.student.read(current_text(state))
    try:
        turn = solver.turn(config, round_number(state), state)
        checks, calls = yield from solver.inspect(state["problem"], solution, found, turn)
    except Exception as failure:
        made = {"calls": [dump(call) for call in calls_before(failure)]}
        left = "the critique was not followed"
        return {**made, "ending": after_failure("inspector", failure, model_of(solver.inspector), left)}
    made = {"calls": [dump(call) for call in calls]} if calls else {}
    inspected = in_round(state, inspections=[dump(one) for one in checks])
    update: Update = {**unset(state, "notes"), **made, **inspected}
    notes = failed_notes(checks)
    if not notes:
        return update | _decided(solver, after(state, update))
    if _may_revise(solver, state):
        return {**made, "notes": notes, "revisions": 1}
    return update | {"ending": after_inspection(found, checks)}


def _may_revise(solver: Solver, state: SolveState) -> bool:
    again = isinstance(solver.teacher, RevisingTeacher) and not state.get("revisions")
    return again and not overspent(state, solver.settings())


def student_correct(solver: Solver, state: SolveState, config: RunnableConfig) -> Flow[Update]:
    """Has the student go on from the corrected step, behind the verbatim text that was right."""
    number = round_number(state)
    try:
        text, how, call = yield from solver.student.correct(
            state["problem"],
            solver.student.read(current_text(state)),
            critique_of(state),
            solver.turn(config, number, state),
            keep_prefix=solver.settings().keep_prefix,
        )
    except Exception as failure:
        left = "the critique was not followed"
        return {"ending": after_failure("student", failure, solver.student.model, left)}
    report_correction(solver.student, text, number, how)
    return {**in_round(state, **revised(solver.student, text, how)), "calls": [dump(call)]}


def record(solver: Solver, state: SolveState, config: RunnableConfig) -> Flow[Update]:
    """Writes the trace and what the caller gets."""
    trace = build_trace(
        state,
        Problem.create(state["problem"]),
        solver.student,
        votes=state.get("votes", ()),
        agreement=state.get("agreement"),
        remark=memory_remark(state) if solver.memory else "",
    )
    final = trace.final_solution
    update: Update = {
        "answer": final.answer if final else None,
        "solution": final.raw if final else None,
        "status": trace.status,
        "reason": trace.chosen.reason,
        "votes": state.get("votes", []),
        "agreement": state.get("agreement"),
        "usage": summarize_usage(trace.calls, solver.roles),
        "trace": trace.model_dump(mode="json"),
    }
    report_end(trace)
    return update
    yield  # a flow without effects


def _decided(solver: Solver, state: SolveState) -> Update:
    """What becomes of the open critique: the end of the run, or nothing where it is to be followed."""
    found, solution = critique_of(state), solver.student.read(current_text(state))
    ending = after_critique(state, solution, found, last_answers(state, solver.student, 2), solver.settings())
    return {"ending": ending} if ending else {}


def _critic_failed(solver: Solver, state: SolveState, failure: Exception) -> Update:
    """How a run ends whose critic cannot be asked; what there is of the round stays on the trace."""
    who, critic = ("teacher", solver.teacher) if solver.teacher is not None else ("student", solver.student)

    def because(left: str) -> Update:
        return {"ending": after_failure(who, failure, model_of(critic), left)}

    if "details" in open_round(state):
        return because("the critique was not followed")
    review = open_round(state).get("review")
    if not review:
        return because(_unchecked(state))
    alone = in_round(state, **told(Critique.model_validate(review)), review=None)
    return {**alone, **because("only the student itself checked the answer")}


def _unchecked(state: SolveState) -> str:
    return "nobody checked the last revision" if corrections(state) else "nobody checked the answer"
