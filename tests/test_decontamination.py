"""Problems of evaluation sets: found in any spelling and in part, dropped with a count or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict
from hypothesis import given, settings
from hypothesis import strategies as st

from supercorrect_agent.errors import ConfigError, DataError
from supercorrect_agent.problems import (
    HeldOut,
    ProblemReport,
    decontaminate,
    evaluation_questions,
    fold_question,
    iter_problems,
    load_held_out,
    load_problems,
)
from supercorrect_agent.types import Problem

WORDS = [f"word{number}" for number in range(14)]


def problem(question: str) -> Problem:
    return Problem.create(question, source="own")


def write(path: Path, *questions: str) -> str:
    path.write_text("".join(json.dumps({"question": question}) + "\n" for question in questions))
    return str(path)


@pytest.mark.parametrize(
    ("asked", "held", "words", "found"),
    [
        ("How many?", "how MANY", 13, True),
        ("Ｈｏｗ　many², café?", "How many2 cafe", 13, True),
        ("How many now?", "How many", 13, False),  # short ones only as a whole
        (" ".join(WORDS[:13]), " ".join(WORDS), 13, True),
        ("Before, " + ", ".join(WORDS[1:]) + "; after", " ".join(WORDS), 13, True),
        (" ".join(WORDS[:12]), " ".join(WORDS), 13, False),
        (" ".join(WORDS[:6] + WORDS[7:]), " ".join(WORDS), 13, False),
        (" ".join(WORDS[:12]), " ".join(WORDS), 12, True),
        (" ".join(WORDS[:13]), " ".join(WORDS), None, False),
        ("△ + ○ = ?", "△ + ○ = ?", 13, True),
        ("△ + ○ = ?", "□ + ○ = ?", 13, False),  # without any word, the signs count
    ],
)
def test_what_counts_as_the_same_question(asked: str, held: str, words: int | None, found: bool) -> None:
    assert (asked in HeldOut([held], words)) == found


def test_matches_are_dropped_with_a_count(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.jsonl", "One?", "x" * 30_000), write(tmp_path / "b.jsonl", "Two?")
    report = ProblemReport(kept=4)
    problems = [problem(question) for question in ("one", "Three?", "TWO!", "X" * 30_000)]
    kept = decontaminate(problems, [first, second], report=report)
    assert [each.question for each in kept] == ["Three?"]
    assert (report.kept, report.dropped) == (1, {"held out": 3})
    assert report.places["held out"][0] == f"own:{problems[0].id} of {first}"
    assert report.places["held out"][1] == f"own:{problems[2].id} of {second}"
    assert decontaminate(problems, first, words=None) == problems[1:3]


def test_matches_are_refused_by_name(tmp_path: Path) -> None:
    evaluation = write(tmp_path / "test.jsonl", *(f"What is {n}?" for n in range(9)))
    problems = [problem(f"what is {n}" + " please" * (n > 4)) for n in range(7)]
    with pytest.raises(DataError) as error:
        decontaminate(problems, [evaluation], on_match="refuse")
    said = str(error.value)
    assert said.startswith("5 of 7 problems are in evaluation sets: ")
    assert f"'{problems[0].id}' (\"what is 0\") of {evaluation}" in said
    assert problems[2].id in said
    assert problems[3].id not in said
    assert said.endswith(", .... Remove them, or pass `on_match='drop'`.")
    assert decontaminate(problems[5:], [evaluation], on_match="refuse") == problems[5:]


def test_evaluation_sets_come_in_every_format(tmp_path: Path) -> None:
    pq.write_table(pa.table({"problem": ["One?"]}), tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text("question\nTwo?\n")
    sets = {name: Dataset.from_list([{"question": f"{name}?"}]) for name in ("train", "test")}
    DatasetDict(sets).save_to_disk(tmp_path / "c")
    against = [tmp_path / "a.parquet", tmp_path / "b.csv", f"hf:{tmp_path}/c"]
    problems = [problem(question) for question in ("one", "two", "test", "train")]
    assert [each.question for each in decontaminate(problems, against)] == ["train"]
    held_out = load_held_out(against)
    assert (len(held_out), held_out.find("Two?")) == (3, str(tmp_path / "b.csv"))


@pytest.mark.parametrize(("text", "message"), [("", "holds no problems"), ("{", "e.jsonl:1 is not JSON")])
def test_a_broken_evaluation_set_is_never_passed_over(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "e.jsonl").write_text(text)
    with pytest.raises(DataError, match=message):
        decontaminate([], tmp_path / "e.jsonl", report=ProblemReport())
    with pytest.raises(DataError, match=r"against=.*nowhere"):
        list(evaluation_questions(tmp_path / "nowhere.jsonl"))


@pytest.mark.parametrize(
    ("options", "message"), [({"words": 0}, "`words=0`"), ({"on_match": "keep"}, "=keep`")]
)
def test_wrong_options_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        decontaminate([], write(tmp_path / "e.jsonl", "x?"), **options)


def test_the_samples_are_clean_of_each_other() -> None:
    problems = load_problems("sample:gsm8k")
    assert decontaminate(problems, ["sample:math"], on_match="refuse") == problems
    assert decontaminate(problems, ["sample:gsm8k"]) == []


texts = st.text(st.sampled_from("abAB éÉ.,-\n"), max_size=40)


@settings(deadline=None)
@given(texts, texts)
def test_a_question_is_found_in_itself_and_folds_once(question: str, other: str) -> None:
    held_out = HeldOut([question], 3)
    assert question in held_out
    assert question.upper() in held_out
    assert fold_question(fold_question(question)) == fold_question(question)
    if other not in held_out:
        assert fold_question(other) != fold_question(question)


def test_a_report_that_counted_no_reading_counts_what_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "held.jsonl"
    file.write_text('{"question": "What is 1+1?", "answer": "2"}\n')
    problems = [
        Problem(id="a", question="what is 1 + 1"),
        Problem(id="b", question="What is 1+1"),
        Problem(id="c", question="Why?"),
    ]
    report = ProblemReport()
    assert [each.id for each in decontaminate(problems, file, report=report)] == ["c"]
    assert report.lines()[0] == "problems: 1 kept, 2 dropped"


def test_a_report_that_counts_while_it_reads_is_lessened(tmp_path: Path) -> None:
    file = tmp_path / "held.jsonl"
    file.write_text('{"question": "What is 1+1?", "answer": "2"}\n')
    own = tmp_path / "own.jsonl"
    own.write_text(file.read_text() + '{"question": "Why?", "answer": "1"}\n')
    report = ProblemReport()
    assert len(decontaminate(iter_problems(own, report=report), file, report=report)) == 1
    assert report.lines()[0] == "problems: 1 kept, 1 dropped"
