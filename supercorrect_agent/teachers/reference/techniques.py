"""How problems of a kind are solved: the techniques that a solution in LaTeX prose names or shows."""

from __future__ import annotations

import re
from collections.abc import Sequence

from supercorrect_agent.teachers.reference.wording import listed, pick

_I = re.IGNORECASE

_TECHNIQUES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(cue, _I | re.DOTALL), phrase)
    for cue, phrase in (
        (r"complet\w+ the square", "complete the square"),
        (
            r"vieta|(?:sum|product) of the (?:roots|zeros)",
            "read sums and products of the roots from the coefficients",
        ),
        (r"quadratic formula|discriminant", "use the quadratic formula or its discriminant"),
        (
            r"difference of (?:two )?squares|difference of cubes|sum of cubes",
            "use a known factoring identity",
        ),
        (
            r"factor(?:s|ed|ing|ise|ize|izes)\b (?!of)|factor out|factors as",
            "factor, and look at each factor",
        ),
        (r"substitut|plugging|plug in", "substitute what is known into what is asked"),
        (
            r"eliminat|(?:add|subtract)\w* .{0,40}equations?",
            "combine the equations so that one unknown drops out",
        ),
        (r"squar(?:e|ing) both sides|extraneous", "square to remove the roots and test the candidates"),
        (
            r"\bcases\b|\b(?:each|one|first|second|other) case\b|\bcase \$?\d",
            "split into cases that cover everything",
        ),
        (r"complement|at least one", "count the opposite and take it from the whole"),
        (r"\\d?binom|choose|combination", "count choices by binomial coefficients"),
        (r"permutation|arrange|\d!|ways to", "count the possibilities for each place and multiply"),
        (r"probabilit", "divide the favourable outcomes by all of them"),
        (r"expected value", "weigh every value by its probability and add"),
        (r"\\pmod|\\bmod|\bmod(?:ulo)?\b|remainder|congruen", "work with remainders"),
        (r"\bbase[- $]*\d|(?<!\w)\d+_\{?\d+\}?", "write out the place values of the base"),
        (r"prime fact|divisor|divisib|gcd|lcm|greatest common|least common", "look at the prime factors"),
        (r"units digit|cycle|repeat|pattern|period", "find the pattern that repeats and where it stands"),
        (r"telescop", "write the sum so that neighbouring terms cancel"),
        (r"geometric (?:series|sequence)|common ratio", "find the first term and the common ratio"),
        (
            r"arithmetic (?:series|sequence)|common difference",
            "find the first term and the common difference",
        ),
        (r"\\log|logarithm", "bring the logarithms to one base and use their rules"),
        (r"triangle inequality", "use that two sides of a triangle exceed the third"),
        (
            r"AM-GM|Cauchy|maxim|minim|greatest possible|least possible|largest possible|smallest possible",
            "bound the expression and say when the bound is reached",
        ),
        (r"similar", "find similar figures and compare corresponding sides"),
        (r"pythag|right triangle|hypotenuse", "use the Pythagorean theorem in a right triangle"),
        (r"law of (?:co)?sines", "relate sides and angles by the law of sines or cosines"),
        (
            r"double.angle|half.angle|sum.to.product|product.to.sum|angle addition",
            "rewrite by an identity for angles",
        ),
        (r"\\(?:sin|cos|tan)", "use the values and identities of the trigonometric functions"),
        (r"\\angle|\^\\circ", "chase the angles through the figure"),
        (r"power of a point|tangent|inscribed|chord|arc\b", "use the theorems about circles"),
        (r"radius|circumference|circle", "go through the radius of the circle"),
        (r"\barea\b", "find the area in two ways or from its parts"),
        (r"volume", "find the volume from base and height"),
        (r"midpoint|distance between|distance formula|coordinate", "use coordinates"),
        (r"\bslopes?\b", "compare slopes"),
        (r"vertex|parabola", "find the vertex"),
        (r"ellipse|hyperbola|focus|foci", "bring the curve to its standard form"),
        (r"dot product|cross product|projection", "use products of vectors"),
        (r"determinant|matrix|pmatrix", "calculate with matrices entry by entry"),
        (
            r"conjugate|complex|imaginary|roots of unity|\bcis\b",
            "treat real and imaginary parts, or length and angle, apart",
        ),
        (
            r"remainder theorem|polynomial|long division|degree \$?\d|coefficient",
            "compare the coefficients of polynomials",
        ),
        (r"partial fraction", "split into partial fractions"),
        (r"symmetr", "use the symmetry"),
        (r"inverse", "undo the function by its inverse"),
        (r"domain|range|denominator|undefined", "ask where the expression is defined"),
        (r"inequalit|\\[lg]eq?\b", "solve the inequality and mind its ends"),
        (r"\baverage|\bmedian\b|\bmean of\b|arithmetic mean", "go from averages to sums"),
        (r"percent|\\%", "turn percents into parts of their whole"),
        (r"ratio|proportion", "set up a proportion"),
        (r"rate|per hour|mph|speed", "use that amount is rate times time"),
        (r"\\ldots|\\dots|list|between", "list the values in order and count them"),
        (r"\blet \$", "name the unknown and write the conditions as equations"),
        (r"simplif|combin\w+ like terms|distribut|expand", "expand and collect like terms"),
        (r"exponent|power of|\^\{?\w+\}?\s*=", "write everything as powers of one base"),
        (r"\\sqrt|radical", "take square factors out of the roots"),
        (r"\\d?frac", "bring the fractions together and reduce"),
        (r"solv", "solve the equation for the unknown"),
        (r"=", "calculate in small steps, one operation at a time"),
    )
)

_AIMS = (
    (r"how many|number of", "a count"),
    (r"probability", "a probability"),
    (r"area|volume", "an area or volume"),
    (r"\bangles?\b|degrees", "an angle"),
    (r"distance|length|perimeter|radius|diameter|how (?:far|long)", "a length"),
    (r"remainder|modulo|units digit", "a remainder or last digit"),
    (r"largest|greatest|maximum|smallest|least|minimum", "a greatest or least value"),
    (r"simplify|expand|factor\b|express", "a simpler form"),
    (r"sum of|\\sum", "a sum"),
    (r"product of", "a product"),
    (r"solve|root|solution|all (?:real|values|numbers)|value of \$?[a-z]\b", "unknown values"),
    (r"equation of|function|f\(", "a function or an equation"),
    (r"percent|average|\bmean\b|median", "an average or a share"),
)


def prose_summary(question: str, texts: Sequence[str]) -> str:
    """How problems of this kind are solved: the techniques that the steps name, in order, at most four."""
    phrases: list[str] = []
    for text in texts:
        for cue, phrase in _TECHNIQUES[:-2]:
            if cue.search(text) is not None and phrase not in phrases:
                phrases.append(phrase)
                break
    if not phrases:
        phrases = [next((p for cue, p in _TECHNIQUES if cue.search(" ".join(texts))), "read what is asked")]
    if len(phrases) > 4:
        phrases = [*phrases[:2], *phrases[-2:]]
    asked = re.split(r"(?<=[.!?])\s+", question.strip())[-1].lower()
    aim = next((aim for cue, aim in _AIMS if re.search(cue, asked)), "a value")
    head = pick((f"To find {aim}, ", f"For problems about {aim}, ", f"When {aim} is asked for, "), question)
    tail = pick(
        (
            "Then check the result against all the conditions.",
            "At the end, make sure that the result is what was asked.",
            "Each step should follow from the one before by a single rule.",
            "Look at the sign and the size of the result before giving it.",
            "Test the result in the problem itself where that is possible.",
        ),
        question[::-1],
    )
    return f"{head}{listed(phrases)}. {tail}"
