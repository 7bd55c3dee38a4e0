"""Training rows of a large store: many processes give what one gives, and short ways what long ones do."""

from __future__ import annotations

import random
import re
import warnings
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import orjson
import pytest

from benchmarks.store_traces import make_records
from supercorrect_agent import grammar, verification
from supercorrect_agent.errors import DataError, StoreError
from supercorrect_agent.inspector import speaks_of_reference
from supercorrect_agent.store import derived, open_store
from supercorrect_agent.store.compaction import compact_store
from supercorrect_agent.types import Inspection, Problem
from tests.training_traces import TEMPLATE, make_round, make_trace
from training import row_columns, row_workers
from training.pairs import PreferenceReader
from training.row_columns import RowColumns, column_of, version_of
from training.row_files import Kind, build_rows
from training.sft_rows import SolutionReader, build_sft_dataset


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Traces in Parquet and in a shard, a line among them that is none; workers begin behind twenty."""
    monkeypatch.setattr(row_workers, "_ALONE", 20)
    monkeypatch.setattr(row_workers, "_CHUNK", 8)
    write(tmp_path / "traces-1.jsonl", *map(orjson.dumps, make_records(90)))
    compact_store(tmp_path)
    odd = make_trace(make_round(), question="How many \ud800 \u00e9?", template=TEMPLATE)
    lines = [orjson.dumps(record) for record in make_records(60, start=90)]
    write(tmp_path / "traces-2.jsonl", *lines[:50], b'{"problem": {"id": "x"}}', *lines[50:])
    with open_store(tmp_path) as opened:
        opened.append(odd)
        opened.append(make_trace(split="test"))
    return tmp_path


def write(path: Path, *lines: bytes) -> None:
    path.write_bytes(b"".join(line + b"\n" for line in lines))


@pytest.mark.parametrize("kind", ["sft", "preference"])
def test_two_workers_give_the_rows_and_counts_of_one(store: Path, kind: Kind) -> None:
    alone, shared = open_store(store), open_store(store)
    rows, manifest = build_rows(alone, kind, workers=1)
    again, same = build_rows(shared, kind, workers=2, test_share=0.0)
    assert (list(again), same) == (list(rows), manifest)
    assert (shared.skipped, shared.broken) == (alone.skipped, alone.broken)
    assert (manifest.traces_read, shared.skipped, manifest.dropped["split"]) == (152, 1, 1)
    assert manifest.kept > 40


@pytest.mark.parametrize("kind", ["sft", "preference"])
@pytest.mark.parametrize("options", [{}, {"seed": 3, "test_share": 0.4, "max_rows": 30}])
def test_rows_of_the_columns_are_those_of_the_records(
    store: Path, kind: Kind, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    compacted = open_store(store)
    column, version = column_of(kind), RowColumns().versions[column_of(kind)]
    assert len(compacted.reading().derived(column, version)) == 1  # 90 of the traces are in it
    rows, manifest = build_rows(compacted, kind, workers=1, **options)
    monkeypatch.setattr(row_workers, "version_of", lambda reader: "of other code")
    records = open_store(store)
    assert records.reading().derived(column, "of other code") == []
    again, same = build_rows(records, kind, workers=1, **options)
    assert (list(again), same) == (list(rows), manifest)
    assert (compacted.skipped, manifest.traces_read) == (records.skipped, 152)


def test_a_column_is_of_its_readers_options_and_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    named = {version_of(reader) for reader in (SolutionReader(), SolutionReader(style="plain"))}
    named |= {version_of(reader) for reader in (PreferenceReader(), PreferenceReader(solve_pairs=True))}
    assert len(named) == 4
    monkeypatch.setattr(row_columns, "_code_version", lambda: "other")
    assert version_of(SolutionReader()) not in named


def test_a_record_that_is_no_trace_is_counted_in_a_column_too(tmp_path: Path) -> None:
    record = next(make_records(1))
    broken = {**record, "solution": {"steps": "none"}}
    write(tmp_path / "traces-1.jsonl", *map(orjson.dumps, [*make_records(3, start=1), broken]))
    compact_store(tmp_path)
    store = open_store(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        manifest = build_rows(store, "sft")[1]
    assert (manifest.traces_read, store.skipped) == (3, 1)


def test_a_store_is_compacted_without_what_cannot_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = EntryPoint("rows", "no_such_module:Columns", derived.GROUP)
    monkeypatch.setattr(derived, "entry_points", lambda group: [missing])
    assert derived.installed() == []
    write(tmp_path / "traces-1.jsonl", *map(orjson.dumps, make_records(2)))
    assert compact_store(tmp_path).traces == 2
    assert build_rows(open_store(tmp_path), "sft")[1].traces_read == 2


def test_a_trace_of_a_newer_version_is_an_error_in_a_worker_too(store: Path) -> None:
    write(store / "traces-3.jsonl", *[b'{"schema_version": 99, "problem": {"id": "x"}}'] * 2)
    with pytest.raises(StoreError, match="schema version 99"):
        build_rows(open_store(store), "sft", workers=2)


def test_a_worker_that_dies_is_an_error(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(DataError, match="has ended"):
        build_rows(open_store(store), "sft", workers=2)


def test_what_is_quarantined_as_a_whole_gives_no_row() -> None:
    written = make_trace(attempt=None, template=TEMPLATE, status="quarantined")
    rows, manifest = build_sft_dataset([written])
    assert (len(rows), manifest.dropped) == (0, {"quarantined": 1})
    failed = (Inspection(check="leak", passed=False, note="n"),)
    named = written.model_copy(update={"template_inspections": failed})
    assert build_sft_dataset([named])[1].dropped == {"template inspection: leak": 1}


PIECES = (
    "<Step1>", "</Step1>", "<Step12>", "<step2>", "<Step 3>", "<Step01>", "<Key>", "</Key>", "<Answer>",
    "</Answer>", "</Cause>", "<Cause>", "<Correction>", "</Correction>", "<Evaluate>", "**", "`", "# ", "#",
    "\\", "<", ">", "&lt;", "\uff1c", "\n", " ", "3 < 5", "a*b", "Key>", "Step1>", ":", "title",
    "<Generalized>",
)  # fmt: skip


def test_tags_are_read_the_short_way_as_they_are_the_long_way(monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(0)
    texts = ["".join(dice.choices(PIECES, k=dice.randint(1, 9))) for _ in range(6000)]
    texts += ["".join(dice.choices(PIECES[:14], k=6)) for _ in range(2000)]
    short = [grammar.read_tags(text, min(len(text), number % 3)) for number, text in enumerate(texts)]
    monkeypatch.setattr(grammar, "_PLAIN_TAG", re.compile(r"(?!)"))  # of no text all tags are plain
    monkeypatch.setattr(grammar, "_NOT_PLAIN", re.compile(""))
    assert short == [grammar.read_tags(text, min(len(text), number % 3)) for number, text in enumerate(texts)]


def test_whole_numbers_are_compared_the_short_way_as_they_are_the_long_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    numbers = [
        "0",
        "-0",
        "7",
        "-7",
        "07",
        "12",
        "1999",
        "2024",
        "123456",
        "-123456",
        "999999999999999",
        "1234567890123456",
    ]
    verifier = verification.MathVerifier()

    def judged() -> list[str]:
        return [verifier.verify(answer=one, target=two).status for one in numbers for two in numbers]

    short = judged()
    monkeypatch.setattr(verification, "_WHOLE", re.compile(r"(?!)"))
    assert short == judged()


@pytest.mark.parametrize(
    ("text", "speaks"),
    [
        ("The answer\tkey says so.", True), ("the ANSWER is 5", False), ("Ground - truth", True),
        ("as the \u212aey", False), ("the official \u017folution", True), ("the known true answer", True),
    ],
)  # fmt: skip
def test_a_reference_is_seen_in_any_spelling(text: str, speaks: bool) -> None:
    assert speaks_of_reference(Problem.create("How many?"), text) is speaks
