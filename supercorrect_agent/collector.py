"""Who plays which role in the collecting graph, and what its nodes share."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableConfig
from pydantic import ValidationError

from supercorrect_agent.calls import Effect, Flow, with_sampling
from supercorrect_agent.errors import ConfigError, TeacherError
from supercorrect_agent.inspector import (
    UNAVAILABLE,
    Inspected,
    TemplateInspector,
    as_inspector,
    failed_checks,
)
from supercorrect_agent.inspector.asking import (
    AnyInspector,
    InspectorSpec,
    ask_about_template,
    ask_inspector,
)
from supercorrect_agent.models import load_chat_model
from supercorrect_agent.progress import ended, failure_text
from supercorrect_agent.prompts import PromptSet
from supercorrect_agent.running import run_settings
from supercorrect_agent.state import BEYOND_TEACHER, CollectConfig, CollectState
from supercorrect_agent.student import Student, prompts_beside
from supercorrect_agent.teachers import SAME_MODEL, Teacher, as_teacher
from supercorrect_agent.teachers.llm import LLMTeacher
from supercorrect_agent.types import Critique, Inspection, Problem, Solution, Verdict
from supercorrect_agent.verification import MathVerifier, Verifier

MAX_REVISIONS = 3  # paper section 4.1: at most three rounds with the inspector


@dataclass(frozen=True)
class Collector:
    """Who plays which role. ``inspector`` is asked about what passes the rules; None: these alone decide."""

    student: Student
    teacher: Teacher
    verifier: Verifier
    inspector: AnyInspector | None
    defaults: CollectConfig

    def settings(self) -> CollectConfig:
        """The config of the present run."""
        return run_settings(self.defaults)

    def judging(self, config: RunnableConfig) -> RunnableConfig:
        """The config with how the teacher and the inspector are to sample in the present run."""
        settings = self.settings()
        sampling = {
            "temperature": settings.teacher_temperature, "max_tokens": settings.teacher_max_new_tokens
        }  # fmt: skip
        return with_sampling(config, {key: value for key, value in sampling.items() if value is not None})

    def compare(self, answer: str | None, target: str | None) -> Generator[Effect[Verdict], Verdict, Verdict]:
        """The verdict on an answer; a verifier that fails leaves it unscored."""
        verifier = self.verifier
        try:
            return (
                yield Effect(
                    lambda: verifier.verify(answer=answer, target=target),
                    lambda: verifier.averify(answer=answer, target=target),
                )
            )
        except Exception as failure:
            return Verdict(status="unscored", reason=failure_text("verifier", failure))

    def inspect(
        self, problem: Problem, solution: Solution, found: Critique, config: RunnableConfig, number: int
    ) -> Flow[Inspected]:
        """The checks of a critique by the model inspector, if it is to be asked, and the calls for them."""
        if self.inspector is None or not self.settings().inspector:
            return (), ()
        judging = self.judging(config)
        return (yield from ask_inspector(self.inspector, problem, solution, found, judging, round=number))

    def inspect_template(
        self, problem: Problem, template: Solution, config: RunnableConfig
    ) -> Flow[Inspected]:
        """The checks of a teacher's own solution by the model inspector, and the calls for them."""
        if not isinstance(self.inspector, TemplateInspector) or not self.settings().inspector:
            return (), ()
        return (yield from ask_about_template(self.inspector, problem, template, self.judging(config)))


def build_collector(
    student: str | BaseChatModel,
    teacher: str | BaseChatModel | Teacher,
    *,
    verifier: Verifier | None = None,
    inspector: InspectorSpec | None = None,
    prompts: PromptSet | None = None,
    config: CollectConfig | None = None,
) -> Collector:
    """Fills the roles; for the arguments see ``create_collecting_graph``.

    A model that has a role already, by the same name or as ``"same_model_grounded"``, is not loaded again.
    """
    model = load_chat_model(student)
    prompts = prompts or prompts_beside(model)
    loaded: dict[str, BaseChatModel] = {}
    if isinstance(student, str) and student != "sandbox":  # whose teacher is not its student
        loaded[student] = model
    judge = loaded.get(teacher, teacher) if isinstance(teacher, str) else teacher
    judging = as_teacher(judge, prompts, student=model)
    if isinstance(teacher, str) and isinstance(judging, LLMTeacher):
        loaded.setdefault(teacher, judging.model)  # the student's for "same_model_grounded"
    inspecting: InspectorSpec | None = None if inspector == "rules" else inspector
    if isinstance(inspecting, str):
        inspecting = model if inspecting == SAME_MODEL else loaded.get(inspecting, inspecting)
    if isinstance(inspecting, str | BaseChatModel):
        inspecting = as_inspector(inspecting, prompts)
    return Collector(
        student=Student(model, prompts),
        teacher=judging,
        verifier=verifier or MathVerifier(),
        inspector=inspecting,
        defaults=config or CollectConfig(),
    )


def problem_of(state: CollectState) -> Problem:
    """The problem of the run.

    Raises:
        ConfigError: It is no Problem record, or its question is empty.
    """
    try:
        problem = Problem.model_validate(state["problem"])
    except ValidationError as invalid:
        raise ConfigError(f"`problem` is not a Problem record: {invalid.errors()[0]['msg']}.") from None
    if not problem.question.strip():
        raise ConfigError(f"`problem` '{problem.id}' has an empty question. Leave it out.")
    return problem


def beyond_teacher(failure: TeacherError) -> dict[str, str]:
    """How a run ends whose teacher says that it cannot judge the problem: that is no failure of a model."""
    return ended("unchanged", f"{BEYOND_TEACHER}: {failure_text('teacher', failure)}")


def can_be_mended(checks: Sequence[Inspection]) -> bool:
    """Whether a teacher can do anything about the failed checks: not about an inspector without a verdict."""
    failed = failed_checks(checks)
    return bool(failed) and UNAVAILABLE not in failed


def quarantine_reason(what: str, checks: Sequence[Inspection], revisions: int) -> str:
    """Why a teacher's work is quarantined: the checks that it failed to the last, and their notes."""
    failed = ", ".join(failed_checks(checks))
    notes = " ".join(one.note for one in checks if not one.passed)
    after = f" after {revisions} revision{'s' if revisions > 1 else ''}" if revisions else ""
    return f"{what} failed the checks {failed}{after}: {notes}"
