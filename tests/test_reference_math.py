"""MATH solutions judged by a reference in LaTeX prose: the problems and the errors are made for the tests."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest

from supercorrect_agent.teachers.reference import ReferenceTeacher
from supercorrect_agent.teachers.reference.claims import check
from supercorrect_agent.teachers.reference.equations import common_root, polynomial, same_condition
from supercorrect_agent.teachers.reference.latex import parse, value_of
from supercorrect_agent.teachers.reference.prose import locate_math
from supercorrect_agent.teachers.reference.relations import links_of
from supercorrect_agent.teachers.reference.support import content_of, next_sentences
from supercorrect_agent.teachers.reference.suspicions import suspicions_of
from supercorrect_agent.teachers.reference.trees import Unreadable, evaluate
from supercorrect_agent.templates import parse_solution
from supercorrect_agent.types import Problem


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"\frac{1}{2}+\frac13", Fraction(5, 6)),
        (r"2^{10}-2^3", Fraction(1016)),
        (r"-3^2", Fraction(-9)),
        (r"(-3)^2", Fraction(9)),
        (r"\sqrt{49}+\sqrt[3]{27}", Fraction(10)),
        (r"\sqrt{\frac{9}{16}}", Fraction(3, 4)),
        (r"\binom{5}{2}\cdot 3!", Fraction(60)),
        (r"1{,}234 \times 2", Fraction(2468)),
        (r"10\%\cdot 50", Fraction(5)),
        (r"432_9", Fraction(4 * 81 + 3 * 9 + 2)),
        (r"1011_2", Fraction(11)),
        (r"\left|-3\right| + |2|", Fraction(5)),
        (r"\lfloor \frac{53}{5} \rfloor", Fraction(10)),
        (r"3(2)(4)", Fraction(24)),
        (r"12\text{ cm}", Fraction(12)),
        (r"\boxed{7}.", Fraction(7)),
        (r"0.25", Fraction(1, 4)),
    ],
)
def test_arithmetic_is_exact(text: str, value: Fraction) -> None:
    assert value_of(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"\sin 30^\circ", 0.5),
        (r"\cos^2 60^\circ", 0.25),
        (r"2\sqrt{3}\cdot\sqrt3", 6.0),
        (r"\log_2 8", 3.0),
        (r"\log 1000", 3.0),
        (r"\ln 1", 0.0),
        (r"\tan \frac{\pi}{4}", 1.0),
        (r"(2+i)(2-i)", 5.0),
        (r"2\pi", 2 * math.pi),
    ],
)
def test_other_values_are_close(text: str, value: float) -> None:
    found = value_of(text)
    assert found is not None
    assert found == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize(
    "text",
    [
        "",
        r"1 + 2 + \dots + 9",
        r"\sum_{k=1}^{3} k",
        r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}",
        r"f(3)",
        r"\gcd(4, 6)",
        r"\text{lcm}(4, 6)",
        r"2\frac{1}{3}",  # a mixed number or a product
        r"3 4",
        r"(1, 2)",
        r"\frac{1}{0}",
        r"9!!",
        r"\pm 3",
        r"\log_1 3",
    ],
)
def test_what_has_no_sure_value_has_none(text: str) -> None:
    assert value_of(text) is None


@pytest.mark.parametrize(
    "text", ["9^{9^{9^{9}}}", "10^{100000}", "(((99!)!)!)!", "(" * 5000, "2^" * 3000 + "2", "1+" * 9999]
)
def test_hostile_formulas_have_no_value(text: str) -> None:
    assert value_of(text) is None


def test_a_letter_without_a_value_has_none() -> None:
    node = parse("2x+1")
    assert node is not None
    assert node.letters() == {"x"}
    assert evaluate(node, {"x": Fraction(3)}) == 7
    with pytest.raises(Unreadable):
        evaluate(node)


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ("$2+2=4$", "true"),
        ("$2+2=5$", "false"),
        (r"$\frac{1}{3} = 0.33$", "true"),  # rounded to the last digit shown
        (r"$\frac{1}{3} = 0.35$", "false"),
        (r"$\pi \approx 3.14$", "true"),
        (r"$\pi \approx 4.14$", "false"),
        ("$3 < 2$", "false"),
        (r"$7 \le 7$", "true"),
        (r"$(x+1)^2 = x^2+2x+1$", "true"),
        (r"$(x+1)(x-4) = x^2-3x+4$", "false"),  # apart by 8 everywhere: never true
        (r"$2x+3=7$", "open"),
        (r"$x = 3$", "open"),
        (r"$17 \equiv 3 \pmod{7}$", "true"),
        (r"$17 \equiv 4 \pmod{7}$", "false"),
        (r"$f(3) = 7$", "unknown"),
        (r"$1\text{ yd} = 3\text{ ft}$", "unknown"),
        (r"$\frac{180 \cdot 3}{5} = 108^\circ$", "true"),
        (r"$\sin^2 x + \cos^2 x = 1$", "true"),
        ("We get 12 * 4 = 48 of them.", "true"),
        ("We get 12 * 4 = 46 of them.", "false"),
    ],
)
def test_a_relation_is_checked(text: str, truth: str) -> None:
    link = links_of(text)[-1]
    assert check(link) == truth


def test_a_chain_goes_on_over_the_rows_of_an_environment() -> None:
    links = links_of("\\begin{align*} a &= 2+3 \\\\ &= 5, \\\\ b &= 1 \\end{align*}")
    assert [(link.left.strip(), link.right.strip()) for link in links] == [
        ("a", "2+3"),
        ("2+3", "5"),
        ("b", "1"),
    ]


def test_commas_separate_relations_but_not_thousands() -> None:
    links = links_of("$a = 1, b = 2{,}500$ and $c = 12,000$")
    assert [link.right.strip() for link in links] == ["1", "2{,}500", "12,000"]


def test_an_equation_in_one_letter_is_a_polynomial() -> None:
    (link,) = links_of("$x(x-5) = -6$")
    # x^2 - 5x + 6, lowest power first
    assert polynomial(link, "x") == (6, -5, 1)


def test_polynomials_share_a_root_or_not() -> None:
    two_three, only_two, four = (6, -5, 1), (-2, 1), (-4, 1)
    to_fractions = [tuple(map(Fraction, p)) for p in (two_three, only_two, four)]
    assert common_root(to_fractions[0], to_fractions[1])
    assert not common_root(to_fractions[0], to_fractions[2])


def test_a_multiple_of_an_equation_is_the_same_condition() -> None:
    one, double, other = (links_of(text)[0] for text in ("$x+y=3$", "$2x=6-2y$", "$2x=7-2y$"))
    assert same_condition(one, double) is True
    assert same_condition(one, other) is False


BOXES = Problem.create(
    "A box has length $8$, width $3$ and height $2$. Nine such boxes are glued into one solid block. "
    "What is the volume of the block?",
    answer="432",
    reference_solution="One box has volume $8 \\cdot 3 \\cdot 2 = 48$. Nine of them have volume "
    "$9 \\cdot 48 = \\boxed{432}$.",
)
ROOTS = Problem.create(
    "If $t$ is positive and $t^2 - 2t = 15$, find $t$.",
    answer="5",
    reference_solution="We have $t^2 - 2t - 15 = 0$, and $(t-5)(t+3) = 0$. "
    "Since $t$ is positive, $t = \\boxed{5}$.",
)
COMMITTEE = Problem.create(
    "How many committees of 3 can be chosen from 7 people?",
    answer="35",
    reference_solution="Order plays no role. There are $7 \\cdot 6 \\cdot 5 = 210$ ordered choices, and each "
    "committee occurs $3! = 6$ times. So there are $210/6 = \\boxed{35}$ committees.",
)


def located(problem: Problem, *steps: str) -> int | None:
    finding = locate_math(problem, steps)
    return None if finding is None else finding.step


def test_a_right_solution_has_no_error_by_whatever_way() -> None:
    assert (
        locate_math(BOXES, ["The face is $8 \\cdot 3 = 24$.", "The block is $24 \\cdot 18 = \\boxed{432}$."])
        is None
    )
    assert locate_math(ROOTS, ["$t = 5$ works as $25 - 10 = 15$.", "The answer is $\\boxed{5.0}$."]) is None


def test_a_false_calculation_is_found_and_mended() -> None:
    steps = [
        "A box has volume $8 \\cdot 3 \\cdot 2 = 24 \\cdot 2 = 46$.",
        "Nine have $9 \\cdot 46 = 414$.",
        "$\\boxed{414}$",
    ]
    finding = locate_math(BOXES, steps)
    assert finding is not None
    assert (finding.step, finding.kind) == (1, "slip")
    assert "48" in finding.cause
    assert "46" in finding.cause
    assert finding.correction == "A box has volume $8 \\cdot 3 \\cdot 2 = 24 \\cdot 2 = 48$."


def test_what_follows_from_an_error_is_not_blamed() -> None:
    steps = [
        "There are $7 \\cdot 6 \\cdot 5 = 200$ ordered choices.",
        "Each committee is counted $3! = 6$ times.",
        "So there are $200/6 = 33$ committees: $\\boxed{33}$.",
    ]
    assert located(COMMITTEE, *steps) == 1


def test_a_false_calculation_counts_even_where_the_answer_is_right() -> None:
    steps = ["There are $7 \\cdot 6 \\cdot 5 = 200$ ordered choices.", "So there are $\\boxed{35}$."]
    assert located(COMMITTEE, *steps) == 1


def test_a_false_expansion_is_found() -> None:
    steps = [
        "Here $(t-5)(t+3) = t^2 - 2t + 15$.",
        "So the roots are $5$ and $-3$.",
        "Their sum is $\\boxed{2}$.",
    ]
    assert located(ROOTS, *steps) == 1


def test_a_root_that_fails_its_equation_is_found() -> None:
    steps = [
        "We solve $t^2 - 2t = 15$.",
        "Completing the square, $(t-1)^2 = 16$.",
        "Hence $t = 17$, and $\\boxed{17}$.",
    ]
    finding = locate_math(ROOTS, steps)
    assert finding is not None
    assert finding.step == 3
    assert "does not satisfy" in finding.cause


def test_an_equation_that_lost_the_roots_of_the_one_before_is_found() -> None:
    steps = [
        "From $t^2 - 2t = 15$ we get $t^2 - 2t + 15 = 0$.",
        "It has no real root.",
        "The answer is $\\boxed{0}$.",
    ]
    assert located(ROOTS, *steps) == 1


def test_the_step_with_a_number_that_the_problem_never_has_is_found() -> None:
    steps = [
        "We choose three of seven people.",
        "The first can be chosen in 7 ways, the next in 6, the last in 5, so $7 \\cdot 6 \\cdot 5 = 210$.",
        "Since order plays no role we divide by the number of people in it, $210 / 3 = 70$.",
        "Therefore there are $\\boxed{70}$ committees.",
    ]
    finding = locate_math(COMMITTEE, steps)
    assert finding is not None
    assert (finding.step, finding.kind) == (3, "quantity")
    assert "70" in finding.cause
    assert "6" in finding.correction


def test_a_wrong_answer_is_traced_back_to_the_number_that_led_to_it() -> None:
    steps = [
        "The base of a box is $8 + 3 = 11$.",
        "Its height is $2$.",
        "So a box has volume $11 \\cdot 2 = 22$.",
        "Nine boxes have $9 \\cdot 22 = \\boxed{198}$.",
    ]
    assert located(BOXES, *steps) == 1


def test_a_right_value_with_another_final_answer_is_blamed_at_the_end() -> None:
    steps = [
        "One box has volume $8 \\cdot 3 \\cdot 2 = 48$.",
        "All nine have $9 \\cdot 48 = 432$.",
        "The answer is $\\boxed{48}$.",
    ]
    finding = locate_math(BOXES, steps)
    assert finding is not None
    assert (finding.step, finding.kind) == (3, "answer")
    steps[2] = "The answer is $\\boxed{\\text{none}}$."
    finding = locate_math(BOXES, steps)
    assert finding is not None
    assert (finding.step, finding.kind) == (3, "answer")
    assert "\\boxed{432}" in finding.correction


LINE = ("If $2x+3=11$, find $x$.", "4", "Subtracting 3, $2x=8$, so $x=\\boxed{4}$.")
SUM = (
    "What is the sum of the positive divisors of 12?", "28",
    "The divisors are $1,2,3,4,6,12$, whose sum is $1+2+3+4+6+12=\\boxed{28}$.",
)  # fmt: skip
RIM = (
    "A rectangle has length 8 and width 5. What is its perimeter?", "26",
    "The perimeter is $2(8+5)=2\\cdot 13=\\boxed{26}$.",
)  # fmt: skip


@pytest.mark.parametrize(
    ("problem", "steps", "step", "kind"),
    [
        (LINE, ("$2x=8$.", "$x=4$.", "The answer is $\\boxed{8}$."), 3, "answer"),
        (LINE, ("$2x=8$.", "$\\boxed{8}$"), 2, "answer"),
        (RIM, ("The perimeter is $2(8+5)$.", "This is $2\\cdot 13$.", "So $\\boxed{28}$."), 3, "answer"),
        (RIM, ("$8+5=13$.", "$\\boxed{13}$"), 2, "answer"),
        # the product of the sides is no value of the problem
        (RIM, ("The perimeter is $8\\cdot5=40$.", "$\\boxed{40}$"), 1, "quantity"),
        (
            SUM,
            (
                "The divisors are 1, 2, 3, 4, 6, 12.",
                "Their sum is $1+2+3+4+6+12=28$.",
                "So the answer is $28-12=16$. $\\boxed{16}$",
            ),
            3,
            "quantity",
        ),
        (SUM, ("The divisors are 1, 2, 3, 6, 12.", "$1+2+3+6+12=24$.", "$\\boxed{24}$"), 2, "quantity"),
    ],
)
def test_what_is_right_is_not_blamed_for_another_final_answer(
    problem: tuple[str, str, str], steps: tuple[str, ...], step: int, kind: str
) -> None:
    question, answer, reference = problem
    finding = locate_math(Problem.create(question, answer=answer, reference_solution=reference), steps)
    assert finding is not None
    assert (finding.step, finding.kind) == (step, kind)


def test_the_answer_may_stand_apart_from_the_steps() -> None:
    steps = ["One box has $8 \\cdot 3 \\cdot 2 = 48$.", "Nine have $9 \\cdot 48 = 432$."]
    assert locate_math(BOXES, steps, answer="432") is None
    assert locate_math(BOXES, steps, answer="433") is not None


@pytest.mark.parametrize(
    ("last", "right"),
    [
        ("So there are 35 of them, for 3 chosen.", True),
        ("So there are $210 / 6 = 35$, each with 3 people.", True),
        ("So there are $35 + 3 = 38$ of them.", False),
    ],
)
def test_a_last_sentence_may_come_to_the_answer_without_a_box(last: str, right: bool) -> None:
    assert (locate_math(COMMITTEE, ["We count.", last]) is None) is right


def test_nothing_that_is_said_names_a_reference() -> None:
    finding = locate_math(COMMITTEE, ["There are $7 + 6 = 13$.", "$\\boxed{13}$"])
    assert finding is not None
    for word in ("reference", "solution", "answer key", "true answer"):
        assert word not in f"{finding.cause} {finding.correction}".lower()


def test_cases_and_denials_are_no_errors_of_their_own() -> None:
    for text in (
        "If we try $t = 4$ we would need $16 - 8 = 15$, which does not hold.",
        "Case 1: $t - 5 = 0$. Case 2: $t + 3 = 0$.",
    ):
        assert all(one.sure < 0.69 for one in suspicions_of([text], frozenset(), {}, frozenset())[0])


def test_equations_of_the_question_are_never_doubted() -> None:
    steps = ["We are told that $2 = 3$."]
    assert [one.sure > 0.5 for one in suspicions_of(steps, frozenset(), {}, frozenset())[0]] == [True]
    assert suspicions_of(steps, frozenset({"2=3"}), {}, frozenset()) == [[]]


def test_right_values_of_letters_refute_an_equation() -> None:
    (found,) = suspicions_of(["So $3s + 1 = 10$."], frozenset(), {"s": Fraction(4)}, frozenset())[0]
    assert "$s = 4$" in found.cause
    assert suspicions_of(["So $3s + 1 = 10$."], frozenset(), {"s": Fraction(3)}, frozenset()) == [[]]


def test_results_are_kept_with_what_they_came_from() -> None:
    content = content_of("Thus $A = 2 \\cdot 5 + 1 = 11$, and two apples.")
    assert content.results[Fraction(11)] >= {2, 5, 10, 1}
    assert Fraction(2) in content.written


def test_the_correction_is_what_comes_next() -> None:
    reference = ["Let us count.", "There are $7 \\cdot 6 = 42$.", "Half of it is $21$."]
    assert next_sentences(reference, ["$7 \\cdot 6 = 42$"], "Count.") == "Half of it is $21$."
    assert next_sentences(reference, [], "Count.") == "Let us count. There are $7 \\cdot 6 = 42$."


@pytest.mark.parametrize(
    "steps", [[], [""], ["$"], ["\\[" * 400], ["$x" * 3000], ["\\begin{align*}" * 300], ["1" * 50_000]]
)
def test_strange_steps_never_raise(steps: list[str]) -> None:
    finding = locate_math(BOXES, steps)
    assert finding is None or 1 <= finding.step <= len(steps)


def test_huge_problems_and_solutions_are_judged_by_their_beginning() -> None:
    huge = Problem.create("Why $x$? " * 200_000, answer="5", reference_solution="So $x = 5$. \\[" * 200_000)
    assert located(huge, *["$2 + 3 = 6$"] * 1000, "$\\boxed{6}$") == 1


def test_without_a_reference_solution_the_answer_alone_judges() -> None:
    problem = Problem.create("What is $2+3$?", answer="5")
    assert locate_math(problem, ["$2 + 3 = 5$", "$\\boxed{5}$"]) is None
    assert located(problem, "$2 + 3 = 6$", "$\\boxed{6}$") == 1


def test_the_reference_teacher_judges_prose_and_writes_solutions() -> None:
    teacher = ReferenceTeacher()
    wrong = parse_solution(
        "<Step1>$8 \\cdot 3 \\cdot 2 = 46$.</Step1><Step2>$9 \\cdot 46 = 414$</Step2><Answer>414</Answer>"
    )
    critique, calls = teacher.critique(BOXES.question, wrong, reference=BOXES)
    assert critique.step == 1
    assert "48" in critique.correction
    assert len(calls) == 1
    template, _ = teacher.write_solution(BOXES)
    assert template is not None
    assert (template.answer, template.model) == ("432", "reference")


@pytest.mark.parametrize(
    "step",
    [
        # each holds, and so does no part of it that ends in the middle of a product or a sum
        "Thus 55^2 - 45^2 = (55+45)(55-45) = (100)(10) = 1000.",
        "From x + 2*3 = 1006 we get x = 1000.",
        "Because 2*500 = 1000x/x, and 5! = 120 = 2*60.",
        "Now 2(3+497) = 1000 and 12/4 = 3x for x = 1.",
    ],
)
def test_arithmetic_without_dollars_is_read_to_both_its_ends(step: str) -> None:
    problem = Problem.create(
        "What is $55^2 - 45^2$?", answer="1000", reference_solution=r"It is $100\cdot 10 = \boxed{1000}$."
    )
    assert locate_math(problem, [step, r"So it is $\boxed{1000}$."], "1000") is None
