"""The same problems in every format, and what a damaged file of each gives."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict

from supercorrect_agent.errors import DataError
from supercorrect_agent.problems import ProblemReport, files, hub, iter_problems, load_problems

ROWS = [
    {"question": 'One, "two"\nthree?', "answer": "3", "solution": "1+2=3", "id": "a", "level": 1},
    {"question": "é½?", "answer": None, "solution": None, "id": "b", "level": 2},
]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def jsonl(path: Path) -> None:
    path.write_bytes(LINES)


def array(path: Path) -> None:
    path.write_text("\ufeff " + json.dumps(ROWS, indent=2), encoding="utf-8")


def table(path: Path, **options: Any) -> None:
    with path.open("w", newline="", encoding="utf-8-sig") as out:
        writer = csv.DictWriter(out, list(ROWS[0]), **options)
        writer.writeheader()
        writer.writerows(ROWS)


def parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=1)


def zst(path: Path) -> None:
    with pa.CompressedOutputStream(str(path), "zstd") as out:
        out.write(LINES)


WRITERS: dict[str, Callable[[Path], Any]] = {
    "p.jsonl": jsonl, "p.json": array, "p.ndjson": jsonl, "lines.json": jsonl, "p": jsonl, "p.csv": table,
    "p.tsv": lambda path: table(path, delimiter="\t"), "p.parquet": parquet, "p.PQ": parquet,
    "p.jsonl.gz": lambda path: path.write_bytes(gzip.compress(LINES)),
    "p.jsonl.bz2": lambda path: path.write_bytes(bz2.compress(LINES)),
    "p.jsonl.xz": lambda path: path.write_bytes(lzma.compress(LINES)),
    "p.jsonl.zst": zst,
}  # fmt: skip


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_problems(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    first, second = load_problems(tmp_path / name)
    assert (first.question, first.answer, first.reference_solution) == ('One, "two"\nthree?', "3", "1+2=3")
    assert (first.id, first.source) == ("a", name.split(".")[0])
    assert (second.id, second.question, second.answer) == ("b", "é½?", None)
    assert second.reference_solution is None
    assert load_problems(f"file://{tmp_path / name}") == [first, second]


def test_any_address_of_fsspec_is_read() -> None:
    memory = fsspec.filesystem("memory")
    for folder in ("train", "test"):
        memory.pipe(f"/problems/{folder}/{folder}.jsonl", json.dumps({"question": f"{folder}?"}).encode())
    memory.pipe("/problems/README.md", b"")
    for source, asked in (
        ("memory://problems/test/test.jsonl", ["test?"]),
        ("memory://problems", ["train?"]),
        ("memory://problems/*/t*.jsonl", ["test?", "train?"]),
    ):
        assert [problem.question for problem in load_problems(source)] == asked
    for source in ("memory://nowhere.jsonl", "hf://moon", "moon://x.jsonl", "memory://*.nothing"):
        with pytest.raises(DataError, match=r"cannot be read|no files"):
            load_problems(source)


@pytest.mark.parametrize("name", ["p.jsonl.gz", "p.jsonl.zst", "p.jsonl.bz2", "p.jsonl.xz", "p.parquet"])
@pytest.mark.parametrize("report", [None, ProblemReport()])
def test_a_torn_file_is_an_error_in_any_case(tmp_path: Path, name: str, report: ProblemReport | None) -> None:
    WRITERS[name](tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(DataError, match=rf"problems=.*{name}` cannot be read"):
        load_problems(tmp_path / name, report=report)


# CSV


def test_broken_rows_of_a_table_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "p.csv"
    file.write_bytes(
        b"question,answer\r\n"
        b"1?,1\r\n"
        b"2?,1,2\r\n"  # line 3: an unquoted comma
        b"\r\n"
        b"3?\r\n"  # line 5: too few
        b'"4"?,4\r\n'  # line 6: text behind a quote
        b"\xff?,5\r\n"  # line 7
        b",6\r\n"  # line 8: no question
        b'"7\r\n7?",\r\n'
        b'"8?,8\r\n'  # line 11: never closed
    )
    report = ProblemReport()
    problems = load_problems(file, report=report)
    assert [(problem.question, problem.answer) for problem in problems] == [("1?", "1"), ("7\r\n7?", None)]
    assert report.dropped == {"not CSV": 4, "not UTF-8": 1, "no question": 1}
    assert report.places["not CSV"] == [f"{file}:{line}" for line in (3, 5, 6, 11)]
    with pytest.raises(DataError, match=r"p\.csv:3 has 3 fields, the header 2"):
        load_problems(file)


def test_all_lines_that_an_unclosed_quote_swallows_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "p.csv"
    file.write_text('question,answer\n1?,1\n"2?,2\n3?,3\n4?,4\n')
    report = ProblemReport()
    assert [problem.question for problem in load_problems(file, report=report)] == ["1?"]
    assert (report.kept, report.dropped) == (1, {"not CSV": 3})
    assert report.places["not CSV"] == [f"{file}:{line}" for line in (3, 4, 5)]
    with pytest.raises(DataError, match=r"p\.csv:3 is not CSV \(unexpected end of data\)"):
        load_problems(file)


def test_a_table_without_a_question_names_its_columns(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("Body;Answer\nx;1\n")
    pq.write_table(pa.table({"Body": ["x?"], "Answer": [1]}), tmp_path / "p.parquet")
    for name, columns in (("p.csv", "Body;Answer"), ("p.parquet", "Body, Answer")):
        with pytest.raises(DataError, match=rf"{name} has no `question`, only {columns}\. Name the one"):
            load_problems(tmp_path / name, report=ProblemReport())
    (problem,) = load_problems(tmp_path / "p.parquet", mapping={"question": "Body", "answer": "Answer"})
    assert (problem.question, problem.answer) == ("x?", "1")
    with pytest.raises(DataError, match=r"p\.parquet has no `target`, only Body, Answer"):
        load_problems(tmp_path / "p.parquet", mapping={"question": "Body", "answer": "target"})


def test_ten_megabytes_in_a_table_are_one_dropped_row(tmp_path: Path) -> None:
    long = "x," * 5_000_000
    with (tmp_path / "p.csv").open("w", newline="") as out:
        csv.writer(out).writerows([["question"], ["1?"], [long], ["2?"], [long * 2], ["3?"]])
    pq.write_table(pa.table({"question": ["1?", long, "2?", long + long, "3?"]}), tmp_path / "p.parquet")
    for name in ("p.csv", "p.parquet"):
        report = ProblemReport()
        problems = load_problems(tmp_path / name, report=report)
        assert [problem.question for problem in problems] == ["1?", "2?", "3?"]
        assert report.dropped == {"too long": 2}


# Parquet


@pytest.mark.parametrize(
    ("values", "answer"),
    [
        ([7], "7"), ([7.0], "7"), ([0.1], "0.1"), ([float("nan")], None), ([Decimal("1.50")], "1.50"),
        ([True], "True"), ([["7"]], "7"), ([b"7"], "7"), (pa.array([None]), None),
    ],
)  # fmt: skip
def test_typed_columns_become_text(tmp_path: Path, values: Any, answer: str | None) -> None:
    pq.write_table(pa.table({"question": ["x?"], "answer": values}), tmp_path / "p.parquet")
    assert load_problems(tmp_path / "p.parquet")[0].answer == answer


def test_nested_columns_are_reached_by_their_path(tmp_path: Path) -> None:
    pq.write_table(pa.table({"in": [{"q": "x?", "a": ["1", "2"]}]}), tmp_path / "p.parquet")
    (problem,) = load_problems(tmp_path / "p.parquet", mapping={"question": "in.q"})
    assert problem.question == "x?"
    report = ProblemReport()
    with pytest.raises(DataError, match="dropped: 1 unusable field"):
        load_problems(tmp_path / "p.parquet", mapping={"question": "in.q", "answer": "in.a"}, report=report)


def test_parquet_is_read_group_by_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(
        pa.table({"question": [f"{n}?" for n in range(10)]}), tmp_path / "p.parquet", row_group_size=2
    )
    asked: list[list[int]] = []

    class Watched(pq.ParquetFile):  # type: ignore[misc]
        def iter_batches(self, *args: Any, **options: Any) -> Any:
            asked.append(options["row_groups"])
            return super().iter_batches(*args, **options)

    monkeypatch.setattr(pq, "ParquetFile", Watched)
    problems = iter_problems(tmp_path / "p.parquet")
    assert asked == []
    assert [next(problems).question for _ in range(3)] == ["0?", "1?", "2?"]
    assert asked == [[0], [1]]


# Folders


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps({"question": name}) + "\n")


def test_a_folder_gives_the_files_of_its_split(tmp_path: Path) -> None:
    write(
        tmp_path / "set", "data/train-00001.jsonl", "data/train-00000.jsonl", "data/validation-0.jsonl",
        "test/0.jsonl", ".hidden/train.jsonl", "_x/train.jsonl", "info.json", "README.md",
    )  # fmt: skip
    for split, names in (
        ("train", ["data/train-00000.jsonl", "data/train-00001.jsonl"]),
        ("dev", ["data/validation-0.jsonl"]),
        ("test", ["test/0.jsonl"]),
    ):
        problems = load_problems(tmp_path / "set", split=split)
        assert [problem.question for problem in problems] == names
        assert {(problem.source, problem.split) for problem in problems} == {("set", split)}
    with pytest.raises(DataError, match="no files of split 'moon', only of dev, test, train"):
        load_problems(tmp_path / "set", split="moon")


@pytest.mark.parametrize("folder", ["set", "set/", "./set", "./set/", "set//", "set/.", "other/../set/"])
def test_a_folder_gives_the_files_of_its_split_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    write(tmp_path / "set", "train.jsonl", "test.jsonl", ".train.jsonl")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    assert [problem.question for problem in load_problems(folder)] == ["train.jsonl"]
    monkeypatch.chdir(tmp_path / "set")
    for here in (".", "./", "../set"):
        assert [problem.question for problem in load_problems(here, split="test")] == ["test.jsonl"]


def test_a_folder_without_splits_is_read_as_a_whole_and_a_pattern_too(tmp_path: Path) -> None:
    folder = tmp_path / "train" / "set"  # the name of a folder above says nothing
    write(folder, "b.jsonl", "a.jsonl", "contest.jsonl")
    assert [problem.question for problem in load_problems(folder, split="test")] == [
        "a.jsonl", "b.jsonl", "contest.jsonl",
    ]  # fmt: skip
    pattern = str(folder / "[ab].jsonl")
    assert [problem.source for problem in load_problems(pattern)] == ["a", "b"]
    (folder / "x[1].jsonl").write_text('{"question": "x?"}')
    assert [problem.question for problem in load_problems(folder / "x[1].jsonl")] == ["x?"]


def test_a_folder_with_nothing_to_read(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("")
    for source in (tmp_path, tmp_path / "*.jsonl"):
        with pytest.raises(DataError, match="has no files that can be read"):
            load_problems(source)


def test_rows_are_held_out_at_the_end_of_the_last_file(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", "b.jsonl", "c.jsonl")
    assert [p.question for p in load_problems(tmp_path, holdout=2, split="dev")] == ["b.jsonl", "c.jsonl"]


# Data sets of Hugging Face


def test_saved_data_sets_are_read(tmp_path: Path) -> None:
    sets = {
        name: Dataset.from_list([{"problem": f"{name}?", "solution": r"\boxed{1}"}])
        for name in ("train", "validation")
    }
    DatasetDict(sets).save_to_disk(tmp_path / "sets")
    sets["train"].save_to_disk(tmp_path / "one")
    for prefix in ("", "hf:"):
        (problem,) = load_problems(f"{prefix}{tmp_path}/sets", mapping="math")
        assert (problem.question, problem.answer, problem.split) == ("train?", "1", "train")
        (problem,) = load_problems(f"{prefix}{tmp_path}/sets", split="dev")
        assert (problem.question, problem.split) == ("validation?", "dev")
        (problem,) = load_problems(f"{prefix}{tmp_path}/one", split="dev")
        assert (problem.question, problem.source if not prefix else "one") == ("train?", "one")
    (problem,) = load_problems(f"hf:{tmp_path}/sets:validation")
    assert (problem.question, problem.split) == ("validation?", "validation")
    with pytest.raises(DataError, match="has no split 'test', only train, validation"):
        load_problems(f"hf:{tmp_path}/sets::test")
    with pytest.raises(DataError, match="has no `moon`, only problem, solution"):
        load_problems(f"{tmp_path}/sets", mapping={"question": "moon"})


def test_a_folder_is_loaded_by_its_card(tmp_path: Path) -> None:
    (tmp_path / "odd").mkdir()
    for name, answer in (("x", "1+1\n#### 2"), ("y", "3")):
        pq.write_table(
            pa.table({"question": [f"{name}?"], "answer": [answer]}), tmp_path / "odd" / f"{name}.parquet"
        )
    (tmp_path / "odd" / "README.md").write_text(
        "---\nconfigs:\n- config_name: main\n  data_files:\n  - split: train\n    path: x.parquet\n"
        "  - split: test\n    path: y.parquet\n---\n"
    )
    source = f"hf:{tmp_path}/odd:main"
    report = ProblemReport()
    (problem,) = load_problems(source, mapping="gsm8k", report=report)
    assert (problem.question, problem.answer, problem.reference_solution) == ("x?", "2", "1+1")
    (problem,) = load_problems(f"{source}:test")
    assert (problem.question, problem.split) == ("y?", "test")


def test_names_of_the_hub_are_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class Hub:
        @staticmethod
        def load_dataset(name: str, config: str | None, *, streaming: bool) -> Any:
            asked.append((name, config, streaming))
            return {split: Dataset.from_list([{"question": f"{split}?"}]) for split in ("train", "test")}

    monkeypatch.setattr(hub, "load_extra", lambda module, what: Hub)
    for source, call, question in (
        ("hf:openai/gsm8k", ("openai/gsm8k", None, True), "train?"),
        ("hf:openai/gsm8k:main", ("openai/gsm8k", "main", True), "train?"),
        ("hf:openai/gsm8k:test", ("openai/gsm8k", None, True), "test?"),
        ("hf:openai/gsm8k::test", ("openai/gsm8k", None, True), "test?"),
        ("hf:openai/gsm8k:main:test", ("openai/gsm8k", "main", True), "test?"),
    ):
        (problem,) = load_problems(source)
        assert (asked.pop(), problem.question, problem.source) == (call, question, "openai/gsm8k")
    for source in ("hf:", "hf::main", "hf:a:b:c:d"):
        with pytest.raises(DataError, match="is no data set"):
            load_problems(source)


def test_a_hub_that_cannot_be_reached_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"`problems=hf:.*nowhere` cannot be read"):
        load_problems(f"hf:{tmp_path}/nowhere")


# Without the extra


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("p.parquet", "pyarrow.parquet"), ("p.jsonl.zst", "pyarrow"), ("hf:x", "datasets"),
        ("memory://p.jsonl", "fsspec.core"),
    ],
)  # fmt: skip
def test_a_missing_library_names_the_extra(
    tmp_path: Path, name: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(module: str) -> Any:
        raise ImportError(f"No module named '{module}'")

    if name.startswith("p."):
        WRITERS[name](tmp_path / name)
        name = str(tmp_path / name)
    monkeypatch.setattr(files, "import_module", fail)
    with pytest.raises(DataError, match=rf"needs {missing.split('.')[0]} .*'supercorrect-agent\[data\]'"):
        load_problems(name)


def test_plain_files_need_no_extra(tmp_path: Path) -> None:
    WRITERS["p.csv"](tmp_path / "p.csv")
    code = (
        "import sys; from supercorrect_agent import load_problems; "
        "heavy = {'pyarrow', 'fsspec', 'datasets', 'pandas'} & {*sys.modules}; "
        "print(len(load_problems(sys.argv[1])), sorted(heavy))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "p.csv")], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[0] == "2 []"
