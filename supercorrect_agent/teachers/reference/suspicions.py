"""What speaks against a step of LaTeX prose by itself: false claims, failed roots, equations that drift."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from supercorrect_agent.teachers.reference.claims import check, is_number, units_of
from supercorrect_agent.teachers.reference.latex import UNREAD, Node, Number, Unreadable, close, evaluate
from supercorrect_agent.teachers.reference.relations import Link, links_of

_ASSUMES = re.compile(
    r"\bcontradict|\bno (?:real )?solution|impossible|not equal|does not (?:work|hold|equal)|suppose|assum|\bif we try|"
    r"\bis false|\bfails\b|can(?:not|'t) be|\btry\b|\btest|\bcheck\b|\bcase\b|too (?:small|large|big)",
    re.IGNORECASE,
)
_EQUALITY_MARKS = "=≡"


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Why a step may be wrong: how sure (0 to 1), and in which relation.

    ``value`` is what the left side of the relation really comes to, where that is the error.
    """

    sure: float
    cause: str
    link: Link
    value: Number | None = None


def suspicions_of(steps: Sequence[str], known_equations: frozenset[str]) -> list[list[Suspicion]]:
    """What speaks against each step.

    Args:
        steps: The texts of the steps.
        known_equations: Relations of the question and of the reference, written without spaces: true here.
    """
    found: list[list[Suspicion]] = []
    before: list[Link] = []
    for text in steps:
        links = [link for link in links_of(text) if folded(link.text) not in known_equations]
        mine = [*_false_claims(links), *_failed_roots(links, before), *_drifts(links)]
        doubt = 0.5 if _ASSUMES.search(text) else 1.0
        found.append([replace(one, sure=one.sure * doubt) for one in mine])
        before = links_of(text)
    return found


def folded(text: str) -> str:
    """A formula without spaces and sizes of brackets."""
    return re.sub(r"\\(?:left|right|,|;|!|quad)|[\s.$&]", "", text.replace("dfrac", "frac"))


def shown(value: Number) -> str:
    """A value as one writes it in LaTeX."""
    if isinstance(value, Fraction):
        if value.denominator == 1:
            return str(value.numerator)
        sign = "-" if value < 0 else ""
        return f"{sign}\\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"
    if isinstance(value, complex):
        return f"{value.real:.6g}{value.imag:+.6g}i"
    return f"{value:.6g}"


def _false_claims(links: Sequence[Link]) -> Iterator[Suspicion]:
    place, chain = 0, -1
    for link in links:
        place = place + 1 if link.chain == chain else 0
        chain = link.chain
        truth = check(link)
        if truth == "false":
            yield _false(link)
        elif truth == "open" and (sure := _broken_identity(link, place)):
            yield _unequal(link, sure)


def _false(link: Link) -> Suspicion:
    if (link.one.letters() | link.other.letters()) - {"i"}:
        return _unequal(link, 0.85)
    value, other = evaluate(link.one), evaluate(link.other)
    if link.sign in _EQUALITY_MARKS and link.modulus is None:
        if is_number(link.one) and not is_number(link.other):
            value, other = other, value
        left = link.left if value == evaluate(link.one) else link.right
        cause = f"${left.strip()}$ is ${shown(value)}$ and not ${shown(other)}$."
        plain = 0.6 if is_number(link.one) and is_number(link.other) else 0.95
        return Suspicion(plain, cause, link, value)
    if link.modulus is not None:
        cause = f"${link.left.strip()}$ and ${link.right.strip()}$ leave different remainders modulo {link.modulus}."
        return Suspicion(0.9, cause, link)
    sure = 0.5 if link.sign == "≈" else 0.6
    return Suspicion(sure, f"${link.text}$ does not hold: the left side is ${shown(value)}$.", link, value)


def _unequal(link: Link, sure: float) -> Suspicion:
    letters = sorted((link.one.letters() | link.other.letters()) - {"i"})
    trial: dict[str, Number] = {letter: Fraction(i + 2) for i, letter in enumerate(letters)}
    cause = f"${link.left.strip()}$ and ${link.right.strip()}$ are not the same expression."
    try:
        one, other = evaluate(link.one, trial), evaluate(link.other, trial)
        at = ", ".join(f"{letter} = {value}" for letter, value in trial.items())
        if not close(one, other):
            cause += f" For ${at}$ the sides are ${shown(one)}$ and ${shown(other)}$."
    except Unreadable:
        pass
    return Suspicion(sure, cause, link)


def _broken_identity(link: Link, place: int) -> float:
    """How surely two sides with the same letters were meant as the same expression."""
    letters = link.one.letters()
    if not letters or letters != link.other.letters() or "i" in letters:
        return 0.0
    if min(link.one.size(), link.other.size()) < 4 and place == 0:
        return 0.0
    if place > 0:
        return 0.75
    return 0.7 if _alike_far_out(link, sorted(letters)) and _rewrites(link.one, link.other) else 0.0


def _rewrites(one: Node, other: Node) -> bool:
    """Whether one side is a product, power or root of sums and the other a plain sum."""
    return _has_bracket(one) != _has_bracket(other)


def _has_bracket(node: Node) -> bool:
    """Whether a sum with letters stands inside a product or power."""
    if node.kind in ("*", "^", "/"):
        return any(part.kind in "+-" and bool(part.letters()) for part in node.parts[:2]) or any(
            map(_has_bracket, node.parts)
        )
    return any(map(_has_bracket, node.parts))


def _alike_far_out(link: Link, letters: list[str]) -> bool:
    """Whether the sides grow alike: the same leading terms, which different conditions seldom have."""
    far: dict[str, Number] = {letter: Fraction(10**6 + 7 * i) for i, letter in enumerate(letters)}
    try:
        one, other = complex(evaluate(link.one, far)), complex(evaluate(link.other, far))
    except (Unreadable, OverflowError):
        return False
    return other != 0 and abs(one / other - 1) < 1e-3


def _failed_roots(links: Sequence[Link], before: Sequence[Link]) -> Iterator[Suspicion]:
    """Claims ``x = 3`` that fail the equation in x right before them."""
    equations = [link for link in before if _equation_in_one(link)][-1:]
    for link in links:
        letter = _assigned(link)
        if letter is None:
            if _equation_in_one(link):
                equations.append(link)
            continue
        last = next((e for e in reversed(equations) if _letter_of(e) == letter), None)
        if last is None or (last.chain == link.chain and last in links):
            continue
        if _satisfies(last, letter, link.other) is False:
            cause = f"${link.text}$ does not satisfy ${last.text}$."
            yield Suspicion(0.75, cause, link)


def _drifts(links: Sequence[Link]) -> Iterator[Suspicion]:
    """Two linear equations in one letter, one right after the other, that have different roots."""
    equations = [link for link in links if _equation_in_one(link)]
    for one, two in zip(equations, equations[1:], strict=False):
        if _letter_of(one) != _letter_of(two):
            continue
        first, second = _root(one), _root(two)
        if first is not None and second is not None and not close(first, second, tolerance=1e-3):
            cause = (
                f"${two.text}$ does not follow from ${one.text}$: the first gives ${_letter_of(one)} = "
                f"{shown(first)}$, the second ${_letter_of(two)} = {shown(second)}$."
            )
            yield Suspicion(0.72, cause, two)


def _letter_of(link: Link) -> str:
    return next(iter(link.one.letters() | link.other.letters()), "")


def _equation_in_one(link: Link) -> bool:
    """Whether it is a condition on one letter, and not just its value."""
    if link.sign != "=" or UNREAD in (link.one, link.other) or link.modulus is not None:
        return False
    if units_of(link.left) or units_of(link.right):
        return False
    letters = link.one.letters() | link.other.letters()
    return (
        len(letters) == 1 and not letters & {"i", "e"} and _assigned(link) is None and check(link) == "open"
    )


def _assigned(link: Link) -> str | None:
    """The letter that the relation gives a value to: ``x = 3``."""
    if link.sign != "=" or link.other is UNREAD:
        return None
    if link.one.kind == "letter" and not link.other.letters() - {"i"}:
        return link.one.name
    return None


def _satisfies(equation: Link, letter: str, value: Node) -> bool | None:
    try:
        known = {letter: evaluate(value)}
        one, other = evaluate(equation.one, known), evaluate(equation.other, known)
    except Unreadable:
        return None
    return close(one, other, tolerance=2e-2)


def _root(equation: Link) -> Number | None:
    """The root of a linear equation in one letter, None for any other equation."""
    letter = _letter_of(equation)
    gaps: list[tuple[Number, Number]] = []
    for x in (Fraction(0), Fraction(1), Fraction(7, 2)):
        try:
            one, other = evaluate(equation.one, {letter: x}), evaluate(equation.other, {letter: x})
        except Unreadable:
            return None
        if isinstance(one, complex) or isinstance(other, complex):
            return None
        gap: Number = one - other
        gaps.append((x, gap))
    base, slope = gaps[0][1], gaps[1][1] - gaps[0][1]
    if not close(base + slope * gaps[2][0], gaps[2][1]) or close(slope, Fraction(0)):
        return None
    return -base / slope
