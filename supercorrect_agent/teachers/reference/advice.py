"""What to watch for in a step of LaTeX prose: a table of cues and of what to say to each.

The first cue that a step shows, and that no step before it has used, writes its Key.
"""

from __future__ import annotations

import re

from supercorrect_agent.teachers.reference.wording import pick

_I = re.IGNORECASE

_KEYS: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = tuple(
    (re.compile(cue, _I | re.DOTALL), phrasings)
    for cue, phrasings in (
        (
            r"extraneous|squar(?:e|ing) both sides|both sides (?:are )?squared",
            (
                "Squaring both sides can bring in roots that the first equation does not "
                "have, so test every root in it.",
                "After squaring, a root is only a candidate; put it back into the equation you started from.",
            ),
        ),
        (
            r"complet\w+ the square",
            (
                "What is added inside the bracket to complete the square must be taken "
                "away again, times the factor in front.",
                "Half of the middle coefficient, squared, completes the square; keep both sides in balance.",
            ),
        ),
        (
            r"vieta|sum of the (?:roots|zeros|solutions)|product of the (?:roots|zeros|solutions)",
            (
                "The sum of the roots has a minus sign: minus the second coefficient over the leading one.",
                "Signs alternate between the coefficients and the sums and products of the roots.",
            ),
        ),
        (
            r"\\pm\b|positive (?:square )?root|negative (?:square )?root"
            r"|(?:must|since \$?\w\$? is) (?:be )?(?:positive|negative)",
            (
                "A square root can have either sign; decide which sign fits the conditions before going on.",
                "Both signs solve the squared equation. A condition of the problem must "
                "say which one to keep.",
            ),
        ),
        (
            r"discriminant|quadratic formula",
            (
                "Read off the three coefficients with their signs before putting them into the formula.",
                "The sign of the discriminant tells how many real roots there are, so work it out with care.",
            ),
        ),
        (
            r"absolute value|\\left\s*\||\|[^|$]{1,30}\|\s*[=<>\\]",
            (
                "An absolute value has two cases, one for each sign of what stands inside it.",
                "Drop the bars only after saying which sign the inside has.",
            ),
        ),
        (
            r"\bcases\b|\b(?:each|the|one|other|first|second|last|consider\w*) case\b(?<!in this case)"
            r"|\bcase \$?\d",
            (
                "The cases must cover everything and must not overlap; work each one out to its end.",
                "Check that no case is missing and that none is counted twice.",
            ),
        ),
        (
            r"overcount|counted twice|double.?count|divide by .{0,30}(?:because|since|for|to account)"
            r"|indistinguish|identical",
            (
                "The same arrangement has been counted several times; divide by how often each one occurs.",
                "Ask how many of the counted ways are really the same one.",
            ),
        ),
        (
            r"complement|at least one|none of|1\s*-\s*(?:P|\\frac|\\left)",
            (
                "Counting the opposite is shorter here; take it away from all the possibilities at the end.",
                'The opposite of "at least one" is "none", not "exactly one".',
            ),
        ),
        (
            r"\\binom|\\dbinom|choose|combination",
            (
                "Order does not matter in a choice, so arrangements of the same choice count once.",
                "Make sure that the order of the chosen things plays no part before using "
                "a binomial coefficient.",
            ),
        ),
        (
            r"permutation|arrange|\d!|factorial|ways to (?:order|place|seat|pick)",
            (
                "Here the order counts; after each choice there are fewer possibilities for the next one.",
                "Multiply the number of choices for each place, and lower it for what is already used.",
            ),
        ),
        (
            r"probabilit",
            (
                "Favourable and possible outcomes must be counted in the same way, both "
                "with order or both without.",
                "A probability is the share of the favourable outcomes, provided that all "
                "outcomes are equally likely.",
            ),
        ),
        (
            r"\\pmod|\\bmod|\bmod(?:ulo)?\b|remainder|congruen|\\equiv",
            (
                "Only remainders matter here; reduce after every operation, and do not "
                "divide by a number that shares a factor with the modulus.",
                "Numbers with the same remainder may replace each other in sums and "
                "products, but not in exponents.",
            ),
        ),
        (
            r"\bbase[- $]*\d|base[- ]\w+ (?:number|integer|representation|notation)|(?<!\w)\d+_\{?\d+\}?",
            (
                "Every digit counts the power of the base that belongs to its place, "
                "starting with the power zero on the right.",
                "Do not read a number in another base as a decimal number; convert it digit by digit.",
            ),
        ),
        (
            r"divisib|divisor|prime fact|factors of|gcd|lcm|greatest common|least common",
            (
                "Write the numbers as products of primes; the exponents decide what divides what.",
                "Mind the difference between a divisor of a number and a multiple of it.",
            ),
        ),
        (
            r"only if|if and only if|necessary",
            (
                "The condition must hold in both directions: it has to be needed and it has to be enough.",
                "A value that follows from the condition must still be checked in the condition.",
            ),
        ),
        (
            r"inequalit|\\[lg]eq?\b.{0,60}\\(?:Rightarrow|implies)",
            (
                "Multiplying or dividing an inequality by a negative number turns its sign around.",
                "Watch whether the ends of the range belong to it, because the sign may allow equality.",
            ),
        ),
        (
            r"\bfrom \$?\d+\$? to \$?\d|inclusive|\\[lg]eq?\b[^$]*\\[lg]eq?\b|between \$?-?\d",
            (
                "Count both ends: from one whole number to another there is one more than their difference.",
                "Decide for each end of the range whether it belongs to it.",
            ),
        ),
        (
            r"\\log|logarithm|\\ln",
            (
                "A logarithm needs a positive argument; sums of logarithms are logarithms of products.",
                "Write all logarithms with one base before combining them.",
            ),
        ),
        (
            r"\\(?:sin|cos|tan|cot|sec|csc)\b",
            (
                "The quadrant of the angle decides the sign of its sine and cosine.",
                "Check whether angles are in degrees or radians, and in which quadrant they lie.",
            ),
        ),
        (
            r"similar|\\sim|proportion",
            (
                "Corresponding sides must be paired in the same order; areas change with "
                "the square of the ratio.",
                "Write the proportion with corresponding sides, both times in the same order.",
            ),
        ),
        (
            r"pythag|right triangle|hypotenuse",
            (
                "The longest side lies opposite the right angle, and it alone stands on "
                "its side of the theorem.",
                "Squares of the legs are added, and the root is taken at the end.",
            ),
        ),
        (
            r"\\angle|\^\\circ|\bdegrees\b",
            (
                "Say which angles are equal and why before adding them up.",
                "Angles of a triangle make 180 degrees; check whether an angle lies inside "
                "or outside of the figure.",
            ),
        ),
        (
            r"radius|diameter|circle|sphere|\\pi r",
            (
                "Keep radius and diameter apart: one is half of the other, and its square is a quarter.",
                "The area grows with the square of the radius and the circumference with the radius itself.",
            ),
        ),
        (
            r"\\triangle|triangle",
            (
                "Pick a base and the height perpendicular to it; a slanted side is no height.",
                "Say which triangle is meant and which of its sides and angles are known.",
            ),
        ),
        (
            r"\barea\b|volume|surface",
            (
                "Areas multiply two lengths and volumes three, so a change of scale enters squared or cubed.",
                "Carry square and cubic units along; they show whether lengths, areas or "
                "volumes are being combined.",
            ),
        ),
        (
            r"(?:^|[^a-z\\])i\^2|complex|conjugate|imaginary",
            (
                "Replace the square of the imaginary unit by minus one, which changes a sign.",
                "Treat real and imaginary parts apart; they must agree one by one.",
            ),
        ),
        (
            r"pmatrix|vector|\\mathbf|determinant|matrix",
            (
                "The order of factors matters for matrices; go row by column.",
                "Work entry by entry and mind the signs.",
            ),
        ),
        (
            r"telescop|geometric (?:series|sequence)|arithmetic (?:series|sequence)"
            r"|common (?:ratio|difference)",
            (
                "Count the terms with care: from the first to the last there is one more "
                "than the number of gaps.",
                "Find the first term, the common step and the number of terms before using a formula.",
            ),
        ),
        (
            r"domain|undefined|denominator",
            (
                "A denominator must not be zero, so some values have to be left out.",
                "Note for which values the expression is defined before changing it.",
            ),
        ),
        (
            r"\bslopes?\b",
            (
                "Slopes of perpendicular lines multiply to minus one, and parallel lines share one slope.",
                "The slope is the change upwards over the change to the right, in the same order of points.",
            ),
        ),
        (
            r"factor(?:ed|ing|ise|ize|izes)\b|factors as|we (?:can )?factor\b",
            (
                "Multiply the factors out again to check the signs of the factoring.",
                "A product is zero exactly when one of its factors is zero, so look at every factor.",
            ),
        ),
        (
            r"substitut|plugging|plug in",
            (
                "Put the value in brackets when it replaces a letter, so that signs and powers stay right.",
                "Replace the letter everywhere it occurs, not only once.",
            ),
        ),
        (
            r"subtract\w* .{0,40}equation|add\w* .{0,40}equations|eliminat",
            (
                "When two equations are subtracted, every sign of the second one changes.",
                "Choose the multiples so that one letter drops out, and do the same on both sides.",
            ),
        ),
        (
            r"[^=(&\s{,$]\s*-\s*(?:\\left\s*)?\([^()]*[a-z0-9)]\s*[-+]",
            (
                "The minus in front of a bracket changes every sign inside it.",
                "Take away the whole bracket: each of its terms changes its sign.",
            ),
        ),
        (
            r"percent|\\%",
            (
                "A percent belongs to a whole; name that whole before multiplying.",
                "After a change the percent is counted from the old amount.",
            ),
        ),
        (
            r"=[^=]*[\d}]\s*\\sqrt|\\sqrt\{[^{}]*[-+][^{}]*\}",
            (
                "Only a factor that is a perfect square can leave the root; a sum cannot be split under it.",
                "A root of a product splits into roots, a root of a sum does not.",
            ),
        ),
        (
            r"\^\{?-|\^\{[^}]*[-+/][^}]*\}|exponent",
            (
                "Exponents add when equal bases are multiplied, and multiply when a power is raised.",
                "A negative exponent turns the base over and leaves its sign alone.",
            ),
        ),
        (
            r"\\d?frac\{[^{}]*\}\{[^{}]*\}\s*[-+]\s*\\d?frac",
            (
                "Bring fractions to one denominator before adding; then only the numerators are added.",
                "Each numerator is multiplied by the same number as its denominator.",
            ),
        ),
        (
            r"\\d?frac\{[^{}]*\}\{[^{}]*\}\s*(?:\\cdot|\\times)|\\div\s*\\d?frac",
            (
                "Multiply fractions straight across and cancel common factors first.",
                "Dividing by a fraction multiplies by the fraction turned over.",
            ),
        ),
        (
            r"\baverage|\bmedian\b|\bmean of\b|arithmetic mean|\bmean is\b",
            (
                "An average times the number of values gives their sum, and the sum is "
                "what can be worked with.",
                "Put the values in order before looking for the middle one.",
            ),
        ),
        (
            r"\bmph|miles\bhours?\b|minutes|inches|\bfeet\b|\bcents\b",
            (
                "Bring all amounts to one unit before combining them.",
                "Carry the units along; they must come out as what the question asks for.",
            ),
        ),
        (
            r"=[^=$]+=[^=$]+=[^=$]+=",
            (
                "Each equals sign must hold by itself; check the chain link by link.",
                "Write one change a link, so that a slip is easy to find.",
            ),
        ),
    )
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
