"""What the reference teacher finds: a step, the kind of its error, the cause and the step as it should be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["slip", "operation", "missing", "repeated", "quantity", "beyond", "answer"]


@dataclass(frozen=True)
class Finding:
    """The first wrong step of a solution.

    Attributes:
        step: Its number, from 1.
        kind: ``slip`` (false arithmetic), ``operation`` (the right numbers in another operation),
            ``missing`` or ``repeated`` (an operation too few or once too often), ``quantity`` (a value that
            the problem never has), ``beyond`` (going on past the answer), ``answer`` (right values, another
            final answer).
        cause: Why the step is wrong, understandable from the problem alone.
        correction: The body of the step as it should be, in the student's layout.
        confidence: From 0 to 1: how much more speaks for this step than for the others.
    """

    step: int
    kind: Kind
    cause: str
    correction: str
    confidence: float = 1.0
