"""Written arithmetic, column by column, the way the sandbox's solutions and checks show it.

``7+5=12,4+8+1=13`` is the work behind ``47+85=132``: units first, carries and borrows spelled out;
division goes from the left with remainders (``28/6=4r4,42/6=7r0``). `work_slowly` writes one fact at a time
and the digits found so far: ``7+5=12;2 4+8=12,12+1=13;132``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

Method = TypeVar("Method")
OPERATORS = "+-*/"
INVERSE = {"+": "-", "-": "+", "*": "/", "/": "*"}


@dataclass(frozen=True)
class Work:
    """One worked operation: its columns in writing order and the result as it is read off them.

    ``result`` is a plain number, or ``"-"`` for a difference below zero, or ``"10r2"`` for a
    division that leaves a remainder.
    """

    left: int
    operator: str
    right: int
    columns: tuple[str, ...]
    result: str

    @property
    def expression(self) -> str:
        return f"{self.left}{self.operator}{self.right}"

    @property
    def key(self) -> str:
        return ",".join(self.columns)

    @property
    def easy(self) -> bool:
        """Whether the result can be seen at a glance: single digits, or no carry and no borrow."""
        if self.operator in "*/":
            return self.left < 10
        return all(column.count("=") == 1 and _is_single(column) for column in self.columns)


def _is_single(column: str) -> bool:
    terms, total = column.split("=")
    return len(terms) == 3 and len(total) == 1


def work(left: int, operator: str, right: int, *, slip: tuple[int, int] | None = None) -> Work:
    """Works out ``left operator right`` for non-negative integers (``right`` a single digit for * and /).

    Args:
        left: The first operand.
        operator: One of ``+ - * /``.
        right: The second operand.
        slip: A slip of the pen to make, as (column, amount): that column's total is off by the
            amount, and everything after it follows from the wrong total.

    Raises:
        ValueError: The operator is unknown.
    """
    method = _of({"+": _add, "-": _subtract, "*": _multiply, "/": _divide}, operator)
    columns, result = method(left, right, slip or (-1, 0))
    return Work(left, operator, right, tuple(columns), result)


def work_slowly(left: int, operator: str, right: int) -> str:
    """Works out an operation one fact at a time, each column closed by the result's digits so far.

    It is what one does after a slip: nothing is done in the head, neither a carry nor a remainder nor the
    reading off. Operands as for `work`; a difference below zero has its last borrow left open.

    Raises:
        ValueError: The operator is unknown.
    """
    slow = {"+": _add_slowly, "-": _subtract_slowly, "*": _multiply_slowly, "/": _divide_slowly}
    method = _of(slow, operator)
    return " ".join(f"{','.join(facts)};{digits}" for facts, digits in method(left, right))


def _of(methods: dict[str, Method], operator: str) -> Method:
    if operator not in methods:
        raise ValueError(f"`operator={operator!r}` is unknown. Use one of {', '.join(OPERATORS)}.")
    return methods[operator]


def apply(left: int, operator: str, right: int) -> int | None:
    """The exact value, or None where it is not a non-negative integer."""
    if operator == "/":
        return left // right if right and left % right == 0 else None
    value = {"+": left + right, "-": left - right, "*": left * right}[operator]
    return value if value >= 0 else None


def _digit_pairs(left: int, right: int) -> list[tuple[int, int]]:
    width = max(len(str(left)), len(str(right)))
    pairs = zip(reversed(str(left).zfill(width)), reversed(str(right).zfill(width)), strict=True)
    return [(int(a), int(b)) for a, b in pairs]


def _add(left: int, right: int, slip: tuple[int, int]) -> tuple[list[str], str]:
    columns, digits, carry = [], "", 0
    for place, (a, b) in enumerate(_digit_pairs(left, right)):
        total = a + b + carry + (slip[1] if place == slip[0] else 0)
        columns.append(f"{a}+{b}{'+1' if carry else ''}={total}")
        digits, carry = f"{total % 10}{digits}", int(total > 9)
    return columns, str(int(f"{carry}{digits}"))


def _subtract(left: int, right: int, slip: tuple[int, int]) -> tuple[list[str], str]:
    columns, digits, borrow = [], "", 0
    for place, (a, b) in enumerate(_digit_pairs(left, right)):
        lent = 10 if a - borrow - b < 0 else 0
        total = (a + lent - borrow - b + (slip[1] if place == slip[0] else 0)) % 10
        columns.append(f"{a + lent}{'-1' if borrow else ''}-{b}={total}")
        digits, borrow = f"{total}{digits}", int(lent > 0)
    return columns, "-" if borrow else str(int(digits))


def _multiply(left: int, right: int, slip: tuple[int, int]) -> tuple[list[str], str]:
    columns, digits, carry = [], "", 0
    for place, a in enumerate(map(int, reversed(str(left)))):
        total = max(0, a * right + carry + (slip[1] if place == slip[0] else 0))
        columns.append(f"{a}*{right}{f'+{carry}' if carry else ''}={total}")
        digits, carry = f"{total % 10}{digits}", total // 10
    return columns, str(int(f"{carry}{digits}"))


def _divide(left: int, right: int, slip: tuple[int, int]) -> tuple[list[str], str]:
    columns, digits, rest = [], "", 0
    for place, digit in enumerate(map(int, str(left))):
        part = rest * 10 + digit
        quotient = max(0, part // right + (slip[1] if place == slip[0] else 0))
        rest = max(0, part - quotient * right)
        columns.append(f"{part}/{right}={quotient}r{rest}")
        digits += str(quotient)
    return columns, str(int(digits)) + (f"r{rest}" if rest else "")


Column = tuple[list[str], str]
"""The facts of one column, and the result's digits once it is done."""


def _add_slowly(left: int, right: int) -> Iterator[Column]:
    digits, carry, pairs = "", 0, _digit_pairs(left, right)
    for place, (a, b) in enumerate(pairs, 1):
        total, facts = a + b, [f"{a}+{b}={a + b}"]
        if carry:
            total += 1
            facts.append(f"{total - 1}+1={total}")
        digits, carry = _write_digit(total, digits, last=place == len(pairs)), int(total > 9)
        yield facts, digits


def _subtract_slowly(left: int, right: int) -> Iterator[Column]:
    digits, borrow = "", 0
    for a, b in _digit_pairs(left, right):
        lent = 10 if a - borrow - b < 0 else 0
        top, facts = a + lent - borrow, [f"{a + lent}-1={a + lent - 1}"] if borrow else []
        facts.append(f"{top}-{b}={top - b}")
        digits, borrow = f"{top - b}{digits}", int(lent > 0)
        yield facts, digits


def _multiply_slowly(left: int, right: int) -> Iterator[Column]:
    digits, carry, figures = "", 0, [int(figure) for figure in reversed(str(left))]
    for place, a in enumerate(figures, 1):
        total, facts = a * right, [f"{a}*{right}={a * right}"]
        if carry:
            total += carry
            facts.append(f"{total - carry}+{carry}={total}")
        digits, carry = _write_digit(total, digits, last=place == len(figures)), total // 10
        yield facts, digits


def _divide_slowly(left: int, right: int) -> Iterator[Column]:
    digits, rest = "", 0
    for digit in map(int, str(left)):
        part = rest * 10 + digit
        quotient, rest = divmod(part, right)
        digits += str(quotient)
        yield (
            [
                f"{part}/{right}={quotient}",
                f"{quotient}*{right}={part - rest}",
                f"{part}-{part - rest}={rest}",
            ],
            digits,
        )


def _write_digit(total: int, digits: str, *, last: bool) -> str:
    return f"{total if last else total % 10}{digits}"


def compare_digits(left: str, right: str) -> tuple[str, bool]:
    """Lines two results up digit by digit, four places wide: ``0=0,6#5,1=1,7=7``.

    Returns:
        The comparison and whether the two agree. Results that are no plain number (below zero, with
        a remainder, past four digits) give an empty comparison and disagree.
    """
    if not (left.isdigit() and right.isdigit() and len(left) <= 4 and len(right) <= 4):
        return "", False
    pairs = zip(left.zfill(4), right.zfill(4), strict=True)
    return ",".join(f"{a}{'=' if a == b else '#'}{b}" for a, b in pairs), int(left) == int(right)
