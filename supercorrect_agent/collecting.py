"""The nodes of the collecting graph: the teacher sees the reference, every error becomes training data.

The student never sees the reference: its solving, its review and its correction are asked with the same
prompts as in use (decision B3, B4). What fails is on the trace, not raised.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from langchain_core.runnables import RunnableConfig
from pydantic import ValidationError

from supercorrect_agent.alternatives import Alternatives
from supercorrect_agent.calls import Effect, Flow, Reply, call_config, calls_before
from supercorrect_agent.errors import ConfigError
from supercorrect_agent.events import report_correction, report_critique, report_end, report_solution
from supercorrect_agent.inspector import failed_notes, inspect_critique
from supercorrect_agent.outcome import build_trace
from supercorrect_agent.progress import (
    begin_run,
    corrections,
    critique_of,
    current_text,
    current_verdict,
    dump,
    ended,
    failure_text,
    in_round,
    revised,
    round_number,
    told,
    unset,
    with_verdict,
)
from supercorrect_agent.running import Update, model_of, run_settings, student_turn
from supercorrect_agent.state import CollectConfig, CollectState
from supercorrect_agent.student import Student, kept_text
from supercorrect_agent.teachers import RevisingTeacher, Teacher
from supercorrect_agent.templates import parse_solution
from supercorrect_agent.types import Call, Critique, Inspection, Problem, Solution, Verdict
from supercorrect_agent.verification import Verifier

MAX_REVISIONS = 3  # paper section 4.1: at most three rounds with the inspector


@dataclass(frozen=True)
class Collector:
    """Who plays which role in the collecting graph."""

    student: Student
    teacher: Teacher
    verifier: Verifier
    defaults: CollectConfig


def teacher_write(collector: Collector, state: CollectState, config: RunnableConfig) -> Flow[Update]:
    """Has the teacher write the hierarchical solution (paper eq. 4), if wanted; forgets any earlier run."""
    problem = _problem(state)
    settings = run_settings(collector.defaults)
    if not settings.write_template:
        ending = {} if settings.attempt else ended("unchanged", "nothing was asked for")
        return {**begin_run(state), "template": None, "ending": ending}
    teacher = collector.teacher
    child = call_config(config, role="teacher", name="teacher_write", round=0)
    try:
        written, calls = yield Effect(
            lambda: teacher.write_solution(problem, child), lambda: teacher.awrite_solution(problem, child)
        )
    except Exception as failure:
        ending = ended("error", failure_text("teacher", failure, model_of(teacher)))
        return {**begin_run(state), "template": None, "ending": ending}
    made, template = [dump(call) for call in calls], {"template": written.raw if written else None}
    if settings.attempt:
        return {**begin_run(state, made), **template}
    verdict: Verdict = yield from _compare(collector, problem, written)
    ending = _template_ending(written, verdict)
    return {**begin_run(state, made, verdict=dump(verdict)), **template, "ending": ending}


def _template_ending(written: Solution | None, verdict: Verdict) -> dict[str, str]:
    if written is None:
        return ended("parse_error", "the teacher's solution could not be read")
    if verdict.status in ("correct", "unscored"):
        return ended("accepted", "template only")
    return ended("unchanged", "the teacher's own answer is not the true one")


def _compare(
    collector: Collector, problem: Problem, solution: Solution | None
) -> Generator[Effect[Verdict], Verdict, Verdict]:
    verifier, answer = collector.verifier, solution.answer if solution else None
    try:
        return (
            yield Effect(
                lambda: verifier.verify(answer=answer, target=problem.answer),
                lambda: verifier.averify(answer=answer, target=problem.answer),
            )
        )
    except Exception as failure:
        return Verdict(status="unscored", reason=failure_text("verifier", failure))


def student_solve(collector: Collector, state: CollectState, config: RunnableConfig) -> Flow[Update]:
    """Asks the student for an attempt."""
    turn = student_turn(run_settings(collector.defaults), config)
    try:
        reply: Reply = yield collector.student.solve(_problem(state).question, turn)
    except Exception as failure:
        return {"ending": ended("error", failure_text("student", failure, collector.student.model))}
    report_solution(collector.student, reply.text)
    return {"first": {"solution": reply.text}, "calls": [dump(reply.call)]}


def verify(collector: Collector, state: CollectState, config: RunnableConfig) -> Flow[Update]:
    """Compares the newest answer with the true one, closes the round, and decides whether to go on."""
    solution = collector.student.read(current_text(state))
    verdict: Verdict = yield from _compare(collector, _problem(state), solution)
    ending = _gate(verdict, corrections(state), run_settings(collector.defaults))
    return {**unset(state, "notes", "revisions"), **with_verdict(state, verdict), "ending": ending}


def _gate(verdict: Verdict, done: int, settings: CollectConfig) -> dict[str, str]:
    if verdict.correct and done:
        return ended("corrected", "the revised answer is the true one")
    if verdict.correct:
        return {} if settings.review_correct else ended("accepted", "the answer is the true one")
    if verdict.status == "unscored":
        return ended("accepted", f"not scored: {verdict.reason}")
    return ended("budget", f"max_rounds={settings.max_rounds}") if done >= settings.max_rounds else {}


def teacher_critique(collector: Collector, state: CollectState, config: RunnableConfig) -> Flow[Update]:
    """Asks the teacher, who sees the reference, for the first wrong step; with notes, to revise that."""
    number = round_number(state)
    child = call_config(config, role="teacher", name="teacher_critique", round=number)
    try:
        found, calls = yield _critique_effect(collector, state, child)
    except Exception as failure:
        ending = ended("error", failure_text("teacher", failure, model_of(collector.teacher)))
        return {"calls": [dump(call) for call in calls_before(failure)], "ending": ending}
    report_critique(found, number)
    made = [dump(call.model_copy(update={"round": number})) for call in calls]
    return {**in_round(state, **told(found)), "calls": made}


def _critique_effect(
    collector: Collector, state: CollectState, child: RunnableConfig
) -> Effect[tuple[Critique, tuple[Call, ...]]]:
    teacher, problem, notes = collector.teacher, _problem(state), state.get("notes", "")
    solution = collector.student.read(current_text(state))
    if not (notes and isinstance(teacher, RevisingTeacher)):
        return Effect(
            lambda: teacher.critique(problem.question, solution, reference=problem, config=child),
            lambda: teacher.acritique(problem.question, solution, reference=problem, config=child),
        )
    earlier = critique_of(state)
    return Effect(
        lambda: teacher.revise(problem.question, solution, earlier, notes, reference=problem, config=child),
        lambda: teacher.arevise(problem.question, solution, earlier, notes, reference=problem, config=child),
    )


def inspect(collector: Collector, state: CollectState, config: RunnableConfig) -> Flow[Update]:
    """Checks the critique by rules: sends it back with notes, lets it through, or ends the run with it."""
    found, solution = critique_of(state), collector.student.read(current_text(state))
    right = current_verdict(state).correct
    agrees = (found.step is None) == right
    note = (
        "The answer is right, but a step is called wrong."
        if right
        else "The answer is wrong; name the first wrong step."
    )
    checks = inspect_critique(_problem(state), solution, found)
    if found.readable:
        checks += (Inspection(check="agrees_with_answer", passed=agrees, note="" if agrees else note),)
    notes = failed_notes(checks)
    done = state.get("revisions", 0)
    if notes and done < MAX_REVISIONS and isinstance(collector.teacher, RevisingTeacher):
        return {"notes": notes, "revisions": done + 1}
    update: Update = {**unset(state, "notes"), **in_round(state, inspections=[dump(one) for one in checks])}
    if not found.readable:
        update["ending"] = ended("parse_error", f"the critique by '{found.author}' could not be read")
    elif right and (found.found_error or not run_settings(collector.defaults).student_review):
        update["ending"] = _ACCEPTED
    elif not right and not kept_text(solution, found):
        update["ending"] = ended("unchanged", "the teacher named no step that could be corrected")
    return update
    yield  # a flow without effects


def after_inspect(state: CollectState) -> str:
    """Where a run goes from ``inspect``."""
    if state["ending"]:
        return "record"
    return "teacher_critique" if state.get("notes") else "student_review"


def student_review(collector: Collector, state: CollectState, config: RunnableConfig) -> Flow[Update]:
    """Has the student review its own attempt, where that is wanted.

    A wrong attempt's review is forced to the teacher's step. A right attempt's runs freely and ends the run:
    an error found in it is a false alarm, which stage 2 can turn into a pair (decision B20).
    """
    settings, critique = run_settings(collector.defaults), critique_of(state)
    if not settings.student_review:
        return {}
    try:
        review, call = yield from collector.student.review(
            _problem(state).question,
            collector.student.read(current_text(state)),
            student_turn(settings, config, round_number(state)),
            forced=critique if critique.found_error else None,
        )
    except Exception as failure:
        return _student_failed(collector, failure)
    ending = {} if critique.found_error else _ACCEPTED
    return {**in_round(state, review=dump(review)), "calls": [dump(call)], "ending": ending}


def student_alternatives(collector: Collector, state: CollectState, config: RunnableConfig) -> Flow[Update]:
    """Has the student put the teacher's step right in further words of its own, where that is wanted."""
    settings, problem = run_settings(collector.defaults), _problem(state)
    turn = student_turn(settings, config, round_number(state))
    solution = collector.student.read(current_text(state))
    work = Alternatives(collector.student, problem.question, solution, critique_of(state), turn)
    failed: Update = {}
    try:
        yield from work.write(rewrite=settings.rewrite, resamples=settings.resamples)
        yield from work.follow(lambda reached: _compare(collector, problem, reached))
    except Exception as failure:
        failed = _student_failed(collector, failure)
    found = in_round(state, alternatives=[dump(one) for one in work.found])
    return {**found, "calls": [dump(call) for call in work.calls], **failed}


def student_correct(collector: Collector, state: CollectState, config: RunnableConfig) -> Flow[Update]:
    """Has the student go on from the teacher's corrected step."""
    number = round_number(state)
    try:
        text, how, call = yield from collector.student.correct(
            _problem(state).question,
            collector.student.read(current_text(state)),
            critique_of(state),
            student_turn(run_settings(collector.defaults), config, number),
        )
    except Exception as failure:
        return _student_failed(collector, failure)
    report_correction(collector.student, text, number, how)
    return {**in_round(state, **revised(collector.student, text, how)), "calls": [dump(call)]}


def record(collector: Collector, state: CollectState, config: RunnableConfig) -> Flow[Update]:
    """Writes the trace."""
    template = (
        None if state["template"] is None else parse_solution(state["template"], model=collector.teacher.name)
    )
    trace = build_trace(
        state, _problem(state), collector.student, template=template, sample=state.get("sample", 0)
    )
    report_end(trace)
    return {"trace": trace.model_dump(mode="json")}
    yield  # a flow without effects


_ACCEPTED = ended("accepted", "the answer is the true one")


def _problem(state: CollectState) -> Problem:
    try:
        problem = Problem.model_validate(state["problem"])
    except ValidationError as invalid:
        raise ConfigError(f"`problem` is not a Problem record: {invalid.errors()[0]['msg']}.") from None
    if not problem.question.strip():
        raise ConfigError(f"`problem` '{problem.id}' has an empty question. Leave it out.")
    return problem


def _student_failed(collector: Collector, failure: Exception) -> Update:
    return {"ending": ended("error", failure_text("student", failure, collector.student.model))}
