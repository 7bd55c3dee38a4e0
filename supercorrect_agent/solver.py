"""Who plays which role in the solving graph, and how each is asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig
from langgraph.constants import CONFIG_KEY_CHECKPOINTER

from supercorrect_agent.calls import Effect, Flow, call_config
from supercorrect_agent.errors import ConfigError
from supercorrect_agent.gate import spent
from supercorrect_agent.inspector import Inspected, Inspector
from supercorrect_agent.inspector.asking import AnyInspector, ask_inspector
from supercorrect_agent.limits import (
    SPENT,
    CallLimits,
    OutOfTime,
    arun_within,
    limits_of,
    run_within,
    with_limits,
)
from supercorrect_agent.progress import critique_of, failure_text
from supercorrect_agent.running import run_settings, student_turn
from supercorrect_agent.state import CorrectionConfig, SolveState
from supercorrect_agent.student import Student, Turn, unless_contradicted
from supercorrect_agent.teachers import Critiqued, RevisingTeacher, Teacher
from supercorrect_agent.teachers.llm import LLMTeacher
from supercorrect_agent.types import Critique, Problem, Role, Solution, Verdict

SolutionCheck = Callable[[str, Solution], Verdict | bool]


@dataclass(frozen=True)
class Solver:
    """Who plays which role in the solving graph. ``teacher=None``: the student reviews itself.

    ``memory`` knows worked examples of similar problems, for the student's first solution.
    """

    student: Student
    teacher: Teacher | None
    verifier: SolutionCheck | None
    inspector: AnyInspector | None
    memory: BaseRetriever | None
    defaults: CorrectionConfig

    @property
    def roles(self) -> tuple[Role, ...]:
        """Who may be asked in a run."""
        teacher: tuple[Role, ...] = () if self.teacher is None else ("teacher",)
        return ("student", *teacher, *(("inspector",) if isinstance(self.inspector, Inspector) else ()))

    def settings(self) -> CorrectionConfig:
        """The bounds of the present run."""
        return run_settings(self.defaults)

    def turn(self, config: RunnableConfig, round: int = 0, state: SolveState | None = None) -> Turn:
        """The circumstances of a call in the present run, whose state is None at its first one."""
        limits = self._limits(state)
        return student_turn(self.settings(), with_limits(config, limits), round)

    def _limits(self, state: SolveState | None) -> CallLimits:
        settings, until = self.settings(), None
        if settings.max_seconds is not None:
            until = time.monotonic() + settings.max_seconds - (spent(state)[1] if state else 0)
        return CallLimits(timeout=settings.call_timeout, retries=settings.retries, until=until)

    def judge(self, question: str, solution: Solution) -> Flow[Verdict]:
        """The verdict on a solution: unreadable, the verifier's, or unscored."""
        if solution.answer is None:
            return Verdict(status="unreadable", reason="no final answer could be read")
        verifier = self.verifier
        if verifier is None:
            return Verdict(status="unscored", reason="no reference to compare with")
        try:
            verdict: Verdict | bool = yield Effect(
                lambda: verifier(question, solution), lambda: asyncio.to_thread(verifier, question, solution)
            )
        except Exception as failure:
            return Verdict(status="unscored", reason=failure_text("verifier", failure))
        if isinstance(verdict, bool):
            return Verdict(status="correct" if verdict else "incorrect", reason="the verifier says so")
        _check_returned("verifier", verdict, Verdict)
        return verdict

    def find_error(self, state: SolveState, solution: Solution, turn: Turn) -> Flow[Critiqued]:
        """The critique of a solution, by the teacher or by the student itself, and the calls for it."""
        if self.teacher is None:
            found, call = yield from self.student.review(state["problem"], solution, turn)
            return unless_contradicted(solution, found), (call,)
        number = turn.round
        child = call_config(turn.config, role="teacher", name="teacher_critique", round=number)
        asked = _critique_effect(self.teacher, state, solution, child)
        if not isinstance(self.teacher, LLMTeacher):  # nobody counts the seconds: its critique is the call
            asked = _within(asked, limits_of(turn.config))
        found, calls = yield asked
        return found, tuple(call.model_copy(update={"round": number}) for call in calls)

    def inspect(self, question: str, solution: Solution, found: Critique, turn: Turn) -> Flow[Inspected]:
        """The inspector's checks of a critique, and the calls for them.

        It sees no answer of the problem, for there is none.
        """
        if self.inspector is None:
            return (), ()
        problem = Problem.create(question)
        return (
            yield from ask_inspector(self.inspector, problem, solution, found, turn.config, round=turn.round)
        )


def _critique_effect(
    teacher: Teacher, state: SolveState, solution: Solution, child: RunnableConfig
) -> Effect[Critiqued]:
    question, notes = state["problem"], state.get("notes", "")
    if not (notes and isinstance(teacher, RevisingTeacher)):
        return Effect(
            lambda: teacher.critique(question, solution, config=child),
            lambda: teacher.acritique(question, solution, config=child),
        )
    earlier = critique_of(state)
    return Effect(
        lambda: teacher.revise(question, solution, earlier, notes, config=child),
        lambda: teacher.arevise(question, solution, earlier, notes, config=child),
    )


def _within(effect: Effect[Critiqued], limits: CallLimits) -> Effect[Critiqued]:
    seconds, left, late = limits.timeout, limits.left, None
    if left is not None and (seconds is None or left < seconds):
        seconds, late = left, OutOfTime(SPENT)
    return Effect(
        lambda: run_within(effect.run, seconds, late), lambda: arun_within(effect.arun, seconds, late)
    )


def _check_returned(name: str, given: object, kind: type) -> None:
    if not isinstance(given, kind):
        raise ConfigError(
            f"`{name}` returned a {type(given).__name__}. Let it return {kind.__name__} records."
        )


def check_run(problem: str, settings: CorrectionConfig, config: RunnableConfig) -> None:
    """Refuses a run that cannot go well, before any model is asked.

    Raises:
        ConfigError: There is no problem, or a person is to review critiques and the run cannot wait.
    """
    if not problem.strip():
        raise ConfigError("`problem` is empty. Pass the text of a problem.")
    if settings.human_review and not config.get("configurable", {}).get(CONFIG_KEY_CHECKPOINTER):
        raise ConfigError(
            "`human_review=True` needs a checkpointer, which keeps the run while a person decides. Create "
            "the graph with `checkpointer=InMemorySaver()` or another saver, and run it with a `thread_id`."
        )
