"""What to watch for in a step of LaTeX prose, and the techniques that a solution uses, from its own words.

Tables of cues: the first cue that a step shows and that no step before it has used writes its Key; the cues
of all steps, in order, write the Generalized.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from supercorrect_agent.teachers.reference.wording import listed, pick

_I = re.IGNORECASE

_KEYS: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = tuple(
    (re.compile(cue, _I | re.DOTALL), phrasings)
    for cue, phrasings in (
        (r"extraneous|squar(?:e|ing) both sides|both sides (?:are )?squared", (
            "Squaring both sides can bring in roots that the first equation does not have, so test every root in it.",
            "After squaring, a root is only a candidate; put it back into the equation you started from.",
        )),
        (r"complet\w+ the square", (
            "What is added inside the bracket to complete the square must be taken away again, times the factor in front.",
            "Half of the middle coefficient, squared, completes the square; keep both sides in balance.",
        )),
        (r"vieta|sum of the (?:roots|zeros|solutions)|product of the (?:roots|zeros|solutions)", (
            "The sum of the roots has a minus sign: minus the second coefficient over the leading one.",
            "Signs alternate between the coefficients and the sums and products of the roots.",
        )),
        (r"\\pm|positive (?:square )?root|negative (?:square )?root|(?:must|since \$?\w\$? is) (?:be )?(?:positive|negative)", (
            "A square root can have either sign; decide which sign fits the conditions before going on.",
            "Both signs solve the squared equation. A condition of the problem must say which one to keep.",
        )),
        (r"discriminant|quadratic formula", (
            "Read off the three coefficients with their signs before putting them into the formula.",
            "The sign of the discriminant tells how many real roots there are, so work it out with care.",
        )),
        (r"absolute value|\\left\s*\||\|[^|$]{1,30}\|\s*[=<>\\]", (
            "An absolute value has two cases, one for each sign of what stands inside it.",
            "Drop the bars only after saying which sign the inside has.",
        )),
        (r"\bcases?\b", (
            "The cases must cover everything and must not overlap; work each one out to its end.",
            "Check that no case is missing and that none is counted twice.",
        )),
        (r"overcount|counted twice|double.?count|divide by .{0,30}(?:because|since|for|to account)|indistinguish|identical", (
            "The same arrangement has been counted several times; divide by how often each one occurs.",
            "Ask how many of the counted ways are really the same one.",
        )),
        (r"complement|at least one|none of|1\s*-\s*(?:P|\\frac|\\left)", (
            "Counting the opposite is shorter here; take it away from all the possibilities at the end.",
            "The opposite of \"at least one\" is \"none\", not \"exactly one\".",
        )),
        (r"\\binom|\\dbinom|choose|combination", (
            "Order does not matter in a choice, so arrangements of the same choice count once.",
            "Make sure that the order of the chosen things plays no part before using a binomial coefficient.",
        )),
        (r"permutation|arrange|\d!|factorial|ways to (?:order|place|seat|pick)", (
            "Here the order counts; after each choice there are fewer possibilities for the next one.",
            "Multiply the number of choices for each place, and lower it for what is already used.",
        )),
        (r"probabilit", (
            "Favourable and possible outcomes must be counted in the same way, both with order or both without.",
            "A probability is the share of the favourable outcomes, provided that all outcomes are equally likely.",
        )),
        (r"\\pmod|\\bmod|\bmod(?:ulo)?\b|remainder|congruen|\\equiv", (
            "Only remainders matter here; reduce after every operation, and do not divide by a number that shares a factor with the modulus.",
            "Numbers with the same remainder may replace each other in sums and products, but not in exponents.",
        )),
        (r"\bbase\b|_\{?\d\}?\s*=", (
            "Every digit counts the power of the base that belongs to its place, starting with the power zero on the right.",
            "Do not read a number in another base as a decimal number; convert it digit by digit.",
        )),
        (r"divisib|divisor|prime fact|factor(?:s|iz\w+) of|multiple of|gcd|lcm|greatest common|least common", (
            "Write the numbers as products of primes; the exponents decide what divides what.",
            "Mind the difference between a divisor of a number and a multiple of it.",
        )),
        (r"only if|if and only if|necessary", (
            "The condition must hold in both directions: it has to be needed and it has to be enough.",
            "A value that follows from the condition must still be checked in the condition.",
        )),
        (r"inequalit|\\(?:le|ge)q?\b|[<>]", (
            "Multiplying or dividing an inequality by a negative number turns its sign around.",
            "Watch whether the ends of the range belong to it, because the sign may allow equality.",
        )),
        (r"\\log|logarithm|\\ln", (
            "A logarithm needs a positive argument; sums of logarithms are logarithms of products.",
            "Write all logarithms with one base before combining them.",
        )),
        (r"\\(?:sin|cos|tan|cot|sec|csc)|\\theta", (
            "The quadrant of the angle decides the sign of its sine and cosine.",
            "Check whether angles are in degrees or radians, and in which quadrant they lie.",
        )),
        (r"similar|\\sim|proportion", (
            "Corresponding sides must be paired in the same order; areas change with the square of the ratio.",
            "Write the proportion with corresponding sides, both times in the same order.",
        )),
        (r"pythag|right triangle|hypotenuse", (
            "The longest side lies opposite the right angle, and it alone stands on its side of the theorem.",
            "Squares of the legs are added, and the root is taken at the end.",
        )),
        (r"\\angle|\^\\circ|degree", (
            "Say which angles are equal and why before adding them up.",
            "Angles of a triangle make 180 degrees; check whether an angle lies inside or outside of the figure.",
        )),
        (r"radius|diameter|circle|sphere|\\pi r", (
            "Keep radius and diameter apart: one is half of the other, and its square is a quarter.",
            "The area grows with the square of the radius and the circumference with the radius itself.",
        )),
        (r"\barea\b|volume|surface", (
            "Areas multiply two lengths and volumes three, so a change of scale enters squared or cubed.",
            "Use the height that is perpendicular to the chosen base.",
        )),
        (r"(?:^|[^a-z\\])i\^2|complex|conjugate|imaginary", (
            "Replace the square of the imaginary unit by minus one, which changes a sign.",
            "Treat real and imaginary parts apart; they must agree one by one.",
        )),
        (r"pmatrix|vector|\\mathbf|determinant|matrix", (
            "The order of factors matters for matrices; go row by column.",
            "Work entry by entry and mind the signs.",
        )),
        (r"telescop|geometric (?:series|sequence)|arithmetic (?:series|sequence)|common (?:ratio|difference)", (
            "Count the terms with care: from the first to the last there is one more than the number of gaps.",
            "Find the first term, the common step and the number of terms before using a formula.",
        )),
        (r"domain|undefined|denominator", (
            "A denominator must not be zero, so some values have to be left out.",
            "Note for which values the expression is defined before changing it.",
        )),
        (r"slope|parallel|perpendicular|y-intercept", (
            "Slopes of perpendicular lines multiply to minus one, and parallel lines share one slope.",
            "The slope is the change upwards over the change to the right, in the same order of points.",
        )),
        (r"factor(?:s|ed|ing|ise|ize|izes)?\b", (
            "Multiply the factors out again to check the signs of the factoring.",
            "A product is zero exactly when one of its factors is zero, so look at every factor.",
        )),
        (r"substitut|plugging|plug in", (
            "Put the value in brackets when it replaces a letter, so that signs and powers stay right.",
            "Replace the letter everywhere it occurs, not only once.",
        )),
        (r"subtract\w* .{0,40}equation|add\w* .{0,40}equations|eliminat", (
            "When two equations are subtracted, every sign of the second one changes.",
            "Choose the multiples so that one letter drops out, and do the same on both sides.",
        )),
        (r"-\s*\(|-\s*\\left\s*\(", (
            "The minus in front of a bracket changes every sign inside it.",
            "Take away the whole bracket: each of its terms changes its sign.",
        )),
        (r"percent|\\%", (
            "A percent belongs to a whole; name that whole before multiplying.",
            "After a change the percent is counted from the old amount.",
        )),
        (r"\\sqrt", (
            "Only a factor that is a perfect square can leave the root; a sum cannot be split under it.",
            "A root of a product splits into roots, a root of a sum does not.",
        )),
        (r"\^\{?-|\^\{[^}]*[-+/][^}]*\}|exponent", (
            "Exponents add when equal bases are multiplied, and multiply when a power is raised.",
            "A negative exponent turns the base over and leaves its sign alone.",
        )),
        (r"\\d?frac\{[^{}]*\}\{[^{}]*\}\s*(?:\\div|[-+/]|\\cdot|\\times)", (
            "Bring fractions to one denominator before adding; multiply them straight across.",
            "Dividing by a fraction multiplies by the fraction turned over.",
        )),
        (r"average|mean|median", (
            "An average times the number of values gives their sum, and the sum is what can be worked with.",
            "Put the values in order before looking for the middle one.",
        )),
        (r"mph|miles|hour|minute|inch|feet|cent", (
            "Bring all amounts to one unit before combining them.",
            "Carry the units along; they must come out as what the question asks for.",
        )),
        (r"=[^=$]+=[^=$]+=[^=$]+=", (
            "Each equals sign must hold by itself; check the chain link by link.",
            "Write one change a link, so that a slip is easy to find.",
        )),
    )
)  # fmt: skip

_TECHNIQUES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(cue, _I | re.DOTALL), phrase)
    for cue, phrase in (
        (r"complet\w+ the square", "complete the square"),
        (r"vieta|(?:sum|product) of the (?:roots|zeros)", "read sums and products of the roots from the coefficients"),
        (r"quadratic formula|discriminant", "use the quadratic formula or its discriminant"),
        (r"difference of (?:two )?squares|difference of cubes|sum of cubes", "use a known factoring identity"),
        (r"factor(?:s|ed|ing|ise|ize|izes)\b (?!of)|factor out|factors as", "factor, and look at each factor"),
        (r"substitut|plugging|plug in", "substitute what is known into what is asked"),
        (r"eliminat|(?:add|subtract)\w* .{0,40}equations?", "combine the equations so that one unknown drops out"),
        (r"squar(?:e|ing) both sides|extraneous", "square to remove the roots and test the candidates"),
        (r"\bcases?\b", "split into cases that cover everything"),
        (r"complement|at least one", "count the opposite and take it from the whole"),
        (r"\\d?binom|choose|combination", "count choices by binomial coefficients"),
        (r"permutation|arrange|\d!|ways to", "count the possibilities for each place and multiply"),
        (r"probabilit", "divide the favourable outcomes by all of them"),
        (r"expected value", "weigh every value by its probability and add"),
        (r"\\pmod|\\bmod|\bmod(?:ulo)?\b|remainder|congruen", "work with remainders"),
        (r"\bbase\b", "write out the place values of the base"),
        (r"prime fact|divisor|divisib|gcd|lcm|greatest common|least common", "look at the prime factors"),
        (r"units digit|cycle|repeat|pattern|period", "find the pattern that repeats and where it stands"),
        (r"telescop", "write the sum so that neighbouring terms cancel"),
        (r"geometric (?:series|sequence)|common ratio", "find the first term and the common ratio"),
        (r"arithmetic (?:series|sequence)|common difference", "find the first term and the common difference"),
        (r"\\log|logarithm", "bring the logarithms to one base and use their rules"),
        (r"triangle inequality", "use that two sides of a triangle exceed the third"),
        (r"AM-GM|Cauchy|maxim|minim|greatest possible|least possible|largest possible|smallest possible",
         "bound the expression and say when the bound is reached"),
        (r"similar", "find similar figures and compare corresponding sides"),
        (r"pythag|right triangle|hypotenuse", "use the Pythagorean theorem in a right triangle"),
        (r"law of (?:co)?sines", "relate sides and angles by the law of sines or cosines"),
        (r"double.angle|half.angle|sum.to.product|product.to.sum|angle addition", "rewrite by an identity for angles"),
        (r"\\(?:sin|cos|tan)", "use the values and identities of the trigonometric functions"),
        (r"\\angle|\^\\circ", "chase the angles through the figure"),
        (r"power of a point|tangent|inscribed|chord|arc\b", "use the theorems about circles"),
        (r"radius|circumference|circle", "go through the radius of the circle"),
        (r"\barea\b", "find the area in two ways or from its parts"),
        (r"volume", "find the volume from base and height"),
        (r"midpoint|distance between|distance formula|coordinate", "use coordinates"),
        (r"slope|parallel|perpendicular", "compare slopes"),
        (r"vertex|parabola", "find the vertex"),
        (r"ellipse|hyperbola|focus|foci", "bring the curve to its standard form"),
        (r"dot product|cross product|projection", "use products of vectors"),
        (r"determinant|matrix|pmatrix", "calculate with matrices entry by entry"),
        (r"conjugate|complex|imaginary|roots of unity|\bcis\b", "treat real and imaginary parts, or length and angle, apart"),
        (r"remainder theorem|polynomial|long division|degree \$?\d|coefficient", "compare the coefficients of polynomials"),
        (r"partial fraction", "split into partial fractions"),
        (r"symmetr", "use the symmetry"),
        (r"inverse", "undo the function by its inverse"),
        (r"domain|range|denominator|undefined", "ask where the expression is defined"),
        (r"inequalit|\\[lg]eq?\b", "solve the inequality and mind its ends"),
        (r"average|mean|median", "go from averages to sums"),
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
)  # fmt: skip

_AIMS = (
    (r"how many|number of", "a count"),
    (r"probability", "a probability"),
    (r"area|volume", "an area or volume"),
    (r"angle|degrees", "an angle"),
    (r"distance|length|perimeter|radius|diameter|how (?:far|long)", "a length"),
    (r"remainder|modulo|units digit", "a remainder or last digit"),
    (r"largest|greatest|maximum|smallest|least|minimum", "a greatest or least value"),
    (r"simplify|expand|factor\b|express", "a simpler form"),
    (r"sum of|\\sum", "a sum"),
    (r"product of", "a product"),
    (r"solve|root|solution|all (?:real|values|numbers)|value of \$?[a-z]\b", "unknown values"),
    (r"equation of|function|f\(", "a function or an equation"),
    (r"percent|average|mean|median", "an average or a share"),
)
_LEAST_FOR_KEY = 30


def prose_key(text: str, seed: str, used: set[str]) -> str | None:
    """The Key of a step of LaTeX prose, None where no cue shows that it is hard.

    Args:
        text: The step.
        seed: Decides among phrasings, together with the text.
        used: The Keys of earlier steps, which are not said again; the new one is added.
    """
    if len(text) < _LEAST_FOR_KEY:
        return None
    for cue, phrasings in _KEYS:
        if cue.search(text) is not None and used.isdisjoint(phrasings):
            key = pick(phrasings, f"{seed}\n{text}")
            used.add(key)
            return key
    return None


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
