"""Traces to stage-1 rows: what is kept, what is dropped and why, and that rows render as the graph asks."""

from __future__ import annotations

import pytest

from supercorrect_agent.prompts import DEFAULT_PROMPTS, render_prompt, review_messages, student_messages
from supercorrect_agent.types import Critique, Inspection, Round
from tests.training_traces import (
    CORRECTED,
    NO_ERROR,
    PREFIX,
    QUESTION,
    RIGHT,
    TEACHER,
    TEMPLATE,
    WRONG,
    make_critique,
    make_round,
    make_trace,
    no_error_round,
    numbered,
)
from training.sft_rows import build_sft_dataset

REVIEW_PROMPT = [{"role": "user", "content": review_messages(DEFAULT_PROMPTS, QUESTION, WRONG)[0].content}]
SOLVE_PROMPT = [{"role": "user", "content": student_messages(DEFAULT_PROMPTS, QUESTION)[0].content}]


def test_a_template_gives_a_solve_row_and_a_correction_gives_a_review_row() -> None:
    rows, manifest = build_sft_dataset([make_trace(make_round(), template=TEMPLATE)])
    by_kind = {row["kind"]: row for row in rows}
    assert by_kind["solve"]["prompt"] == SOLVE_PROMPT
    assert by_kind["solve"]["completion"] == [{"role": "assistant", "content": TEMPLATE}]
    assert by_kind["review"]["prompt"] == REVIEW_PROMPT
    assert by_kind["review"]["completion"] == [{"role": "assistant", "content": PREFIX + TEACHER}]
    assert (manifest.kept, manifest.dropped, manifest.kept_by_kind) == (2, {}, {"review": 1, "solve": 1})
    assert set(rows[0]) == {"prompt", "completion", "kind", "problem_id", "trace_id", "split"}


def test_a_json_teacher_gets_the_canonical_trace() -> None:
    critique = make_critique().model_copy(update={"raw": '{"first_wrong_step": 2}', "author": "judge"})
    round_ = make_round().model_copy(update={"critique": critique})
    rows, _ = build_sft_dataset([make_trace(round_)])
    text = rows[0]["completion"][0]["content"]
    assert text.startswith("<Step1>47+85=132<Evaluate>")
    assert text.endswith("<Cause>3*3 is 9.</Cause><Correction>132*3=396</Correction>")


@pytest.mark.parametrize(
    ("trace", "reason"),
    [
        (make_trace(template=TEMPLATE, split="test"), "split"),
        (make_trace(template=TEMPLATE, status="error"), "error"),
        (make_trace(template=TEMPLATE.replace("396", "395")), "wrong answer"),
        (make_trace(template=TEMPLATE, answer=None), "unscored"),
        (make_trace(template="The answer is 396."), "unreadable"),
        (make_trace(make_round(author="model", solved=False)), "correction not verified"),
        (
            make_trace(make_round(teacher=TEACHER.replace("Carry", "").replace("3*3 is 9.", ""))),
            "inspection: cause",
        ),
        (
            make_trace(make_round(teacher=TEACHER.replace("3*3", "The reference solution says 3*3"))),
            "inspection: leak",
        ),
        (make_trace(Round(critique=Critique(readable=False))), "inspection: readable"),
        (
            make_trace(Round(critique=make_critique().model_copy(update={"step": 9}))),
            "inspection: step_in_range",
        ),
        (make_trace(Round(critique=Critique(author="model", raw="fine"))), "error missed"),
        (make_trace(make_round(author="model"), verdict=RIGHT), "right attempt criticised"),
        (make_trace(make_round(author="sandbox"), verdict=RIGHT), "right attempt criticised"),
        (make_trace(make_round(), attempt=""), "unreadable"),
    ],
)
def test_an_unusable_candidate_is_dropped_for_a_counted_reason(trace, reason) -> None:  # type: ignore[no-untyped-def]
    rows, manifest = build_sft_dataset([trace])
    assert rows == []
    assert manifest.dropped == {reason: 1}


def test_a_stored_inspection_that_failed_drops_the_row() -> None:
    failed = Inspection(check="agrees_with_answer", passed=False, note="no")
    round_ = make_round().model_copy(update={"inspections": (failed,)})
    assert build_sft_dataset([make_trace(round_)])[1].dropped == {"inspection: agrees_with_answer": 1}


def test_the_same_template_twice_counts_as_a_duplicate() -> None:
    traces = [make_trace(template=TEMPLATE), make_trace(template=TEMPLATE, sample=1)]
    rows, manifest = build_sft_dataset(traces)
    assert (len(rows), manifest.dropped, manifest.traces_read, manifest.traces_used) == (
        1,
        {"duplicate": 1},
        2,
        1,
    )


def test_a_held_out_question_is_refused_in_any_spelling() -> None:
    _, manifest = build_sft_dataset([make_trace(template=TEMPLATE)], held_out=[QUESTION.upper() + " !"])
    assert manifest.dropped == {"held out": 1}


@pytest.mark.parametrize(
    ("asked", "held_out"),
    [
        (
            "Ann\u2019s caf\u00e9 has 12 cups.",
            "ann's cafe\u0301 has 12 cups",
        ),  # one letter, or e and an accent
        ("Solve x\u00b2 = 9", "Solve $x^2=9$."),
        ("\uff11\uff12 cups", "12 Cups"),  # full width
        ("Stra\u00dfe 5", "STRASSE 5"),
    ],
)
def test_a_held_out_question_is_refused_in_other_characters(asked: str, held_out: str) -> None:
    trace = make_trace(template=TEMPLATE, question=asked)
    assert build_sft_dataset([trace], held_out=[held_out])[1].dropped == {"held out": 1}


def test_a_question_that_shares_words_in_a_row_with_a_held_out_one_is_refused_on_request() -> None:
    """Behind the name, the 15 words from "has" to "parts" are the same."""
    traces = [make_trace(template=TEMPLATE)]
    for words, refused in ((None, 0), (16, 0), (15, 1), (1, 1)):
        _, manifest = build_sft_dataset(traces, held_out=[f"Child 1: {numbered(1)}"], held_out_words=words)
        assert manifest.dropped.get("held out", 0) == refused
    short = build_sft_dataset(traces, held_out=["Each bead"], held_out_words=13)[1]
    assert short.dropped == {}  # too short to hold 13 words


def test_no_error_reviews_are_capped_at_their_share() -> None:
    wrong = [make_trace(make_round(), question=numbered(i)) for i in range(4)]
    right = [
        make_trace(no_error_round(), question=numbered(i), attempt=CORRECTED, verdict=RIGHT) for i in range(4)
    ]
    rows, manifest = build_sft_dataset([*wrong, *right], no_error_share=0.2)
    clean = [row for row in rows if row["completion"][0]["content"].startswith(NO_ERROR)]
    assert (len(clean), len(rows)) == (1, 5)  # 1 of 5 is 20 %
    assert manifest.dropped == {"above its share": 3}
    assert clean[0]["completion"][0]["content"].endswith("<Answer>\\boxed{396}</Answer>")


def test_reviews_are_capped_at_their_share_of_all_rows() -> None:
    traces = [make_trace(make_round(), template=TEMPLATE, question=numbered(i)) for i in range(6)]
    _, manifest = build_sft_dataset(traces, review_share=0.25)
    assert manifest.kept_by_kind == {"review": 2, "solve": 6}


def test_a_share_that_comes_out_even_is_reached() -> None:
    """7 of 10 are 70 %; in floating point 3 * 0.7 / (1 - 0.7) is just below 7."""
    traces = [make_trace(template=TEMPLATE, question=numbered(i)) for i in range(3)]
    traces += [make_trace(make_round(), question=numbered(i)) for i in range(3, 12)]
    assert build_sft_dataset(traces, review_share=0.7)[1].kept_by_kind == {"review": 7, "solve": 3}


def test_shares_hold_in_each_split() -> None:
    wrong = [make_trace(make_round(), question=numbered(i)) for i in range(40)]
    right = [
        make_trace(no_error_round(), question=numbered(i), attempt=CORRECTED, verdict=RIGHT)
        for i in range(40, 80)
    ]
    rows, manifest = build_sft_dataset([*wrong, *right], test_share=0.5, no_error_share=0.5)
    for split, kept in (("train", manifest.kept), ("test", manifest.kept_test)):
        texts = [row["completion"][0]["content"] for row in rows if row["split"] == split]
        assert 0 < sum(text.startswith(NO_ERROR) for text in texts) <= kept / 2


def test_own_solutions_are_added_only_when_right() -> None:
    right = make_trace(attempt=CORRECTED, verdict=RIGHT)
    wrong = make_trace(question=numbered(1))
    rows, _ = build_sft_dataset([right, wrong], own_solutions=True)
    assert [row["completion"][0]["content"] for row in rows] == [CORRECTED]
    assert build_sft_dataset([right], own_solutions=False)[0] == []


def test_the_plain_control_has_the_steps_without_template_or_key() -> None:
    rows, _ = build_sft_dataset([make_trace(make_round(), template=TEMPLATE)], style="plain")
    assert [row["kind"] for row in rows] == ["solve"]
    assert rows[0]["prompt"][0]["content"] == render_prompt(DEFAULT_PROMPTS.plain, problem=QUESTION)
    # The Key is cut out of the first step and the white space around it folded.
    assert rows[0]["completion"][0]["content"] == "Add. 47+85=132\nCut. 132*3=396\nAnswer: \\boxed{396}"


def test_a_token_budget_stops_before_it_is_passed() -> None:
    traces = [make_trace(template=TEMPLATE, question=numbered(i)) for i in range(5)]
    rows, manifest = build_sft_dataset(traces, max_tokens=25, count_tokens=lambda text: 10)
    assert (len(rows), manifest.tokens, manifest.dropped) == (2, 20, {"max_tokens": 3})
    with pytest.raises(ValueError, match="count_tokens"):
        build_sft_dataset(traces, max_tokens=25)


def test_rows_and_hashes_depend_on_the_seed_and_not_on_the_order_of_traces() -> None:
    traces = [make_trace(template=TEMPLATE, question=numbered(i)) for i in range(8)]
    forward, backward = (build_sft_dataset(some, max_rows=4)[1] for some in (traces, traces[::-1]))
    other = build_sft_dataset(traces, max_rows=4, seed=1)[1]
    assert forward.data_hash == backward.data_hash != other.data_hash
    assert forward.prompts["solve"] == "supercorrect.solve@1"


@pytest.mark.parametrize(
    "said",
    [
        TEMPLATE.replace("Cut.", "Cut, as the reference solution does."),
        TEMPLATE.replace("Then", "By the answer key, then").replace(
            "Add, then", "By the answer key, add, then"
        ),
    ],
)
def test_a_solution_that_speaks_of_a_reference_is_dropped(said: str) -> None:
    assert build_sft_dataset([make_trace(template=said)])[1].dropped == {"leak": 1}


def test_a_review_whose_verdict_speaks_of_a_reference_is_dropped() -> None:
    teacher = TEACHER.replace("wrong", "wrong: the given solution has 396")
    assert build_sft_dataset([make_trace(make_round(teacher=teacher))])[1].dropped == {"leak": 1}


def test_tokens_are_those_of_the_training_split_and_the_budget_is_for_both() -> None:
    traces = [make_trace(template=TEMPLATE, question=numbered(i)) for i in range(30)]
    rows, manifest = build_sft_dataset(traces, test_share=0.5, max_tokens=200, count_tokens=lambda _: 10)
    assert len(rows) == 20  # 200 / 10
    assert manifest.tokens == 10 * manifest.kept < 200
    assert manifest.kept + manifest.kept_test == 20


def test_sft_options_are_on_the_manifest() -> None:
    _, manifest = build_sft_dataset(
        [make_trace(template=TEMPLATE)], test_share=0.0, trusted_authors=["b", "a"], held_out=["x?", "X", "y"]
    )
    assert (manifest.options["test_share"], manifest.options["trusted_authors"]) == (0.0, ["a", "b"])
    assert manifest.options["held_out"] == 2  # "x?" and "X" are one question
