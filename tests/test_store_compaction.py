"""Compaction to Parquet: what is in it, who can read it, and that a kill at any moment loses nothing."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.compute as compute
import pytest

from supercorrect_agent.errors import StoreError
from supercorrect_agent.store import JsonlTraceStore, TraceKey, open_store, trace_key
from supercorrect_agent.store.columns import COLUMNS
from supercorrect_agent.store.compaction import compact_store
from supercorrect_agent.store.lines import format_line
from supercorrect_agent.store.listing import list_files
from supercorrect_agent.store.reading import Reading
from supercorrect_agent.types import Call, Problem, Trace, Verdict
from tests.conformance.trace_store import full_trace, make_trace


def fill(path: Path | str, *shards: list[Trace]) -> None:
    for traces in shards:
        with open_store(path) as store:
            for trace in traces:
                store.append(trace)


def ids(path: Path | str) -> list[str]:
    return [trace.id for trace in open_store(path)]


def kinds(path: Path) -> list[str]:
    return sorted(file.suffix for file in path.iterdir() if file.name.startswith("traces"))


# --- what becomes of the traces


def test_shards_become_one_file(tmp_path: Path) -> None:
    fill(tmp_path, [make_trace(1), make_trace(2)], [make_trace(3)])
    done = compact_store(tmp_path)
    assert (done.traces, done.superseded, done.broken, done.live, len(done.files)) == (3, 0, 0, 0, 1)
    assert done.bytes_before > 0
    assert kinds(tmp_path) == [".parquet"]
    assert ids(tmp_path) == ["trace-1", "trace-2", "trace-3"]


def test_new_shards_are_read_with_it_and_small_files_are_put_together(tmp_path: Path) -> None:
    fill(tmp_path, [make_trace(1)])
    compact_store(tmp_path)
    fill(tmp_path, [make_trace(2)])
    assert kinds(tmp_path) == [".jsonl", ".parquet"]
    assert ids(tmp_path) == ["trace-1", "trace-2"]
    compact_store(tmp_path)
    assert kinds(tmp_path) == [".parquet"]
    assert ids(tmp_path) == ["trace-1", "trace-2"]
    assert compact_store(tmp_path).files == ()  # nothing is left to do


def test_files_are_bounded_in_size(tmp_path: Path) -> None:
    fill(tmp_path, [make_trace(number) for number in range(10)])
    line = len(json.dumps(make_trace(0).model_dump(mode="json"), separators=(",", ":")))
    done = compact_store(tmp_path, max_bytes=3 * line)
    assert len(done.files) == 4  # 3, 3, 3 and 1 traces
    assert ids(tmp_path) == [f"trace-{number}" for number in range(10)]


def test_failed_runs_that_succeeded_later_are_left_out(tmp_path: Path) -> None:
    failed = [make_trace(number, id=f"failed-{number}", status="error") for number in (1, 2, 3)]
    fill(tmp_path, [*failed, make_trace(1)])
    fill(tmp_path, [make_trace(2, id="again-2", status="error")])
    done = compact_store(tmp_path)
    assert done.superseded == 1
    # 1 succeeded; how often 2 and 3 failed says whether they are made again
    assert ids(tmp_path) == ["failed-2", "failed-3", "trace-1", "again-2"]
    fill(tmp_path, [make_trace(3)])
    assert compact_store(tmp_path).superseded == 1
    assert sorted(ids(tmp_path)) == ["again-2", "failed-2", "trace-1", "trace-3"]


def test_a_shard_that_is_written_is_left_alone(tmp_path: Path) -> None:
    fill(tmp_path, [make_trace(1)])
    writer = open_store(tmp_path)
    writer.append(make_trace(2))
    assert compact_store(tmp_path).live == 1
    writer.append(make_trace(3))
    assert ids(tmp_path) == ["trace-1", "trace-2", "trace-3"]
    assert kinds(tmp_path) == [".jsonl", ".parquet"]


def test_a_shard_that_is_begun_meanwhile_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, [make_trace(1)])
    writer, done = open_store(tmp_path), Reading.done

    def begins(reading: Reading) -> set[TraceKey]:
        writer.append(make_trace(2))
        return done(reading)

    monkeypatch.setattr(Reading, "done", begins)
    assert compact_store(tmp_path).traces == 1
    assert kinds(tmp_path) == [".jsonl", ".parquet"]
    assert ids(tmp_path) == ["trace-1", "trace-2"]


def line_of(trace: Trace, old: bytes, new: bytes) -> bytes:
    line = format_line(trace)
    assert line.count(old) == 1
    return line.replace(old, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"sample":7', b'"sample":"7"'),
        (b'"input_tokens":5', b'"input_tokens":5.0'),
        (b'"input_tokens":5', b'"input_tokens":1%s' % (b"0" * 30)),
        (b"What?", b"What\xed\xa0\x80?"),  # half a surrogate pair, not escaped
    ],
)
def test_what_a_reader_takes_is_still_there(tmp_path: Path, old: bytes, new: bytes) -> None:
    problem = Problem(id="p", question="What?")
    calls = (Call(role="student", model="m", input_tokens=5),)
    line = line_of(make_trace(1, problem=problem, sample=7, calls=calls), old, new)
    (tmp_path / "traces.jsonl").write_bytes(line)
    before = list(open_store(tmp_path))
    assert len(before) == 1
    assert compact_store(tmp_path).broken == 0
    assert list(open_store(tmp_path)) == before


def test_broken_lines_are_kept_apart(tmp_path: Path) -> None:
    fill(tmp_path, [make_trace(1)])
    (shard,) = tmp_path.glob("*.jsonl")
    with shard.open("ab") as file:
        file.write(b'[1]\n\n{"schema_version": 2, "problem": {"id": "no more"}}\n{"torn')
    with pytest.warns(UserWarning, match="torn"):
        assert compact_store(tmp_path).broken == 3
    (kept,) = tmp_path.glob("broken-*.jsonl")
    assert kept.read_bytes() == b'[1]\n{"schema_version": 2, "problem": {"id": "no more"}}\n{"torn\n'
    store = open_store(tmp_path)
    assert [trace.id for trace in store] == ["trace-1"]
    assert store.skipped == 0


def test_a_line_appended_after_the_shard_was_read_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A single file inside the folder is no shard of a process: others may append to it at any time."""
    single = JsonlTraceStore(tmp_path / "traces-single.jsonl")
    single.append(make_trace(1))
    replace = os.replace

    def late(*args: Any) -> None:
        single.append(make_trace(2))
        replace(*args)

    monkeypatch.setattr(os, "replace", late)
    compact_store(tmp_path)
    assert ids(tmp_path) == ["trace-1", "trace-2"]
    monkeypatch.undo()
    single.append(make_trace(3))
    compact_store(tmp_path)
    single.append(make_trace(4))  # its file is gone
    assert ids(tmp_path) == ["trace-1", "trace-2", "trace-3", "trace-4"]


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


@pytest.mark.parametrize("name", ["replace", "unlink", "fsync"])
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_a_kill_at_any_moment_loses_nothing_and_shows_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, before: bool
) -> None:
    wanted = {f"trace-{number}" for number in range(6)}
    real: Callable[..., Any] = getattr(os, name)
    moment = kills = 0
    while True:
        path = tmp_path / str(moment)
        fill(path, [make_trace(0), make_trace(1)])
        compact_store(path)
        fill(
            path,
            [make_trace(2), make_trace(3)],
            [make_trace(4, status="error"), make_trace(4), make_trace(5)],
        )
        calls = 0

        def kill(*args: Any, moment: int = moment, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls - 1 == moment and before:
                raise Killed
            done = real(*args, **options)
            if calls - 1 == moment:
                raise Killed
            return done

        with monkeypatch.context() as broken:
            broken.setattr(os, name, kill)
            try:
                compact_store(path, max_bytes=500)  # more than one file
            except Killed:
                kills += 1
        found = ids(path)
        assert set(found) == wanted
        assert len(found) in (len(wanted), len(wanted) + 1)  # the failed run of trace-4 may still be there
        compact_store(path)
        assert sorted(ids(path)) == sorted(wanted)
        assert kinds(path) == [".parquet"] * len(kinds(path))
        assert not list(path.glob(".*.part"))
        if calls <= moment:
            break
        moment += 1
    assert kills == moment >= 2


def test_two_compactions_at_once_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, [make_trace(1)])
    replace, refused = os.replace, []

    def meanwhile(*args: Any) -> None:
        with pytest.raises(StoreError, match=r"is being compacted by another process\. Wait") as caught:
            compact_store(tmp_path)
        refused.append(caught.value)
        replace(*args)

    monkeypatch.setattr(os, "replace", meanwhile)
    compact_store(tmp_path)
    assert len(refused) == 1


def test_a_reader_whose_shard_goes_away_is_told(tmp_path: Path) -> None:
    fill(tmp_path, [make_trace(1)], [make_trace(2)])
    reading = iter(open_store(tmp_path))
    assert next(reading).id == "trace-1"
    compact_store(tmp_path)
    with pytest.raises(StoreError, match=r"went away while the store was read.*Read it again"):
        list(reading)


def test_a_reader_whose_parquet_file_goes_away_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does where a second compaction puts small files together."""
    for number in (1, 2):
        with open_store(tmp_path) as store:
            store.append(make_trace(number))
        compact_store(tmp_path, max_bytes=1)
    store = open_store(tmp_path)
    gone = [*store.place.names(), "traces-1.parquet", "traces-1.jsonl"]
    monkeypatch.setattr(type(store.place), "names", lambda place: gone)
    for read in (store.done, store.keys, lambda: list(store), lambda: list_files(store),
                 lambda: list(store.where(lambda batch: batch["n_rounds"]))):  # fmt: skip
        with pytest.raises(StoreError, match=r"traces-1.parquet' went away while the store was read"):
            read()
    gone.remove("traces-1.parquet")
    for read in (lambda: list(store.where(lambda batch: compute.is_valid(batch["n_rounds"]))), store.done):
        with pytest.raises(StoreError, match=r"traces-1.jsonl' went away while the store was read"):
            read()


# --- the columns


def test_columns_by_hand(tmp_path: Path) -> None:
    import pyarrow.dataset as dataset

    trace = full_trace()
    fill(tmp_path, [trace, make_trace(7, verdict=Verdict(status="unscored"), solution=None)])
    compact_store(tmp_path)
    first, second = dataset.dataset(sorted(tmp_path.glob("*.parquet"))).to_table().to_pylist()
    derived = ("rows_sft", "rows_preference")
    assert list(first) == [*COLUMNS, *derived]
    record = first.pop("record")
    assert all(isinstance(each.pop(name), bytes) for each in (first, second) for name in derived)
    assert Trace.model_validate_json(record) == trace
    assert first == {
        "key": trace_key(trace.problem, 2), "schema_version": 2, "id": "trace-0",
        "created": "2026-11-30T12:00:00Z", "problem_id": "problem-0", "question": "What is 2+2?",
        "answer": "4", "source": "user", "split": "train", "sample": 2, "status": "corrected",
        "error": "none", "model": "m", "teacher": "teacher", "right_first": False, "right_final": True,
        "final_answer": "4", "has_template": True, "n_rounds": 1, "first_error_step": 1, "chosen": 1,
        "n_calls": 1, "input_tokens": 10, "output_tokens": 20, "seconds": 1.5,
    }  # fmt: skip
    empty = {name for name, value in second.items() if value is None}
    assert empty == {
        "error", "model", "teacher", "right_first", "right_final", "final_answer", "first_error_step"
    }  # fmt: skip


def test_files_are_zstd_with_statistics(tmp_path: Path) -> None:
    from pyarrow.parquet import read_metadata

    fill(tmp_path, [make_trace(number, sample=number) for number in range(5)])
    compact_store(tmp_path)
    (file,) = tmp_path.glob("*.parquet")
    group = read_metadata(file).row_group(0)
    columns = {
        group.column(number).path_in_schema: group.column(number) for number in range(group.num_columns)
    }
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert (columns["sample"].statistics.min, columns["sample"].statistics.max) == (0, 4)
    assert columns["status"].statistics.min == "accepted"


def test_pyarrow_reads_columns_and_filters_rows(tmp_path: Path) -> None:
    import pyarrow.dataset as dataset

    fill(tmp_path, [make_trace(1), make_trace(2, status="stalled"), make_trace(3, status="stalled")])
    compact_store(tmp_path)
    files = dataset.dataset(sorted(tmp_path.glob("traces*.parquet")))
    table = files.to_table(columns=["problem_id"], filter=dataset.field("status") == "stalled")
    assert table.to_pydict() == {"problem_id": ["problem-2", "problem-3"]}


def test_duckdb_counts_without_reading_the_records(tmp_path: Path) -> None:
    import duckdb

    fill(tmp_path, [make_trace(1), make_trace(2, status="stalled"), full_trace()])
    compact_store(tmp_path)
    found = duckdb.read_parquet(f"{tmp_path}/traces*.parquet").aggregate(
        "status, count(*), max(record->>'$.rounds[0].critique.author')"
    )
    assert found.order("status").fetchall() == [
        ("accepted", 1, None), ("corrected", 1, "teacher"), ("stalled", 1, None)
    ]  # fmt: skip


def test_traces_are_chosen_by_columns(tmp_path: Path) -> None:
    import pyarrow.compute as compute

    fill(tmp_path, [make_trace(1), full_trace(), make_trace(2, status="stalled")])
    compact_store(tmp_path)
    fill(tmp_path, [make_trace(3)])  # in JSON Lines: not asked about
    chosen = open_store(tmp_path).where(lambda batch: compute.greater(batch["n_rounds"], 0))
    assert [trace.id for trace in chosen] == ["trace-0", "trace-3"]


# --- what cannot be


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, [make_trace(1)])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        StoreError, match=r"needs pyarrow\. Install it: pip install 'supercorrect-agent\[data\]'"
    ):
        compact_store(tmp_path)
    assert ids(tmp_path) == ["trace-1"]


def test_a_single_file_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    fill(tmp_path / "one.jsonl", [make_trace(1)])
    with pytest.raises(StoreError, match=r"one\.jsonl' is a single file\. Pass the folder"):
        compact_store(tmp_path / "one.jsonl")
    with pytest.raises(StoreError, match="There are no traces at"):
        compact_store(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PAR1 no more", b"x" * 5000])
def test_a_file_that_is_no_parquet_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "traces-broken.parquet").write_bytes(content)
    for read in (lambda: ids(tmp_path), lambda: open_store(tmp_path).done(), lambda: compact_store(tmp_path)):
        with pytest.raises(StoreError, match=r"traces-broken\.parquet' is no whole Parquet file .*Remove it"):
            read()


def test_a_parquet_file_of_something_else_is_one_sentence(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow.parquet import write_table

    write_table(pyarrow.table({"prompt": ["x"]}), tmp_path / "traces-rows.parquet")
    with pytest.raises(StoreError, match="has no column 'record', so it holds no traces"):
        ids(tmp_path)
