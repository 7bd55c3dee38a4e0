"""The store's benchmark: its traces are true to the schema and to the grammar, and its verdicts add up."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks.store import measure_append, read_arrow, read_done, read_rows, read_traces, verdicts
from benchmarks.store_traces import make_records
from supercorrect_agent.store import open_store
from supercorrect_agent.store.compaction import compact_store
from supercorrect_agent.templates import parse_critique, parse_solution
from supercorrect_agent.types import Trace
from training.row_files import build_rows


def test_the_traces_are_true_to_schema_and_grammar() -> None:
    records = list(make_records(400))
    traces = [Trace.model_validate(record) for record in records]
    assert [trace.model_dump(mode="json") for trace in traces] == records
    for trace in traces:
        for solution in filter(None, (trace.template, trace.solution)):
            assert parse_solution(solution.raw, model=solution.model) == solution
        for round_ in trace.rounds:
            read = parse_critique(round_.critique.raw)
            assert (read.step, read.correction) == (round_.critique.step, round_.critique.correction)
    shares = Counter(trace.status for trace in traces)
    assert 0.45 < shares["accepted"] / 400 < 0.65
    assert 0.25 < shares["corrected"] / 400 < 0.45
    assert set(shares) == {"accepted", "corrected", "unchanged", "quarantined", "error"}
    assert next(make_records(1, start=7)) == records[7]


def test_what_is_measured_is_there(tmp_path: Path) -> None:
    found = measure_append(tmp_path / "traces", 60)
    assert found["rate_over_bare_in_all"] > 0
    assert not (tmp_path / "bare.jsonl").exists()
    store = open_store(tmp_path / "traces")
    before = {kind: build_rows(store, kind) for kind in ("sft", "preference")}  # type: ignore[arg-type]
    compact_store(tmp_path / "traces")
    assert {read(tmp_path / "traces") for read in (read_arrow, read_rows, read_traces)} == {60}
    failed = sum(record["status"] == "error" for record in make_records(60))
    assert read_done(tmp_path / "traces") == 60 - failed
    # rows are the same, whether all traces were parsed or only those that can give rows
    for kind, (rows, manifest) in before.items():
        again, same = build_rows(store, kind)  # type: ignore[arg-type]
        assert list(again) == list(rows)
        assert same == manifest
        assert same.kept > 10


def size(count: int, append: float, export: float) -> dict[str, Any]:
    task = {"cpu_milliseconds_per_trace": export, "peak_mib": 500}
    return {
        "traces": count,
        "append": {"rate_over_bare_in_all": 0.6, "milliseconds_per_trace": append},
        "compaction": {"milliseconds_per_trace": 1.0},
        "tasks": {"export_sft": task, "export_preference": {**task, "peak_mib": 2000}},
        "export_over_bare": {"export_sft over read_rows, seconds": {"median": 0.25, "low": 0.2, "high": 0.3}},
    }


def test_verdicts_by_hand() -> None:
    lines = verdicts([size(10, 1.0, 2.0), size(100, 1.1, 2.4)])
    assert lines == [
        "append over bare orjson lines: 0.60; target at least 0.5: met",
        "export_sft over read_rows, seconds: 0.25; target at least 0.3: missed",
        "export_sft, MiB: 500.00; target under 1024: met",
        "export_preference, MiB: 2000.00; target under 1024: missed",
        "time a trace, 100 over 10, append: 1.10",
        "time a trace, 100 over 10, compaction: 1.00",
        "time a trace, 100 over 10, export_sft: 1.20",
        "time a trace, 100 over 10, export_preference: 1.20",
    ]


def test_a_size_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import store

    monkeypatch.setattr("sys.argv", ["store", "--traces", "1000000000000"])
    with pytest.raises(SystemExit, match="need 13000000 GB"):
        store.main()
