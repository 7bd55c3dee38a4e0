"""The sandbox: written arithmetic, the world and its splits, the teacher's reading of flawed solutions."""

from __future__ import annotations

import random
import re

import pytest

from supercorrect_agent.errors import TeacherError
from supercorrect_agent.sandbox.arithmetic import apply, compare_digits, work, work_slowly
from supercorrect_agent.sandbox.slips import flawed_solution, flawed_works, misread, misread_events
from supercorrect_agent.sandbox.teacher import Claim, SandboxTeacher, read_claim, review_steps
from supercorrect_agent.sandbox.world import (
    SPLITS,
    Event,
    Story,
    draw_story,
    generate_problems,
    read_story,
    story_split,
    tell_story,
)
from supercorrect_agent.sandbox.writing import work_through, write_check, write_solution, write_step
from supercorrect_agent.templates import parse_solution

QUESTION = (
    "Mia has 47 shells. Mia finds 85 more. Mia trades each one for 3 new ones. "
    "How many shells does Mia have now?"
)
STORY = Story(47, (Event("+", 85), Event("*", 3)))


@pytest.mark.parametrize(
    ("left", "operator", "right", "key", "result"),
    [
        (47, "+", 85, "7+5=12,4+8+1=13", "132"),
        (132, "-", 85, "12-5=7,13-1-8=4,1-1-0=0", "47"),
        (47, "*", 6, "7*6=42,4*6+4=28", "282"),
        (282, "/", 6, "2/6=0r2,28/6=4r4,42/6=7r0", "47"),
        (62, "/", 6, "6/6=1r0,2/6=0r2", "10r2"),
        (32, "-", 85, "12-5=7,13-1-8=4", "-"),
    ],
)
def test_columns_are_worked_as_on_paper(left: int, operator: str, right: int, key: str, result: str) -> None:
    done = work(left, operator, right)
    assert (done.key, done.result) == (key, result)


def test_every_worked_result_is_exact() -> None:
    rng = random.Random(7)
    for _ in range(2000):
        for done in work_through(draw_story(rng)):
            assert int(done.result) == apply(done.left, done.operator, done.right)


@pytest.mark.parametrize(
    ("left", "operator", "right", "facts"),
    [
        (47, "+", 85, "7+5=12;2 4+8=12,12+1=13;132"),
        (95, "+", 7, "5+7=12;2 9+0=9,9+1=10;102"),
        (497, "-", 434, "7-4=3;3 9-3=6;63 4-4=0;063"),
        (502, "-", 308, "12-8=4;4 10-1=9,9-0=9;94 5-1=4,4-3=1;194"),
        (48, "*", 8, "8*8=64;4 4*8=32,32+6=38;384"),
        (408, "*", 2, "8*2=16;6 0*2=0,0+1=1;16 4*2=8;816"),
        (297, "/", 9, "2/9=0,0*9=0,2-0=2;0 29/9=3,3*9=27,29-27=2;03 27/9=3,3*9=27,27-27=0;033"),
    ],
)
def test_slow_work_does_nothing_in_the_head(left: int, operator: str, right: int, facts: str) -> None:
    assert work_slowly(left, operator, right) == facts


def test_every_slow_result_is_exact() -> None:
    rng = random.Random(8)
    for _ in range(2000):
        for done in work_through(draw_story(rng)):
            facts = work_slowly(done.left, done.operator, done.right)
            assert int(facts.split(";")[-1]) == apply(done.left, done.operator, done.right)
            for fact in re.split("[ ,]", re.sub(";[0-9]+", "", facts)):
                claim, value = fact.split("=")
                left, operator, right = re.split("([-+*/])", claim)
                exact = {"/": int(left) // int(right)} if operator == "/" else {}
                assert int(value) == exact.get(operator, apply(int(left), operator, int(right)))


def test_a_slip_is_followed_through() -> None:
    # 7+5 is taken for 13, so the units read 3; the carry stays 1
    assert work(47, "+", 85, slip=(0, 1)).result == "133"
    # 7*6 is taken for 41: units 1, carry 4, so 4*6+4=28 gives 281
    assert work(47, "*", 6, slip=(0, -1)).result == "281"


def test_easy_steps_carry_no_key() -> None:
    assert write_step(work(12, "+", 34)) == "Add 34 more. 12+34=46"
    assert write_step(work(47, "+", 85)) == "Add 85 more. <Key>7+5=12,4+8+1=13</Key> 47+85=132"


def test_comparison_lines_digits_up() -> None:
    assert compare_digits("617", "517") == ("0=0,6#5,1=1,7=7", False)
    assert compare_digits("47", "047") == ("0=0,0=0,4=4,7=7", True)
    assert compare_digits("10r2", "10") == ("", False)


def test_unknown_operator_is_named() -> None:
    with pytest.raises(ValueError, match="operator='%'"):
        work(1, "%", 2)
    with pytest.raises(ValueError, match="operator='%'"):
        work_slowly(1, "%", 2)


def test_a_story_reads_back_as_it_was_told() -> None:
    rng = random.Random(3)
    for _ in range(500):
        story = draw_story(rng)
        assert read_story(tell_story(rng, story)) == story


def test_splits_share_no_story_and_unseen_shares_no_shape() -> None:
    told = {
        split: [read_story(p.question) for p in generate_problems(split, 300, seed=1)] for split in SPLITS
    }
    for split, stories in told.items():
        assert {story_split(story) for story in stories} == {split}
    for one in SPLITS:
        for other in SPLITS:
            if one < other:
                assert not set(told[one]) & set(told[other])
    unseen_shapes = {story.shape for story in told["unseen"]}
    assert not unseen_shapes & {story.shape for split in ("train", "dev", "test") for story in told[split]}


def test_generation_is_seeded_and_truthful() -> None:
    first, again = generate_problems("dev", 50, seed=5), generate_problems("dev", 50, seed=5)
    assert first == again
    assert first != generate_problems("dev", 50, seed=6)
    assert len({problem.id for problem in first}) == 50
    for problem in first:
        assert problem.answer == str(read_story(problem.question).answer)
        assert 0 < int(problem.answer) < 1000


@pytest.mark.parametrize(
    ("split", "n", "name"), [("validation", 1, "split='validation'"), ("dev", -1, "n=-1")]
)
def test_generation_names_bad_arguments(split: str, n: int, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        generate_problems(split, n)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "claim"),
    [
        ("Add 85 more. 47+85=132", Claim(47, "+", 85, "132")),
        ("So $47 + 85 = $132.", Claim(47, "+", 85, "132")),
        ("47 × 3 = 141 shells", Claim(47, "*", 3, "141")),
        ("1,200 ÷ 6 = 200", Claim(1200, "/", 6, "200")),
        ("12 − 5 = 7, then 7+1=8", Claim(7, "+", 1, "8")),
        ("Mia has many shells.", None),
        ("47+85=132.5", None),
    ],
)
def test_claims_are_read_from_a_step(text: str, claim: Claim | None) -> None:
    assert read_claim(text) == claim


def test_check_uses_the_inverse_operation() -> None:
    need = work(517, "-", 138)
    claim = work(517, "-", 138, slip=(2, 1))
    text, holds = write_check(need, claim.expression, claim, "479")
    compared = "517-138 have 517-138 same 479+138:9+8=17,7+3+1=11,4+1+1=6 617 0=0,6#5,1=1,7=7 wrong"
    assert text == f"Take away 138. need {compared}"
    assert not holds


def critique(text: str, question: str = QUESTION):  # type: ignore[no-untyped-def]
    found, calls = SandboxTeacher().critique(question, parse_solution(text))
    (call,) = calls
    assert (call.role, call.model) == ("teacher", "sandbox")
    return found


RIGHT = write_solution(STORY)


def test_teacher_accepts_a_right_solution() -> None:
    found = critique(RIGHT)
    assert (found.step, found.readable, found.answer) == (None, True, "396")
    assert found.raw.endswith("<Answer>\\boxed{396}</Answer>")


SUM = "Slowly: 7+5=12;2 4+8=12,12+1=13;132, so 47+85 is 132"
PRODUCT = "Slowly: 2*3=6;6 3*3=9;96 1*3=3;396, so 132*3 is 396"


@pytest.mark.parametrize(
    ("steps", "answer", "step", "cause"),
    [
        (["47+85=122", "122*3=366"], "366", 1, f"{SUM}, not 122."),
        (["47+85=132", "132*3=386"], "386", 2, f"{PRODUCT}, not 386."),
        (["47+58=105", "105*3=315"], "315", 1, f"The story needs 47+85, not 47+58. {SUM}."),
        (["47+85=132", "132+3=135"], "135", 2, f"The story needs 132*3, not 132+3. {PRODUCT}."),
        (["47+85=132"], "132", 1, f"The story goes on: 132*3 is missing. {PRODUCT}."),
        (["47+85=132", "132*3=396", "396+2=398"], "398", 3, "Nothing more happens in the story."),
        (["47+85=132", "132*3=396"], "369", 2, "The answer is 369, but the last value is 396."),
        (["She has 47.", "47+85=132", "So 132*3=386"], "386", 3, f"{PRODUCT}, not 386."),
    ],
)
def test_teacher_names_the_first_wrong_step_and_why(
    steps: list[str], answer: str, step: int, cause: str
) -> None:
    body = "\n".join(f"<Step{i}>{text}</Step{i}>" for i, text in enumerate(steps, 1))
    found = critique(f"{body}\n<Answer>\\boxed{{{answer}}}</Answer>")
    assert (found.step, found.cause) == (step, cause)


@pytest.mark.parametrize(
    "steps",
    [
        ["85+47=132", "3*132=396"],
        ["Mia starts with 47 shells.", "After finding 85 she has 132.", "132*3=396"],
        ["132*3=396"],
    ],
)
def test_teacher_accepts_other_ways_to_the_same_values(steps: list[str]) -> None:
    body = "\n".join(f"<Step{i}>{text}</Step{i}>" for i, text in enumerate(steps, 1))
    assert critique(f"{body}\n<Answer>396</Answer>").step is None


def test_the_correction_is_the_step_as_it_should_be() -> None:
    found = critique("<Step1>47+85=122</Step1>\n<Step2>122*3=366</Step2>\n<Answer>366</Answer>")
    assert found.correction == "Add 85 more. <Key>7+5=12,4+8+1=13</Key> 47+85=132"


def test_teacher_finds_every_wrong_answer_of_flawed_solutions_and_only_true_errors() -> None:
    rng = random.Random(11)
    for _ in range(500):
        story = draw_story(rng)
        solution = parse_solution(flawed_solution(rng, story, 0.3))
        _, finding = review_steps(story, [s.text for s in solution.steps], solution.answer)
        if solution.answer != str(story.answer):
            assert finding is not None
        clean = parse_solution(write_solution(story))
        assert review_steps(story, [s.text for s in clean.steps], clean.answer)[1] is None


def test_flawed_work_slips_about_as_often_as_asked() -> None:
    rng = random.Random(2)
    story = Story(47, (Event("+", 85), Event("-", 29)))
    none = [flawed_works(rng, story, 0.0)[-1].result for _ in range(50)]
    assert set(none) == {"103"}
    wrong = sum(flawed_works(rng, story, 0.5)[-1].result != "103" for _ in range(400))
    assert 200 < wrong < 380
    assert all(misread(rng, 47) != 47 for _ in range(200))


def test_a_careless_reader_leaves_out_repeats_or_mixes_up_what_happens() -> None:
    story = Story(47, (Event("+", 85), Event("*", 3), Event("-", 29)))
    rng = random.Random(6)
    seen = {tuple(misread_events(rng, story)) for _ in range(200)}
    add, times, lose = story.events
    assert {(times, lose), (add, add, times, lose), (add, times, Event("-", 3))} <= seen  # 85 * 47 never fits
    assert (add, Event("*", 29), lose) not in seen
    assert story.events not in seen
    solution = parse_solution(flawed_solution(rng, story, 0.0, misreading=1.0))
    assert review_steps(story, [step.text for step in solution.steps], solution.answer)[1] is not None


def test_teacher_says_which_sentence_it_cannot_read() -> None:
    with pytest.raises(TeacherError, match="Natalia sold clips"):
        critique(RIGHT, "Natalia sold clips to 48 of her friends in April. How many clips did she sell?")


def test_teacher_marks_a_solution_without_steps_as_unreadable() -> None:
    assert critique("").readable is False


def test_the_teachers_calls_count_words_and_signs() -> None:
    _, (call,) = SandboxTeacher().critique(QUESTION, parse_solution(""))
    words = QUESTION.replace(".", " .").replace("?", " ?").split()
    assert (call.input_tokens, call.output_tokens) == (len(words), 0)
