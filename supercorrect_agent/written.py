"""The collecting graph's first node: the teacher's own solution (stage 1), inspected and revised."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from langchain_core.runnables import RunnableConfig

from supercorrect_agent.calls import Effect, Flow, call_config, calls_before
from supercorrect_agent.collector import (
    MAX_REVISIONS,
    Collector,
    beyond_teacher,
    can_be_mended,
    problem_of,
    quarantine_reason,
)
from supercorrect_agent.errors import TeacherError
from supercorrect_agent.inspector import JUDGEABLE, failed_notes, inspect_answer, inspect_template
from supercorrect_agent.progress import begin_run, dump, ended, failure_text
from supercorrect_agent.running import Update, model_of
from supercorrect_agent.state import CollectState
from supercorrect_agent.teachers import RevisingWriter, Written
from supercorrect_agent.types import Call, Inspection, Problem, Solution, TemplateRevision, Verdict

_UNSCORED = Verdict(status="unscored", reason="nothing was written")


@dataclass
class _Template:
    """A teacher's solution as far as it has come: a call that fails leaves the rest behind."""

    collector: Collector
    problem: Problem
    config: RunnableConfig
    solution: Solution | None = None
    checks: tuple[Inspection, ...] = ()
    revisions: list[TemplateRevision] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    verdict: Verdict = _UNSCORED
    asked: object = None  # who is at work

    def write(self) -> Flow[None]:
        """Has it written, and again with the inspector's notes while it fails and may be revised."""
        teacher = self.collector.teacher
        yield from self._take(
            lambda: teacher.write_solution(self.problem, self.config),
            lambda: teacher.awrite_solution(self.problem, self.config),
        )
        if isinstance(teacher, RevisingWriter):
            while can_be_mended(self.checks) and len(self.revisions) < MAX_REVISIONS:
                yield from self._revise(teacher)

    def _revise(self, teacher: RevisingWriter) -> Flow[None]:
        earlier, notes = self.solution, failed_notes(self.checks)
        self.revisions.append(TemplateRevision(solution=earlier, inspections=self.checks))
        yield from self._take(
            lambda: teacher.revise_solution(self.problem, earlier, notes, self.config),
            lambda: teacher.arevise_solution(self.problem, earlier, notes, self.config),
        )

    def _take(self, run: Callable[[], Written], arun: Callable[[], Awaitable[Written]]) -> Flow[None]:
        self.asked = self.collector.teacher
        self.solution, calls = yield Effect(run, arun)
        self.calls.extend(calls)
        self.checks = yield from self._inspect()

    def _inspect(self) -> Flow[tuple[Inspection, ...]]:
        checks = inspect_template(self.problem, self.solution)
        answer = self.solution.answer if self.solution else None
        self.verdict = yield from self.collector.compare(answer, self.problem.answer)
        if self.solution is None:
            return checks
        checks += inspect_answer(self.verdict, answer)
        if failed_notes(checks):
            return checks
        self.asked = self.collector.inspector
        more, calls = yield from self.collector.inspect_template(self.problem, self.solution, self.config)
        self.calls.extend(calls)
        return (*checks, *more)

    def update(self) -> Update:
        return {
            "template": self.solution.raw if self.solution else None,
            "template_inspections": [dump(one) for one in self.checks],
            "template_revisions": [dump(one) for one in self.revisions],
        }


def teacher_write(collector: Collector, state: CollectState, config: RunnableConfig) -> Flow[Update]:
    """Has the teacher write the hierarchical solution (paper eq. 4), if wanted; forgets any earlier run.

    What fails the inspector's checks to the last stays on the trace with them, and is not trained on.
    """
    problem, settings = problem_of(state), collector.settings()
    if not settings.write_template:
        ending = {} if settings.attempt else ended("unchanged", "nothing was asked for")
        return {**begin_run(state), "ending": ending}
    child = call_config(collector.judging(config), role="teacher", name="teacher_write", round=0)
    work = _Template(collector, problem, child)
    try:
        yield from work.write()
    except TeacherError as beyond:
        note = failure_text("teacher", beyond)
        work.checks = (Inspection(check=JUDGEABLE, passed=False, note=note),)
        ending = {} if settings.attempt else beyond_teacher(beyond)
        return {**begin_run(state), **work.update(), "ending": ending}
    except Exception as failure:
        made = [dump(call) for call in (*work.calls, *calls_before(failure))]
        who = "teacher" if work.asked is collector.teacher else "inspector"
        ending = ended("error", failure_text(who, failure, model_of(work.asked)))
        return {**begin_run(state, made), **work.update(), "ending": ending}
    made = [dump(call) for call in work.calls]
    if settings.attempt:
        return {**begin_run(state, made), **work.update()}
    return {**begin_run(state, made, verdict=dump(work.verdict)), **work.update(), "ending": _ending(work)}


def _ending(work: _Template) -> dict[str, str]:
    if work.solution is None:
        return ended("parse_error", "the teacher's solution could not be read")
    if failed_notes(work.checks):
        reason = quarantine_reason("the teacher's solution", work.checks, len(work.revisions))
        return ended("quarantined", reason)
    return ended("accepted", "template only")
