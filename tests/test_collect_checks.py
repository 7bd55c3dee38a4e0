"""A collection refuses what would spoil its problems, or lose its summary, before it calls anybody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from supercorrect_agent.errors import ConfigError, StoreError
from supercorrect_agent.store import open_store
from tests.collecting_runs import sums, write_problems
from training.collect import run_collect
from training.collect_checks import check_outputs
from training.config import CollectionConfig


def config(problems: Path | str, store: Path, **more: Any) -> CollectionConfig:
    return CollectionConfig(problems=str(problems), store=store, student="vllm:m@http://127.0.0.1:9", **more)


@pytest.mark.parametrize("name", ["{}/sums.jsonl", "file://{}/sums.jsonl", "{}/sums.*", "{}"])
def test_a_store_that_is_a_problem_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    file = write_problems(tmp_path / "sums.jsonl", sums(2))
    before = file.read_bytes()
    with pytest.raises(ConfigError, match=r"`store=.*sums.jsonl` is a file of `problems=.*another `--store`"):
        run_collect(config(name.format(tmp_path), file), say=lambda line: None)
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["sums.jsonl"]


def test_a_store_in_a_folder_of_problems_is_refused(tmp_path: Path) -> None:
    """Compacted traces have a question and an answer, too."""
    write_problems(tmp_path / "sums.jsonl", sums(2))
    with pytest.raises(ConfigError, match=r"`store=.*/traces` lies in `problems=.*Pass another `--store`"):
        check_outputs(config(tmp_path, tmp_path / "traces"))
    check_outputs(config(tmp_path / "sums.jsonl", tmp_path / "traces"))


def test_a_store_that_is_an_evaluation_set_is_refused(tmp_path: Path) -> None:
    file = write_problems(tmp_path / "sums.jsonl", sums(2))
    held_out = write_problems(tmp_path / "test.jsonl", sums(1))
    with pytest.raises(ConfigError, match="is a file of `held_out="):
        check_outputs(config(file, held_out, held_out=(str(held_out),)))


@pytest.mark.parametrize("first", ['{"question": "1+1?", "answer": "2"}', "[1]", '\n{"prompt": []}'])
def test_a_file_of_something_else_is_no_store(tmp_path: Path, first: str) -> None:
    other = write_problems(tmp_path / "other.jsonl", [first])
    before = other.read_bytes()
    with pytest.raises(StoreError, match=r"other.jsonl' is a file of JSON lines that are no traces.*Pass an"):
        run_collect(config(write_problems(tmp_path / "p.jsonl", sums(1)), other), say=lambda line: None)
    assert other.read_bytes() == before


@pytest.mark.parametrize("lines", [[], ["", ""], ['{"id": "torn', '{"x": 1}'], ['{"problem": {"id": "a"}}']])
def test_a_file_that_may_be_a_store_is_taken(tmp_path: Path, lines: list[str]) -> None:
    file = write_problems(tmp_path / "traces.jsonl", lines)
    before = file.read_bytes()
    open_store(file).ensure_writable()
    assert file.read_bytes() == before


@pytest.mark.parametrize("name", ["missing/summary.json", "file/summary.json", "folder"])
def test_a_summary_that_cannot_be_written_is_refused_before_the_run(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    problems = write_problems(tmp_path / "sums.jsonl", sums(2))
    with pytest.raises(ConfigError, match=r"`summary=.*` cannot be written \(.*\)\. Pass a file in a folder"):
        run_collect(
            config(problems, tmp_path / "traces", summary=tmp_path / name, patience=0), say=lambda line: None
        )
    assert not (tmp_path / "traces").exists()


@pytest.mark.parametrize(
    ("store", "summary", "named"),
    [
        ("traces", "sums.jsonl", "problems"),
        ("one.jsonl", "one.jsonl", "store"),
        ("traces", "traces/traces-1.jsonl", "store"),
    ],
)
def test_a_summary_spoils_neither_problems_nor_traces(
    tmp_path: Path, store: str, summary: str, named: str
) -> None:
    problems = write_problems(tmp_path / "sums.jsonl", sums(2))
    (tmp_path / "traces").mkdir()
    match = rf"`summary=.*{summary}` is a file of `{named}=.*`, which it would spoil\. Pass another"
    with pytest.raises(ConfigError, match=match):
        check_outputs(config(problems, tmp_path / store, summary=tmp_path / summary))
    check_outputs(config(problems, tmp_path / store, summary=tmp_path / "traces" / "summary.json"))
