"""Hierarchical solutions written from references: the problems here are made for the tests."""

from __future__ import annotations

import pytest

from supercorrect_agent.inspector.rules import speaks_of_reference
from supercorrect_agent.teachers.reference.lines import join_shortest, read_line, split_lines
from supercorrect_agent.teachers.reference.paragraphs import drop_drawings, sentences_of, split_prose, unbox
from supercorrect_agent.teachers.reference.writing import is_prose, write_solution
from supercorrect_agent.templates import format_solution, is_strict, parse_solution
from supercorrect_agent.types import Problem, Solution
from supercorrect_agent.verification import MathVerifier


def arithmetic(question: str, reference: str, answer: str | None) -> Problem:
    return Problem.create(question, reference_solution=reference, answer=answer)


SHOP = arithmetic(
    "Ada has $40. She buys 3 pens for $4 each and gives a quarter of the rest to Ben. How much is left?",
    "The pens cost 3*4=$<<3*4=12>>12.\nShe has 40-12=$<<40-12=28>>28 left.\n"
    "Ben gets 28/4=$<<28/4=7>>7.\nSo 28-7=$<<28-7=21>>21 are left.\n#### 21",
    "21",
)
TRIANGLE = arithmetic(
    "A square has a diagonal of length $4$. What is its area? [asy] draw((0,0)--(1,1)); [/asy]",
    "The square is shown below:\n\n[asy]\ndraw((0,0)--(1,1)); // $x$.\n[/asy]\n\n"
    "Let $s$ be the side. By the Pythagorean theorem, \\[s^2 + s^2 = 4^2.\\]Hence $2s^2 = 16$, e.g. "
    "after adding. Dividing by $2$, the area is $s^2 = \\boxed{8}$.",
    "8",
)


def written(problem: Problem) -> Solution:
    solution = write_solution(problem)
    assert solution is not None
    return solution


def keys(solution: Solution) -> list[str | None]:
    return [step.key for step in solution.steps]


def test_a_line_of_arithmetic_becomes_a_step_without_marks() -> None:
    solution = written(SHOP)
    assert [step.text for step in solution.steps] == [
        "The pens cost 3*4=$12.",
        "She has 40-12=$28 left.",
        "Ben gets 28/4=$7.",
        "So 28-7=$21 are left.",
    ]
    assert solution.answer == "21"


def test_keys_speak_of_their_steps_own_numbers() -> None:
    pens, rest, ben, _ = keys(written(SHOP))
    assert pens is not None
    assert rest is not None
    assert "12" in rest
    assert ben is not None
    assert "fraction" in ben.lower() or "whole" in ben.lower()


def test_a_plain_sum_of_two_numbers_is_easy_and_has_no_key() -> None:
    problem = arithmetic(
        "Ada has 2 cats and 3 dogs. How many pets?", "She has 2+3=<<2+3=5>>5 pets.\nThat is 5.", "5"
    )
    assert keys(written(problem)) == [None, None]


@pytest.mark.parametrize(
    ("question", "line", "words"),
    [
        ("Tea costs $5 and cake $2 more than tea.", "Cake is 5+2=<<5+2=7>>7", ("than", "smaller")),
        ("Tea rose by 10% from $50.", "It rose 50*10/100=<<50*10/100=5>>5, 10%", ("10",)),
        ("Bo read for 3 hours.", "That is 3*60=<<3*60=180>>180 minutes", ("60", "minutes")),
        ("There are 24 eggs for 6 people.", "Each gets 24/6=<<24/6=4>>4", ("24", "6")),
        ("Bo has 5 nuts and Al three times as many.", "Al has 5*3=<<5*3=15>>15", ("5",)),
        ("A walk of 3 km and then 2 laps of 4 km.", "Total 3+2*4=<<3+2*4=11>>11", ("2*4",)),
    ],
)
def test_each_rule_names_what_is_easy_to_get_wrong(question: str, line: str, words: tuple[str, ...]) -> None:
    key = written(arithmetic(question, f"{line}\nThat is it.", "1")).steps[0].key
    assert key is not None
    assert all(word in key for word in words)


def test_a_solution_never_says_one_key_twice() -> None:
    reference = "\n".join(f"A box holds 2*{n}=<<2*{n}={2 * n}>>{2 * n} of each kind" for n in (3, 4, 5, 6, 7))
    told = [key for key in keys(written(arithmetic("Boxes of each kind?", reference, "14"))) if key]
    assert len(told) == len(set(told)) > 1


def test_the_summary_follows_the_operations_and_has_none_of_the_numbers() -> None:
    summary = written(SHOP).generalized
    assert summary is not None
    assert "what is left" in summary
    assert "multiply" in summary
    assert "take away" in summary
    assert not any(character.isdigit() for character in summary)


def test_summaries_of_different_operations_differ() -> None:
    add = written(arithmetic("Total?", "3+4+5=<<3+4+5=12>>12\nSo 12.", "12")).generalized
    share = written(arithmetic("Total?", "12/4=<<12/4=3>>3\nSo 3.", "3")).generalized
    assert add != share


@pytest.mark.parametrize(
    ("line", "text", "operators", "numbers"),
    [
        ("He has 48/2=<<48/2=24>>24 left", "He has 48/2=24 left", ("/",), ("48", "2")),
        ("He has <<48/2=24>> left", "He has 24 left", ("/",), ("48", "2")),
        ("x = $<<20=20>>20", "x = $20", (), ()),
        ("It is 1,200 pounds / 80 orcs = 15", "It is 1,200 pounds / 80 orcs = 15", ("/",), ("1200", "80")),
        ("Take 3 x 5 = 15", "Take 3 x 5 = 15", ("*",), ("3", "5")),
    ],
)
def test_a_line_is_read(line: str, text: str, operators: tuple[str, ...], numbers: tuple[str, ...]) -> None:
    read = read_line(line)
    assert (read.text, read.operators, read.numbers) == (text, operators, numbers)


def test_a_single_line_is_split_at_its_sentences() -> None:
    lines = split_lines("Ada has 3+4=7 pens. Ben has 7*2=14 of them.")
    assert [line.text for line in lines] == ["Ada has 3+4=7 pens.", "Ben has 7*2=14 of them."]


def test_neighbours_are_joined_until_few_enough_are_left() -> None:
    assert join_shortest(["aaaa", "b", "cc", "dddd"], most=3, least=1) == ["aaaa", "b cc", "dddd"]


def test_prose_is_split_at_sentences_and_drawings_are_left_out() -> None:
    solution = written(TRIANGLE)
    assert [step.text for step in solution.steps] == [
        "Let $s$ be the side. By the Pythagorean theorem, \\[s^2 + s^2 = 4^2.\\]",
        "Hence $2s^2 = 16$, e.g. after adding. Dividing by $2$, the area is $s^2 = 8$.",
    ]
    assert solution.answer == "8"
    assert solution.steps[0].key is not None
    assert "Pythagorean theorem" in (solution.generalized or "")


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("We have $x = 1. 5$ here. So it is.", ["We have $x = 1. 5$ here.", "So it is."]),
        ("Thus \\[a = b.\\]Next comes c.", ["Thus \\[a = b.\\]", "Next comes c."]),
        ("Thus \\[a = b,\\]and so on.", ["Thus \\[a = b,\\]and so on."]),
        ("It is $2.$ Then stop.", ["It is $2.$", "Then stop."]),
        (
            "So \\begin{align*} a &= b. \\\\ c &= d. \\end{align*}Done.",
            ["So \\begin{align*} a &= b. \\\\ c &= d. \\end{align*}", "Done."],
        ),
    ],
)
def test_sentences_never_end_inside_a_formula(text: str, sentences: list[str]) -> None:
    assert sentences_of(text) == sentences


def test_only_the_first_of_several_solutions_is_kept() -> None:
    text = "Solution 1:\nAdd to get $\\boxed{3}$.\n\nSolution 2:\nCount to get $\\boxed{3}$."
    assert drop_drawings(text) == "Add to get $\\boxed{3}$."


def test_a_box_is_opened_to_its_matching_brace() -> None:
    assert unbox(r"so $\boxed{\frac{1}{\sqrt{2}}}$ and \fbox{x}") == r"so $\frac{1}{\sqrt{2}}$ and x"


def test_one_formula_becomes_its_work_and_its_result() -> None:
    assert split_prose(r"$12_3 = 3 + 2 = \boxed{5}$.") == ["$12_3 = 3 + 2 = 5$.", "So the result is $5$."]


def test_long_prose_has_at_most_eight_steps() -> None:
    prose = " ".join(f"Sentence number {n} says that $x_{n} = {n}$ holds." for n in range(30))
    steps = split_prose(prose)
    assert len(steps) == 8
    assert " ".join(steps) == prose


@pytest.mark.parametrize("problem", [SHOP, TRIANGLE], ids=["lines", "prose"])
def test_what_is_written_is_strict_right_and_reads_back(problem: Problem) -> None:
    solution = written(problem)
    text = format_solution(solution)
    assert is_strict(text)
    assert parse_solution(text) == solution
    assert MathVerifier().verify(answer=text, target=problem.answer).correct
    assert not speaks_of_reference(problem, text)
    assert write_solution(problem) == solution


def test_words_that_name_the_source_are_left_out() -> None:
    problem = arithmetic(
        "What is 2+3?", "By the given solution, 2+3=<<2+3=5>>5.\nThe answer key says 5.", "5"
    )
    text = format_solution(written(problem))
    assert not speaks_of_reference(problem, text)
    assert "By the solution, 2+3=5." in text


def test_the_correct_answer_of_a_reference_becomes_the_answer() -> None:
    reference = "Now $2+3=5.$ Hence the correct answer is $\\boxed{5}.$"
    problem = arithmetic("What is $2+3$?", reference, "5")
    text = format_solution(written(problem))
    assert "Hence the answer is $5.$" in text
    assert not speaks_of_reference(problem, text)


def test_tags_in_a_reference_do_not_break_the_form() -> None:
    problem = arithmetic("What is 2+3?", "<Step9>2+3=<<2+3=5>>5</Step9>\nSo <Answer>5</Answer> it is", "5")
    assert [step.text for step in written(problem).steps] == ["2+3=5", "So 5 it is"]


def test_without_an_answer_the_references_own_is_taken() -> None:
    assert written(arithmetic("2+3?", "2+3=<<2+3=5>>5\nIt is five.\n#### 5", None)).answer == "5"
    assert written(arithmetic("x?", r"Since $x^2 = 4$, it is $\boxed{2}$.", None)).answer == "2"


@pytest.mark.parametrize("reference", [None, "", "   ", "[asy] draw(A--B); [/asy]"])
def test_without_words_there_is_no_solution(reference: str | None) -> None:
    assert write_solution(Problem.create("Why?", answer="1", reference_solution=reference)) is None


def test_a_reference_of_megabytes_is_no_solution() -> None:
    long = "He has 2+3=<<2+3=5>>5 pens.\n" * 100_000
    assert write_solution(arithmetic("How many?", long, "5")) is None


def test_the_kind_of_a_reference_is_seen() -> None:
    assert is_prose(r"Thus $x^2 = \boxed{4}$")
    assert not is_prose("He pays 2*$3=$<<2*3=6>>6")
    assert not is_prose("They cost $5 and $6 = $11 together")


def test_the_model_is_recorded() -> None:
    solution = write_solution(SHOP, model="reference")
    assert solution is not None
    assert solution.model == "reference"
