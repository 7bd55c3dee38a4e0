"""Exact arithmetic on the numbers people write as answers; no floats, no eval, bounded work."""

from __future__ import annotations

import math
import re
from fractions import Fraction

_MAX_BITS = 8000
_MAX_FACTORIAL = 400
_TOKEN = re.compile(r"\s*(\d+(?:\.\d+)?[eE][+-]?\d{1,3}(?!\d)|\d+\.?\d*|\.\d+|\\[A-Za-z]+|[-+*/^!(){}])")
_MIXED = re.compile(r"(?<![\d.^/}])(\d+) (\d+) ?/ ?(\d+)(?![\d.])")
_MIXED_LATEX = re.compile(r"(?<![\d.^/}])(\d+) ?\\frac ?\{ ?(\d+) ?\} ?\{ ?(\d+) ?\}")
_REPEATING = re.compile(r"(\d*)\.(\d*)\\overline\{(\d+)\}")


class TooLarge(ArithmeticError):
    """The text is a number, but one that nobody should compute."""


def exact_value(text: str) -> Fraction | None:
    """The number that the cleaned text denotes, or None when it is not plain arithmetic.

    Raises:
        TooLarge: The number has more than 8000 bits.
    """
    text = _REPEATING.sub(_repeating, _MIXED_LATEX.sub(r"(\1+\2/\3)", _MIXED.sub(r"(\1+\2/\3)", text)))
    try:
        return _Arithmetic(text).value()
    except (ValueError, ZeroDivisionError, RecursionError):
        return None


def _repeating(found: re.Match[str]) -> str:
    whole, fixed, cycle = found.groups()
    shift = 10 ** len(fixed)
    tail = Fraction(int(cycle), shift * (10 ** len(cycle) - 1))
    value = Fraction(int(f"{whole or 0}{fixed}"), shift) + tail
    return f"({value.numerator}/{value.denominator})"


def _decimal(token: str) -> Fraction:
    digits, _, exponent = token.lower().partition("e")
    return Fraction(digits + "0" if digits.endswith(".") else digits) * Fraction(10) ** int(exponent or 0)


class _Arithmetic:
    """Recursive descent over + - * / ^ !, brackets, \\frac, \\binom and roots of squares."""

    def __init__(self, text: str) -> None:
        self._tokens: list[str] = []
        position = 0
        text = text.strip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if not match:
                raise ValueError(text)
            self._tokens.append(match[1])
            position = match.end()
        self._at = 0

    def value(self) -> Fraction:
        value = self._sum()
        if self._at != len(self._tokens):
            raise ValueError("text after the number")
        return value

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self, *expected: str) -> str:
        token = self._peek()
        if not token or (expected and token not in expected):
            raise ValueError(token)
        self._at += 1
        return token

    def _sum(self) -> Fraction:
        value = self._product()
        while self._peek() in ("+", "-"):
            value = value + self._product() if self._take() == "+" else value - self._product()
        return value

    def _product(self) -> Fraction:
        value = self._signed()
        while True:
            if self._peek() in ("*", "/"):
                value = value * self._signed() if self._take() == "*" else value / self._signed()
            elif self._peek() == "(" or self._peek().startswith("\\"):
                value *= self._power()
            else:
                return _bounded(value)

    def _signed(self) -> Fraction:
        if self._peek() in ("+", "-"):
            return self._signed() if self._take() == "+" else -self._signed()
        return self._power()

    def _power(self) -> Fraction:
        base = self._postfix()
        if self._peek() != "^":
            return base
        self._take()
        exponent = self._signed()
        if exponent.denominator != 1:
            raise ValueError("a root")
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if bits > 1 and bits * abs(exponent) > _MAX_BITS:
            raise TooLarge
        return base**exponent.numerator

    def _postfix(self) -> Fraction:
        value = self._unit()
        while self._peek() == "!":
            self._take()
            value = _factorial(value)
        return value

    def _unit(self) -> Fraction:
        lexeme = self._take()
        if lexeme in ("(", "{"):
            value = self._sum()
            self._take(")" if lexeme == "(" else "}")
            return value
        if lexeme == "\\frac":
            return self._argument() / self._argument()
        if lexeme == "\\binom":
            return _binomial(self._argument(), self._argument())
        if lexeme == "\\sqrt":
            return _root(self._argument())
        return _decimal(lexeme)

    def _argument(self) -> Fraction:
        self._take("{")
        value = self._sum()
        self._take("}")
        return value


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MAX_BITS:
        raise TooLarge
    return value


def _factorial(value: Fraction) -> Fraction:
    if value.denominator != 1 or value < 0:
        raise ValueError("factorial of a fraction")
    if value > _MAX_FACTORIAL:
        raise TooLarge
    return Fraction(math.factorial(value.numerator))


def _binomial(n: Fraction, k: Fraction) -> Fraction:
    if n.denominator != 1 or k.denominator != 1 or min(n, k) < 0:
        raise ValueError("binomial of a fraction")
    if n > 1000:
        raise TooLarge
    return Fraction(math.comb(n.numerator, k.numerator))


def _root(value: Fraction) -> Fraction:
    if value < 0:
        raise ValueError("root of a negative number")
    root = Fraction(math.isqrt(value.numerator), math.isqrt(value.denominator))
    if root * root != value:
        raise ValueError("an irrational root")
    return root
