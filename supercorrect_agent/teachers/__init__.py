"""Teachers: who finds the first wrong step of a solution, says why, and writes the step as it should be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableConfig

from supercorrect_agent.errors import ConfigError
from supercorrect_agent.types import Call, Critique, Problem, Solution

if TYPE_CHECKING:
    from supercorrect_agent.prompts import PromptSet

SAME_MODEL = "same_model_grounded"

Critiqued = tuple[Critique, tuple[Call, ...]]
Written = tuple[Solution | None, tuple[Call, ...]]


@runtime_checkable
class Teacher(Protocol):
    """Judges solutions and writes hierarchical ones. Calls that it made are returned with the result.

    With ``reference`` a critique is *grounded* (the teacher sees the true answer); the solving graph never
    passes one. A teacher that cannot judge a problem at all raises ``TeacherError``.
    """

    name: str

    def critique(
        self,
        question: str,
        solution: Solution,
        *,
        reference: Problem | None = None,
        config: RunnableConfig | None = None,
    ) -> Critiqued: ...

    async def acritique(
        self,
        question: str,
        solution: Solution,
        *,
        reference: Problem | None = None,
        config: RunnableConfig | None = None,
    ) -> Critiqued: ...

    def write_solution(self, problem: Problem, config: RunnableConfig | None = None) -> Written: ...

    async def awrite_solution(self, problem: Problem, config: RunnableConfig | None = None) -> Written: ...


@runtime_checkable
class RevisingTeacher(Teacher, Protocol):
    """A teacher that can write a critique again, given an inspector's notes on it."""

    def revise(
        self,
        question: str,
        solution: Solution,
        critique: Critique,
        notes: str,
        *,
        reference: Problem | None = None,
        config: RunnableConfig | None = None,
    ) -> Critiqued: ...

    async def arevise(
        self,
        question: str,
        solution: Solution,
        critique: Critique,
        notes: str,
        *,
        reference: Problem | None = None,
        config: RunnableConfig | None = None,
    ) -> Critiqued: ...


@runtime_checkable
class RevisingWriter(Teacher, Protocol):
    """A teacher that can write a hierarchical solution again, given an inspector's notes on it."""

    def revise_solution(
        self, problem: Problem, earlier: Solution | None, notes: str, config: RunnableConfig | None = None
    ) -> Written: ...

    async def arevise_solution(
        self, problem: Problem, earlier: Solution | None, notes: str, config: RunnableConfig | None = None
    ) -> Written: ...


def as_teacher(
    spec: str | BaseChatModel | Teacher,
    prompts: PromptSet | None = None,
    *,
    student: BaseChatModel | None = None,
) -> Teacher:
    """Makes a teacher of whatever a role may be given as.

    Args:
        spec: A teacher (returned as it is), a chat model, ``"sandbox"`` for the symbolic teacher of the
            sandbox, ``"reference"`` for the rules over a reference solution, ``"same_model_grounded"`` for
            the student's own model with the reference before it, or any other string that
            ``load_chat_model`` takes.
        prompts: The prompts of an LLM teacher; the default ones if None.
        student: The student's model, for ``"same_model_grounded"``.

    Raises:
        ConfigError: ``spec`` is none of these, or the student's model is asked for where there is none.
        ModelError: The named model cannot be loaded.
    """
    if spec == SAME_MODEL:
        from supercorrect_agent.teachers.llm import same_model_grounded

        if student is None:
            raise ConfigError(
                f"`teacher='{SAME_MODEL}'` is the student with the reference before it, and there is none "
                "here. Use it in `create_collecting_graph`; where a student solves, pass `teacher=None`."
            )
        return same_model_grounded(student, prompts)
    if spec == "sandbox":
        from supercorrect_agent.sandbox.teacher import SandboxTeacher

        return SandboxTeacher()
    if spec == "reference":
        from supercorrect_agent.teachers.reference import ReferenceTeacher

        return ReferenceTeacher()
    if isinstance(spec, str | BaseChatModel):
        from supercorrect_agent.models import load_chat_model
        from supercorrect_agent.teachers.llm import LLMTeacher

        return LLMTeacher(load_chat_model(spec), prompts)
    if isinstance(spec, Teacher):
        return spec
    raise ConfigError(
        f"`teacher` is a {type(spec).__name__}. "
        "Pass a chat model, a Teacher, or a string such as 'openai:NAME'."
    )
