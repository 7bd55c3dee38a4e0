"""The problems that the overhead is measured with, and how the models answer them: by a rule, alike."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from langchain_core.messages import AIMessage, BaseMessage

NO_FAULT = json.dumps({"first_wrong_step": None, "cause": "", "correction": "", "confidence": 0.9})
_COPIES = re.compile(r"makes (\d+) copies")


@dataclass(frozen=True)
class Job:
    """One problem and all that is written about it.

    No two jobs have a text in common, so what a program has kept of one is of no use for the next.
    """

    copies: int

    @property
    def question(self) -> str:
        return (
            f"A printer makes {self.copies} copies on Monday and twice as many on Tuesday. On Wednesday it "
            "makes 47 fewer than on Monday and Tuesday together. How many copies does it make on the three "
            "days in all?"
        )

    @property
    def answer(self) -> int:
        return 6 * self.copies - 47

    @property
    def before(self) -> str:
        first, two = self.copies, 3 * self.copies
        return (
            f"<Step1>Tuesday is twice Monday. {first}*2={2 * first}</Step1>\n"
            f"<Step2>Monday and Tuesday together. {first}+{2 * first}={two}</Step2>\n"
        )

    @property
    def slip(self) -> str:
        return f"{3 * self.copies}-47={3 * self.copies - 37}"

    @property
    def correction(self) -> str:
        two = 3 * self.copies
        return f"<Key>Borrow from the tens.</Key>Wednesday is 47 fewer. {two}-47={two - 47}"

    @property
    def wrong(self) -> str:
        end = self._end(self.answer + 10)
        return f"{self.before}<Step3>Wednesday is 47 fewer. {self.slip}</Step3>\n{end}"

    @property
    def rest(self) -> str:
        return self._end(self.answer)

    @property
    def right(self) -> str:
        return f"{self.before}<Step3>{self.correction}</Step3>\n{self.rest}"

    @property
    def fault(self) -> str:
        cause = f"{3 * self.copies} - 47 is {3 * self.copies - 47}."
        verdict = {"first_wrong_step": 3, "cause": cause, "correction": self.correction, "confidence": 0.9}
        return json.dumps(verdict)

    def _end(self, total: int) -> str:
        two = 3 * self.copies
        return (
            f"<Step4>All three days. {two}+{total - two}={total}</Step4>\n<Answer>\\boxed{{{total}}}</Answer>"
        )


FIRST = Job(128)


def read_job(messages: Sequence[BaseMessage]) -> Job:
    """The job that a prompt is about."""
    found = _COPIES.search(str(messages[0].text))
    if found is None:
        raise ValueError("there is no job in this prompt")
    return Job(int(found[1]))


def student_rule(messages: Sequence[BaseMessage]) -> str:
    """The rest of a begun solution, else the wrong one."""
    job = read_job(messages)
    return job.rest if isinstance(messages[-1], AIMessage) else job.wrong


def teacher_rule(messages: Sequence[BaseMessage]) -> str:
    """Step 3 where the slip is, else no error."""
    job = read_job(messages)
    return job.fault if job.slip in str(messages[-1].text) else NO_FAULT
