"""What a learner should watch for in a step of arithmetic, and how problems of its kind are solved.

Rules on the step's operations, its words and those of the question that share its numbers; the first rule
that applies writes the Key, and a step to which none applies is easy and has none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from supercorrect_agent.teachers.reference.lines import Line
from supercorrect_agent.teachers.reference.wording import listed, pick

_WORDS = {
    "1": "one", "2": "two|twice|double|half|second", "3": "three|triple|thrice|third", "4": "four|quarter|fourth",
    "5": "five|fifth", "6": "six|sixth", "7": "seven|week", "8": "eight|eighth", "9": "nine", "10": "ten|tenth",
    "11": "eleven", "12": "twelve|dozen|year|foot|feet", "24": "day|hour", "60": "hour|minute", "0.5": "half",
    ".5": "half", "0.25": "quarter", ".25": "quarter", "30": "month|half an hour", "365": "year", "20": "score",
}  # fmt: skip
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
_PERCENT = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*(?:%|percent)")
_MORE_PERCENT = re.compile(
    r"(?:%|percent)\s+(?:more|higher|larger|increase|raise|tip|tax|interest|faster|longer|bigger)"
    r"|(?:increas|rais|grow|grew|tax|interest|tip\b|more expensive)\w*[^.]{0,40}(?:%|percent)", re.I
)
_LESS_PERCENT = re.compile(
    r"(?:%|percent)\s+(?:less|lower|fewer|off|discount|decrease|reduction|cheaper|smaller)"
    r"|(?:discount|decreas|reduc|drop|lost|lose)\w*[^.]{0,40}(?:%|percent)", re.I
)
_MORE = re.compile(r"\b(?:more|older|taller|longer|heavier|farther|further|higher|larger|greater)\b[^.,?]*\bthan\b", re.I)
_LESS = re.compile(r"\b(?:less|fewer|younger|shorter|lighter|lower|smaller|cheaper)\b[^.,?]*\bthan\b", re.I)
_TIMES = re.compile(r"\b(?:twice|thrice|double|triple|times)\b", re.I)
_LEFT = re.compile(r"\b(?:remain\w*|left|rest|still|leftover|after (?:that|using|giving|spending|buying))\b", re.I)
_EACH = re.compile(r"\b(?:each|every|per|apiece|a (?:day|week|month|hour|piece|person|box|bag|pound|year))\b", re.I)
_PART = re.compile(r"\b(?:half|halves|thirds?|quarters?|fourths?|fifths?|sixths?|eighths?|tenths?)\b|\b\d+/\d+\b", re.I)
_AVERAGE = re.compile(r"\b(?:average|mean)\b", re.I)
_RATIO = re.compile(r"\bratio\b|\b\d+\s*:\s*\d+\b", re.I)


@dataclass(frozen=True, slots=True)
class _Case:
    """A step with what its rules look at: its own words and the question's clauses about its numbers."""

    line: Line
    words: str
    question: str
    last: bool

    @property
    def seed(self) -> str:
        return f"{self.question}\n{self.line.text}"

    def has(self, cue: re.Pattern[str]) -> bool:
        return cue.search(self.words) is not None

    def says(self, *phrasings: str) -> str:
        return pick(phrasings, self.seed)


def line_key(question: str, line: Line, *, last: bool) -> str | None:
    """The Key of a step: what is easy to get wrong in it, None where nothing is.

    Args:
        question: The problem's question, whose words tell what the step's numbers are.
        line: The step.
        last: Whether it is the last step.
    """
    case = _case(question, line, last)
    return next((text for rule in _RULES if (text := rule(case)) is not None), None)


def line_summary(question: str, lines: Sequence[Line]) -> str:
    """How problems of this kind are solved, without this one's numbers: one phrase for each kind of step."""
    phrases: list[str] = []
    for i, line in enumerate(lines):
        phrase = _deed(_case(question, line, i == len(lines) - 1))
        if phrase and (not phrases or phrase not in phrases[-2:]):
            phrases.append(phrase)
    aim = _aim(question)
    if not phrases:
        phrases = ["write down what is known, one statement at a time"]
    if len(phrases) > 5:
        phrases = [*phrases[:3], *phrases[-2:]]
    seed = f"{question}\n{len(lines)}"
    head = pick((f"To find {aim}, ", f"In problems that ask for {aim}, "), seed)
    tail = pick(
        (
            "Check that the result answers what was asked, in the right unit.",
            "Each result feeds the next step, so write down what every number counts.",
            "Keep the unit beside every number, and read the question again at the end.",
            "Work in the order of the story and check every number against it.",
            "At the end ask whether the size of the result makes sense.",
        ),
        seed[::-1],
    )
    return f"{head}{listed(phrases)}. {tail}"


def _case(question: str, line: Line, last: bool) -> _Case:
    sentences = re.split(r"(?<=[.!?,;])\s+", question)
    stems = [rf"(?<![\d.]){re.escape(number)}(?![\d]|\.\d)" for number in line.numbers]
    stems += [rf"\b(?:{_WORDS[number]})" for number in line.numbers if number in _WORDS]
    about = re.compile("|".join(stems), re.I) if stems else None
    shared = [sentence for sentence in sentences if about is not None and about.search(sentence)]
    return _Case(line, " ".join([line.text, *shared]), question, last)


def _percent(case: _Case) -> str | None:
    operators = case.line.operators
    found = _PERCENT.search(case.line.text) or (
        _PERCENT.search(case.words) if set(case.line.numbers) & {"100", *_decimals(case.words)} else None
    )
    if found is None or not set(operators) & {"*", "/", "+", "-"}:
        return None
    rate = found[1]
    base = next((n for n in case.line.numbers if n not in ("100", rate) and not n.startswith(("0.", "."))), "")
    of = f"of {base}" if base else "of the whole"
    if set(operators) & {"*", "/"} and case.has(_MORE_PERCENT):
        return case.says(
            f"{rate}% is taken {of}, the amount before the change, and then added to it.",
            f"The {rate}% is only the extra part; the new amount is the old one plus that part.",
            f"Write {rate}% as a part of 100 first. It is counted from the old amount, not from the new one.",
        )
    if set(operators) & {"*", "/"} and case.has(_LESS_PERCENT):
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
        f"Percents of the same whole can be added or taken from 100%; that is why {case.line.expression} is allowed.",
        "All the parts of one whole make 100%, so the part that is left is what 100% still needs.",
    )


def _decimals(words: str) -> set[str]:
    rates = [float(found[1]) / 100 for found in _PERCENT.finditer(words)]
    shown = {f"{value:g}" for rate in rates for value in (rate, 1 - rate, 1 + rate)}
    return shown | {value.removeprefix("0") for value in shown} | {f"{float(v):.2f}" for v in shown}


def _units(case: _Case) -> str | None:
    for (factor, unit), (fact, pair) in _UNITS.items():
        if factor not in case.line.numbers or not set(case.line.operators) & {"*", "/"}:
            continue
        if re.search(rf"\b{unit}", case.line.text, re.I) and not re.search(
            rf"(?<![\d.]){factor}(?![\d.])", case.question
        ):
            down = "/" in case.line.operators and case.line.expression.replace(" ", "").endswith(f"/{factor}")
            way = "divides" if down else "multiplies"
            return case.says(
                f"The units change here: {fact}. Going between {pair} {way} by {factor}.",
                f"Since {fact}, bring {pair} to one unit before going on; this step {way} by {factor}.",
            )
    return None


def _unknown(case: _Case) -> str | None:
    if not case.line.unknown or re.search(r"\b(?:let|be the|represent)\b", case.line.text, re.I) is None and (
        "=" not in case.line.text
    ):
        return None
    if re.search(r"\blet\b|\bbe the\b|represent", case.line.text, re.I):
        return case.says(
            "Say exactly what the letter counts before using it; every other amount is then written with it.",
            "Name the amount that the other amounts are compared with, because the rest follows from it.",
        )
    if re.search(r"\d?[a-zA-Z]\s*[+-]\s*\(?\d*[a-zA-Z]\b", case.line.text):
        return case.says(
            "Terms with the letter are gathered by adding how many times it occurs; plain numbers stay apart.",
            "Count the letter once for every amount that contains it, a bare letter counting as one.",
        )
    return case.says(
        "What is done to one side of the equation must be done to the other side too.",
        "Undo the operations around the letter in reverse order, the same on both sides.",
        "A number that changes sides changes its operation: plus turns into minus, times into divided by.",
    )


def _average(case: _Case) -> str | None:
    if not case.has(_AVERAGE) or "/" not in case.line.operators or re.search("average|mean", case.line.text) is None:
        return None
    count = case.line.numbers[-1]
    return case.says(
        f"An average divides the total of all values by how many there are ({count}).",
        f"Add everything first and divide once at the end, by the number of values, {count}.",
    )


def _ratio(case: _Case) -> str | None:
    if not case.has(_RATIO) or not case.line.operators:
        return None
    return case.says(
        "In a ratio the total has as many parts as all its terms together; find the size of one part first.",
        "A term of a ratio is a number of equal parts and not yet an amount.",
        "Ask which group each term of the ratio belongs to, since their order matters.",
    )


def _precedence(case: _Case) -> str | None:
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


def _times(case: _Case) -> str | None:
    if not case.has(_TIMES) or len(case.line.operators) != 1 or case.line.operators[0] not in "*/":
        return None
    factor = case.line.numbers[-1]
    if "/" in case.line.operators:
        if not re.search(r"\btimes\b|twice|double|triple", case.words, re.I) or _halves(case):
            return None
        return case.says(
            f'Here the larger amount is known, so "{factor} times as many" is undone by dividing.',
            f"Ask which amount is the larger one: going from it to the smaller one divides by {factor}.",
        )
    if re.search(r"times (?:as|more|larger|longer|older)|twice|thrice|double|triple", case.words, re.I) is None:
        return None
    other = next((n for n in case.line.numbers if n != factor), factor)
    return case.says(
        f'"Times as many" multiplies the amount it is compared with ({other} and {factor}); it does not add.',
        f"Ask whose amount is multiplied: the comparison starts from what stands after the word \"as\" or \"than\".",
        f"This is a comparison by multiplying: {case.line.expression}, not a sum of the two numbers.",
    )


def _halves(case: _Case) -> bool:
    return "2" in case.line.numbers[-1:] and "half" in case.words.lower()


def _part(case: _Case) -> str | None:
    if not case.has(_PART) or not set(case.line.operators) & {"*", "/"}:
        return None
    if _halves(case):
        whole = case.line.numbers[0]
        return case.says(
            f"Half of {whole} means dividing by 2; be sure that {whole} is the amount the half is taken of.",
            f'"Half" divides the amount that stands behind "of" or "as", here {whole}, by 2.',
        )
    if case.has(_LEFT):
        return case.says(
            "A fraction of what is left is taken of the rest and not of the amount at the beginning.",
            "Keep apart the fraction that is used up and the fraction that stays; together they make the whole.",
        )
    return case.says(
        "A fraction of an amount multiplies: divide by the lower number and multiply by the upper one.",
        "Ask which whole the fraction is counted from before multiplying.",
    )


def _share(case: _Case) -> str | None:
    if "/" not in case.line.operators:
        return None
    found = re.search(r"([\d.,]+)\)?\s*/\s*\(?([\d.,]+)", case.line.expression)
    if found is None:
        return None
    whole, parts = found[1], found[2]
    if case.last and re.search(r"how many (?:\w+ ){0,4}(?:boxes|trips|packs|bags|days|buses|weeks)", case.question):
        return case.says(
            f"Dividing {whole} by {parts} asks how many times {parts} fits into {whole}.",
            f"The order counts: the total {whole} is divided by the size of one group, {parts}.",
        )
    return case.says(
        f"The amount that is split, {whole}, goes first; {parts} tells into how many parts or of what size.",
        f"Divide {whole} by {parts} and not the other way round, because {whole} is the total.",
        f"Check a division by multiplying back: the result times {parts} must give {whole}.",
    )


def _compare(case: _Case) -> str | None:
    operators = case.line.operators
    if len(operators) != 1 or operators[0] not in "+-":
        return None
    one, two = case.line.numbers[0], case.line.numbers[-1]
    if operators[0] == "+" and case.has(_MORE):
        return case.says(
            f'A "more than" comparison adds to the smaller amount: {two} on top of {one}.',
            f'The words after "than" name the smaller amount, so the difference is added to it.',
            f"The difference alone is not yet the larger amount; add it to {one}.",
        )
    if operators[0] == "-" and case.has(_LESS):
        return case.says(
            f'A "less than" comparison takes away from the larger amount: {one} less {two}.',
            f'The words after "than" name the larger amount, so the difference is taken from it.',
        )
    if operators[0] == "-" and case.has(_MORE):
        return case.says(
            f"To compare two amounts take the smaller one from the larger one: {one} less {two}.",
            f'"How much more" asks for the difference between {one} and {two}, not for their sum.',
        )
    return None


def _left(case: _Case) -> str | None:
    operators = case.line.operators
    if "-" not in operators or not case.has(_LEFT):
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


def _rate(case: _Case) -> str | None:
    if "*" not in case.line.operators or not case.has(_EACH):
        return None
    if len(case.line.operators) > 1:
        return case.says(
            f"Every factor of {case.line.expression} counts something else; none may be left out or used twice.",
            "Read the product from left to right and say what each number counts before multiplying.",
        )
    one, two = case.line.numbers[0], case.line.numbers[-1]
    if re.search(r"\beach\b|\bevery\b|\bper\b", case.words, re.I) is None:
        return None
    return case.says(
        f'The word "each", "every" or "per" calls for multiplying: {one} times {two}, not {one} plus {two}.',
        f"One of {one} and {two} is the amount for a single one, the other tells how many there are.",
        f"An amount for one becomes an amount for all by multiplying with how many there are.",
    )


def _many(case: _Case) -> str | None:
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


_RULES: tuple[Callable[[_Case], str | None], ...] = (
    _percent, _units, _average, _ratio, _precedence, _unknown, _compare, _times, _part, _left, _share, _rate, _many,
)  # fmt: skip

_AIMS = (
    (r"percent|%\s*\?|what percentage", "a percentage"),
    (r"average|mean\b", "an average"),
    (r"how (?:much|many) more|difference|how (?:much|many) (?:\w+ ){0,3}(?:fewer|less)", "how far two amounts are apart"),
    (r"left|remain|still (?:have|need)|change (?:will|does|did)|leftover", "what is left at the end"),
    (r"profit|earn|make in|income|salary|paid\b|revenue", "how much money comes in"),
    (r"cost|spend|pay\b|price|bill\b|money|dollars", "how much money is needed"),
    (r"how old|age\b", "an age"),
    (r"how long|minutes|hours|days|weeks|months|years|what time", "a length of time"),
    (r"how (?:far|fast|tall|high)|miles|kilomet|distance|feet|meters|length|perimeter", "a length or distance"),
    (r"\beach\b|per\b", "the share of each one"),
    (r"total|altogether|in all|combined|together", "a total"),
    (r"weigh|pounds|kilogram|grams|ounces", "a weight"),
)


def _aim(question: str) -> str:
    asked = re.split(r"(?<=[.!?])\s+", question.strip())
    ask = next((sentence for sentence in reversed(asked) if "?" in sentence), asked[-1]).lower()
    return next((aim for cue, aim in _AIMS if re.search(cue, ask)), "an unknown number")


def _deed(case: _Case) -> str | None:
    """What a step does, in words without numbers; None for a step that only says something."""
    operators = set(case.line.operators)
    if case.line.unknown:
        equation = "=" in case.line.text and re.search(r"\blet\b", case.line.text, re.I) is None
        return "solve the equation for the unknown" if equation else "name the unknown amount with a letter"
    if not operators:
        return None
    if _percent(case) and operators & {"*", "/"}:
        return "take the percent of the whole that it belongs to"
    if _units(case):
        return "bring the amounts to one unit"
    if _average(case):
        return "divide the sum of the values by how many there are"
    if _ratio(case):
        return "find the size of one part of the ratio"
    return _plain_deed(case, operators)


def _plain_deed(case: _Case, operators: set[str]) -> str:
    if operators == {"*"}:
        if _times(case):
            return "multiply to get the amount that is several times as large"
        each = case.has(_EACH)
        return "multiply the amount for one by how many there are" if each else "multiply the amounts that belong together"
    if operators == {"/"}:
        return "take the part of the whole" if _part(case) else "divide the total into equal parts"
    if operators == {"+"}:
        return "add the difference to the smaller amount" if _compare(case) else "add up all the parts"
    if operators == {"-"}:
        if case.has(_LEFT):
            return "take away what is gone"
        return "subtract the smaller amount from the larger one"
    if operators & {"*", "/"} and operators & {"+", "-"}:
        return "work out each product or quotient before adding or taking away"
    if operators == {"+", "-"}:
        return "add what comes in and take away what goes out"
    return "multiply by what raises the amount and divide by what splits it"
