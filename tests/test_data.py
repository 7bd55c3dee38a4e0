"""Traces to rows: what is kept, what is dropped and why, and that rows render as the graph's prompts do."""

from __future__ import annotations

from pathlib import Path

import pytest

from supercorrect_agent.errors import DataError
from supercorrect_agent.prompts import DEFAULT_PROMPTS, render_prompt, review_messages, student_messages
from supercorrect_agent.types import Critique, Inspection, Round
from tests.training_traces import (
    CORRECTED,
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
)
from training.pairs import build_preference_dataset
from training.sft_rows import build_sft_dataset

REVIEW_PROMPT = [{"role": "user", "content": review_messages(DEFAULT_PROMPTS, QUESTION, WRONG)[0].content}]
SOLVE_PROMPT = [{"role": "user", "content": student_messages(DEFAULT_PROMPTS, QUESTION)[0].content}]
NO_ERROR = (
    "<Step1>47+85=132<Evaluate>ok</Evaluate></Step1>\n<Step2>132*3=396<Evaluate>ok</Evaluate></Step2>\n"
)


def no_error_round(author: str = "sandbox") -> Round:
    text = NO_ERROR + "<Answer>\\boxed{396}</Answer>"
    return Round(critique=Critique(author=author, raw=text, answer="396"))


def numbered(trace_number: int) -> str:
    return QUESTION.replace("Ann", f"Child {trace_number}")


# Stage 1


def test_a_template_gives_a_solve_row_and_a_correction_gives_a_review_row() -> None:
    rows, manifest = build_sft_dataset([make_trace(make_round(), template=TEMPLATE)])
    by_kind = {row["kind"]: row for row in rows}
    assert by_kind["solve"]["prompt"] == SOLVE_PROMPT
    assert by_kind["solve"]["completion"] == [{"role": "assistant", "content": TEMPLATE}]
    assert by_kind["review"]["prompt"] == REVIEW_PROMPT
    assert by_kind["review"]["completion"] == [{"role": "assistant", "content": PREFIX + TEACHER}]
    assert (manifest.kept, manifest.dropped, manifest.kept_by_kind) == (2, {}, {"review": 1, "solve": 1})
    assert set(rows[0]) == {"prompt", "completion", "kind", "problem_id", "trace_id"}


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


# Stage 2


def test_an_inline_pair_shares_the_rewritten_steps_up_to_the_wrong_one() -> None:
    rows, manifest = build_preference_dataset([make_trace(make_round())])
    assert rows == [
        {
            "kind": "correction",
            "prompt": REVIEW_PROMPT,
            "prefix": PREFIX,
            "chosen": TEACHER,
            "rejected": STUDENT,
            "step": 2,
            "ends": False,
            "problem_id": rows[0]["problem_id"],
            "trace_id": rows[0]["trace_id"],
        }
    ]
    assert manifest.kept_by_kind == {"correction": 1}


def test_a_missed_error_is_rejected_up_to_the_end_of_its_step() -> None:
    missed = "<Evaluate>132*3 is 386, ok</Evaluate></Step2>\n<Answer>\\boxed{386}</Answer>"
    rows, _ = build_preference_dataset([make_trace(make_round(student=missed))])
    assert (rows[0]["kind"], rows[0]["chosen"]) == ("missed", TEACHER)
    assert rows[0]["rejected"] == "<Evaluate>132*3 is 386, ok</Evaluate></Step2>"


def test_a_review_that_could_not_be_forced_is_read_at_the_same_step() -> None:
    free = "<Step1>47+85=132<Evaluate>fine</Evaluate></Step1>\n<Step2>132*3=386" + STUDENT + "</Step2>"
    round_ = make_round().model_copy(update={"review": make_critique(free, "student")})
    rows, _ = build_preference_dataset([make_trace(round_)])
    assert (rows[0]["prefix"], rows[0]["rejected"]) == (PREFIX, STUDENT)


def test_the_literal_format_shows_the_steps_before_the_wrong_one_only() -> None:
    rows, _ = build_preference_dataset([make_trace(make_round())], pair_format="literal_eq8")
    kept = "<Step1>47+85=132</Step1>\n"
    assert rows[0]["prompt"][0]["content"] == review_messages(DEFAULT_PROMPTS, QUESTION, kept)[0].content
    assert rows[0]["prefix"] == "<Step2>"
    assert rows[0]["chosen"] == "<Cause>3*3 is 9.</Cause><Correction>132*3=396</Correction>"
    assert rows[0]["rejected"] == "<Cause>Carry.</Cause><Correction>132*3=376</Correction>"


def test_solve_pairs_set_the_corrected_step_against_the_wrong_one() -> None:
    rows, _ = build_preference_dataset([make_trace(make_round(student=None))], solve_pairs=True)
    assert [row["kind"] for row in rows] == ["solve"]
    assert (rows[0]["prompt"], rows[0]["prefix"]) == (SOLVE_PROMPT, "<Step1>47+85=132</Step1>\n")
    assert rows[0]["chosen"] == "<Step2>132*3=396</Step2>"
    assert rows[0]["rejected"] == "<Step2>132*3=386</Step2>"


def test_a_false_alarm_is_rejected_behind_the_students_own_trace() -> None:
    said = "<Evaluate>wrong</Evaluate><Cause>No.</Cause><Correction>47+85=122</Correction>"
    alarm = f"<Step1>47+85=132{said}</Step1>"
    round_ = no_error_round().model_copy(update={"review": make_critique(alarm, "student")})
    rows, _ = build_preference_dataset([make_trace(round_, attempt=CORRECTED, verdict=RIGHT)])
    assert (rows[0]["kind"], rows[0]["step"], rows[0]["prefix"]) == ("false alarm", 1, "<Step1>47+85=132")
    assert rows[0]["chosen"] == "<Evaluate>ok</Evaluate></Step1>"
    assert (
        rows[0]["rejected"]
        == "<Evaluate>wrong</Evaluate><Cause>No.</Cause><Correction>47+85=122</Correction>"
    )


@pytest.mark.parametrize(
    ("round_", "reason"),
    [
        (make_round(student=None), "no review by the student"),
        (make_round(student=STUDENT.replace("376", "396")), "student correction is right"),
        (make_round(student="<Evaluate>hm"), "student review unreadable"),
        (make_round(student=STUDENT.replace("Carry.", "Carry. " * 90)), "length ratio"),
        (make_round(author="model", solved=False), "correction not verified"),
    ],
)
def test_an_unusable_pair_is_dropped_for_a_counted_reason(round_: Round, reason: str) -> None:
    rows, manifest = build_preference_dataset([make_trace(round_)])
    assert (rows, manifest.dropped) == ([], {reason: 1})


def test_the_same_wrong_step_teaches_once_however_often_it_was_sampled() -> None:
    other = make_round(student=STUDENT.replace("376", "366"))
    rows, manifest = build_preference_dataset([make_trace(make_round()), make_trace(other, sample=1)])
    assert (len(rows), manifest.dropped) == (1, {"duplicate": 1})


def test_a_pair_from_a_later_round_is_about_the_revised_solution() -> None:
    first, second = make_round(solved=False, student=None), make_round()
    rows, manifest = build_preference_dataset([make_trace(first, second)])
    assert [row["prompt"] for row in rows] == [REVIEW_PROMPT]
    assert manifest.dropped == {"no review by the student": 1}


# Folders


def test_a_dataset_folder_reads_back_and_loads_as_a_hub_dataset(tmp_path: Path) -> None:
    from training.data import load_rows, save_dataset

    rows, manifest = build_preference_dataset([make_trace(make_round())])
    folder = save_dataset(tmp_path / "pairs", rows, manifest)
    assert load_rows(folder) == (rows, manifest)
    import datasets

    loaded = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded[0] == rows[0]


def test_an_empty_dataset_says_why(tmp_path: Path) -> None:
    from training.data import load_rows, save_dataset

    rows, manifest = build_preference_dataset([make_trace(make_round(student=None))])
    with pytest.raises(DataError, match="no review by the student: 1"):
        save_dataset(tmp_path, rows, manifest)
    with pytest.raises(DataError, match=r"training\.data"):
        load_rows(tmp_path / "nowhere")
