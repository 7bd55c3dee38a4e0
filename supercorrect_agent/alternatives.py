"""The student's further words at the step that the teacher calls wrong, and where they lead (decision B8).

Chosen sides in a student's own words train better than a teacher's, but only where they are right: so the
student goes on from each of them, and the answer reached is compared with the true one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from supercorrect_agent.calls import Flow
from supercorrect_agent.models import can_prefill
from supercorrect_agent.student import Student, Turn, is_whole, kept_text
from supercorrect_agent.types import Alternative, Call, Critique, Solution, Verdict

RESAMPLE_TEMPERATURE = 0.7  # decision B24, where the run itself is greedy: that would only repeat the review

Source = Literal["student_rewrite", "student_resample"]


@dataclass
class Alternatives:
    """The alternatives to one critique, as far as they have come: a student that fails leaves them behind.

    Attributes:
        student: Whose words they are.
        question: The problem's text.
        solution: The wrong solution.
        critique: The teacher's, which names its first wrong step.
        turn: The circumstances of the calls.
        found: The alternatives so far, each text once of each source.
        calls: The student's calls for them.
    """

    student: Student
    question: str
    solution: Solution
    critique: Critique
    turn: Turn
    found: list[Alternative] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)

    def write(self, *, rewrite: bool, resamples: int) -> Flow[None]:
        """Asks for the texts.

        Args:
            rewrite: Whether to ask for the student's correction behind the teacher's cause; a model that
                cannot continue a message is not asked.
            resamples: How many further reviews to sample: at the turn's temperature, or at 0.7 where that
                is 0 or left to the model.
        """
        for source, asked in self._askings(rewrite, resamples):
            critique, call = yield from asked
            self.calls.append(call)
            if (source, _folded(critique)) not in {(one.source, _folded(one.critique)) for one in self.found}:
                self.found.append(Alternative(source=source, critique=critique))

    def _askings(self, rewrite: bool, resamples: int) -> Iterator[tuple[Source, Flow[tuple[Critique, Call]]]]:
        given = (self.question, self.solution)
        if rewrite and can_prefill(self.student.model):
            yield "student_rewrite", self.student.rewrite(*given, self.critique, self.turn)
        for _ in range(resamples):
            yield "student_resample", self.student.review(*given, warm(self.turn), forced=self.critique)

    def follow(self, verify: Callable[[Solution], Flow[Verdict]]) -> Flow[None]:
        """Has the student go on from each alternative that corrects the critique's step, and verifies that.

        Args:
            verify: Compares a solution's answer with the true one.
        """
        verdicts: dict[str, Verdict] = {}
        for place, one in enumerate(self.found):
            if not self._can_be_followed(one.critique):
                continue
            text = _folded(one.critique)
            if text not in verdicts:
                verdicts[text] = yield from self._follow(one.critique, verify)
            self.found[place] = one.model_copy(update={"verdict": verdicts[text]})

    def _follow(self, own: Critique, verify: Callable[[Solution], Flow[Verdict]]) -> Flow[Verdict]:
        text, _, call = yield from self.student.correct(self.question, self.solution, own, self.turn)
        self.calls.append(call)
        return (yield from verify(self.student.read(text)))

    def _can_be_followed(self, own: Critique) -> bool:
        at_step = own.readable and own.step == self.critique.step
        return at_step and is_whole(own) and bool(kept_text(self.solution, own))


def warm(turn: Turn) -> Turn:
    """The circumstances of a further sample: at the turn's temperature, or at 0.7 where that is 0 or none."""
    temperature = turn.sampling.get("temperature") or RESAMPLE_TEMPERATURE
    return replace(turn, sampling={**turn.sampling, "temperature": temperature})


def _folded(critique: Critique) -> str:
    return " ".join(critique.raw.split())
