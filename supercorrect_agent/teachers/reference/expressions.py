"""Arithmetic found in prose: a parser, exact values, and whether what a sentence claims is true.

``read_equations`` finds every ``a = b = c`` of a text with units and words between the numbers ("5 apples +
3 apples = 8"), ``read_numbers`` every number. Values are fractions; nothing is ever evaluated as code, sizes
are bounded (``9^9^9`` has no value), and reading takes time linear in the text.
"""

from __future__ import annotations

import re
from fractions import Fraction

from supercorrect_agent.teachers.reference.nodes import (
    Equation,
    Name,
    Negated,
    Node,
    Number,
    Operation,
    Side,
    agrees,
    apply,
    evaluate,
    first_false,
    format_value,
    leaves,
    numbers_of,
)
from supercorrect_agent.teachers.reference.parsing import Parser
from supercorrect_agent.teachers.reference.tokens import read_tokens

__all__ = [
    "Equation",
    "Name",
    "Negated",
    "Node",
    "Number",
    "Operation",
    "Side",
    "agrees",
    "apply",
    "evaluate",
    "first_false",
    "format_value",
    "leaves",
    "numbers_of",
    "read_equations",
    "read_expression",
    "read_last",
    "read_numbers",
]

_SIGNED = re.compile(r"(?:\A\s*|[=(:{,]\s*|[A-Za-z]\s+)(?:\\?\$)?[-\u2212]\\?\$?\Z")


def read_equations(text: str) -> list[Equation]:
    """Every equation and every bare computation of a text, in order, with units and words skipped."""
    return list(Parser(read_tokens(text), text).equations())


def read_expression(text: str) -> Node | None:
    """The first expression of a text, such as a calculator mark's "48/2"; None where there is none."""
    equations = read_equations(text)
    if equations:
        return equations[0].sides[0].node
    numbers = read_numbers(text)
    return numbers[0] if numbers else None


def read_numbers(text: str, *, words: bool = False) -> list[Number]:
    """Every number of a text, mixed numbers and simple fractions as one; with ``words`` also "three"."""
    return list(Parser(read_tokens(text), text).numbers(words))


def read_last(text: str) -> Fraction | None:
    """The last number of a text, with the minus that belongs to it; None where there is none."""
    numbers = read_numbers(text)
    if not numbers:
        return None
    last = numbers[-1]
    return -last.value if _SIGNED.search(text[max(0, last.start - 20) : last.start]) else last.value
