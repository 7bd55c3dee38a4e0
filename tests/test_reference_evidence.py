"""What tells the first wrong step: unknowns tried out, stray steps, words in common, plain falsehoods."""

from __future__ import annotations

from fractions import Fraction

import pytest

from supercorrect_agent.inspector.arithmetic import false_equation
from supercorrect_agent.teachers.reference.algebra import first_failure
from supercorrect_agent.teachers.reference.falsehoods import certain_falsehood
from supercorrect_agent.teachers.reference.formulas import Formulas
from supercorrect_agent.teachers.reference.judging import find_error, same_number
from supercorrect_agent.teachers.reference.knowledge import Knowledge, build_knowledge
from supercorrect_agent.teachers.reference.leading import first_stray
from supercorrect_agent.teachers.reference.lexicon import matched
from supercorrect_agent.teachers.reference.reading import Reading, read_steps
from supercorrect_agent.types import Problem

QUESTION = (
    "Ada has 9 marbles more than Ben and together they have 41. Ada loses 4 of hers. "
    "How many marbles does Ada have left?"
)
REFERENCE = (
    "Without the 9 more they have 41-9=<<41-9=32>>32 marbles.\n"
    "Ben has 32/2=<<32/2=16>>16 marbles.\n"
    "Ada has 16+9=<<16+9=25>>25 marbles.\n"
    "After the loss Ada has 25-4=<<25-4=21>>21 marbles.\n#### 21"
)
PROBLEM = Problem.create(QUESTION, answer="21", reference_solution=REFERENCE)
RIGHT = ("41 - 9 = 32", "Ben has 32 / 2 = 16 marbles.", "Ada has 16 + 9 = 25 marbles.", "25 - 4 = 21")


def known() -> Knowledge:
    return build_knowledge(QUESTION, REFERENCE, "21")


def read(*steps: str) -> Reading:
    return read_steps(steps, None)


@pytest.mark.parametrize(
    ("steps", "failing"),
    [
        # x = 16 makes x + 9 = 25 and 2x = 32 quantities of the reference; all three lines hold there
        (("Ben has x, Ada has x + 9.", "x + (x + 9) = 41", "2x = 32, so x = 16"), None),
        # at x = 16 the left side is 25, which is not 41
        (("Ben has x, Ada has x + 9.", "x + 9 = 41", "x = 32"), 1),
        # 2x = 41 + 9 forgets the sign: 32 is not 50
        (("Ben has x, Ada has x + 9.", "x + (x + 9) = 41", "2x = 41 + 9", "x = 25"), 2),
        # no unknown, or two of them: nothing is said
        (("41 - 9 = 32", "32 / 2 = 15"), None),
        (("x + y = 40", "x = y + 9"), None),
    ],
)
def test_an_unknown_is_tried_at_its_true_value(steps: tuple[str, ...], failing: int | None) -> None:
    assert first_failure(read(*steps), known()) == failing


def test_a_step_strays_when_nothing_comes_back_to_the_reference() -> None:
    # both the second and the third step hang on 41 + 9, and neither is a quantity of the reference
    gone = read("41 + 9 = 50", "50 * 3 = 150", "150 - 7 = 143")
    assert first_stray(Formulas(gone, known())) == 0
    # the second step leaves the reference; the first is a result of it
    late = read("41 - 9 = 32", "32 * 5 = 160", "160 - 7 = 153")
    assert first_stray(Formulas(late, known())) == 1
    assert first_stray(Formulas(read(*RIGHT), known())) is None


def test_a_step_matches_the_sentence_with_its_words_and_its_value() -> None:
    values = {one.stated for one in read("Ben has 32 / 2 = 16").computed}
    own = matched(values, "Ben has 32 / 2 = 16 marbles.", known())
    assert own == pytest.approx(1.0)  # "ben" and "marble" are all the words of both
    assert matched(values, "After the loss 32 / 2 = 16", known()) == 0.0  # the words of another sentence
    assert matched(set(), "Ben has marbles.", known()) == 0.0


@pytest.mark.parametrize(
    ("text", "false"),
    [
        ("They have 41 - 9 = 33 marbles.", True),
        ("That is 3 apples + 4 apples = 9 apples.", True),
        (r"So \(6 \times 7 = 48\).", True),
        ("12.5 + 12.5 = $27", True),
        ("41 - 9 = 32", False),
        ("100 / 3 = 33 friends", False),  # rounded
        ("They leave at 7:50 + 30 minutes = 8:20.", False),  # a time
        ("4 pounds - 6 ounces = 58 ounces", False),  # two units
        ("It is 3 * 5 = 15 thousand, 3 * 5 = 15,000.", False),  # a change of units
        ("28 / 1/5 = 140 cups", False),  # 28 / (1/5)
        ("10% * 50 = 500", False),
        ("9 * 3 = about 30", False),
        ("(3/2)x = 54", False),  # an unknown, not a sign
        ("5 + 24 = 3", True),
    ],
)
def test_only_what_cannot_be_meant_otherwise_is_a_falsehood(text: str, false: bool) -> None:
    assert (certain_falsehood(read(text)) is not None) == false


def test_a_right_answer_does_not_excuse_a_plain_falsehood() -> None:
    assert find_error(PROBLEM, RIGHT, None) is None
    found = find_error(PROBLEM, (*RIGHT[:2], "Ada has 16 + 9 = 27 marbles.", RIGHT[3]), None)
    assert found is not None
    assert (found.step, found.kind) == (3, "slip")
    assert found.cause == "16 + 9 is 25, not 27."
    assert found.correction == "Ada has 16 + 9 = 25 marbles."


def test_the_wrong_equation_is_blamed_and_not_what_follows_from_it() -> None:
    steps = (
        "Let Ben have x, then Ada has x + 9.",
        "x + x = 41",  # Ada's x + 9 is what has to stand here
        "2x = 41, so x = 20.5",
        "20.5 + 9 = 29.5",
        "29.5 - 4 = 25.5",
    )
    found = find_error(PROBLEM, steps, None)
    assert found is not None
    assert found.step == 2


@pytest.mark.parametrize(
    ("stated", "true", "same"),
    [
        ("0.001", "0.005", False),
        ("0.255", "0.25", False),
        ("0.25", "0.255", False),
        ("0", "0.001", False),
        ("33", "100/3", False),
        ("0.13", "0.125", True),  # rounded to its two digits
        ("0.33", "1/3", True),
        ("0.66", "2/3", True),  # cut off: it never ends
        ("0.65", "2/3", False),
        ("9.996", "10", True),
        ("9.99", "10", False),
        ("-0.13", "-0.125", True),
        ("71.999", "72", True),
    ],
)
def test_numbers_are_the_same_at_the_digits_stated(stated: str, true: str, same: bool) -> None:
    assert same_number(Fraction(stated), Fraction(true)) is same


CLIPS = Problem.create(
    "Ines sold 48 clips in April and half as many in May. How many did she sell altogether?",
    answer="72",
    reference_solution="In May 48/2=<<48/2=24>>24 clips were sold.\n"
    "Altogether 48+24=<<48+24=72>>72 clips were sold.\n#### 72",
)


@pytest.mark.parametrize(
    ("steps", "step", "kind", "said"),
    [
        # 24 is right and needs no equation; the addition is not done
        (("She sold 48.", "In May she sold 24 clips.", "The answer is 24."), 3, "missing", "48 + 24 = 72"),
        (("In May she sold 48/2 = 24 clips.", "The answer is \\boxed{24}"), 2, "missing", "48 + 24 = 72"),
        # half of 48 is not 37: the step that says so is wrong, and the sum follows from it
        (("In May she sold 37 clips.", "48+37=85"), 1, "quantity", "48 / 2 = 24"),
        (("She sold 48 clips.", "In May she sold 37 clips.", "48+37=85"), 2, "quantity", "48 / 2 = 24"),
        # the statement is right, the computation that follows is not
        (("In May she sold 24 clips.", "48 - 24 = 24", "The answer is 24."), 2, "operation", "48 + 24 = 72"),
    ],
)
def test_a_value_stated_without_an_equation_is_judged_by_itself(
    steps: tuple[str, ...], step: int, kind: str, said: str
) -> None:
    finding = find_error(CLIPS, steps, None)
    assert finding is not None
    assert (finding.step, finding.kind) == (step, kind)
    assert said in finding.cause
    assert kind != "missing" or finding.cause.startswith("Something is left out here")


@pytest.mark.parametrize(
    ("step", "mended"),
    [
        # 16 + 9 is 25, so that 25 - 4 = 21 follows
        ("Ada has 16 + 9 = 27, and then 27 - 4 = 23.", "Ada has 16 + 9 = 25, and then 25 - 4 = 21."),
        # two slips that have nothing to do with each other
        ("16 + 9 = 27. Also 41 - 9 = 35.", "16 + 9 = 25. Also 41 - 9 = 32."),
        # a number of the problem stays: 9 is what Ada has more
        ("41 - 9 = 9. Then 16 + 9 = 25.", "41 - 9 = 32. Then 16 + 9 = 25."),
        # a true equation of other numbers stays as it is
        ("16 + 9 = 27 and 2 x 3 = 6.", "16 + 9 = 25 and 2 x 3 = 6."),
    ],
)  # fmt: skip
def test_all_false_equations_of_a_corrected_step_are_mended(step: str, mended: str) -> None:
    found = find_error(PROBLEM, (step, "The answer is 77."), None)
    assert found is not None
    assert (found.step, found.correction) == (1, mended)
    assert false_equation(found.correction) is None


def test_a_right_operation_is_carried_on_through_the_step() -> None:
    # 16 - 9 has to be 16 + 9 = 25, so that 25 - 4 = 21 are left
    found = find_error(PROBLEM, (*RIGHT[:2], "Ada has 16 - 9 = 7, so 7 - 4 = 3 are left.", "3"), None)
    assert found is not None
    assert (found.step, found.kind) == (3, "operation")
    assert found.correction == "Ada has 16 + 9 = 25, so 25 - 4 = 21 are left."
