"""Arithmetic in prose: what is read as an equation, its exact value, and what counts as true."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supercorrect_agent.teachers.reference.expressions import (
    Number,
    agrees,
    evaluate,
    first_false,
    format_value,
    read_equations,
    read_expression,
    read_numbers,
)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("5 apples + 3 apples = 8 apples", [8, 8]),
        ("12 - 4 = 8 tires", [8, 8]),
        ("so 30 x $10 = $300.", [300, 300]),
        ("$900/day * 3 days = $2,700", [2700, 2700]),
        ("30 minutes / 60 minutes/hour * $250/hour = $125", [125, 125]),
        ("half of 10 = 5", [5, 5]),
        ("twice 15 = 30", [30, 30]),
        ("20% of 50 is 10", [10, 10]),
        ("5\\% of 200 = 10", [10, 10]),
        ("2 * 1 1/2 = 3", [3, 3]),
        ("4 × 2½ = 10", [10, 10]),
        ("1,200 − 200 = 1,000", [1000, 1000]),
        ("$80 000 x 5/100 = $4 000", [4000, 4000]),
        ("\\frac{3}{4} \\times 12 = 9", [9, 9]),
        ("\\(5 \\cdot 3 = 16\\)", [15, 16]),
        ("6 divided by 2 equals 3", [3, 3]),
        ("4 multiplied by 5 is equal to 20", [20, 20]),
        ("2**3 = 8", [8, 8]),
        ("**5 + 3 = 8**", [8, 8]),
        ("60/(1/3) = 180", [180, 180]),
        ("4(2) + 1 = 9", [9, 9]),
        ("5 + 15 + 1 (a koala bear) = 21 animals", [21, 21]),
        ("12+6=18 pencils", [18, 18]),
        ("7 + 2 = 10 - 1 = 9", [9, 9, 9]),
        ("2x - 3 = 17", [None, 17]),
        ("number of dogs * 3 = 15 * 3 = 45", [None, 45, 45]),
        ("9^9^9 = 3", [None, 3]),
        ("1/0 = 3", [None, 3]),
    ],
)
def test_equations_are_read_out_of_prose(text: str, values: list[int | None]) -> None:
    equation = read_equations(text)[0]
    assert [side.value for side in equation.sides] == values


@pytest.mark.parametrize(
    ("text", "true"),
    [
        ("48/2 = 24", True),
        ("48/2 = 26", False),
        ("10/3 = 3.33", True),  # rounded to its decimals
        ("20/3 = 6.66", True),  # cut
        ("10/3 = 3.35", False),
        ("10/3 = 3", False),
        ("10/3 ≈ 3", True),
        ("5/20 x 100 = 25%", True),
        ("100% - 20% = 80%", True),
        ("1 hour = 60 minutes", True),  # no arithmetic
        ("20 x 2 = 40 x 3 = 120", True),  # a running calculation
        ("2 + 3 = 5 = 6 - 2", False),
    ],
)
def test_a_claim_is_true_within_its_rounding(text: str, true: bool) -> None:
    assert (first_false(read_equations(text)[0]) is None) is true


def test_sides_know_where_they_stand() -> None:
    text = "He has 3 + 4 = 7 left."
    equation = read_equations(text)[0]
    assert [text[side.start : side.end] for side in equation.sides] == ["3 + 4", "7"]


def test_numbers_are_read_with_words_when_asked() -> None:
    text = "Two dogs, 1,250 cats, 3/4 of a cup, 1 1/2 pies and a half"
    plain = [Fraction(1250), Fraction(3, 4), Fraction(3, 2)]
    assert [number.value for number in read_numbers(text)] == plain
    assert [number.value for number in read_numbers(text, words=True)] == [2, *plain, Fraction(1, 2)]


def test_ordinals_are_no_numbers() -> None:
    assert [number.value for number in read_numbers("on the 3rd day he ate 2")] == [2]


def test_a_value_is_written_as_one_writes_it() -> None:
    assert format_value(Fraction(24)) == "24"
    assert format_value(Fraction(25, 2)) == "12.5"
    assert format_value(Fraction(10, 3)) == "3.33"
    assert format_value(Fraction(1, 3)) == "1/3"


def test_a_number_agrees_as_a_percentage_too() -> None:
    quarter = Number(Fraction(1, 4), "25%", 0, 3, percent=True)
    assert agrees(Fraction(1, 4), quarter)
    assert agrees(Fraction(25), quarter)
    assert not agrees(Fraction(26), quarter)


numbers = st.integers(min_value=0, max_value=10_000)


@given(numbers, st.sampled_from("+-*/"), numbers, st.sampled_from("+-*/"), numbers)
def test_values_follow_precedence(one: int, op: str, two: int, other: str, three: int) -> None:
    """Against fractions worked out by hand: products first, otherwise from the left."""
    found = read_expression(f"{one} {op} {two} {other} {three}")
    assert found is not None
    work = {
        "+": lambda a, b: a + b,
        "-": lambda a, b: a - b,
        "*": lambda a, b: a * b,
        "/": lambda a, b: a / b,
    }
    a, b, c = Fraction(one), Fraction(two), Fraction(three)
    try:
        if other in "*/" and op in "+-":
            expected = work[op](a, work[other](b, c))
        else:
            expected = work[other](work[op](a, b), c)
    except ZeroDivisionError:
        expected = None
    assert evaluate(found) == expected


@given(st.text(max_size=300))
def test_any_text_can_be_read(text: str) -> None:
    for equation in read_equations(text):
        assert 0 <= equation.start <= equation.end <= len(text)
        first_false(equation)
    for number in read_numbers(text, words=True):
        assert 0 <= number.start < number.end <= len(text)


@pytest.mark.parametrize(
    ("text", "stated", "false"),
    [
        # an index is part of a name and no number
        (r"A_1 = 4 \times 4 = 16", 16, False),
        (r"\text{Cost}_{2} = 4 \times 4 = 17", 17, True),
        # a row of an environment that begins with "=" goes on with the row before
        ("\\begin{align*}\nA_1 &= 4 \\times 4 \\\\\n&= 16\n\\end{align*}", 16, False),
        ("\\begin{align*}\nA_{12} &= 4 + 6 \\\\[2pt]\n&= 12\n\\end{align*}", 12, True),
    ],
)
def test_indices_and_rows_of_latex(text: str, stated: int, false: bool) -> None:
    (equation,) = (one for one in read_equations(text) if len(one.sides) > 1)
    assert equation.sides[-1].value == stated
    assert (first_false(equation) is not None) == false


@pytest.mark.parametrize("text", ["8:55 + 90 = 10:25", "9:15 + 45 = 10:00", "2:3 = 4:6", "2x_1 + 3 = 7"])
def test_times_ratios_and_letters_with_an_index_claim_no_arithmetic(text: str) -> None:
    assert [first_false(equation) for equation in read_equations(text)] == [None]


def test_whole_numbers_with_decimals_written_behind_are_not_rounded() -> None:
    """1250 - 540 is 710; but 33.33 x 3 = 100 has a rounded factor."""
    assert first_false(read_equations("$1250 - $540 = $711.00")[0]) is not None
    assert first_false(read_equations("$1250 - $540 = $710.00")[0]) is None
    assert first_false(read_equations("33.33 x 3 = 100")[0]) is None
