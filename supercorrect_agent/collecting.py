"""The nodes of the collecting graph behind the first: every error becomes training data.

The teacher sees the reference. The student never does: its solving, its review and its correction are asked
with the same prompts as in use (decision B3, B4). What fails is on the trace, not raised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig

from supercorrect_agent.alternatives import Alternatives, warm
from supercorrect_agent.calls import Effect, Flow, Reply, call_config, calls_before
from supercorrect_agent.collector import (
    MAX_REVISIONS,
    Collector,
    beyond_teacher,
    can_be_mended,
    problem_of,
    quarantine_reason,
)
from supercorrect_agent.errors import TeacherError
from supercorrect_agent.events import report_correction, report_critique, report_end, report_solution
from supercorrect_agent.inspector import (
    REACHES_ANSWER,
    failed_notes,
    inspect_answer,
    inspect_arithmetic,
    inspect_critique,
    inspect_trace,
)
from supercorrect_agent.inspector.arithmetic import false_equation
from supercorrect_agent.models import can_prefill
from supercorrect_agent.outcome import build_trace
from supercorrect_agent.progress import (
    corrections,
    critique_of,
    current_text,
    current_verdict,
    dump,
    ended,
    failure_text,
    in_round,
    read_critique,
    revised,
    round_number,
    told,
    unset,
    with_verdict,
)
from supercorrect_agent.running import Update, model_of, student_turn
from supercorrect_agent.state import ERROR_KEPT, TOO_MANY_ERRORS, CollectConfig, CollectState
from supercorrect_agent.student import Continuation, Student, judged, kept_text
from supercorrect_agent.teachers import RevisingTeacher
from supercorrect_agent.templates import parse_solution
from supercorrect_agent.types import Call, Critique, Inspection, Revision, Solution, Trace, Verdict


def student_solve(collector: Collector, state: CollectState, config: RunnableConfig) -> Flow[Update]:
    """Asks the student for an attempt."""
    turn = student_turn(collector.settings(), config)
    try:
        reply: Reply = yield collector.student.solve(problem_of(state).question, turn)
    except Exception as failure:
        return {"ending": ended("error", failure_text("student", failure, collector.student.model))}
    report_solution(collector.student, reply.text)
    return {"first": {"solution": reply.text}, "calls": [dump(reply.call)]}


def verify(collector: Collector, state: CollectState, config: RunnableConfig) -> Flow[Update]:
    """Compares the newest answer with the true one, closes the round, and decides whether to go on."""
    settings, done = collector.settings(), corrections(state)
    answer = collector.student.read(current_text(state)).answer
    verdict = yield from collector.compare(answer, problem_of(state).answer)
    if not done:
        ending = _gate(verdict, done, settings) or (yield from _known(collector, state, answer, verdict))
        return {**with_verdict(state, verdict), "ending": ending}
    checks = _with_where_it_leads(state, verdict)
    missed = settings.revise_unreached and bool(failed_notes(checks))
    if missed and _may_revise(collector, state):
        return _sent_back(state, checks, reopened=True)
    closed = {**with_verdict(state, verdict)["rounds"][0], "inspections": [dump(one) for one in checks]}
    ending = _gate(verdict, done, settings)
    if missed:
        reason = quarantine_reason("the critique", checks, state.get("revisions", 0))
        ending = ended("quarantined", reason)
    return {**unset(state, "notes", "revisions"), "rounds": [closed], "ending": ending}


def _gate(verdict: Verdict, done: int, settings: CollectConfig) -> dict[str, str]:
    if verdict.correct and done:
        return ended("corrected", "the revised answer is the true one")
    if verdict.correct:
        return {} if settings.review_correct else ended("accepted", "the answer is the true one")
    if verdict.status == "unscored":
        return ended("accepted", f"not scored: {verdict.reason}")
    return ended("budget", f"max_rounds={settings.max_rounds}") if done >= settings.max_rounds else {}


def _known(
    collector: Collector, state: CollectState, answer: str | None, verdict: Verdict
) -> Flow[dict[str, str]]:
    """How a wrong attempt ends whose error need not be shown to the teacher (decision B24), else {}."""
    known = list(dict.fromkeys(state.get("known_errors") or ()))
    if verdict.correct:
        return {}
    for other in known:
        same = (answer or "").strip() == other.strip()
        if not same and answer and other.strip():
            same = (yield from collector.compare(answer, other)).correct
        if same:
            return ended("unchanged", ERROR_KEPT)
    most = collector.settings().max_errors
    return ended("unchanged", TOO_MANY_ERRORS) if most is not None and len(known) >= most else {}


def _with_where_it_leads(state: CollectState, verdict: Verdict) -> list[Inspection]:
    """The checks of the critique that the newest revision followed, and whether that reached the answer."""
    entry = state["rounds"][corrections(state) - 1]
    checks = [Inspection.model_validate(one) for one in entry.get("inspections", ())]
    if verdict.status == "unscored":
        return checks
    note = "" if verdict.correct else "Going on from the corrected step, the student misses the true answer."
    return [*checks, Inspection(check=REACHES_ANSWER, passed=verdict.correct, note=note)]


def teacher_critique(collector: Collector, state: CollectState, config: RunnableConfig) -> Flow[Update]:
    """Asks the teacher, who sees the reference, for the first wrong step; with notes, to revise that."""
    number = round_number(state)
    asked = collector.judging(config)
    child = call_config(asked, role="teacher", name="teacher_critique", round=number)
    try:
        found, calls = yield _critique_effect(collector, state, child)
    except TeacherError as beyond:
        made = [dump(call) for call in calls_before(beyond)]
        return {"calls": made, "ending": beyond_teacher(beyond)}
    except Exception as failure:
        ending = ended("error", failure_text("teacher", failure, model_of(collector.teacher)))
        return {"calls": [dump(call) for call in calls_before(failure)], "ending": ending}
    report_critique(found, number)
    made = [dump(call.model_copy(update={"round": number})) for call in calls]
    return {**in_round(state, **told(found)), "calls": made}


def _critique_effect(
    collector: Collector, state: CollectState, child: RunnableConfig
) -> Effect[tuple[Critique, tuple[Call, ...]]]:
    teacher, problem, notes = collector.teacher, problem_of(state), state.get("notes", "")
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
    """Checks the critique, by rules first: sends it back with notes, lets it through, or quarantines it."""
    found, right = critique_of(state), current_verdict(state).correct
    checks = yield from _rule_checks(collector, state, found)
    calls: tuple[Call, ...] = ()
    if not failed_notes(checks):
        try:
            solution, number = collector.student.read(current_text(state)), round_number(state)
            more, calls = yield from collector.inspect(problem_of(state), solution, found, config, number)
        except Exception as failure:
            made = [dump(call) for call in calls_before(failure)]
            ending = ended("error", failure_text("inspector", failure, model_of(collector.inspector)))
            return {
                **in_round(state, inspections=[dump(one) for one in checks]),
                "calls": made,
                "ending": ending,
            }
        checks = (*checks, *more)
    made = [dump(call) for call in calls]
    if can_be_mended(checks) and _may_revise(collector, state):
        return {**_sent_back(state, checks), "calls": made}
    inspected = in_round(state, inspections=[dump(one) for one in checks])
    update: Update = {**unset(state, "notes"), **inspected, "calls": made}
    if not found.readable:
        update["ending"] = ended("parse_error", f"the critique by '{found.author}' could not be read")
    elif failed_notes(checks):
        reason = quarantine_reason(f"the critique by '{found.author}'", checks, state.get("revisions", 0))
        update["ending"] = ended("quarantined", reason)
    elif right and found.found_error:
        update["ending"] = ended("accepted", f"{_RIGHT}, though step {found.step} says what is false")
    elif right and not (collector.settings().student_review or collector.settings().free_review):
        update["ending"] = _ACCEPTED
    return update


def _rule_checks(collector: Collector, state: CollectState, found: Critique) -> Flow[tuple[Inspection, ...]]:
    problem, solution = problem_of(state), collector.student.read(current_text(state))
    checks = inspect_critique(problem, solution, found)
    if not found.readable:
        return checks
    checks += inspect_arithmetic(found) + inspect_trace(problem, solution, found)
    right = current_verdict(state).correct
    note = (
        "The answer is right, but a step is called wrong."
        if right
        else "The answer is wrong; name the first wrong step."
    )
    agrees = (found.step is None) == right or (right and _says_false(solution, found))
    checks += (Inspection(check="agrees_with_answer", passed=agrees, note="" if agrees else note),)
    if found.answer is not None:
        verdict = yield from collector.compare(found.answer, problem.answer)
        checks += inspect_answer(verdict, found.answer)
    if not failed_notes(checks) and found.found_error and not kept_text(solution, found):
        checks += (Inspection(check="correction", passed=False, note="The corrected step has no text."),)
    return checks


def _says_false(solution: Solution, found: Critique) -> bool:
    """Whether the step that is called wrong holds an equation that is certainly false."""
    named = (step.text for step in solution.steps if step.index == found.step)
    return any(false_equation(text) is not None for text in named)


def _may_revise(collector: Collector, state: CollectState) -> bool:
    return state.get("revisions", 0) < MAX_REVISIONS and isinstance(collector.teacher, RevisingTeacher)


def _sent_back(state: CollectState, checks: Sequence[Inspection], *, reopened: bool = False) -> Update:
    """The update that hands a critique back to its teacher; the version so far stays with its checks.

    Args:
        state: The state before.
        checks: The checks, one of which failed.
        reopened: Whether the student has followed the critique already: what it made of it goes.
    """
    number = corrections(state) if reopened else round_number(state)
    entry = state["rounds"][number - 1]
    earlier = Revision(critique=read_critique(entry), inspections=tuple(checks))
    again = _FOLLOWED if reopened else {}
    return {
        "rounds": [{"number": number, **again, "revisions": [*entry.get("revisions", ()), dump(earlier)]}],
        "notes": failed_notes(checks),
        "revisions": state.get("revisions", 0) + 1,
    }


def after_inspect(state: CollectState) -> str:
    """Where a run goes from ``inspect``."""
    if state["ending"]:
        return "record"
    return "teacher_critique" if state.get("notes") else "student_review"


def student_review(collector: Collector, state: CollectState, config: RunnableConfig) -> Flow[Update]:
    """Has the student review its own attempt, where that is wanted.

    A wrong attempt's review is forced to the teacher's step; on request another one runs freely, for metrics.
    A right attempt's runs freely and ends the run: an error found in it is a false alarm, which stage 2 can
    turn into a pair (decision B20).
    """
    settings, critique, student = collector.settings(), critique_of(state), collector.student
    forced = critique if critique.found_error else None
    wanted = {"review": forced} if settings.student_review else {}
    if settings.free_review and not (wanted and _is_free(student, forced)):
        wanted["free_review"] = None
    solution, turn = student.read(current_text(state)), student_turn(settings, config, round_number(state))
    reviews: dict[str, Critique] = {}
    calls: list[dict[str, Any]] = []
    failed: Update = {}
    try:
        for name, at in wanted.items():
            question = problem_of(state).question
            reviews[name], call = yield from student.review(question, solution, turn, forced=at)
            calls.append(dump(call))
    except Exception as failure:
        failed = _student_failed(collector, failure)
    if settings.free_review and "review" in reviews and "free_review" not in wanted:
        own = reviews["review"]
        reviews["free_review"] = own if own.readable else judged(solution, own)
    found = in_round(state, **{name: dump(one) for name, one in reviews.items()})
    return {**found, "calls": calls, "ending": _ACCEPTED if forced is None else {}, **failed}


def _is_free(student: Student, forced: Critique | None) -> bool:
    """Whether a review names its step itself: nothing forces it, or the model cannot be forced."""
    return forced is None or not can_prefill(student.model)


def student_alternatives(collector: Collector, state: CollectState, config: RunnableConfig) -> Flow[Update]:
    """Has the student put the teacher's step right in further words of its own, where that is wanted."""
    settings, problem = collector.settings(), problem_of(state)
    turn = student_turn(settings, config, round_number(state))
    solution = collector.student.read(current_text(state))
    work = Alternatives(collector.student, problem.question, solution, critique_of(state), turn)
    failed: Update = {}
    try:
        yield from work.write(rewrite=settings.rewrite, resamples=settings.resamples)
        yield from work.follow(lambda reached: collector.compare(reached.answer, problem.answer))
    except Exception as failure:
        failed = _student_failed(collector, failure)
    found = in_round(state, alternatives=[dump(one) for one in work.found])
    return {**found, "calls": [dump(call) for call in work.calls], **failed}


def student_correct(collector: Collector, state: CollectState, config: RunnableConfig) -> Flow[Update]:
    """Has the student go on from the teacher's corrected step, more than once where that is wanted.

    The revision kept is the first that reaches the answer, else the first of all (decision B5).
    """
    settings, number, problem = collector.settings(), round_number(state), problem_of(state)
    solution, critique = collector.student.read(current_text(state)), critique_of(state)
    turn = student_turn(settings, config, number)
    written: list[tuple[str, Continuation]] = []
    calls: list[dict[str, Any]] = []
    reached = False
    while not reached and len(written) < settings.rollouts:
        again = warm(turn) if written else turn
        try:
            text, how, call = yield from collector.student.correct(
                problem.question, solution, critique, again
            )
        except Exception as failure:
            return {"calls": calls, **_student_failed(collector, failure)}
        written.append((text, how))
        calls.append(dump(call))
        if settings.rollouts > 1:
            answer = collector.student.read(text).answer
            reached = (yield from collector.compare(answer, problem.answer)).status in ("correct", "unscored")
    text, how = written[-1 if reached else 0]
    report_correction(collector.student, text, number, how)
    return {**in_round(state, **revised(collector.student, text, how)), "calls": calls}


def record(collector: Collector, state: CollectState, config: RunnableConfig) -> Flow[Update]:
    """Writes the trace."""
    text, sample = state.get("template"), state.get("sample", 0)
    template = None if text is None else parse_solution(text, model=collector.teacher.name)
    trace = build_trace(state, problem_of(state), collector.student, template=template, sample=sample)
    fields = trace.model_dump(mode="json")
    for key in ("template_inspections", "template_revisions"):
        fields[key] = state.get(key, [])
    trace = Trace.model_validate(fields)
    report_end(trace)
    kept: Update = (
        {"known_errors": []} if state.get("known_errors") else {}
    )  # the next run of a thread has its own
    return {**kept, "trace": trace.model_dump(mode="json")}
    yield  # a flow without effects


_RIGHT = "the answer is the true one"
_ACCEPTED = ended("accepted", _RIGHT)
# What a round loses whose critique is revised after the student has followed it.
_FOLLOWED: dict[str, Any] = {
    **{"solution": None, "answer": None, "continuation": "", "inspections": []},
    **{"review": None, "free_review": None, "alternatives": []},
}


def _student_failed(collector: Collector, failure: Exception) -> Update:
    return {"ending": ended("error", failure_text("student", failure, collector.student.model))}
