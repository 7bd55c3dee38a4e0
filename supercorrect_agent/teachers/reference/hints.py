"""What a learner should watch for in a step of arithmetic.

Rules on the step's operations, its words and those of the question that share its numbers; the first rule
that applies writes the Key, and a step to which none applies is easy and has none.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from supercorrect_agent.teachers.reference.cues import (
    AVERAGE,
    EACH,
    FRACTION,
    LEFT,
    LESS,
    LESS_PERCENT,
    MORE,
    MORE_PERCENT,
    PERCENT,
    RATIO,
    Case,
    read_case,
)
from supercorrect_agent.teachers.reference.lines import Line

_UNITS = {
    ("60", "minute"): ("60 minutes make an hour", "minutes and hours"),
    ("60", "second"): ("60 seconds make a minute", "seconds and minutes"),
    ("24", "hour"): ("a day has 24 hours", "hours and days"),
    ("7", "week"): ("a week has 7 days", "days and weeks"),
    ("52", "year"): ("a year has 52 weeks", "weeks and years"),
    ("12", "year"): ("a year has 12 months", "months and years"),
    ("12", "inch"): ("a foot has 12 inches", "inches and feet"),
    ("12", "foot"): ("a foot has 12 inches", "inches and feet"),
    ("12", "feet"): ("a foot has 12 inches", "inches and feet"),
    ("12", "dozen"): ("a dozen is 12", "pieces and dozens"),
    ("3", "yard"): ("a yard has 3 feet", "feet and yards"),
    ("16", "ounce"): ("a pound has 16 ounces", "ounces and pounds"),
    ("100", "cent"): ("a dollar has 100 cents", "cents and dollars"),
    ("1000", "kilo"): ("a kilogram has 1000 grams, and a kilometer 1000 meters", "small and large units"),
    ("365", "year"): ("a year has 365 days", "days and years"),
}


def line_key(question: str, line: Line, *, last: bool, used: set[str]) -> str | None:
    """The Key of a step: what is easy to get wrong in it, None where nothing is.

    Args:
        question: The problem's question, whose words tell what the step's numbers are.
        line: The step.
        last: Whether it is the last step.
        used: The Keys of earlier steps, which are not said again; the new one is added.
    """
    case = replace(read_case(question, line, last), used=frozenset(used))
    key = next((text for rule in _RULES if (text := rule(case)) is not None), None)
    used |= {key} if key else set()
    return key


def _percent(case: Case) -> str | None:
    operators = case.line.operators
    found = PERCENT.search(case.line.text) or (
        PERCENT.search(case.words) if set(case.line.numbers) & {"100", *_decimals(case.words)} else None
    )
    if found is None or not set(operators) & {"*", "/", "+", "-"}:
        return None
    rate = found[1]
    base = next(
        (n for n in case.line.numbers if n not in ("100", rate) and not n.startswith(("0.", "."))), ""
    )
    of = f"of {base}" if base else "of the whole"
    if set(operators) & {"*", "/"} and case.has(MORE_PERCENT):
        return case.says(
            f"{rate}% is taken {of}, the amount before the change, and then added to it.",
            f"The {rate}% is only the extra part; the new amount is the old one plus that part.",
            f"Write {rate}% as a part of 100 first. It is counted from the old amount, not from the new one.",
        )
    if set(operators) & {"*", "/"} and case.has(LESS_PERCENT):
        return case.says(
            f"{rate}% is what goes away {of}; what stays is the rest of the 100%.",
            f"Take {rate}% of the amount before the change. The part taken off is not yet what remains.",
            f"Do not mix up the part that is taken off ({rate}%) with the part that stays.",
        )
    if set(operators) & {"*", "/"}:
        return case.says(
            f"{rate}% means {rate} out of every 100, and here it is counted {of}.",
            f"Turn {rate}% into a fraction of 100 before multiplying, and ask which whole it is a part of.",
            f"A percent always belongs to a whole: {rate}% {of}, not of another amount in the story.",
        )
    return case.says(
        f"Percents of one whole may be added or taken from 100%, as in {case.line.expression}.",
        "All the parts of one whole make 100%, so the part that is left is what 100% still needs.",
    )


def _decimals(words: str) -> set[str]:
    rates = [float(found[1]) / 100 for found in PERCENT.finditer(words)]
    shown = {f"{value:g}" for rate in rates for value in (rate, 1 - rate, 1 + rate)}
    return shown | {value.removeprefix("0") for value in shown} | {f"{float(v):.2f}" for v in shown}


def changes_unit(case: Case) -> tuple[str, str, str] | None:
    """The factor, the fact and the two units of a step that goes from one unit to another."""
    for (factor, unit), (fact, pair) in _UNITS.items():
        if factor in case.line.numbers and set(case.line.operators) & {"*", "/"}:
            told = re.search(rf"(?<![\d.]){factor}(?![\d.])", case.question)
            if told is None and re.search(rf"\b{unit}", case.line.text, re.I):
                return factor, fact, pair
    return None


def _units(case: Case) -> str | None:
    change = changes_unit(case)
    if change is None:
        return None
    factor, fact, pair = change
    down = case.line.expression.replace(" ", "").endswith(f"/{factor}")
    way = "divides" if down else "multiplies"
    return case.says(
        f"The units change here: {fact}. Going between {pair} {way} by {factor}.",
        f"Since {fact}, bring {pair} to one unit before going on; this step {way} by {factor}.",
    )


def _unknown(case: Case) -> str | None:
    if not case.line.unknown or (
        re.search(r"\b(?:let|be the|represent)\b", case.line.text, re.I) is None
        and ("=" not in case.line.text)
    ):
        return None
    if re.search(r"\blet\b|\bbe the\b|represent", case.line.text, re.I):
        return case.says(
            "Say exactly what the letter counts before using it; every other amount is then written with it.",
            "Name the amount that the other amounts are compared with, because the rest follows from it.",
        )
    if re.search(r"\d?[a-zA-Z]\s*[+-]\s*\(?\d*[a-zA-Z]\b", case.line.text):
        return case.says(
            "Terms with the letter are gathered by adding how many times it occurs; plain "
            "numbers stay apart.",
            "Count the letter once for every amount that contains it, a bare letter counting as one.",
        )
    return case.says(
        "What is done to one side of the equation must be done to the other side too.",
        "Undo the operations around the letter in reverse order, the same on both sides.",
        "A number that changes sides changes its operation: plus turns into minus, times into divided by.",
    )


def _average(case: Case) -> str | None:
    if (
        not case.has(AVERAGE)
        or "/" not in case.line.operators
        or re.search("average|mean", case.line.text) is None
    ):
        return None
    count = case.line.numbers[-1]
    return case.says(
        f"An average divides the total of all values by how many there are ({count}).",
        f"Add everything first and divide once at the end, by the number of values, {count}.",
    )


def _ratio(case: Case) -> str | None:
    if not case.has(RATIO) or not case.line.operators:
        return None
    return case.says(
        "In a ratio the total has as many parts as all its terms together; find the size of one part first.",
        "A term of a ratio is a number of equal parts and not yet an amount.",
        "Ask which group each term of the ratio belongs to, since their order matters.",
    )


def _precedence(case: Case) -> str | None:
    kinds = set(case.line.operators)
    if len(case.line.operators) < 2 or not (kinds & {"*", "/"} and kinds & {"+", "-"}):
        return None
    expression = case.line.expression
    if "(" in expression:
        return case.says(
            f"Work out the bracket first: {expression} changes its value without it.",
            "The bracket keeps together what belongs together, so its value comes before the rest.",
        )
    product = re.search(r"[\d.,]+\s*[*/]\s*[\d.,]+", expression)
    first = product[0].strip() if product else "the product"
    return case.says(
        f"Multiply and divide before adding and subtracting: {first} comes first.",
        f"Here {first} is one amount of its own; find it before it is added or taken away.",
    )


def _times(case: Case) -> str | None:
    if len(case.line.operators) != 1 or case.line.operators[0] not in "*/" or not case.scales():
        return None
    factor, other = case.line.numbers[-1], case.line.numbers[0]
    if "/" in case.line.operators:
        if re.search(r"times|twice|double|triple", case.line.text, re.IGNORECASE) is None:
            return None
        return case.says(
            f'Here the larger amount is known, so "{factor} times as many" is undone by dividing.',
            f"Ask which amount is the larger one: going from it to the smaller one divides by {factor}.",
        )
    return case.says(
        f'"{factor} times as many" multiplies the amount it is compared with, {other}; it does not add.',
        f'The comparison starts from what stands after "as" or "than": that amount, {other}, is multiplied.',
        f"This is a comparison by multiplying: {case.line.expression}, not a sum of the two numbers.",
    )


def _whole(case: Case) -> str | None:
    fractions = [(int(up), int(low)) for up, low in FRACTION.findall(case.line.expression)]
    from_one = re.search(r"(?<![\d.])1\s*-\s*\(?\d+/\d+", case.line.expression) is not None
    if "-" not in case.line.operators or not (from_one or any(up == low for up, low in fractions)):
        return None
    return case.says(
        "The whole is 1, written with the same lower number; what is left is the whole less the part.",
        "Only the upper numbers are subtracted; the lower number says into how many parts the whole is cut.",
    )


def _halves(case: Case) -> bool:
    return "2" in case.line.numbers[-1:] and "half" in case.words.lower()


def _part(case: Case) -> str | None:
    if not set(case.line.operators) & {"*", "/"} or not case.takes_part():
        return None
    if _halves(case) and len(case.line.operators) == 1:
        whole = case.line.numbers[0]
        return case.says(
            f"Half of {whole} means dividing by 2; be sure that {whole} is the amount the half is taken of.",
            f'"Half" divides the amount that stands behind "of" or "as", here {whole}, by 2.',
        )
    if case.has(LEFT):
        return case.says(
            "A fraction of what is left is taken of the rest and not of the amount at the beginning.",
            "Keep apart the fraction that is used up and the fraction that stays; together "
            "they make the whole.",
        )
    return case.says(
        "A fraction of an amount multiplies: divide by the lower number and multiply by the upper one.",
        "Ask which whole the fraction is counted from before multiplying.",
    )


def _share(case: Case) -> str | None:
    if "/" not in case.line.operators:
        return None
    found = re.search(r"([\d.,]+)\)?\s*/\s*\(?([\d.,]+)", case.line.expression)
    if found is None:
        return None
    whole, parts = found[1], found[2]
    if case.last and re.search(
        r"how many (?:\w+ ){0,4}(?:boxes|trips|packs|bags|days|buses|weeks)", case.question
    ):
        return case.says(
            f"Dividing {whole} by {parts} asks how many times {parts} fits into {whole}.",
            f"The order counts: the total {whole} is divided by the size of one group, {parts}.",
        )
    return case.says(
        f"The amount that is split, {whole}, goes first; {parts} tells into how many parts or of what size.",
        f"Divide {whole} by {parts} and not the other way round, because {whole} is the total.",
        f"Check a division by multiplying back: the result times {parts} must give {whole}.",
    )


def _compare(case: Case) -> str | None:
    operators = case.line.operators
    if len(operators) != 1 or operators[0] not in "+-":
        return None
    one, two = case.line.numbers[0], case.line.numbers[-1]
    if operators[0] == "+" and case.has(MORE):
        return case.says(
            f'A "more than" comparison adds to the smaller amount: {two} on top of {one}.',
            'The words after "than" name the smaller amount, so the difference is added to it.',
            f"The difference alone is not yet the larger amount; add it to {one}.",
        )
    if operators[0] == "-" and case.has(LESS):
        return case.says(
            f'A "less than" comparison takes away from the larger amount: {one} less {two}.',
            'The words after "than" name the larger amount, so the difference is taken from it.',
        )
    if operators[0] == "-" and case.has(MORE):
        return case.says(
            f"To compare two amounts take the smaller one from the larger one: {one} less {two}.",
            f'"How much more" asks for the difference between {one} and {two}, not for their sum.',
        )
    return None


def _left(case: Case) -> str | None:
    operators = case.line.operators
    if "-" not in operators or not case.has(LEFT):
        return None
    one, rest = case.line.numbers[0], case.line.numbers[1:]
    if len(operators) > 1:
        return case.says(
            f"Everything that is gone must be taken away from {one}, each amount once.",
            f"Start from the whole, {one}, and take away all that was used, not only the last part.",
        )
    return case.says(
        f"What is left is the whole, {one}, less what is gone, {rest[0]}; the question asks for the rest.",
        f"Take {rest[0]} away from {one}, the amount there was just before, not from an earlier one.",
        f"Be clear about which number is used up ({rest[0]}) and which one remains.",
    )


def _rate(case: Case) -> str | None:
    if "*" not in case.line.operators or not case.has(EACH):
        return None
    if len(case.line.operators) > 1:
        return case.says(
            f"Every factor of {case.line.expression} counts something else; use each of them once.",
            "Read the product from left to right and say what each number counts before multiplying.",
        )
    one, two = case.line.numbers[0], case.line.numbers[-1]
    if re.search(r"\beach\b|\bevery\b|\bper\b", case.words, re.I) is None:
        return None
    return case.says(
        f'The word "each", "every" or "per" calls for multiplying: {one} times {two}, not {one} plus {two}.',
        f"One of {one} and {two} is the amount for a single one, the other tells how many there are.",
        "An amount for one becomes an amount for all by multiplying with how many there are.",
    )


def _many(case: Case) -> str | None:
    if len(case.line.operators) < 2:
        return None
    count = len(case.line.operators) + 1
    if set(case.line.operators) == {"+"}:
        return case.says(
            f"There are {count} amounts to add; tick each one off so that none is left out or counted twice.",
            f"Before adding, check that all {count} numbers count the same kind of thing.",
        )
    if "-" in case.line.operators:
        return case.says(
            f"Work from left to right: {case.line.expression} has a minus before each amount that goes away.",
            "Mind the signs: what comes in is added, what goes out is taken away.",
        )
    return case.says(
        f"Multiply step by step from left to right; {count} numbers take part.",
        "Say what each factor counts, so that none is forgotten.",
    )


_RULES: tuple[Callable[[Case], str | None], ...] = (
    _percent, _units, _average, _ratio, _whole, _precedence, _unknown, _compare, _times,
    _part, _left, _share, _rate, _many,
)  # fmt: skip
