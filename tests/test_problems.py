"""Problem files: what a row gives, which rows are dropped or refused, and which are taken."""

from __future__ import annotations

import json
import random
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supercorrect_agent.errors import ConfigError, DataError
from supercorrect_agent.problems import (
    ProblemReport,
    iter_problems,
    load_problems,
    without_calculator_marks,
)
from supercorrect_agent.types import content_id

GSM8K = "She sold 48/2 = <<48/2=24>>24 clips.\nIn all 48+24 = <<48+24=72>>72.\n#### 1,072"


def write_lines(path: Path, *lines: Any) -> str:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    return str(path)


def numbered(count: int) -> list[dict[str, Any]]:
    return [{"id": str(number), "question": f"Question {number}?", "answer": 1} for number in range(count)]


def asked(problems: Any) -> list[str]:
    return [problem.question for problem in problems]


# What a row gives


def test_gsm8k_lines_are_read_as_they_are_and_keep_their_marks(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "gsm8k.jsonl", {"question": "How many?", "answer": GSM8K})
    for mapping in ("auto", "gsm8k", {"question": "question", "answer": "answer"}):
        (problem,) = load_problems(file, mapping=mapping)
        assert (problem.answer, problem.source, problem.split) == ("1072", "gsm8k", "train")
        assert problem.reference_solution == (
            "She sold 48/2 = <<48/2=24>>24 clips.\nIn all 48+24 = <<48+24=72>>72."
        )
        assert problem.id == content_id("How many?")


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("48/2 = <<48/2=24>>24", "48/2 = 24"),
        ("<<1+1=2>><<2+2=4>>", ""),
        ("1 << 2 and 3 >> 1", "1 << 2 and 3 >> 1"),
        ("1 << 2", "1 << 2"),
        ("a < b", "a < b"),
    ],
)
def test_calculator_marks_are_taken_out(text: str, plain: str) -> None:
    assert without_calculator_marks(text) == plain


@pytest.mark.parametrize(
    ("solution", "answer", "expected"),
    [
        (r"So \boxed{\frac{1}{2}}.", None, r"\frac{1}{2}"),
        (r"First \boxed{3}, then $\boxed{\sqrt{\frac{a}{b}}}$.", "7", r"\sqrt{\frac{a}{b}}"),
        (r"\boxed{1,234}", None, "1,234"),
        ("No box.", "7", "7"),
        ("No box.", None, None),
        (None, r"\text{(A)}", r"\text{(A)}"),
    ],
)
def test_math_takes_the_last_box(
    tmp_path: Path, solution: str | None, answer: str | None, expected: str | None
) -> None:
    row = {"problem": "x?", "level": "Level 5", "type": "Algebra", "solution": solution, "answer": answer}
    (problem,) = load_problems(write_lines(tmp_path / "math.jsonl", row), mapping="math")
    assert (problem.answer, problem.reference_solution) == (expected, solution)


def test_without_a_mapping_a_given_answer_is_taken_before_a_box(tmp_path: Path) -> None:
    rows = [
        {"problem": "x?", "solution": r"\boxed{3}"},
        {"problem": "y?", "solution": r"\boxed{3}", "answer": "4"},
        {"problem": "z?", "solution": "2+2.\n#### 1,004"},
    ]
    problems = load_problems(write_lines(tmp_path / "own.jsonl", *rows))
    assert [problem.answer for problem in problems] == ["3", "4", "1004"]
    assert problems[2].reference_solution == "2+2."


@pytest.mark.parametrize(
    ("answer", "mapping", "expected"),
    [
        (2, "auto", "2"), (1.50, "auto", "1.5"), (True, "auto", "True"), (None, "auto", None),
        ("", "auto", None), (["7"], "auto", "7"), ([["7"]], "auto", "7"), ([], "auto", None),
        ("a\0b", "auto", "ab"), ("1,072", "gsm8k", "1072"), ("1,072", "auto", "1,072"),
        ("1, 2", "gsm8k", "1, 2"), ("#### ", "auto", None), (10**40, "auto", "1" + "0" * 40),
    ],
)  # fmt: skip
def test_answers_of_other_kinds(tmp_path: Path, answer: Any, mapping: str, expected: str | None) -> None:
    file = write_lines(tmp_path / "own.jsonl", {"question": "x?", "answer": answer})
    assert [problem.answer for problem in load_problems(file, mapping=mapping)] == [expected]


def test_numbers_stay_as_they_are_written(tmp_path: Path) -> None:
    digits = "9" * 5000  # more than Python turns into a number
    lines = [f'{{"question": "{number}?", "answer": {number}}}' for number in ("1.50", "1E3", "-0", digits)]
    lines.append('{"question": "none?", "answer": NaN}')
    problems = load_problems(write_lines(tmp_path / "own.jsonl", *lines))
    assert [problem.answer for problem in problems] == ["1.50", "1E3", "-0", digits, None]


def test_other_fields_of_a_problem_file(tmp_path: Path) -> None:
    file = write_lines(
        tmp_path / "own.jsonl",
        {"problem": "1+1?", "answer": 2, "solution": "Count.", "id": 7, "split": "test"},
        "",
        {"question": "2+2?", "reference_solution": "Double."},
        {"question": "3+3?", "id": "x" * 300, "split": ["a", "b"]},
    )
    first, second, third = load_problems(file, split="train")
    assert (first.id, first.answer, first.reference_solution, first.split) == ("7", "2", "Count.", "test")
    assert (second.answer, second.reference_solution, second.split) == (None, "Double.", "train")
    assert (third.id, third.split) == (content_id("3+3?"), "train")


def test_columns_may_be_named(tmp_path: Path) -> None:
    row = {"Body": "One bag", "q": {"text": "How many?"}, "target": 5, "id": "a", "part": "test"}
    file = write_lines(tmp_path / "own.jsonl", row)
    named = {"question": "q.text", "answer": "target", "id": None, "split": "part"}
    text = "question=q.text, answer=target,id=,split=part"
    for mapping in (named, text):
        (problem,) = load_problems(file, mapping=mapping, split="test")
        assert (problem.question, problem.answer, problem.split) == ("How many?", "5", "test")
        assert problem.id == content_id("How many?")


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ("gsm9k", "`mapping=gsm9k` is not known"),
        ({"question": "q", "anwser": "a"}, "names the field 'anwser'"),
        ({"question": None}, "no column for the question"),
    ],
)
def test_an_unknown_mapping_is_refused_at_once(mapping: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        iter_problems("nowhere.jsonl", mapping=mapping)


def test_a_named_column_that_no_row_has_is_an_error(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "own.jsonl", {"question": "1?", "answer": 1}, {"question": "2?"})
    assert len(load_problems(file, mapping={"answer": "answer"})) == 2
    with pytest.raises(DataError, match=r"names `target` for the answer, but no row of .*own\.jsonl"):
        load_problems(file, mapping={"answer": "target"})
    with pytest.raises(DataError, match="holds no problems"):
        load_problems(write_lines(tmp_path / "empty.jsonl"), mapping={"answer": "target"})


# Rows that give no problem

BROKEN: list[tuple[bytes, str, str]] = [
    (b"{", "not JSON", "problems.jsonl:2 is not JSON"),
    (b'{"question": "x?"', "not JSON", "problems.jsonl:2 is not JSON"),
    (b"\0\0\0", "not JSON", "problems.jsonl:2 is not JSON"),
    (b"[" * 100_000, "not JSON", "problems.jsonl:2 is not JSON"),
    (b'{"question": "\xff"}', "not UTF-8", "problems.jsonl:2 is not UTF-8"),
    (b'{"question": "\\ud800"}', "not UTF-8", "Save the file as UTF-8"),
    (b'{"answer": 1}', "no question", "problems.jsonl:2 has no `question`. Its fields are `answer`"),
    (b"[1]", "no question", "problems.jsonl:2 has no `question`. It is a list of 1"),
    (b'"x"', "no question", "It is a text"),
    (b"null", "no question", "It is null"),
    (b"{}", "no question", "has no `question`"),
    (b'{"question": "  "}', "no question", "has no `question`"),
    (b'{"question": 5}', "no question", "has no `question`"),
    (b'{"question": true}', "no question", "has no `question`"),
    (b'{"question": ["a", "b"]}', "unusable field", "`question` is a list of 2"),
    (b'{"question": "x?", "answer": ["1", "2"]}', "unusable field", "`answer` is a list of 2"),
    (b'{"question": "x?", "answer": {"a": 1}}', "unusable field", "`answer` is an object"),
    (
        b'{"question": "' + b"x" * 20_001 + b'"}',
        "too long",
        "20001 characters, more than `max_characters=20000`",
    ),
    (b'{"question": "x?", "solution": "' + b"x" * 20_001 + b'"}', "too long", "has a solution of 20001"),
    (
        b'{"question": "first?", "answer": 9}',
        "other answer",
        "problems.jsonl:2 asks the question of an earlier",
    ),
]


@pytest.mark.parametrize(("line", "reason", "message"), BROKEN, ids=lambda value: str(value)[:30])
def test_an_unusable_row_is_an_error_or_counted(
    tmp_path: Path, line: bytes, reason: str, message: str
) -> None:
    file = tmp_path / "problems.jsonl"
    good = [b'{"question": "first?", "answer": 1}', b'{"question": "last?", "answer": 2}']
    file.write_bytes(b"\n".join([good[0], line, good[1]]))
    with pytest.raises(DataError) as error:
        load_problems(str(file))
    assert message in str(error.value)
    report = ProblemReport()
    assert asked(load_problems(str(file), report=report)) == ["first?", "last?"]
    assert (report.dropped, report.places, report.kept) == ({reason: 1}, {reason: [f"{file}:2"]}, 2)
    assert report.lines() == ["problems: 2 kept, 1 dropped", f"  dropped 1 {reason}: {file}:2"]
    assert json.loads(json.dumps(report.as_dict())) == {
        "kept": 2, "dropped": {reason: 1}, "noted": {}, "places": {reason: [f"{file}:2"]},
    }  # fmt: skip


def test_a_report_keeps_the_first_places_only(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "p.jsonl", {"question": "x?"}, *["{"] * 7, {"answer": 1})
    report = ProblemReport()
    load_problems(file, report=report)
    assert report.dropped == {"not JSON": 7, "no question": 1}
    assert report.places["not JSON"] == [f"{file}:{line}" for line in range(2, 7)]
    assert report.lines()[1] == f"  dropped 7 not JSON: {', '.join(report.places['not JSON'])}, ..."


def test_ten_megabytes_in_a_question_are_one_dropped_row(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    with file.open("wb") as out:
        for number in range(7):
            out.write(b'{"question": "' + b"x" * 10_000_000 + b'"}\n{"question": "%d?"}\n' % number)
        out.write(b"x" * 17_000_000 + b"\n" + b'{"question": "end?"}')
    report = ProblemReport()
    tracemalloc.start()
    assert asked(iter_problems(str(file), report=report)) == [*(f"{number}?" for number in range(7)), "end?"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60_000_000  # a few copies of one line, out of 87 MB
    assert report.dropped == {"too long": 8}
    assert report.places["too long"][:2] == [f"{file}:1", f"{file}:3"]
    with pytest.raises(DataError, match=r"p\.jsonl:1 has a question of 10000000 characters"):
        load_problems(str(file))
    (long, *_) = load_problems(str(file), max_characters=10_000_000, report=report)
    assert len(long.question) == 10_000_000


def test_a_line_that_is_far_too_long_is_never_taken_in(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"p\.jsonl:1 is longer than \d+ bytes"):
        load_problems(write_lines(tmp_path / "p.jsonl", "x" * 17_000_000))


def test_a_file_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    with file.open("w") as out:
        out.writelines(json.dumps({"question": f"{number}? {'x' * 2000}"}) + "\n" for number in range(3000))
    tracemalloc.start()
    assert sum(1 for _ in iter_problems(file)) == 3000
    assert len(load_problems(file, n=20, holdout=30)) == 20
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000  # of 6 MB


def test_every_fault_in_one_file(tmp_path: Path) -> None:
    """Of 600 rows in any order every third is sound; each fault comes 50 times."""
    long = json.dumps({"question": "x" * 30_000}).encode()
    faults: list[Callable[[int], bytes]] = [
        lambda n: b'{"question": "torn %d' % n,
        lambda n: b'{"question": "\xc3(%d"}' % n,
        lambda n: b'{"answer": %d}' % n,
        lambda n: b'{"question": "q%d", "answer": [1, 2]}' % n,
        lambda n: long,
        lambda n: b'{"id": "sound-0", "question": "sound 0?", "answer": "0"}',
        lambda n: b'{"id": "sound-0", "question": "another %d?"}' % n,
        lambda n: b" \t\r",
    ]
    lines = [
        json.dumps({"id": f"sound-{n}", "question": f"sound {n}?", "answer": n}).encode() for n in range(200)
    ]
    rest = lines[1:] + [fault(number) for fault in faults for number in range(50)]
    random.Random(5).shuffle(rest)
    file = tmp_path / "p.jsonl"
    file.write_bytes(b"\r\n".join([lines[0], *rest]))
    report = ProblemReport()
    problems = load_problems(file, report=report)
    reasons = ("not JSON", "not UTF-8", "no question", "unusable field", "too long", "duplicate")
    assert report.dropped == dict.fromkeys(reasons, 50)
    assert sorted(report.noted.values()) == [50]
    assert report.kept == len(problems) == len({problem.id for problem in problems}) == 250
    assert {f"sound-{n}" for n in range(200)} < {problem.id for problem in problems}


def test_an_id_given_twice(tmp_path: Path) -> None:
    file = write_lines(
        tmp_path / "p.jsonl",
        {"id": 1, "question": "a?", "answer": 1},
        {"id": 1, "question": " a? ", "answer": 1},
        {"id": 1, "question": "b?", "answer": 2},
        {"id": 1, "question": "b?", "answer": 2},
        {"id": 2, "question": "a?", "answer": 1},
    )
    report = ProblemReport()
    problems = load_problems(file, report=report)
    assert [(problem.id, problem.question) for problem in problems] == [
        ("1", "a?"), (content_id("b?"), "b?"), ("2", "a?"),
    ]  # fmt: skip
    assert report.dropped == {"duplicate": 2}
    assert report.places["duplicate"] == [f"{file}:2", f"{file}:4"]
    assert list(report.noted.values()) == [1]
    assert report.lines()[-1].startswith("  kept 1 under its content's id")
    assert load_problems(file) == problems  # nothing is lost, so nothing is an error


@pytest.mark.parametrize("text", ["", "\n\n \t\r\n", "\ufeff", "{\n[\n"])
def test_a_file_without_problems(tmp_path: Path, text: str) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="holds no problems"):
        load_problems(str(file), report=ProblemReport())
    assert list(iter_problems(str(file), report=ProblemReport())) == []


def test_what_was_dropped_is_named_where_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dropped: 2 not JSON, 1 no question"):
        load_problems(write_lines(tmp_path / "p.jsonl", "{", "{", "[]"), report=ProblemReport())


def test_line_ends_within_a_question_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    """Next line, line separator and form feed end a line for Python's `splitlines`, but not in JSON Lines."""
    texts = ["a\u0085b?", "c\u2028d?"]
    file = tmp_path / "own.jsonl"
    lines = "\r\n".join(json.dumps({"question": each}, ensure_ascii=False) for each in texts)
    file.write_bytes(b"\xef\xbb\xbf" + lines.encode())
    assert asked(load_problems(str(file))) == texts


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
rows = st.fixed_dictionaries(
    {}, optional={name: json_values for name in ("question", "problem", "answer", "solution", "id", "split")}
)


@settings(max_examples=60, deadline=None)
@given(st.lists(rows | json_values, max_size=6), st.sampled_from(["auto", "gsm8k", "math"]))
def test_any_json_is_kept_or_counted(
    tmp_path_factory: pytest.TempPathFactory, values: Any, mapping: str
) -> None:
    file = tmp_path_factory.mktemp("any") / "p.jsonl"
    write_lines(file, *(json.dumps(value) for value in values))
    report = ProblemReport()
    problems = list(iter_problems(str(file), mapping=mapping, report=report))
    assert len(problems) + report.dropped.total() == len(values)
    assert len({problem.id for problem in problems}) == len(problems)
    for problem in problems:
        problem.model_dump_json().encode()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=30), max_size=5))
def test_any_bytes_are_kept_or_counted(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
    folder = tmp_path_factory.mktemp("any")
    content = b"question,answer\n" + b"\n".join(lines)
    for name in ("p.jsonl", "p.csv", "p.json"):
        (folder / name).write_bytes(content)
        report = ProblemReport()
        try:
            problems = list(iter_problems(folder / name, report=report))
        except DataError:
            continue
        assert report.kept == len(problems)


# Which problems are taken


def test_a_larger_choice_only_adds_and_keeps_the_order_of_the_file(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "p.jsonl", *numbered(60))
    some, more = (load_problems(file, n=n, seed=3) for n in (10, 25))
    assert len(some) == 10
    assert set(asked(some)) < set(asked(more))
    assert [int(problem.id) for problem in more] == sorted(int(problem.id) for problem in more)
    assert asked(load_problems(file, n=10, seed=4)) != asked(some)
    assert len(load_problems(file, n=100)) == 60


def test_a_choice_is_fair(tmp_path: Path) -> None:
    """Each of 20 problems is among 10 in about half of 200 choices: 100, standard deviation 7."""
    file = write_lines(tmp_path / "p.jsonl", *numbered(20))
    taken = [problem.id for seed in range(200) for problem in load_problems(file, n=10, seed=seed)]
    assert all(65 <= taken.count(str(number)) <= 135 for number in range(20))


def test_the_last_rows_are_held_out(tmp_path: Path) -> None:
    lines = [*numbered(7), "{", {"question": "Question 0?", "id": "0"}, {"question": "z?", "split": "train"}]
    file = write_lines(tmp_path / "p.jsonl", *lines)
    report = ProblemReport()
    train = load_problems(file, holdout=4, report=report)
    assert [problem.id for problem in train] == ["0", "1", "2", "3", "4", "5"]
    assert {problem.split for problem in train} == {"train"}
    assert report.dropped == {}  # what is broken was held out
    dev = load_problems(file, holdout=4, split="dev", report=report)
    assert [(problem.question, problem.split) for problem in dev] == [("Question 6?", "dev"), ("z?", "dev")]
    assert report.dropped == {"not JSON": 1, "other answer": 1}
    with pytest.raises(DataError, match=r"holds no problems outside of `holdout=10`"):
        load_problems(file, holdout=10, report=report)


def test_a_limit_moves_no_row_from_one_part_to_the_other(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "p.jsonl", *numbered(8), {"question": "x" * 100}, {"question": "y" * 100})
    report = ProblemReport()
    short = load_problems(file, holdout=4, split="dev", max_characters=50, report=report)
    assert [problem.id for problem in short] == ["6", "7"]


def test_a_column_of_splits_chooses(tmp_path: Path) -> None:
    lines = [{"question": f"{part}?", "part": part} for part in ("train", "test", "validation")]
    file = write_lines(tmp_path / "p.jsonl", *lines)
    mapping = {"split": "part"}
    report = ProblemReport()
    assert asked(load_problems(file, mapping=mapping, split="test", report=report)) == ["test?"]
    assert report.dropped == {"of split train": 1, "of split validation": 1}
    assert asked(load_problems(file, mapping=mapping, split="dev")) == ["validation?"]
    with pytest.raises(DataError, match="dropped: 1 of split train"):
        load_problems(file, mapping=mapping, split="moon", report=report)


def test_reading_is_lazy_and_may_go_on_in_another_thread(tmp_path: Path) -> None:
    problems = iter_problems(write_lines(tmp_path / "p.jsonl", *numbered(3), "{"))
    assert next(problems).id == "0"
    taken: list[str] = []
    thread = threading.Thread(target=lambda: taken.append(next(problems).id))
    thread.start()
    thread.join()
    assert taken == ["1"]
    assert next(problems).id == "2"
    with pytest.raises(DataError, match=r"p\.jsonl:4 is not JSON"):
        next(problems)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "`n=0` is less than 1"),
        ({"holdout": -1}, "`holdout=-1` is less than 1"),
        ({"max_characters": 0}, "`max_characters=0` is less than 1"),
        ({"holdout": 5, "split": "test"}, "`split=test`"),
    ],
)
def test_wrong_options_are_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        iter_problems("p.jsonl", **options)


# Names


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.jsonl", "`problems=nowhere.jsonl` cannot be read"),
        ("x" * 5000, "cannot be read"),
        ("a\0b", "cannot be read"),
        ("sandbox:moon", "not a split"),
        ("sandbox:dev", "--n"),
        ("sample:moon", "does not ship with the package. Choose one of gsm8k, math"),
    ],
)
def test_an_unusable_source_says_what_to_pass(source: str, message: str) -> None:
    with pytest.raises(DataError) as error:
        load_problems(source)
    assert message in str(error.value)


def test_the_sandbox_is_counted_too() -> None:
    report = ProblemReport()
    problems = load_problems("sandbox:dev", n=3, seed=1, report=report)
    assert ([problem.split for problem in problems], report.kept) == (["dev"] * 3, 3)
    with pytest.raises(ConfigError, match="Pass sandbox:dev"):
        load_problems("sandbox:train", n=3, holdout=2)


def test_rows_far_apart_are_compared_on_disk(tmp_path: Path) -> None:
    """Every row comes twice, in another order."""
    lines = [json.dumps({"question": f"{number}?"}) for number in range(3000)]
    again = lines.copy()
    random.Random(0).shuffle(again)
    report = ProblemReport()
    assert len(load_problems(write_lines(tmp_path / "p.jsonl", *lines, *again), report=report)) == 3000
    assert report.dropped == {"duplicate": 3000}
