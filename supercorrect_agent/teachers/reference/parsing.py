"""The parser behind ``read_equations``: precedence climbing over the tokens of a prose text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Final

from supercorrect_agent.teachers.reference.nodes import (
    Equation,
    Name,
    Negated,
    Node,
    Number,
    Operation,
    Side,
    evaluate,
)
from supercorrect_agent.teachers.reference.tokens import Token, fraction_word, multiple_word, word_value

MAX_TERMS: Final = 120
"""Numbers in one expression past which it is not read."""
_MAX_DEPTH: Final = 30
_MAX_UNIT_WORDS: Final = 7
_PRECEDENCE: Final = {"+": 1, "-": 1, "*": 2, "/": 2, "^": 3}
_SAYS_IS: Final = frozenset(
    ("is", "are", "gives", "makes", "equals", "totals", "leaves", "yields", "was", "be")
)
_STOPS: Final = frozenset((
    "and", "so", "then", "is", "are", "was", "were", "be", "has", "have", "had", "which", "that",
    "this", "because", "since", "if", "when", "but", "or", "therefore", "thus", "hence", "he",
    "she", "they", "we", "you", "i", "it", "gives", "makes", "leaves", "yields", "will", "would",
    "can", "let", "means", "from", "let's", "where", "while", "after", "before", "than", "plus",
))  # fmt: skip
_CONTINUES: Final = ("+", "-", "*", "/", "=", "~", ")")


class Parser:
    """Walks the tokens once; every expression is read by precedence climbing from where it begins."""

    def __init__(self, tokens: list[Token], text: str) -> None:
        self.tokens, self.text, self.at, self.terms = tokens, text, 0, 0

    def equations(self) -> Iterator[Equation]:
        while self.at < len(self.tokens):
            begun = self.at
            equation = self._equation()
            if equation is not None and (len(equation.sides) > 1 or equation.sides[0].computed):
                yield equation
            self.at = max(self.at, begun + 1)

    def numbers(self, words: bool) -> Iterator[Number]:
        while self.at < len(self.tokens):
            token = self.tokens[self.at]
            begun = self.at
            if token.kind == "num":
                yield self._with_fraction(self._number())
            elif words and token.kind == "word" and (value := word_value(token.text)) is not None:
                yield Number(value, token.text, token.start, token.end)
            self.at = max(self.at, begun + 1)

    def _with_fraction(self, number: Number) -> Number:
        """``3/4`` as one number, ``6/2`` as the first of two."""
        if self._kind() == "/" and self._kind(1) == "num" and number.decimals == 0:
            below = self.tokens[self.at + 1]
            if below.value and below.start - number.end <= 1 and number.value < below.value:
                self.at += 2
                return replace(
                    number,
                    value=number.value / below.value,
                    text=self.text[number.start : below.end],
                    end=below.end,
                )
        return number

    def _equation(self) -> Equation | None:
        if not self._begins():
            return None
        first = self._side()
        if first is None:
            return None
        sides, approximate = [first], False
        while (sign := self._relation(sides[-1])) is not None:
            approximate = approximate or sign == "~"
            if not self._begins():
                break
            side = self._side()
            if side is None:
                break
            sides.append(side)
        return Equation(tuple(sides), approximate)

    def _side(self) -> Side | None:
        self.terms, begun = 0, self.at
        open_left = begun > 0 and self.tokens[begun - 1].kind in ("+", "*", "/", "^")
        node = self._climb(1, 0)
        if node is None:
            return None
        last = self.tokens[self.at - 1]
        of_time = self._is_colon(begun - 1) or self._is_colon(self.at)
        if of_time and isinstance(node, Number):
            node = Name("?")
        elif open_left or of_time:
            node = Operation("+", Name("?"), node)
        return Side(node, self.tokens[begun].start, last.end)

    def _relation(self, side: Side) -> str | None:
        """Steps over "=" (or "is" behind a computation) and the few words before it."""
        ahead = self._words_until("=~")
        if ahead is not None:
            sign = self.tokens[ahead].kind
            self.at = ahead + 1
            while self._kind() in ("=", "~", "to") or self._word() in ("to", "a", "about", "approximately"):
                sign = "~" if self._kind() == "~" or self._word() in ("about", "approximately") else sign
                self.at += 1
            return sign
        if side.computed and self._word() in _SAYS_IS and self._kind(1) == "num":
            self.at += 1
            return "="
        return None

    def _begins(self) -> bool:
        kind = self._kind()
        if kind in ("num", "(", "frac"):
            return True
        if kind == "-":
            return self._kind(1) in ("num", "(", "frac")
        if kind != "word":
            return False
        word = self.tokens[self.at].text
        if _is_letter(word):
            return self._kind(1) in ("+", "-", "*", "/", "^", "=", "~") or (
                self.at > 0 and self.tokens[self.at - 1].kind in ("=", "~")
            )
        if word_value(word) is not None and self._kind(1) in ("+", "*", "/", "="):
            return True
        return (multiple_word(word) is not None and self._kind(1) == "num") or self._part_of(word)

    def _part_of(self, word: str) -> bool:
        after = self._kind(2) in ("num", "(") or (self._word(2) in ("the", "all") and self._kind(3) == "num")
        return fraction_word(word) is not None and self._word(1) == "of" and after

    def _climb(self, least: int, depth: int) -> Node | None:
        node = self._operand(depth)
        if node is None:
            return None
        while True:
            op, skip = self._operator(node)
            if op is None or _PRECEDENCE[op] < least:
                return node
            self.at += skip
            right = self._climb(_PRECEDENCE[op] + (op != "^"), depth + 1 if op == "^" else depth)
            self.terms += 1
            if right is None or self.terms > MAX_TERMS:
                return Operation(op, node, Name("?"))
            node = Operation(op, node, right)

    def _operator(self, node: Node) -> tuple[str | None, int]:
        """The next operator and how many tokens it and the unit words before it take."""
        kind = self._kind()
        if kind in _PRECEDENCE:
            return kind, 1
        if kind == "(" and self._adjacent():
            return "*", 0
        if kind == "word" and self._word() == "of" and _takes_part(node):
            skip = 2 if self._word(1) in ("the", "all", "his", "her", "their") else 1
            return ("*", skip) if self._kind(skip) in ("num", "(") else (None, 0)
        return None, 0

    def _adjacent(self) -> bool:
        return self.at > 0 and self.tokens[self.at - 1].end == self.tokens[self.at].start

    def _operand(self, depth: int) -> Node | None:
        if depth > _MAX_DEPTH:
            return None
        kind = self._kind()
        if kind == "-":
            self.at += 1
            inner = self._climb(2, depth + 1)
            return None if inner is None else Negated(inner)
        if kind == "(":
            return self._group(depth)
        if kind == "frac":
            return self._frac(depth)
        if kind == "num":
            return self._coefficient(self._unit(self._percent(self._number())), depth)
        return self._named(depth) if kind == "word" else None

    def _named(self, depth: int) -> Node | None:
        word = self.tokens[self.at].text
        factor = multiple_word(word) or fraction_word(word)
        token = self.tokens[self.at]
        if factor is not None and (self._kind(1) == "num" or self._word(1) == "of"):
            self.at += 2 if self._word(1) == "of" else 1
            self.at += self._word() in ("the", "all")
            number = Number(factor, word, token.start, token.end)
            right = self._climb(2, depth + 1)
            return number if right is None else Operation("*", number, right)
        value = word_value(word)
        if value is not None and self._kind(1) in ("+", "-", "*", "/", "="):
            self.at += 1
            return Number(value, word, token.start, token.end)
        begun = self.at
        while self._kind() == "word" and self.at - begun < _MAX_UNIT_WORDS and self._word() not in _STOPS:
            self.at += 1
        if self.at == begun:
            return None
        return Name(self.text[token.start : self.tokens[self.at - 1].end])

    def _group(self, depth: int) -> Node | None:
        self.at += 1
        inner = self._climb(1, depth + 1)
        if inner is None:
            return None
        while self._kind() == "word" and self._word() not in _STOPS:
            self.at += 1
        if self._kind() == ")":
            self.at += 1
        elif self._kind() in ("=", "~"):  # (2 + 3 = 5): the inner chain is an equation of its own
            return inner
        node = self._percent_of(inner)
        self._skip_unit()
        return node

    def _frac(self, depth: int) -> Node | None:
        self.at += 1
        parts: list[Node] = []
        for _ in range(2):
            token = self.tokens[self.at] if self.at < len(self.tokens) else None
            if token is None:
                return None
            if token.kind == "(":
                part = self._group(depth)
            else:
                part = self._number() if token.kind == "num" else None
            if part is None:
                return None
            parts.append(part)
        return Operation("/", parts[0], parts[1])

    def _coefficient(self, number: Number, depth: int) -> Node:
        """``2x`` and ``3(x + 1)`` are products."""
        token = self.tokens[self.at] if self.at < len(self.tokens) else None
        if token is None or token.kind != "word" or not _is_letter(token.text) or not self._adjacent():
            return number
        self.at += 1
        name: Node = Name(token.text)
        if self._kind() == "^" and self._kind(1) == "num":
            self.at += 1
            name = Operation("^", name, self._number())
        return Operation("*", number, name)

    def _number(self) -> Number:
        token = self.tokens[self.at]
        self.at += 1
        value = token.value if token.value is not None else Fraction(0)
        decimals = len(token.text.partition(".")[2]) if "." in token.text else 0
        number = Number(value, token.text, token.start, token.end, decimals)
        return self._mixed(number) if value.denominator == 1 and not decimals else number

    def _mixed(self, number: Number) -> Number:
        """``1 1/2`` and ``1½``: a whole number and a proper fraction behind it."""
        ahead = self.tokens[self.at : self.at + 4]
        if not ahead or ahead[0].kind not in ("num", "frac") or ahead[0].value is None:
            return number
        part, end, used = ahead[0].value, ahead[0].end, 1
        if ahead[0].text.isdecimal():
            if len(ahead) < 3 or ahead[1].text != "/" or ahead[2].value is None or ahead[2].value <= part:
                return number
            if ahead[2].start - ahead[0].end > 1:
                return number
            part, end, used = part / ahead[2].value, ahead[2].end, 3
        if part >= 1 or ahead[0].start - number.end > 1:
            return number
        self.at += used
        return replace(number, value=number.value + part, text=self.text[number.start : end], end=end)

    def _percent(self, number: Number) -> Number:
        token = self.tokens[self.at] if self.at < len(self.tokens) else None
        if token is None or token.kind != "%":
            return number
        self.at += 1
        text = self.text[number.start : token.end]
        return replace(number, value=number.value / 100, text=text, end=token.end, percent=True)

    def _percent_of(self, node: Node) -> Node:
        if self._kind() != "%":
            return node
        token = self.tokens[self.at]
        self.at += 1
        return Operation("/", node, Number(Fraction(100), "%", token.start, token.end))

    def _unit(self, number: Number) -> Number:
        """Takes the words behind a number as its unit when an operator or "=" follows them."""
        begun = self.at
        kind = self._kind()
        if kind not in ("word", "/", "(") or (kind == "(" and self._adjacent()):
            return number
        if kind == "word" and self._adjacent() and _is_letter(self.tokens[begun].text):
            return number
        self._skip_unit()
        if self.at == begun:
            return replace(number, unit=self._word())
        return replace(number, unit=self.text[self.tokens[begun].start : self.tokens[self.at - 1].end])

    def _skip_unit(self) -> None:
        """Steps over "apples", "/day", "per child ticket" and "(koala bear)" when the expression goes on."""
        at, words = self.at, 0
        while at < len(self.tokens) and words < _MAX_UNIT_WORDS:
            token = self.tokens[at]
            if token.kind == "word" and self._goes_on(token, at):
                at, words = at + 1, words + 1
            elif token.kind == "/" and self._is_word(at + 1):
                at += 1
            elif token.kind == "(" and (closed := self._words_in_brackets(at)):
                at = closed
                words += 1
            else:
                break
        if (
            at > self.at
            and at < len(self.tokens)
            and self.tokens[at].kind in ("+", "-", "*", "/", "=", "~", ")")
        ):
            self.at = at

    def _goes_on(self, token: Token, at: int) -> bool:
        word = token.text.lower()
        return word not in _STOPS and not (word == "of" and at == self.at)

    def _words_in_brackets(self, at: int) -> int | None:
        end = at + 1
        while self._is_word(end) and end - at <= _MAX_UNIT_WORDS:
            end += 1
        closed = end < len(self.tokens) and self.tokens[end].kind == ")" and end > at + 1
        return end + 1 if closed else None

    def _words_until(self, kinds: str) -> int | None:
        at = self.at
        while at < len(self.tokens) and at - self.at <= _MAX_UNIT_WORDS:
            token = self.tokens[at]
            if token.kind in kinds:
                return at
            if token.kind not in ("word", ")") or token.text.lower() in _STOPS:
                return self._is_equal(at)
            at += 1
        return None

    def _is_equal(self, at: int) -> int | None:
        """The place of "equal" in "is equal to", whose "is" alone says less."""
        says = self._is_word(at) and self.tokens[at].text.lower() in _SAYS_IS
        return at + 1 if says and at + 1 < len(self.tokens) and self.tokens[at + 1].kind in "=~" else None

    def _is_colon(self, at: int) -> bool:
        """Whether a token is the colon of a time or a ratio, such as 8:55."""
        before, colon, behind = (self.tokens[i : i + 1] for i in (at - 1, at, at + 1))
        if at < 1 or not behind or colon[0].text != ":" or {before[0].kind, behind[0].kind} != {"num"}:
            return False
        return before[0].end == colon[0].start and colon[0].end == behind[0].start

    def _is_word(self, at: int) -> bool:
        return at < len(self.tokens) and self.tokens[at].kind == "word"

    def _kind(self, ahead: int = 0) -> str:
        at = self.at + ahead
        return self.tokens[at].kind if at < len(self.tokens) else ""

    def _word(self, ahead: int = 0) -> str:
        return self.tokens[self.at + ahead].text.lower() if self._kind(ahead) == "word" else ""


def _is_letter(word: str) -> bool:
    """Whether a word is a letter, perhaps with an index: ``x`` or ``x_1``."""
    return len(word.partition("_")[0]) == 1


def _takes_part(node: Node) -> bool:
    """Whether "of" behind it multiplies: a fraction or a percentage."""
    value = evaluate(node)
    return value is not None and (value.denominator > 1 or (isinstance(node, Number) and node.percent))
