"""`supercorrect traces ls | stats | show | compact | export`, beyond what `test_cli_reports` has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from supercorrect_agent.store import open_store, summarize_traces
from supercorrect_agent.store.summary import Price
from supercorrect_agent.types import (
    Call,
    Chosen,
    Critique,
    Inspection,
    Problem,
    Revision,
    Round,
    Solution,
    Trace,
    Verdict,
)
from tests.commands import assert_one_sentence, run_cli
from tests.conformance.trace_store import full_trace, make_trace
from tests.training_traces import make_round
from tests.training_traces import make_trace as make_training_trace


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two shards: two accepted traces and a torn line; one that failed."""
    path = tmp_path / "traces"
    with open_store(path) as store:
        store.append(make_trace(1))
        store.append(make_trace(2))
        shard = store.file
    with shard.open("a") as file:
        file.write('{"torn')
    shard.rename(path / "traces-0.jsonl")
    with open_store(path) as store, pytest.warns(UserWarning, match="torn line"):
        store.append(make_trace(3, status="error", error="teacher: timed out\nmore"))
    return path


# --- ls


def test_ls_lists_files(folder: Path) -> None:
    # the second opening closed the torn line, so that it is broken, and no longer torn
    first, second = json.loads(run_cli("traces", "ls", str(folder), "--json").stdout)
    size = (folder / "traces-0.jsonl").stat().st_size
    assert first == {
        "name": "traces-0.jsonl", "kind": "jsonl", "traces": 2, "bytes": size, "versions": {"2": 2},
        "broken": 1, "torn": None, "live": False,
    }  # fmt: skip
    assert (second["traces"], second["broken"]) == (1, 0)
    lines = run_cli("traces", "ls", str(folder)).stdout.splitlines()
    assert lines[1].split() == ["traces-0.jsonl", "jsonl", "2", str(size), "2", "1"]
    assert lines[-1] == f"2 files, 3 traces, {size + second['bytes']} bytes"


def test_ls_tells_torn_and_live_files(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.append(make_trace(1))
    with store.file.open("a") as file:
        file.write('{"torn')
    assert "being written" in run_cli("traces", "ls", str(tmp_path)).stdout
    size = store.file.stat().st_size - 6
    store.close()
    assert f"torn from byte {size}" in run_cli("traces", "ls", str(tmp_path)).stdout


# --- stats


def test_stats_count_checks_revisions_quarantine_and_free_reviews() -> None:
    failed, passed = Inspection(check="leak", passed=False), Inspection(check="leak", passed=True)
    revision = Revision(critique=Critique(step=1), inspections=(failed,))
    traces = [
        make_trace(1, rounds=(
            Round(critique=Critique(step=1), revisions=(revision, revision), inspections=(passed,),
                  free_review=Critique(step=1)),
            Round(critique=Critique(step=2), free_review=Critique(step=3)),
        )),
        make_trace(2, status="quarantined", rounds=(
            Round(critique=Critique(step=2), inspections=(failed, Inspection(check="cause", passed=False)),
                  free_review=Critique(readable=False)),
        )),
        make_trace(3, status="quarantined", chosen=Chosen(reason="three revisions")),
        make_trace(4, rounds=(Round(critique=Critique(), free_review=Critique(readable=False)),)),
    ]  # fmt: skip
    summary = summarize_traces(traces)
    assert summary["inspector"] == {"cause": {"made": 1, "caught": 1}, "leak": {"made": 4, "caught": 3}}
    assert summary["revisions"] == 2
    assert summary["quarantined"] == {"leak, cause": 1, "three revisions": 1}
    # step 1 is the teacher's; 3 is not; what cannot be read is wrong even where no step was wrong
    assert summary["free_review"] == {"scored": 4, "correct": 1, "accuracy": 0.25}


def test_stats_reckon_what_calls_cost() -> None:
    calls = (
        Call(role="student", model="m", input_tokens=2_000_000, output_tokens=500_000),
        Call(role="teacher", model="t", input_tokens=100_000, output_tokens=10_000),
    )
    prices = {"teacher": Price(2.5, 10), "student": Price(0.1, 0.4)}
    summary = summarize_traces([make_trace(1, calls=calls)], prices=prices)
    assert summary["usage"]["student"]["cost"] == pytest.approx(0.2 + 0.2)
    assert summary["usage"]["teacher"]["cost"] == pytest.approx(0.25 + 0.1)
    assert summary["cost"] == pytest.approx(0.75)


def test_stats_prints_what_there_is(tmp_path: Path) -> None:
    open_store(tmp_path).append(full_trace())
    lines = run_cli("traces", "stats", str(tmp_path), "--price", "teacher=1000/50000").stdout.splitlines()
    assert [line.strip() for line in lines[-4:]] == [
        "Inspector caught  correction: 1 of 1, leak: 0 of 1",
        "Critiques sent back  1",
        "Student's own step is the teacher's  0 of 1 scored (0.0%)",
        "Cost  1.01",  # 10 tokens for 0.01 and 20 for 1
    ]


def test_stats_names_how_runs_failed(folder: Path) -> None:
    summary = json.loads(run_cli("traces", "stats", str(folder), "--json").stdout)
    assert summary["errors"] == {"teacher: timed out": 1}


@pytest.mark.parametrize(
    "price", ["teacher", "teacher=1", "techer=1/2", "teacher=1/2/3", "teacher=-1/2", "teacher=nan/1"]
)
def test_a_price_that_is_none_is_one_sentence(folder: Path, price: str) -> None:
    result = run_cli("traces", "stats", str(folder), "--price", price)
    assert_one_sentence(result, 2, f"`--price {price}` is no price", "teacher=2.5/10")


# --- show


def test_show_turns_the_page_and_filters(folder: Path) -> None:
    def shown(*flags: str) -> list[str]:
        lines = run_cli("traces", "show", str(folder), "--json", *flags).stdout.splitlines()
        return [json.loads(line)["id"] for line in lines]

    assert shown("--limit", "1", "--skip", "1") == ["trace-2"]
    assert shown("--problem", "problem-3") == ["trace-3"]
    assert shown("--status", "accepted", "--skip", "1") == ["trace-2"]
    assert shown("--skip", "9") == []


# --- compact and export


def test_compact_reports_and_readers_see_no_difference(folder: Path) -> None:
    done = json.loads(run_cli("traces", "compact", str(folder), "--json").stdout)
    assert (done["traces"], done["broken"], done["live"]) == (3, 1, 0)
    assert [trace.id for trace in open_store(folder)] == ["trace-1", "trace-2", "trace-3"]
    again = run_cli("traces", "compact", str(folder))
    assert again.exit_code == 0
    assert again.stdout.splitlines()[0].strip() == "Traces  0 moved to 0 Parquet files"


def test_compaction_leaves_training_rows_to_the_exports_on_request(folder: Path) -> None:
    from pyarrow.parquet import read_schema

    assert run_cli("traces", "compact", str(folder), "--no-rows").exit_code == 0
    (file,) = folder.glob("*.parquet")
    assert read_schema(file).names[-1] == "record"


@pytest.mark.parametrize("compacted", [False, True])
def test_exported_traces_are_a_store_again(folder: Path, tmp_path: Path, compacted: bool) -> None:
    traces = list(open_store(folder))
    if compacted:
        assert run_cli("traces", "compact", str(folder)).exit_code == 0
    for kind in ("jsonl", "parquet"):
        output = tmp_path / kind / f"traces.{kind}"
        result = run_cli("traces", "export", str(folder), "--format", kind, "--output", str(output))
        assert result.stdout == f"3 traces in {output}\n"
        assert list(open_store(output.parent)) == traces
        assert not list(output.parent.glob("*.part"))


def test_export_filters_and_reaches_addresses(folder: Path) -> None:
    output = "memory://exported/traces.jsonl"
    result = run_cli(
        "traces", "export", str(folder), "--output", output, "--status", "accepted", "--limit", "1", "--json"
    )
    assert json.loads(result.stdout) == {"what": "traces", "written": 1, "output": output}
    assert [trace.id for trace in open_store("memory://exported")] == ["trace-1"]


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "sts"])
def test_an_output_that_is_there_is_replaced_only_by_force(folder: Path, tmp_path: Path, kind: str) -> None:
    output = tmp_path / "out" / "x" if kind == "sts" else tmp_path / "out"
    output.parent.mkdir(exist_ok=True)
    output.write_text("mine")
    target = str(tmp_path / "out")
    flags = ("traces", "export", str(folder), "--format", kind, "--output", target)
    assert_one_sentence(run_cli(*flags), 2, "is there already. Pass another path, or --force")
    assert output.read_text() == "mine"
    assert run_cli(*flags, "--force").stdout == f"3 traces in {target}\n"
    assert kind == "sts" or output.read_bytes() != b"mine"


def test_an_output_at_an_address_that_is_there_is_replaced_only_by_force(folder: Path) -> None:
    flags = ("traces", "export", str(folder), "--output", "memory://once/traces.jsonl")
    assert run_cli(*flags).exit_code == 0
    assert_one_sentence(run_cli(*flags), 2, "is there already")
    assert run_cli(*flags, "--force").exit_code == 0
    inside = ("traces", "export", "memory://once/", "--output", "memory://once/traces-2.jsonl", "--force")
    assert_one_sentence(run_cli(*inside), 2, "is in the store 'memory://once/'")
    assert len(list(open_store("memory://once"))) == 3


def test_every_session_has_a_file_of_its_own(tmp_path: Path) -> None:
    with open_store(tmp_path / "traces") as store:
        for number, name in enumerate(["a/b", "a:b", "a-b-2", "a-b", "a-b-2"]):
            store.append(make_trace(number, id=name))
    run_cli(
        "traces", "export", str(tmp_path / "traces"), "--format", "sts", "--output", str(tmp_path / "out")
    )
    heads = {
        file.name: json.loads(file.open().readline())["id"] for file in sorted((tmp_path / "out").iterdir())
    }
    assert heads == {
        "a-b.jsonl": "a/b", "a-b-2.jsonl": "a:b", "a-b-2-2.jsonl": "a-b-2", "a-b-3.jsonl": "a-b",
        "a-b-2-3.jsonl": "a-b-2",
    }  # fmt: skip


def test_an_export_to_an_address_that_breaks_off_leaves_what_was_there(tmp_path: Path) -> None:
    newer = {"schema_version": 99, "id": "n", "problem": {"id": "p", "question": "q"}, "status": "accepted"}
    with open_store(tmp_path) as store:
        store.append(make_trace(1))
    (tmp_path / "traces-z.jsonl").write_text(json.dumps(newer) + "\n")
    old = open_store("memory://broken-off", sync="always")
    old.append(make_trace(7))
    (name,) = old.place.names()
    output = f"memory://broken-off/{name}"
    result = run_cli("traces", "export", str(tmp_path), "--output", output, "--force")
    assert_one_sentence(result, 2, "schema version 99")
    assert [trace.id for trace in open_store("memory://broken-off")] == ["trace-7"]
    assert open_store("memory://broken-off").place.system.ls("/broken-off", detail=False) == [  # type: ignore[union-attr]
        f"/broken-off/{name}"
    ]


def test_an_output_in_the_store_is_refused(folder: Path) -> None:
    before = sorted(folder.iterdir())
    for output in (
        f"{folder}/traces-new.jsonl",
        f"{folder}/deep/x.jsonl",
        f"{folder}/../{folder.name}/x.jsonl",
    ):
        result = run_cli("traces", "export", str(folder), "--output", output, "--force")
        assert_one_sentence(result, 2, "would hold these traces twice")
    sessions = run_cli("traces", "export", str(folder), "--output", str(folder), "--format", "sts", "--force")
    assert_one_sentence(sessions, 2, "would hold these traces twice")
    assert sorted(folder.iterdir()) == before


@pytest.fixture
def training_store(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    with open_store(path) as store:
        store.append(make_training_trace(make_round()))
        store.append(make_trace(9))  # right at once: no row
        store.append(make_trace(8, status="error"))
    return path


@pytest.mark.parametrize("compacted", [False, True])
@pytest.mark.parametrize(
    ("kind", "columns"),
    [
        ("sft", {"prompt", "completion", "kind", "problem_id", "trace_id"}),
        (
            "preference",
            {"prompt", "chosen", "rejected", "prefix", "ends", "kind", "problem_id", "step", "trace_id"},
        ),
    ],
)
def test_export_of_rows_for_trl(
    training_store: Path, tmp_path: Path, kind: str, columns: set[str], compacted: bool
) -> None:
    from pyarrow.parquet import read_table

    if compacted:
        run_cli("traces", "compact", str(training_store))
    found: list[list[dict[str, Any]]] = []
    for ending in ("jsonl", "parquet"):
        output = tmp_path / f"rows.{ending}"
        result = run_cli(
            "traces", "export", str(training_store), "--format", kind, "--output", str(output), "--json"
        )
        report = json.loads(result.stdout)
        assert (report["what"], report["written"]) == ("rows", 1)
        assert report["dropped"]["error"] == 1
        if ending == "jsonl":
            found.append([json.loads(line) for line in output.read_text().splitlines()])
        else:
            found.append(read_table(output).to_pylist())
    assert found[0] == found[1]
    (row,) = found[0]
    assert set(row) == columns
    assert row["prompt"][0]["role"] == "user"
    stats = json.loads(run_cli("traces", "stats", str(training_store), "--rows", kind, "--json").stdout)
    assert stats["rows"] == {"kind": kind, "kept": 1, "dropped": {"error": 1}}


def test_a_data_set_is_no_folder_at_an_address(
    training_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    result = run_cli(
        "traces", "export", str(training_store), "--format", "sft", "--output", "memory://a/rows"
    )
    assert_one_sentence(result, 2, "`output=memory://a/rows` is a folder at an address", ".parquet")
    assert sorted(tmp_path.iterdir()) == before


def test_no_row_and_a_bad_output_are_one_sentence(folder: Path, tmp_path: Path) -> None:
    def export(*flags: str) -> Any:
        return run_cli("traces", "export", str(folder), *flags)

    nothing = export("--format", "sft", "--output", str(tmp_path / "rows.jsonl"))
    assert nothing.exit_code == 2
    assert "No training row is left" in nothing.stderr
    (tmp_path / "taken").mkdir()
    taken = export("--output", str(tmp_path / "taken"))
    assert taken.exit_code == 2
    assert f"Traces cannot be written to '{tmp_path / 'taken'}': Is a directory" in taken.stderr
    assert export("--format", "csv", "--output", "x").exit_code == 2
    assert_one_sentence(run_cli("traces", "ls", "/nowhere"), 2, "There are no traces at '/nowhere'")
    assert_one_sentence(run_cli("traces", "compact", "/nowhere"), 2, "There are no traces at '/nowhere'")


# --- sessions


def test_sessions_are_what_the_hubs_viewer_reads(tmp_path: Path) -> None:
    wrong, right = Solution(raw="wrong", model="m"), Solution(raw="right", model="m")
    trace = Trace(
        id="a/b:c",
        problem=Problem(id="p", question="What is\n2+2?", answer="4", reference_solution="secret"),
        solution=wrong,
        verdict=Verdict(status="incorrect"),
        rounds=(
            Round(critique=Critique(step=1, cause="No.", correction="4", author="t"), solution=right),
            Round(critique=Critique(readable=True, author="t")),
        ),
        chosen=Chosen(index=1),
        status="corrected",
        created="2026-11-30T12:00:00Z",
    )
    failed = make_trace(2, id="a/b:c", solution=None, status="error", error="no server")
    with open_store(tmp_path / "store") as store:
        store.append(trace)
        store.append(failed)
    output = tmp_path / "sessions"
    run_cli("traces", "export", str(tmp_path / "store"), "--format", "sts", "--output", str(output))
    assert sorted(path.name for path in output.iterdir()) == ["a-b-c-2.jsonl", "a-b-c.jsonl"]
    header, *messages = (json.loads(line) for line in (output / "a-b-c.jsonl").read_text().splitlines())
    assert (header["type"], header["harness"], header["id"]) == ("session", "supercorrect-agent", "a/b:c")
    assert header["name"] == "What is 2+2?"
    assert {message["type"] for message in messages} == {"message"}
    call = {"function": {"name": "teacher_critique", "arguments": "{}"}}
    assert [message["message"] for message in messages] == [
        {"role": "user", "content": "What is\n2+2?"},
        {"role": "assistant", "content": "wrong", "model": "m", "toolCalls": [{"id": "critique-1", **call}]},
        {"role": "tool", "toolCallId": "critique-1", "model": "t",
         "content": "Step 1 is wrong. No.\nCorrection: 4"},
        {"role": "assistant", "content": "right", "model": "m", "toolCalls": [{"id": "critique-2", **call}]},
        {"role": "tool", "toolCallId": "critique-2", "model": "t", "content": "No error was found."},
    ]  # fmt: skip
    assert "secret" not in (output / "a-b-c.jsonl").read_text()
    last = json.loads((output / "a-b-c-2.jsonl").read_text().splitlines()[-1])
    assert last["message"] == {"role": "system", "content": "The run failed: no server"}
