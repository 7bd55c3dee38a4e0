"""Traces written by hand for the training tests: one problem, a wrong attempt, what both say of it."""

from __future__ import annotations

from supercorrect_agent.templates import parse_critique, parse_solution
from supercorrect_agent.types import Critique, Problem, Round, Trace, TraceStatus, Verdict

QUESTION = "Ann has 47 beads and buys 85. Each bead is cut into 3. How many parts?"
TEMPLATE = (
    "<Step1>Add. <Key>7+5=12</Key> 47+85=132</Step1>\n<Step2>Cut. 132*3=396</Step2>\n"
    "<Generalized>Add, then multiply.</Generalized>\n<Answer>\\boxed{396}</Answer>"
)
WRONG = "<Step1>47+85=132</Step1>\n<Step2>132*3=386</Step2>\n<Answer>\\boxed{386}</Answer>"
# The review of WRONG up to its second step, which is the wrong one.
PREFIX = "<Step1>47+85=132<Evaluate>ok</Evaluate></Step1>\n<Step2>132*3=386"
TEACHER = "<Evaluate>wrong</Evaluate><Cause>3*3 is 9.</Cause><Correction>132*3=396</Correction>"
STUDENT = "<Evaluate>wrong</Evaluate><Cause>Carry.</Cause><Correction>132*3=376</Correction>"
CORRECTED = "<Step1>47+85=132</Step1>\n<Step2>132*3=396</Step2>\n<Answer>\\boxed{396}</Answer>"

NO_ERROR = (
    "<Step1>47+85=132<Evaluate>ok</Evaluate></Step1>\n<Step2>132*3=396<Evaluate>ok</Evaluate></Step2>\n"
)

RIGHT, FALSE = Verdict(status="correct"), Verdict(status="incorrect")


def make_critique(text: str = PREFIX + TEACHER, author: str = "sandbox") -> Critique:
    """The critique that a correction trace holds."""
    return parse_critique(text, author=author)


def make_round(
    *, teacher: str = TEACHER, student: str | None = STUDENT, author: str = "sandbox", solved: bool = True
) -> Round:
    """A round on WRONG: the teacher's words, the student's on the same prefix, and the revision."""
    return Round(
        critique=make_critique(PREFIX + teacher, author),
        review=None if student is None else make_critique(PREFIX + student, "student"),
        solution=parse_solution(CORRECTED if solved else WRONG),
        verdict=RIGHT if solved else FALSE,
    )


def make_trace(
    *rounds: Round,
    question: str = QUESTION,
    attempt: str | None = WRONG,
    verdict: Verdict = FALSE,
    template: str | None = None,
    split: str = "train",
    answer: str | None = "396",
    status: TraceStatus = "corrected",
    sample: int = 0,
) -> Trace:
    """A trace of the collecting graph."""
    problem = Problem.create(question, answer=answer, split=split)
    return Trace(
        id=f"{problem.id}-{sample}",
        problem=problem,
        template=None if template is None else parse_solution(template, model="teacher"),
        solution=None if attempt is None else parse_solution(attempt, model="student"),
        verdict=verdict,
        rounds=rounds,
        status=status,
        sample=sample,
    )


def no_error_round(author: str = "sandbox") -> Round:
    """A round on CORRECTED: the teacher finds nothing."""
    text = NO_ERROR + "<Answer>\\boxed{396}</Answer>"
    return Round(critique=Critique(author=author, raw=text, answer="396"))


def numbered(number: int) -> str:
    """Another problem with the same numbers."""
    return QUESTION.replace("Ann", f"Child {number}")
