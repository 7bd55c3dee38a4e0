r"""Reads LaTeX arithmetic and algebra into trees.

``parse`` gives None for whatever it has no rule for (matrices, sums, integrals, dots, functions called f),
so that nobody takes a half-read formula for a claim.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

from supercorrect_agent.teachers.reference.trees import FUNCTIONS, Node, Number, Unreadable, evaluate

_MAX_LENGTH: Final = 400
_TOKEN = re.compile(
    r"\s*(\d+(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+|\\[A-Za-z]+|\\.|[A-Z]{2,4}|[A-Za-z]|[-+*/^_!(){}\[\]|%°])"
)
_DROPPED = re.compile(
    r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|limits|nolimits|,|;|:|!|quad|qquad|boxed|mathbf"
    r"|mathrm|bold|phantom|hphantom|vphantom|\s)(?![A-Za-z])|~|&"
)
_TEXT = re.compile(
    r"\\(?:text|textrm|textbf|mbox|mathrm|operatorname|textit|hbox)\s*\{([^{}]*)\}(?:\^\{?[23]\}?)?"
)
_NAMED = re.compile(
    r"\\operatorname\s*\{[^{}]*\}|\\text\s*\{\s*(?:cis|gcd|lcm)[^{}]*\}"
    r"|\\(?:text|mathrm|mbox)\s*\{[^{}]*\}(?=\s*(?:[(_^]|\\left\s*\())"
)
_TRIG = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)")
_GREEK = frozenset(
    [
        "alpha",
        "beta",
        "gamma",
        "delta",
        "epsilon",
        "theta",
        "phi",
        "varphi",
        "lambda",
        "mu",
        "omega",
        "sigma",
        "rho",
        "tau",
        "zeta",
        "eta",
        "psi",
        "ell",
    ]
)
_CALLED = frozenset("fghpqPQFGHT")


def parse(text: str) -> Node | None:
    """The tree of a formula without relations; None where it has no reading."""
    if len(text) > _MAX_LENGTH:
        return None
    try:
        return _Reader(_plain(text)).read()
    except (Unreadable, RecursionError, OverflowError):
        return None


def value_of(text: str) -> Number | None:
    """The value of a formula without letters, None where it has none."""
    node = parse(text)
    if node is None:
        return None
    try:
        return evaluate(node)
    except Unreadable:
        return None


def _plain(text: str) -> str:
    text = text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace("\\cfrac", "\\frac")
    text = re.sub(r"\\d?t?binom", r"\\binom", text).replace("{,}", ",").replace("\\!", "").replace("\\$", "")
    text = re.sub(r"(?<=\d),(?:\\!|\\,|\s)?\s?(?=\d{3}(?!\d))", ",", text)
    text = re.sub(r"\^\s*\{?\s*\\circ\s*\}?|\\degree", "°", text)
    text = _NAMED.sub(r"\\unread ", text)
    text = _TEXT.sub(" ", text).replace("\\%", "%").replace("$", " ")
    if _TRIG.search(text) is None:
        text = text.replace("°", " ")
    text = text.replace("×", "*").replace("·", "*").replace("−", "-").replace("π", "\\pi ")  # noqa: RUF001
    text = re.sub(r"√\s*(\d+|\([^()]*\))", r"\\sqrt{\1}", text)
    return _DROPPED.sub(" ", text).strip().rstrip(".,;:").strip()


class _Reader:
    """Recursive descent: sums, products (also implied), signs, powers, postfix signs, units."""

    def __init__(self, text: str) -> None:
        self._tokens: list[str] = []
        self._spaced: list[bool] = []
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise Unreadable(text)
            self._tokens.append(match[1])
            self._spaced.append(match.start(1) > position)
            position = match.end()
        self._at = 0

    def read(self) -> Node:
        node = self._sum()
        if self._at != len(self._tokens):
            raise Unreadable("something follows the formula")
        return node

    def _peek(self, ahead: int = 0) -> str:
        at = self._at + ahead
        return self._tokens[at] if at < len(self._tokens) else ""

    def _take(self, expected: str = "") -> str:
        lexeme = self._peek()
        if not lexeme or (expected and lexeme != expected):
            raise Unreadable(lexeme)
        self._at += 1
        return lexeme

    def _sum(self) -> Node:
        node = self._product()
        while self._peek() in ("+", "-"):
            sign = self._take()
            node = Node(sign, (node, self._product()))
        return node

    def _product(self) -> Node:
        node = self._signed()
        while True:
            sign = self._peek()
            if sign in ("*", "\\cdot", "\\times"):
                self._take()
                node = Node("*", (node, self._signed()))
            elif sign in ("/", "\\div"):
                self._take()
                node = Node("/", (node, self._signed()))
            elif self._starts_factor(sign):
                if self._tokens[self._at - 1][0].isdigit() and (sign[0].isdigit() or sign == "\\frac"):
                    raise Unreadable("two numbers side by side, or a mixed number")
                node = Node("*", (node, self._power()))
            else:
                return node

    def _starts_factor(self, sign: str) -> bool:
        if not sign or sign in ("\\}", "\\]", "\\pm", "\\mp", "\\rfloor", "\\rceil", "\\rvert", "\\right"):
            return False
        return sign[0].isalnum() or sign in "({[." or (sign[0] == "\\" and len(sign) > 2)

    def _signed(self) -> Node:
        if self._peek() == "-":
            self._take()
            return Node("neg", (self._signed(),))
        if self._peek() == "+":
            self._take()
            return self._signed()
        return self._power()

    def _power(self) -> Node:
        base = self._postfix()
        if self._peek() != "^":
            return base
        self._take()
        node = Node("^", (base, self._argument()))
        return Node("!", (node,)) if self._peek() == "!" and self._take() else node

    def _postfix(self) -> Node:
        node = self._unit()
        while self._peek() in ("!", "°", "%"):
            kind = self._take()
            if kind == "!" and self._peek() == "!":
                raise Unreadable("a double factorial")
            node = Node(kind, (node,))
        return node

    def _argument(self) -> Node:
        """What stands in braces; without braces, one digit, letter or command."""
        if self._peek() == "{":
            self._take()
            node = self._sum()
            self._take("}")
            return node
        lexeme = self._peek()
        if lexeme and lexeme[0].isdigit() and len(lexeme) > 1:
            self._tokens[self._at : self._at + 1] = [lexeme[0], lexeme[1:]]
        if lexeme == "-":
            raise Unreadable("a sign without braces")
        return self._unit()

    def _unit(self) -> Node:
        lexeme = self._take()
        if lexeme[0].isdigit() or (lexeme[0] == "." and len(lexeme) > 1):
            return self._number(lexeme)
        if lexeme in "({[":
            node = self._sum()
            self._take({"(": ")", "{": "}", "[": "]"}[lexeme])
            return node
        if lexeme == "|":
            node = self._sum()
            self._take("|")
            return Node("abs", (node,))
        if lexeme[0].isalpha():
            return self._letter(lexeme)
        if lexeme[0] == "\\":
            return self._command(lexeme[1:])
        raise Unreadable(lexeme)

    def _number(self, lexeme: str) -> Node:
        if self._peek() != "_":
            return Node("number", value=Fraction(lexeme.replace(",", "")))
        self._take()
        base = evaluate(self._argument())
        if not isinstance(base, Fraction) or base.denominator != 1 or not 2 <= base <= 36:
            raise Unreadable("no base")
        try:
            return Node("number", value=Fraction(int(lexeme, int(base))))
        except ValueError as error:
            raise Unreadable(lexeme) from error

    def _letter(self, letter: str) -> Node:
        if letter in _CALLED and self._peek() == "(":
            raise Unreadable("a function")
        return Node("letter", name=letter + self._subscript())

    def _subscript(self) -> str:
        if self._peek() != "_":
            return ""
        self._take()
        if self._peek() != "{":
            return "_" + self._take()
        name, depth = "_", 0
        while True:
            lexeme = self._take()
            depth += (lexeme == "{") - (lexeme == "}")
            name += lexeme
            if depth == 0:
                return name

    def _command(self, name: str) -> Node:
        if name == "frac":
            return Node("/", (self._argument(), self._argument()))
        if name == "binom":
            return Node("binom", (self._argument(), self._argument()))
        if name == "sqrt":
            return self._root()
        if name in ("lfloor", "lceil", "lvert"):
            node = self._sum()
            self._take("\\r" + name[1:])
            return Node({"lfloor": "floor", "lceil": "ceil", "lvert": "abs"}[name], (node,))
        if name == "pi":
            return Node("pi")
        if name in _GREEK:
            return Node("letter", name=name + self._subscript())
        if name in FUNCTIONS or name in ("log", "ln"):
            return self._function(name)
        raise Unreadable(name)

    def _root(self) -> Node:
        degree = Node("number", value=Fraction(2))
        if self._peek() == "[":
            self._take()
            degree = self._sum()
            self._take("]")
        return Node("root", (self._argument(), degree))

    def _function(self, name: str) -> Node:
        base, power = None, None
        if name == "log" and self._peek() == "_":
            self._take()
            base = self._argument()
        if self._peek() == "^":
            self._take()
            power = self._argument()
            if power.kind == "neg":
                raise Unreadable("an inverse function")
        inside = self._factors()
        if base is not None:
            node = Node("log", (inside, base))
        else:
            node = (
                Node("log", (inside, Node("number", value=Fraction(10))))
                if name == "log"
                else Node("call", (inside,), name=name)
            )
        return node if power is None else Node("^", (node, power))

    def _factors(self) -> Node:
        """What a function without brackets takes: factors up to the next sign or function."""
        node = self._power()
        bracket = self._tokens[self._at - 1] in (")", "}", "]")
        while not bracket and self._starts_factor(self._peek()) and self._peek() not in "([{":
            name = self._peek().removeprefix("\\")
            if name in FUNCTIONS or name in ("log", "ln"):
                break
            node = Node("*", (node, self._power()))
        return node
