"""Grading final answers: typed exact comparison first, math-verify in a killable process for the algebra.

The rules follow the failures reported against the graders in use: an answer is correct only if its structure
(brackets, number of values, units, base) *and* every value agree, so the stricter reading wins.
"""

from __future__ import annotations

import asyncio
import re
from typing import Protocol, runtime_checkable

from supercorrect_agent.errors import ConfigError
from supercorrect_agent.templates import extract_answer
from supercorrect_agent.types import Verdict
from supercorrect_agent.verification.clean import MAX_LENGTH
from supercorrect_agent.verification.compare import same
from supercorrect_agent.verification.process import GraderStopped, submit, thread_grader
from supercorrect_agent.verification.reading import Value, read

__all__ = ["MathVerifier", "Verifier", "extract_answer"]


@runtime_checkable
class Verifier(Protocol):
    """Says whether an answer is the target. It never raises for a strange answer: the verdict says why."""

    def verify(self, *, answer: str | None, target: str | None) -> Verdict:
        """Judges an answer; may be called from any thread."""
        ...

    async def averify(self, *, answer: str | None, target: str | None) -> Verdict:
        """The same, without blocking the event loop."""
        ...


_WHOLE = re.compile(r"0|-?[1-9]\d{0,14}", re.ASCII)


class _NeedsAlgebra(Exception):
    """The values cannot be compared exactly in this process."""


class _TargetUnreadable(Exception):
    """math-verify has no reading of the target."""


class MathVerifier:
    """Grades mathematical answers; stateless, so that one instance may serve every thread and task.

    Args:
        seconds: CPU time allowed for the algebra of one pair; six times as much wall time is. At the limit
            the process is killed: the answer is incorrect, or unscored if the machine was just too busy.

    Raises:
        ConfigError: ``seconds`` is not positive.
    """

    def __init__(self, *, seconds: float = 5.0) -> None:
        if not seconds > 0:
            raise ConfigError(f"`seconds={seconds}` is no time limit. Pass a positive number of seconds.")
        self._seconds = seconds

    def verify(self, *, answer: str | None, target: str | None) -> Verdict:
        """Judges an answer.

        Args:
            answer: What the student gave: a bare answer, a sentence, or a reply with a box or <Answer>.
            target: The true answer. Without a readable one the verdict is "unscored".
        """
        pair = _read_pair(answer, target)
        if isinstance(pair, Verdict):
            return pair
        verdict = _judge_exactly(*pair)
        return submit(self._judge_with_algebra, *pair).result() if verdict is None else verdict

    async def averify(self, *, answer: str | None, target: str | None) -> Verdict:
        """The same, without blocking the event loop."""
        pair = _read_pair(answer, target)
        if isinstance(pair, Verdict):
            return pair
        verdict = _judge_exactly(*pair)
        if verdict is None:
            verdict = await asyncio.wrap_future(submit(self._judge_with_algebra, *pair))
        return verdict

    def _judge_with_algebra(self, target: Value, answer: Value) -> Verdict:
        left = self._seconds

        def ask(one: str, other: str) -> bool:
            nonlocal left
            reply, used = thread_grader().ask(one, other, max(left, 0.01))
            left -= used
            if reply == "target":
                raise _TargetUnreadable
            return reply == "equal"

        try:
            return _verdict(same(target, answer, ask))
        except _TargetUnreadable:
            return Verdict(status="unscored", reason="the target has no mathematical reading")
        except GraderStopped as error:
            return Verdict(status="incorrect" if error.blame else "unscored", reason=str(error))


def _read_pair(answer: str | None, target: str | None) -> tuple[Value, Value] | Verdict:
    if answer and target and _WHOLE.fullmatch(answer) and _WHOLE.fullmatch(target):
        return _verdict(answer == target)  # what most are, in a hundredth of the time
    true_value = read(_final(target))
    if true_value is None:
        return Verdict(status="unscored", reason=_unread("target", target))
    value = read(_final(answer))
    if value is None:
        return Verdict(status="unreadable", reason=_unread("answer", answer))
    return true_value, value


def _final(text: str | None) -> str | None:
    """The answer inside a box or an <Answer> element, where there is one; otherwise all of the text."""
    if text and (len(text) > MAX_LENGTH or "boxed" in text or "<" in text):
        found, where = extract_answer(text)
        return found if where in ("answer_tag", "boxed") else text
    return text


def _unread(name: str, text: str | None) -> str:
    if text is None or not text.strip():
        return f"there is no {name}"
    if len(text) > MAX_LENGTH:
        return f"the {name} is longer than {MAX_LENGTH} characters"
    return f"the {name} has no reading"


def _judge_exactly(target: Value, answer: Value) -> Verdict | None:
    def ask(_target: str, _answer: str) -> bool:
        raise _NeedsAlgebra

    try:
        return _verdict(same(target, answer, ask))
    except _NeedsAlgebra:
        return None


def _verdict(equal: bool) -> Verdict:
    return Verdict(status="correct" if equal else "incorrect")
