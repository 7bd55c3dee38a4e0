"""Traces to preference pairs: what both sides hold, and why a pair is dropped.

The traces are those of tests/training_traces.py: 47+85=132 is right, 132*3=386 wrong (it is 396); the teacher
corrects it to 396, the student to 376.
"""

from __future__ import annotations

import random
from typing import Any, Literal

import pytest

from supercorrect_agent.prompts import DEFAULT_PROMPTS, review_messages, student_messages
from supercorrect_agent.templates import parse_solution
from supercorrect_agent.types import Alternative, Inspection, Problem, Round, Trace, Verdict
from tests.training_traces import (
    CORRECTED,
    FALSE,
    PREFIX,
    QUESTION,
    RIGHT,
    STUDENT,
    TEACHER,
    TEMPLATE,
    WRONG,
    make_critique,
    make_round,
    make_trace,
    no_error_round,
    numbered,
)
from training.critiques import read_numbers, same_value
from training.pairs import build_preference_dataset

REVIEW_PROMPT = [{"role": "user", "content": review_messages(DEFAULT_PROMPTS, QUESTION, WRONG)[0].content}]
SOLVE_PROMPT = [{"role": "user", "content": student_messages(DEFAULT_PROMPTS, QUESTION)[0].content}]
OWN = "<Evaluate>wrong</Evaluate><Cause>3*3 is 9.</Cause><Correction>so 132*3 = 396</Correction>"


def side(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def alternative(
    said: str = OWN,
    *,
    source: Literal["student_rewrite", "student_resample"] = "student_rewrite",
    verdict: Verdict | None = RIGHT,
) -> Alternative:
    return Alternative(source=source, critique=make_critique(PREFIX + said, "student"), verdict=verdict)


def other_error(
    step: str, sample: int = 0, *, rejected: str = "376", question: str = QUESTION, solved: bool = True
) -> Trace:
    """A trace whose second step reads otherwise."""
    round_ = make_round(solved=solved)
    prefix = PREFIX.replace("132*3=386", step)
    critique = make_critique(prefix + TEACHER)
    review = make_critique(prefix + STUDENT.replace("376", rejected), "student")
    return make_trace(
        round_.model_copy(update={"critique": critique, "review": review}),
        attempt=WRONG.replace("132*3=386", step),
        question=question,
        sample=sample,
    )


def dropped(*traces: Trace, **options: Any) -> dict[str, int]:
    return build_preference_dataset(traces, **options)[1].dropped


# What a pair holds


def test_an_inline_pair_shares_the_rewritten_steps_up_to_the_wrong_one() -> None:
    rows, manifest = build_preference_dataset([make_trace(make_round())])
    assert rows == [
        {
            "prompt": REVIEW_PROMPT,
            "chosen": side(PREFIX + TEACHER),
            "rejected": side(PREFIX + STUDENT),
            "prefix": PREFIX,
            "ends": False,
            "kind": "correction",
            "problem_id": Problem.create(QUESTION).id,
            "step": 2,
            "trace_id": Problem.create(QUESTION).id + "-0",
            "split": "train",
        }
    ]
    assert manifest.kept_by_kind == {"correction": 1}


def test_a_missed_error_is_rejected_up_to_the_end_of_its_step() -> None:
    missed = "<Evaluate>132*3 is 386, ok</Evaluate></Step2>\n<Answer>\\boxed{386}</Answer>"
    row = build_preference_dataset([make_trace(make_round(student=missed))])[0][0]
    assert (row["kind"], row["chosen"]) == ("missed", side(PREFIX + TEACHER))
    assert row["rejected"] == side(PREFIX + "<Evaluate>132*3 is 386, ok</Evaluate></Step2>")


def test_a_review_that_could_not_be_forced_is_read_at_the_same_step() -> None:
    free = "<Step1>47+85=132<Evaluate>fine</Evaluate></Step1>\n<Step2>132*3=386" + STUDENT + "</Step2>"
    round_ = make_round().model_copy(update={"review": make_critique(free, "student")})
    rows, _ = build_preference_dataset([make_trace(round_)])
    assert (rows[0]["prefix"], rows[0]["rejected"]) == (PREFIX, side(PREFIX + STUDENT))


def test_the_literal_format_shows_the_steps_before_the_wrong_one_only() -> None:
    rows, _ = build_preference_dataset([make_trace(make_round())], pair_format="literal_eq8")
    kept = "<Step1>47+85=132</Step1>\n"
    assert rows[0]["prompt"][0]["content"] == review_messages(DEFAULT_PROMPTS, QUESTION, kept)[0].content
    assert rows[0]["prefix"] == "<Step2>"
    assert rows[0]["chosen"] == side("<Step2><Cause>3*3 is 9.</Cause><Correction>132*3=396</Correction>")
    assert rows[0]["rejected"] == side("<Step2><Cause>Carry.</Cause><Correction>132*3=376</Correction>")


def test_solve_pairs_set_the_corrected_step_against_the_wrong_one() -> None:
    rows, _ = build_preference_dataset([make_trace(make_round(student=None))], solve_pairs=True)
    kept = "<Step1>47+85=132</Step1>\n"
    assert [row["kind"] for row in rows] == ["solve"]
    assert (rows[0]["prompt"], rows[0]["prefix"]) == (SOLVE_PROMPT, kept)
    assert rows[0]["chosen"] == side(kept + "<Step2>132*3=396</Step2>")
    assert rows[0]["rejected"] == side(kept + "<Step2>132*3=386</Step2>")


def test_a_false_alarm_is_rejected_behind_the_students_own_trace() -> None:
    said = "<Evaluate>wrong</Evaluate><Cause>No.</Cause><Correction>47+85=122</Correction>"
    alarm = f"<Step1>47+85=132{said}</Step1>"
    round_ = no_error_round().model_copy(update={"review": make_critique(alarm, "student")})
    row = build_preference_dataset([make_trace(round_, attempt=CORRECTED, verdict=RIGHT)])[0][0]
    assert (row["kind"], row["step"], row["prefix"]) == ("false alarm", 1, "<Step1>47+85=132")
    assert row["chosen"] == side("<Step1>47+85=132<Evaluate>ok</Evaluate></Step1>")
    assert row["rejected"] == side("<Step1>47+85=132" + said)


@pytest.mark.parametrize("pair_format", ["inline", "literal_eq8", "whole_answer"])
def test_no_prompt_shows_the_reference(pair_format: Any) -> None:
    trace = make_trace(make_round(), template=TEMPLATE)
    reference = "The reference: 47 and 85 make 132, thrice that is 396."
    problem = trace.problem.model_copy(update={"reference_solution": reference})
    rows, _ = build_preference_dataset(
        [trace.model_copy(update={"problem": problem})], pair_format=pair_format, solve_pairs=True
    )
    assert len(rows) >= 1
    for row in rows:
        assert [message["role"] for message in row["prompt"]] == ["user"]
        assert "396" not in row["prompt"][0]["content"]
        assert "eference" not in row["prompt"][0]["content"]


# Whole answers


def test_a_whole_answer_sets_the_verified_revision_against_the_attempt() -> None:
    rows, manifest = build_preference_dataset(
        [make_trace(make_round(), template=TEMPLATE)], pair_format="whole_answer", solve_pairs=True
    )
    assert manifest.kept_by_kind == {"whole": 1}
    row = rows[0]
    assert (row["prompt"], row["prefix"], row["ends"], row["step"]) == (SOLVE_PROMPT, "", True, 2)
    assert (row["chosen"], row["rejected"]) == (side(CORRECTED), side(WRONG))


@pytest.mark.parametrize("end", ["</Answer >", "</answer:>", "</Answer>\n"])
def test_an_answer_ends_in_any_spelling_of_its_tag(end: str) -> None:
    revision = parse_solution(CORRECTED.replace("</Answer>", end))
    round_ = make_round().model_copy(update={"solution": revision})
    rows, _ = build_preference_dataset([make_trace(round_)], pair_format="whole_answer")
    assert [row["ends"] for row in rows] == [True]


def test_a_whole_answer_without_a_right_revision_takes_the_verified_template() -> None:
    trace = make_trace(make_round(author="model", solved=False), template=TEMPLATE)
    rows, _ = build_preference_dataset([trace], pair_format="whole_answer")
    assert rows[0]["chosen"] == side(TEMPLATE)


CUT = parse_solution(CORRECTED.removesuffix("</Answer>"))


@pytest.mark.parametrize(
    ("trace", "reason"),
    [
        (make_trace(make_round(solved=False)), "no verified solution"),
        (
            make_trace(make_round(solved=False), template=TEMPLATE.replace("396", "395")),
            "no verified solution",
        ),
        (make_trace(make_round(), attempt=WRONG.removesuffix("</Answer>")), "no </Answer> at the end"),
        (
            make_trace(make_round().model_copy(update={"solution": CUT})),
            "no </Answer> at the end",
        ),
        (make_trace(no_error_round(), attempt=CORRECTED, verdict=RIGHT), "attempt is right"),
        (make_trace(make_round(), attempt=WRONG + "\nThe answer key has 386.</Answer>"), "leak"),
    ],
)
def test_an_unusable_whole_answer_is_dropped_for_a_counted_reason(trace: Trace, reason: str) -> None:
    assert dropped(trace, pair_format="whole_answer") == {reason: 1}


# Whose words are chosen


def with_alternatives(*alternatives: Alternative, **fields: Any) -> Trace:
    return make_trace(make_round(**fields).model_copy(update={"alternatives": alternatives}))


@pytest.mark.parametrize("pair_format", ["inline", "literal_eq8"])
def test_the_first_verified_alternative_of_the_source_is_chosen(pair_format: Any) -> None:
    trace = with_alternatives(
        alternative(OWN.replace("so ", "wrongly "), verdict=FALSE),
        alternative(OWN.replace("so ", "unknown "), verdict=None),
        alternative(OWN.replace("so ", "other source "), source="student_resample"),
        alternative(OWN),
        alternative(OWN.replace("so ", "later ")),
    )
    row = build_preference_dataset([trace], pair_format=pair_format, chosen_source="student_rewrite")[0][0]
    chosen = {
        "inline": PREFIX + OWN,
        "literal_eq8": "<Step2><Cause>3*3 is 9.</Cause><Correction>so 132*3 = 396</Correction>",
    }
    assert row["chosen"] == side(chosen[pair_format])


def test_an_alternative_at_another_step_is_not_chosen() -> None:
    first = "<Step1>47+85=132" + OWN
    elsewhere = Alternative(source="student_rewrite", critique=make_critique(first, "s"), verdict=RIGHT)
    assert dropped(with_alternatives(elsewhere), chosen_source="student_rewrite") == {
        "no verified student_rewrite": 1
    }


def test_without_a_verified_alternative_there_is_no_pair() -> None:
    trace = with_alternatives(alternative())
    assert dropped(trace, chosen_source="student_resample") == {"no verified student_resample": 1}
    assert dropped(trace, chosen_source="student_rewrite") == {}
    assert build_preference_dataset([trace])[0][0]["chosen"] == side(PREFIX + TEACHER)


def test_a_verified_alternative_needs_no_verified_teacher_but_a_solve_pair_does() -> None:
    trace = with_alternatives(alternative(), author="model", solved=False)
    _, manifest = build_preference_dataset([trace], chosen_source="student_rewrite", solve_pairs=True)
    assert manifest.kept_by_kind == {"correction": 1}
    assert dropped(trace) == {"correction not verified": 1}


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (OWN.replace("3*3 is 9.", "The reference solution has 9."), "inspection: leak"),
        (OWN.replace("wrong", "wrong by the answer key"), "leak"),
        (OWN.replace("3*3 is 9.", "So. " * 90), "length ratio"),
        (OWN.replace("so 132*3 = 396", "132*3=386"), "inspection: correction"),
    ],
)
def test_the_filters_apply_to_the_students_chosen_words(said: str, reason: str) -> None:
    trace = with_alternatives(alternative(said))
    assert dropped(trace, chosen_source="student_rewrite") == {reason: 1}


# Why a pair is dropped


@pytest.mark.parametrize(
    ("round_", "reason"),
    [
        (make_round(student=None), "no review by the student"),
        (make_round(student=STUDENT.replace("376", "396")), "student correction is right"),
        (
            make_round(student=STUDENT.replace("132*3=376", "It is 396 in all, not 386.")),
            "student correction is right",
        ),
        (
            make_round(student=STUDENT + "</Step2>\n<Answer>\\boxed{396}</Answer>"),
            "student correction is right",
        ),
        (make_round(student="<Evaluate>hm"), "student review unreadable"),
        (make_round(student=STUDENT.replace("Carry.", "Carry. " * 90)), "length ratio"),
        (make_round(student=STUDENT.replace("Carry.", "The reference solution differs.")), "leak"),
        (make_round(teacher=TEACHER.replace("wrong", "wrong by the answer key")), "leak"),
        (make_round(author="model", solved=False), "correction not verified"),
    ],
)
def test_an_unusable_pair_is_dropped_for_a_counted_reason(round_: Round, reason: str) -> None:
    rows, manifest = build_preference_dataset([make_trace(round_)])
    assert (list(rows), manifest.dropped) == ([], {reason: 1})


def test_a_right_value_that_only_an_alternative_shows_is_never_rejected() -> None:
    """The teacher speaks of 396 beads, the student's correction and its verified resample of 33 dozen."""
    said = STUDENT.replace("132*3=376", "33 dozen")
    trace = with_alternatives(alternative(said, source="student_resample"), student=said)
    assert dropped(trace) == {"student correction is right": 1}
    unverified = with_alternatives(alternative(said, source="student_resample", verdict=FALSE), student=said)
    assert dropped(unverified) == {}


def test_an_inspector_that_disagrees_drops_the_pair() -> None:
    failed = Inspection(check="agrees_with_answer", passed=False, note="no")
    assert dropped(make_trace(make_round().model_copy(update={"inspections": (failed,)}))) == {
        "inspection: agrees_with_answer": 1
    }


def test_sides_with_the_same_text_are_dropped() -> None:
    round_ = no_error_round().model_copy(
        update={"review": make_critique("<Step1>47+85=132<Evaluate>ok</Evaluate></Step1>", "student")}
    )
    right = round_.review.model_copy(update={"step": 1})  # misread as an alarm
    trace = make_trace(round_.model_copy(update={"review": right}), attempt=CORRECTED, verdict=RIGHT)
    assert dropped(trace) == {"texts equal": 1}


def test_a_pair_from_a_later_round_is_about_the_revised_solution() -> None:
    first, second = make_round(solved=False, student=None), make_round()
    rows, manifest = build_preference_dataset([make_trace(first, second)])
    assert [row["prompt"] for row in rows] == [REVIEW_PROMPT]
    assert manifest.dropped == {"no review by the student": 1}


def test_questions_held_out_and_other_splits_give_no_pairs() -> None:
    traces = [make_trace(make_round()), make_trace(make_round(), split="test")]
    assert dropped(*traces, held_out=iter([QUESTION.upper()])) == {"held out": 1, "split": 1}


@pytest.mark.parametrize(
    ("correction", "own", "same"),
    [
        ("132*3=396", "132*3=376", False),
        ("132*3=396", "3*132 = 396.0 parts", True),
        ("132*3=396 for 3 children", "132*3=376 for 3 children", False),
        ("5-8=-3", "5-8=3", False),
        ("x=1/2", "x = 0.5", True),
        ("x=\\frac{1}{2}", "x=1/2", True),
        ("1,200", "It is 1200.", True),
        ("x=1/2", "x=3/2", False),
        ("Divide, do not multiply.", "divide,  do not multiply.", True),
        ("Divide.", "Multiply.", False),
        ("x=1/0", "x=1/0 ", True),
        ("x=1/0", "x=2/0", False),
    ],
)
def test_two_corrections_have_the_same_value(correction: str, own: str, same: bool) -> None:
    assert same_value(correction, own) is same


def test_numbers_are_read_in_order() -> None:
    text = "1,2 and 1,234.5 is -3, 7-4, x - 4, 3/4, .5 and \\frac{3}{4}"
    assert [float(each) for each in read_numbers(text)] == [1, 2, 1234.5, -3, 7, 4, 4, 0.75, 0.5, 0.75]


# Duplicates

LONG = "The beads are all cut into three equal parts each, so 132*3=386"  # 12 words
SIMILAR = LONG.replace("equal", "even")  # 11 of 12 words in common: 2*11/24 = 0.917


def test_the_same_wrong_step_teaches_once_however_often_it_was_sampled() -> None:
    other = make_round(student=STUDENT.replace("376", "366"))
    rows, manifest = build_preference_dataset([make_trace(make_round()), make_trace(other, sample=1)])
    assert (len(rows), manifest.dropped) == (1, {"duplicate": 1})


@pytest.mark.parametrize(
    ("step", "near_duplicate", "reasons"),
    [
        (LONG.upper().replace("CUT", "  CUT"), 1.0, {"duplicate": 1}),
        (SIMILAR, 0.9, {"near duplicate": 1}),
        (SIMILAR, 0.917, {}),  # 0.91666... is less
        (SIMILAR, 1.0, {}),
        (SIMILAR.replace("386", "376"), 0.9, {}),
        (LONG.replace("three", "3"), 0.9, {}),  # 3, 132, 3, 386 are not 132, 3, 386
        (LONG.replace("132*3", "3*132"), 0.9, {}),  # other order
    ],
)
def test_steps_with_equal_numbers_and_similar_words_are_one_error(
    step: str, near_duplicate: float, reasons: dict[str, int]
) -> None:
    traces = [other_error(LONG), other_error(step, 1)]
    assert dropped(*traces, near_duplicate=near_duplicate) == reasons
    assert dropped(*traces[::-1], near_duplicate=near_duplicate) == reasons
    elsewhere = [other_error(LONG), other_error(step, question=numbered(1))]
    assert dropped(*elsewhere, near_duplicate=near_duplicate) == {}


def test_other_questions_under_one_id_are_other_problems() -> None:
    """As the ids 1, 2, 3 of two files are."""
    traces = [make_trace(make_round(), question=numbered(i)) for i in range(2)]
    traces = [
        trace.model_copy(update={"problem": trace.problem.model_copy(update={"id": "1"})}) for trace in traces
    ]
    assert dropped(*traces, max_per_problem=1) == {}


def test_long_steps_are_compared_by_all_their_words() -> None:
    """3 of 303 words differ: 2*300/606 = 0.99, however common the others are."""
    common = ["so", "we", "add", "the", "next", "one", "and"]
    words = [*random.Random(0).choices(common, k=301), "then", "132*3=386"]
    other = ["but" if place in (0, 150, 301) else word for place, word in enumerate(words)]
    assert dropped(other_error(" ".join(words)), other_error(" ".join(other), 1)) == {"near duplicate": 1}


def test_steps_that_differ_in_their_key_only_are_two_errors() -> None:
    steps = [f"<Key>{key}</Key> 132*3=386" for key in ("2*3=6", "2*3=7")]
    assert dropped(*(other_error(step, i) for i, step in enumerate(steps))) == {}


def test_a_problem_gives_pairs_of_so_many_errors_and_their_kinds_count_once() -> None:
    traces = [other_error(f"132*3={number}", number) for number in (380, 381, 382, 383)]
    rows, manifest = build_preference_dataset(traces, max_per_problem=2, solve_pairs=True)
    assert manifest.kept_by_kind == {"correction": 2, "solve": 2}
    assert manifest.dropped == {"max_per_problem": 4}
    assert len({row["prompt"][0]["content"] for row in rows if row["kind"] == "correction"}) == 2


def test_false_alarms_are_no_errors_of_the_problem() -> None:
    said = "<Evaluate>wrong</Evaluate><Cause>No.</Cause><Correction>47+85=122</Correction>"
    review = make_critique(f"<Step1>47+85=132{said}</Step1>", "student")
    alarm = make_trace(
        no_error_round().model_copy(update={"review": review}), attempt=CORRECTED, verdict=RIGHT, sample=1
    )
    _, manifest = build_preference_dataset([make_trace(make_round()), alarm], max_per_problem=1)
    assert manifest.kept_by_kind == {"correction": 1, "false alarm": 1}


def test_what_is_kept_and_its_order_do_not_depend_on_the_order_of_traces() -> None:
    traces = [
        other_error(step, sample, rejected=str(370 + sample), question=numbered(problem))
        for problem in range(6)
        for sample, step in enumerate([LONG, SIMILAR, LONG, "132*3=385", "132*3=384"])
    ]
    options: dict[str, Any] = {"max_per_problem": 2, "solve_pairs": True, "test_share": 0.3}
    rows, manifest = build_preference_dataset(traces, **options)
    assert manifest.dropped["max_per_problem"] == 6 * 2  # one of three errors of each problem, in two kinds
    for other in (traces[::-1], traces[10:] + traces[:10]):
        assert build_preference_dataset(other, **options) == (rows, manifest)
    assert build_preference_dataset(traces, seed=1, **options)[0] != rows


def test_a_limit_cuts_at_the_end_of_the_order() -> None:
    traces = [make_trace(make_round(), question=numbered(i)) for i in range(6)]
    rows, _ = build_preference_dataset(traces)
    fewer, manifest = build_preference_dataset(traces, max_rows=4)
    assert (fewer, manifest.dropped) == (rows[:4], {"max_rows": 2})


# Splits


def test_a_problem_is_in_one_split_and_stays_there() -> None:
    traces = [other_error(f"132*3={380 + s}", s, question=numbered(i)) for i in range(40) for s in (0, 1)]
    rows, manifest = build_preference_dataset(traces, test_share=0.25)
    splits = {row["problem_id"]: row["split"] for row in rows}
    assert all(row["split"] == splits[row["problem_id"]] for row in rows)
    assert (manifest.kept, manifest.kept_test) == (
        sum(row["split"] == "train" for row in rows),
        sum(row["split"] == "test" for row in rows),
    )
    assert manifest.kept + manifest.kept_test == 80
    assert 2 <= manifest.kept_test <= 38  # 20 expected of 40 independent problems in pairs: 1 in 10^4 outside
    assert sum(manifest.kept_by_kind.values()) == manifest.kept
    some, _ = build_preference_dataset(traces[:10], test_share=0.25, seed=7)
    assert all(row["split"] == splits[row["problem_id"]] for row in some)
    larger, _ = build_preference_dataset(traces, test_share=0.5)
    moved = {row["problem_id"]: row["split"] for row in larger}
    assert all(moved[problem] == "test" for problem, split in splits.items() if split == "test")


def test_a_question_under_two_ids_is_not_in_both_splits() -> None:
    traces = [make_trace(make_round(), question=numbered(i)) for i in range(40)]
    again = [
        trace.model_copy(update={"problem": trace.problem.model_copy(update={"id": f"b{i}"})})
        for i, trace in enumerate(make_trace(make_round(), question=numbered(i).upper()) for i in range(40))
    ]
    rows, manifest = build_preference_dataset([*traces, *again], test_share=0.5)
    asked: dict[str, set[str]] = {"train": set(), "test": set()}
    for row in rows:
        asked[row["split"]].add(row["prompt"][0]["content"].lower())
    assert min(len(asked["train"]), len(asked["test"])) > 0
    assert not asked["train"] & asked["test"]
    assert manifest.dropped == {"question in train": 80 - len(rows)}
    assert build_preference_dataset([*again, *traces], test_share=0.5) == (rows, manifest)


def test_pair_options_are_on_the_manifest() -> None:
    _, manifest = build_preference_dataset([make_trace(make_round())], held_out=["x", "y"])
    assert manifest.options == {
        "pair_format": "inline", "chosen_source": "teacher", "pair_scope": "unit",
        "solve_pairs": False, "max_length_ratio": 4.0,
        "near_duplicate": 0.9, "max_per_problem": None, "test_share": 0.0, "max_rows": None,
        "trusted_authors": ["sandbox"], "held_out": 2, "held_out_words": None, "seed": 0,
    }  # fmt: skip
