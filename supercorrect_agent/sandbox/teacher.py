"""The sandbox's teacher: no model, no cost. It reads the problem text; it is never handed the answer.

Its calls are on the trace like any teacher's, so that what the student still needs of it can be measured. It
has no tokenizer: words and signs are counted as tokens.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from langchain_core.runnables import RunnableConfig

from supercorrect_agent.errors import TeacherError
from supercorrect_agent.sandbox.arithmetic import Work, apply, work_slowly
from supercorrect_agent.sandbox.world import Story, read_story
from supercorrect_agent.sandbox.writing import (
    work_through,
    write_answer,
    write_check,
    write_solution,
    write_step,
    write_steps,
)
from supercorrect_agent.types import Call, Critique, Problem, Solution

_SIGNS = str.maketrans(
    {"\N{MULTIPLICATION SIGN}": "*", "x": "*", "\N{MIDDLE DOT}": "*", "\N{DIVISION SIGN}": "/"}
    | {"\N{MINUS SIGN}": "-", "\N{EN DASH}": "-", ",": None, "$": None}
)
_EQUATION = re.compile(r"(\d{1,12}) ?([+\-*/]) ?(\d{1,12}) ?= ?(\d{1,12})(?![\d.]*\d)")
_WORD_OR_SIGN = re.compile(r"\w+|[^\w\s]")
_NUMBER = re.compile(r"\d{1,12}(?:\.\d{1,12})?")


@dataclass(frozen=True)
class Claim:
    """The last equation of a step, as written: ``expression = value``."""

    left: int
    operator: str
    right: int
    value: str

    @property
    def expression(self) -> str:
        return f"{self.left}{self.operator}{self.right}"

    def __str__(self) -> str:
        return f"{self.expression}={self.value}"


@dataclass(frozen=True)
class Finding:
    """The first thing wrong with a solution: the step, why, and the step's body as it should be."""

    step: int
    cause: str
    correction: str


def read_claim(text: str) -> Claim | None:
    """The last equation ``a op b = c`` of a step's text, or None."""
    found = _EQUATION.findall(re.sub(r"\s+", " ", text.translate(_SIGNS)))
    if not found:
        return None
    left, operator, right, value = found[-1]
    return Claim(int(left), operator, int(right), str(int(value)))


def _last_number(text: str) -> str | None:
    numbers = _NUMBER.findall(text.translate(_SIGNS))
    return numbers[-1] if numbers else None


@dataclass
class _Reader:
    """Walks a solution's steps beside the story, writing the checked step as it goes."""

    story: Story
    needs: list[Work]
    done: int = 0

    @property
    def value(self) -> int:
        return self.story.values()[self.done]

    def check(self, index: int, text: str) -> tuple[str, Finding | None]:
        """Checks one step: returns its re-written body with the evaluation, and what is wrong with it."""
        claim = read_claim(text)
        if claim is None:
            return self._check_words(index, text)
        if self.done == len(self.needs):
            return self._past_the_end(index, claim)
        need = self.needs[self.done]
        if self._right_by_another_way(claim, need):
            return f"{claim}<Evaluate>need {need.expression} have {claim.expression} ok</Evaluate>", None
        done = Work(claim.left, claim.operator, claim.right, (), claim.value)
        evaluation, holds = write_check(need, claim.expression, done, claim.value)
        body = f"{claim}<Evaluate>{evaluation}</Evaluate>"
        if holds:
            self.done += 1
            return body, None
        return body, Finding(index, write_cause(need, claim), write_step(need))

    def _right_by_another_way(self, claim: Claim, need: Work) -> bool:
        """Accepts a true equation, written otherwise, that gives the needed value or a later one."""
        true = apply(claim.left, claim.operator, claim.right)
        if str(true) != claim.value or claim.expression == need.expression:
            return False
        later = self.story.values()[self.done + 1 :]
        if true not in later:
            return False
        self.done += 1 + later.index(true)
        return True

    def _check_words(self, index: int, text: str) -> tuple[str, Finding | None]:
        """A step without an equation is fine as long as the number it ends on is true."""
        number = _last_number(text)
        known = [str(value) for value in self.story.values()]
        if number is None or number in known[: self.done + 1]:
            return f"{_plain(text)}<Evaluate>nothing to check ok</Evaluate>", None
        if number in known[self.done + 1 :]:
            self.done = known.index(number, self.done + 1)
            return f"{_plain(text)}<Evaluate>have {number} ok</Evaluate>", None
        need = self.needs[min(self.done, len(self.needs) - 1)]
        body = f"{_plain(text)}<Evaluate>need {need.expression} have {number} wrong</Evaluate>"
        cause = f"{_slowly(need)}, not {number}."
        return body, Finding(index, cause, write_step(need))

    def _past_the_end(self, index: int, claim: Claim) -> tuple[str, Finding | None]:
        answer = str(self.story.answer)
        if claim.value == answer and str(apply(claim.left, claim.operator, claim.right)) == answer:
            return f"{claim}<Evaluate>nothing to check ok</Evaluate>", None
        body = f"{claim}<Evaluate>need nothing have {claim.expression} differ wrong</Evaluate>"
        return body, Finding(
            index, "Nothing more happens in the story.", f"Nothing more happens. {answer}+0={answer}"
        )


def _plain(text: str) -> str:
    return re.sub(r"<[^<>]{0,40}>", "", text).strip()


def write_cause(need: Work, claim: Claim) -> str:
    """Why a claim is wrong: another operation than the story needs, or a result that does not check.

    The operation is worked out slowly on the way, since the correction is only as good as that.
    """
    if need.expression != claim.expression:
        return f"The story needs {need.expression}, not {claim.expression}. {_slowly(need)}."
    return f"{_slowly(need)}, not {claim.value}."


def _slowly(need: Work) -> str:
    facts = work_slowly(need.left, need.operator, need.right)
    return f"Slowly: {facts}, so {need.expression} is {need.result}"


def review_steps(story: Story, steps: list[str], answer: str | None) -> tuple[str, Finding | None]:
    """Checks a solution step by step up to its first error.

    Args:
        story: The story as read from the problem text.
        steps: The texts of the solution's steps.
        answer: The solution's final answer as written.

    Returns:
        The correction trace (paper appendix A) and the finding, None where every step holds.
    """
    reader = _Reader(story, work_through(story))
    bodies: list[str] = []
    for index, text in enumerate(steps, 1):
        body, finding = reader.check(index, text)
        bodies.append(body)
        if finding:
            return _close(bodies, finding), finding
    finding = _check_ending(reader, len(steps), answer)
    if finding:
        return _close(bodies, finding), finding
    return write_steps(bodies) + write_answer(str(story.answer)), None


def _check_ending(reader: _Reader, last: int, answer: str | None) -> Finding | None:
    if reader.done < len(reader.needs):
        need = reader.needs[reader.done]
        cause = f"The story goes on: {need.expression} is missing. {_slowly(need)}."
        before = write_step(reader.needs[reader.done - 1]) + " " if reader.done else ""
        return Finding(last, cause, before + write_step(need))
    number = _last_number(answer or "")
    if number is None or float(number) != reader.story.answer:
        cause = f"The answer is {answer or 'missing'}, but the last value is {reader.story.answer}."
        return Finding(last, cause, write_step(reader.needs[-1]))
    return None


def _close(bodies: list[str], finding: Finding) -> str:
    tail = f"<Cause>{finding.cause}</Cause><Correction>{finding.correction}</Correction>"
    return write_steps([*bodies[:-1], bodies[-1] + tail]).rstrip()


class SandboxTeacher:
    """A symbolic teacher for the sandbox's word problems, implementing ``Teacher``."""

    name = "sandbox"

    def critique(
        self,
        question: str,
        solution: Solution,
        *,
        reference: Problem | None = None,
        config: RunnableConfig | None = None,
    ) -> tuple[Critique, tuple[Call, ...]]:
        """Finds the first wrong step from the problem text alone; ``reference`` is not looked at.

        Raises:
            TeacherError: The problem is not one of the sandbox's.
        """
        critique = self._critique(question, solution)
        return critique, (_call("critique", question + solution.raw, critique.raw),)

    def _critique(self, question: str, solution: Solution) -> Critique:
        story = self._read(question)
        if not solution.steps:
            return Critique(author=self.name, raw="", readable=False)
        # The written work before the equation is part of the step but claims nothing by itself.
        texts = [step.text for step in solution.steps]
        trace, finding = review_steps(story, texts, solution.answer)
        if finding is None:
            return Critique(author=self.name, raw=trace, answer=str(story.answer), confidence=1.0)
        return Critique(
            step=finding.step,
            cause=finding.cause,
            correction=finding.correction,
            cause_step=finding.step,
            correction_step=finding.step,
            author=self.name,
            raw=trace,
            confidence=1.0,
        )

    async def acritique(
        self,
        question: str,
        solution: Solution,
        *,
        reference: Problem | None = None,
        config: RunnableConfig | None = None,
    ) -> tuple[Critique, tuple[Call, ...]]:
        """As ``critique``; it takes microseconds, so it runs in place."""
        return self.critique(question, solution, reference=reference, config=config)

    def write_solution(
        self, problem: Problem, config: RunnableConfig | None = None
    ) -> tuple[Solution | None, tuple[Call, ...]]:
        """Writes the hierarchical solution of a problem (paper eq. 4), reading only its text."""
        from supercorrect_agent.templates import parse_solution

        written = write_solution(self._read(problem.question))
        return parse_solution(written, model=self.name), (_call("write", problem.question, written),)

    async def awrite_solution(
        self, problem: Problem, config: RunnableConfig | None = None
    ) -> tuple[Solution | None, tuple[Call, ...]]:
        """As ``write_solution``."""
        return self.write_solution(problem, config)

    def _read(self, question: str) -> Story:
        try:
            return read_story(question)
        except ValueError as unread:
            raise TeacherError(
                f"The sandbox's teacher reads only the sandbox's own stories: {unread}. "
                "Pass another teacher, such as `--teacher openai:NAME` or `vllm:NAME@URL`."
            ) from None


def _call(prompt: str, read: str, written: str) -> Call:
    tokens = [len(_WORD_OR_SIGN.findall(text)) for text in (read, written)]
    return Call(
        role="teacher",
        model=SandboxTeacher.name,
        prompt=f"sandbox.{prompt}",
        input_tokens=tokens[0],
        output_tokens=tokens[1],
    )
