"""The teacher that needs no model: rules over the reference solution."""

from __future__ import annotations

import asyncio
import re

from langchain_core.runnables import RunnableConfig

from supercorrect_agent.errors import TeacherError
from supercorrect_agent.teachers.reference.finding import Finding
from supercorrect_agent.teachers.reference.judging import find_error
from supercorrect_agent.teachers.reference.prose import locate_math
from supercorrect_agent.teachers.reference.writing import is_prose, write_solution
from supercorrect_agent.types import Call, Critique, Problem, Solution

_WORD_OR_SIGN = re.compile(r"\w+|[^\w\s]")


class ReferenceTeacher:
    """Judges a solution by the problem's reference solution, implementing ``Teacher``.

    It needs ``reference=`` with an answer or a reference solution, asks no model and costs nothing. What it
    writes never speaks of the reference, so that it may be shown to the student.
    """

    name = "reference"

    def critique(
        self,
        question: str,
        solution: Solution,
        *,
        reference: Problem | None = None,
        config: RunnableConfig | None = None,
    ) -> tuple[Critique, tuple[Call, ...]]:
        """Finds the first wrong step, why it is wrong, and writes it as it should be.

        Args:
            question: The problem's text.
            solution: The solution to judge; without a readable step the critique is unreadable.
            reference: The problem with its answer, its reference solution, or best both.
            config: Not used; no model is called.

        Raises:
            TeacherError: There is no ``reference``, or it has neither an answer nor a reference solution.
        """
        problem = self._problem(question, reference)
        if not any(step.text.strip() for step in solution.steps):
            return Critique(author=self.name, readable=False), ()
        texts = [step.text if not step.key else f"{step.text}\n{step.key}" for step in solution.steps]
        judge = locate_math if is_prose(problem.reference_solution or problem.question) else find_error
        finding = judge(problem, texts, solution.answer)
        critique = self._write(finding, problem)
        return critique, (_call(question + solution.raw, critique.raw),)

    async def acritique(
        self,
        question: str,
        solution: Solution,
        *,
        reference: Problem | None = None,
        config: RunnableConfig | None = None,
    ) -> tuple[Critique, tuple[Call, ...]]:
        """As ``critique``, in a thread: long solutions take longer than an event loop should wait."""
        return await asyncio.to_thread(self.critique, question, solution, reference=reference, config=config)

    def write_solution(
        self, problem: Problem, config: RunnableConfig | None = None
    ) -> tuple[Solution | None, tuple[Call, ...]]:
        """Writes the hierarchical solution of a problem from its reference solution."""
        return write_solution(problem, model=self.name), ()

    async def awrite_solution(
        self, problem: Problem, config: RunnableConfig | None = None
    ) -> tuple[Solution | None, tuple[Call, ...]]:
        """As ``write_solution``, in a thread."""
        return await asyncio.to_thread(self.write_solution, problem, config)

    def _problem(self, question: str, reference: Problem | None) -> Problem:
        if reference is None:
            raise TeacherError(
                "The reference teacher judges by a reference, and `reference` is None. Pass the problem with "
                "its answer or reference solution, or use a teacher that needs none, such as 'openai:NAME'."
            )
        if not (reference.answer or "").strip() and not (reference.reference_solution or "").strip():
            raise TeacherError(
                f"`reference` '{reference.id}' has neither an answer nor a reference solution. "
                "Pass a problem with at least one of them."
            )
        return (
            reference
            if reference.question == question
            else reference.model_copy(update={"question": question})
        )

    def _write(self, finding: Finding | None, problem: Problem) -> Critique:
        if finding is None:
            return Critique(author=self.name, answer=problem.answer, confidence=1.0)
        return Critique(
            step=finding.step,
            cause=finding.cause,
            correction=finding.correction,
            author=self.name,
            raw=f"<Cause>{finding.cause}</Cause><Correction>{finding.correction}</Correction>",
            answer=None,
            confidence=finding.confidence,
            cause_step=finding.step,
            correction_step=finding.step,
        )


def _call(read: str, written: str) -> Call:
    tokens = [len(_WORD_OR_SIGN.findall(text)) for text in (read, written)]
    return Call(
        role="teacher",
        model=ReferenceTeacher.name,
        prompt="reference.critique",
        input_tokens=tokens[0],
        output_tokens=tokens[1],
    )
