"""What speaks against a step of LaTeX prose by itself: false claims, failed roots, equations that drift."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from supercorrect_agent.teachers.reference.claims import check, is_number
from supercorrect_agent.teachers.reference.equations import (
    assigned,
    common_root,
    degree,
    is_condition,
    is_polynomial,
    letters_of,
    polynomial,
    same_condition,
    satisfies,
)
from supercorrect_agent.teachers.reference.relations import Link, links_of
from supercorrect_agent.teachers.reference.trees import Node, Number, Unreadable, close, evaluate

_DENIES = re.compile(
    r"\bcontradict|impossible|not equal|does not (?:work|hold|equal)|\bis false|\bfails\b|\btry(?:ing)?\b"
    r"|\btest|too (?:small|large|big|low|high)|\bsuppose\b|\bif we\b|no (?:real )?solution",
    re.IGNORECASE,
)
_BRANCHES = re.compile(r"\bcases?\b|\bsuppose|\bassum|\btry|\btest|\beither\b|\bcheck", re.IGNORECASE)
_ANEW = re.compile(
    r"\W*(?:(?:so|we|get|this|which|gives?|giving|simplif\w+|to|or|i\.e|that|is|becomes|expand\w*|rearrang\w+|thus|then"
    r"|equivalent\w*|implies|hence|therefore|combining|like|terms|can|be|rewritten|written|as|have|obtain|yields?"
    r"|Rightarrow|implies|means|left|right|quad|text|the|equation)\W*)+",
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


def suspicions_of(
    steps: Sequence[str], known_equations: frozenset[str], values: Mapping[str, Number], asked: frozenset[str]
) -> list[list[Suspicion]]:
    """What speaks against each step.

    Args:
        steps: The texts of the steps.
        known_equations: Relations of the question and of the reference, written without spaces: true here.
        values: Values of letters that are known to be right.
        asked: The letters of the question, which mean the same everywhere.
    """
    found: list[list[Suspicion]] = []
    before: list[Link] = []
    for text in steps:
        links = links_of(text)
        denied = _DENIES.search(text) is not None
        turns = 0.5 if denied or _BRANCHES.search(text) else 1.0
        mine = list(_false_claims(links, denied))
        turned = [*_failed_roots(links, before), *_drifts(text, links, before)]
        mine += [replace(one, sure=one.sure * turns) for one in turned]
        mine += _misses(links, values, asked)
        found.append([one for one in mine if folded(one.link.text) not in known_equations])
        before = links
    return found


def folded(text: str) -> str:
    """A formula without spaces and sizes of brackets."""
    return re.sub(r"\\(?:left|right|,|;|!|quad)|[\s.$&]", "", text.replace("dfrac", "frac"))


def shown(value: Number) -> str:
    """A value as one writes it in LaTeX."""
    if isinstance(value, Fraction):
        if max(abs(value.numerator), value.denominator) > 10**15:
            return f"{float(value):.4g}" if abs(value) < 1e300 else "a huge number"
        if value.denominator == 1:
            return str(value.numerator)
        sign = "-" if value < 0 else ""
        return f"{sign}\\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"
    if isinstance(value, complex):
        return f"{value.real:.6g}{value.imag:+.6g}i"
    return f"{value:.6g}"


def _false_claims(links: Sequence[Link], denied: bool) -> Iterator[Suspicion]:
    """Relations that are false; the first one of a chain may be meant so where the text denies something."""
    place, chain = 0, -1
    for link in links:
        place = place + 1 if link.chain == chain else 0
        chain = link.chain
        truth = check(link)
        if truth == "false":
            found = _false(link)
            yield replace(found, sure=found.sure / 2) if denied and place == 0 else found
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
        sides = f"${link.left.strip()}$ and ${link.right.strip()}$"
        cause = f"{sides} leave different remainders modulo {link.modulus}."
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
    if _broken_trigonometry(link):
        return 0.7
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


def _broken_trigonometry(link: Link) -> bool:
    """Whether a sum of sines or cosines is said to be a product of some, and is not."""
    kinds = {"*": 0, "+": 0, "-": 0}
    for node in (link.one, link.other):
        if not _calls(node) or node.kind not in kinds:
            return False
        kinds[node.kind] += 1
    return kinds["*"] == 1 and all(_calls(part) for side in (link.one, link.other) for part in _terms(side))


def _terms(node: Node) -> tuple[Node, ...]:
    return node.parts if node.kind in "+-" else ()


def _calls(node: Node) -> bool:
    return node.kind == "call" or any(map(_calls, node.parts))


def _failed_roots(links: Sequence[Link], before: Sequence[Link]) -> Iterator[Suspicion]:
    """Claims ``x = 3`` that fail the last equation in x alone."""
    equations = [link for link in before if is_condition(link)][-1:]
    for link in links:
        letter = assigned(link)
        if letter is None:
            if is_condition(link):
                equations.append(link)
            continue
        last = next((one for one in reversed(equations) if letters_of(one) == {letter}), None)
        if last is None:
            continue
        try:
            value = evaluate(link.other)
        except Unreadable:
            continue
        if satisfies(last, {letter: value}) is False:
            yield Suspicion(0.75, f"${link.text}$ does not satisfy ${last.text}$.", link)


def _drifts(text: str, links: Sequence[Link], before: Sequence[Link]) -> Iterator[Suspicion]:
    """Equations that cannot follow from the ones before them."""
    equations = [link for link in before if is_condition(link)][-1:]
    for link in links:
        if not is_condition(link):
            continue
        letters = letters_of(link)
        alike = [one for one in equations if letters_of(one) == letters]
        previous = equations[-1] if equations else None
        equations.append(link)
        if not alike:
            continue
        if len(letters) == 1:
            if _no_common_root(alike, link, next(iter(letters))):
                yield _drift(alike[-1], link, 0.72)
        elif previous is alike[-1]:
            between = text[previous.end if previous in links else 0 : link.start]
            if _rewritten(between) and _lost(previous, link):
                yield _drift(previous, link, 0.72)


def _misses(
    links: Sequence[Link], values: Mapping[str, Number], asked: frozenset[str]
) -> Iterator[Suspicion]:
    """Equations that the right values do not satisfy."""
    for link in links:
        letters = letters_of(link)
        if not letters or not letters <= set(values) or not (is_condition(link) or assigned(link)):
            continue
        if len(letters) > 1 and not letters <= asked:
            continue
        if satisfies(link, dict(values)) is False:
            if assigned(link):
                cause = f"${link.right.strip()}$ is not the value of ${link.left.strip()}$."
            else:
                right = ", ".join(f"{letter} = {shown(values[letter])}" for letter in sorted(letters))
                cause = f"${link.text}$ cannot hold, because ${right}$ is what the conditions lead to."
            yield Suspicion(0.6 if assigned(link) else 0.7, cause, link)


def _no_common_root(before: Sequence[Link], link: Link, letter: str) -> bool:
    mine = polynomial(link, letter)
    theirs = [polynomial(one, letter) for one in before]
    if mine is None or len(mine) < 2 or None in theirs:
        return False
    return not any(common_root(one, mine) for one in theirs if one)


def _rewritten(between: str) -> bool:
    """Whether the words between two formulas say that the second is the first, written anew."""
    return len(between) < 60 and _ANEW.fullmatch(between) is not None


def _lost(one: Link, other: Link) -> bool:
    sides = (one.one, one.other, other.one, other.other)
    if not all(map(is_polynomial, sides)) or same_condition(one, other) is not False:
        return False
    return max(map(degree, sides[:2])) <= 2 and not _shares_factor(one, other)


def _shares_factor(one: Link, other: Link) -> bool:
    """Whether a factor may have been cancelled: a lower degree everywhere."""
    return max(degree(other.one), degree(other.other)) < max(degree(one.one), degree(one.other)) and not (
        "+" in one.text or "-" in one.text
    )


def _drift(one: Link, two: Link, sure: float) -> Suspicion:
    return Suspicion(sure, f"${two.text}$ does not follow from ${one.text}$.", two)
