"""The trace store: a conformance suite for any `TraceStore`, crashes of the JSONL one, and the counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from supercorrect_agent.errors import StoreError
from supercorrect_agent.store import JsonlTraceStore, TraceStore, open_store, summarize_traces
from supercorrect_agent.store.lines import format_line
from supercorrect_agent.types import Call, Chosen, Critique, Problem, Round, Solution, Step, Trace, Verdict


def make_trace(number: int = 0, **changes: object) -> Trace:
    fields: dict[str, object] = {
        "id": f"trace-{number}",
        "problem": Problem(id=f"problem-{number}", question="What is 2+2?", answer="4"),
        "solution": Solution(steps=(Step(index=1, text="2+2=5"),), answer="5", raw="<Step1>2+2=5</Step1>"),
        "status": "accepted",
    }
    return Trace.model_validate(fields | changes)


class TraceStoreConformance:
    """What every trace store must do; subclass it and give a ``store`` fixture with an empty store."""

    def test_starts_empty(self, store: TraceStore) -> None:
        assert list(store) == []
        assert store.keys() == set()

    def test_is_a_trace_store(self, store: TraceStore) -> None:
        assert isinstance(store, TraceStore)

    def test_returns_equal_traces_in_order_and_again(self, store: TraceStore) -> None:
        traces = [make_trace(2), make_trace(1), make_trace(2, sample=1)]
        for trace in traces:
            store.append(trace)
        assert list(store) == traces
        assert list(store) == traces
        assert store.keys() == {("problem-2", 0), ("problem-1", 0), ("problem-2", 1)}

    @pytest.mark.parametrize(
        "text",
        ["\ud800 alone", "NUL \0 inside", "line\nbreaks\r\n\u2028\x85", "∪ 😀 \\frac{1}{2}", "x" * 10**6],
    )
    def test_keeps_any_text(self, store: TraceStore, text: str) -> None:
        trace = make_trace(solution=Solution(raw=text), error=text)
        store.append(trace)
        assert list(store) == [trace]

    def test_keeps_every_field(self, store: TraceStore) -> None:
        critique = Critique(step=1, cause="not 5", correction="2+2=4", author="teacher", confidence=0.5)
        trace = make_trace(
            rounds=(
                Round(critique=critique, review=Critique(readable=False), verdict=Verdict(status="correct")),
            ),
            chosen=Chosen(index=1, reason="verified"),
            calls=(
                Call(role="student", model="m", sampling={"stop": ["</Answer>"], "top_p": 0.9}, seconds=1.5),
            ),
            versions={"prompts": "1"},
        )
        store.append(trace)
        assert list(store) == [trace]

    def test_threads_append_at_once(self, store: TraceStore) -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(store.append, map(make_trace, range(40))))
        assert store.keys() == {(f"problem-{number}", 0) for number in range(40)}


class TestJsonlFolder(TraceStoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> TraceStore:
        return open_store(tmp_path / "new" / "folder")


class TestJsonlFile(TraceStoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> TraceStore:
        return JsonlTraceStore(tmp_path / "new" / "mine.jsonl", sync=False)


def test_nothing_is_created_before_the_first_trace(tmp_path: Path) -> None:
    store = open_store(tmp_path / "runs")
    assert list(store) == []
    assert not (tmp_path / "runs").exists()
    store.ensure_writable()
    assert store.file.read_bytes() == b""
    store.close()  # an empty shard is no use to anybody
    assert list((tmp_path / "runs").iterdir()) == []


def test_every_line_is_one_object_with_a_schema_version(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.append(make_trace(1))
    store.append(make_trace(2))
    lines = store.file.read_bytes().splitlines()
    assert [json.loads(line)["schema_version"] for line in lines] == [2, 2]


def test_a_folder_reads_all_its_trace_files_and_no_others(tmp_path: Path) -> None:
    JsonlTraceStore(tmp_path / "traces-machine2.jsonl").append(make_trace(2))
    (tmp_path / "rows.jsonl").write_text('{"prompt": []}\n')
    store = open_store(tmp_path)
    store.append(make_trace(1))
    assert store.keys() == {("problem-1", 0), ("problem-2", 0)}
    assert store.skipped == 0


def test_a_torn_last_line_is_skipped_then_closed(tmp_path: Path) -> None:
    store = open_store(tmp_path / "t.jsonl")
    store.append(make_trace(1))
    with store.file.open("ab") as file:
        file.write(b'{"schema_version": 1, "id": "tor')
    with pytest.warns(UserWarning, match="torn"):
        assert [trace.id for trace in store] == ["trace-1"]
    assert store.skipped == 1
    with pytest.warns(UserWarning, match="torn line"):
        store.append(make_trace(2))
    assert [trace.id for trace in store] == ["trace-1", "trace-2"]
    assert store.skipped == 1
    assert store.file.read_bytes().count(b"\n") == 3


def test_a_whole_last_line_without_its_newline_is_kept(tmp_path: Path) -> None:
    store = open_store(tmp_path / "t.jsonl")
    store.append(make_trace(1))
    store.file.write_bytes(store.file.read_bytes().rstrip(b"\n"))
    assert [trace.id for trace in store] == ["trace-1"]
    with pytest.warns(UserWarning, match="torn line"):
        store.append(make_trace(2))
    assert [trace.id for trace in store] == ["trace-1", "trace-2"]
    assert store.skipped == 0


def test_broken_middle_lines_are_counted(tmp_path: Path) -> None:
    store = open_store(tmp_path / "t.jsonl")
    store.append(make_trace(1))
    broken = [b"\xff\xfe", b"[1, 2]", b"null", b'{"problem": 3}', b"[" * 100_000, b"\0\0\0"]
    with store.file.open("ab") as file:
        file.write(b"\n".join(broken) + b"\n\n")  # an empty line is no broken one
    store.append(make_trace(2))
    assert [trace.id for trace in store] == ["trace-1", "trace-2"]
    assert store.skipped == len(broken)
    assert store.keys() == {("problem-1", 0), ("problem-2", 0)}


def test_a_record_that_is_no_trace_is_counted(tmp_path: Path) -> None:
    store = open_store(tmp_path / "t.jsonl")
    store.file.write_text('{"schema_version": 1, "problem": {"id": "p"}, "unknown": 1}\n')
    assert list(store) == []
    assert store.skipped == 1


@pytest.mark.parametrize("index", [-1, 1, 3])
def test_a_trace_that_chose_what_it_does_not_have_is_a_broken_line(tmp_path: Path, index: int) -> None:
    line = format_line(make_trace(1, chosen=Chosen(index=index)))
    (tmp_path / "traces.jsonl").write_bytes(line + format_line(make_trace(2)))
    store = open_store(tmp_path)
    assert [trace.id for trace in store] == ["trace-2"]
    assert (store.skipped, store.broken[0].offset) == (1, 0)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path / "t.jsonl")
    store.file.write_text('{"schema_version": 99, "problem": {"id": "p"}}\n')
    with pytest.raises(StoreError, match=r"schema version 99; .* up to 2\. Upgrade"):
        list(store)
    with pytest.raises(StoreError, match="schema version 99"):
        store.keys()


@pytest.mark.parametrize("name", ["taken/traces", "taken/deep/t.jsonl", "nul\0", "x" * 300])
def test_an_impossible_path_is_one_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "taken").write_text("a file")
    store = open_store(tmp_path / name)
    for write in (store.ensure_writable, lambda: store.append(make_trace())):
        with pytest.raises(StoreError, match=r"(?s)^Traces cannot be written to '.*ass a .*\.$") as caught:
            write()
        assert str(tmp_path) in str(caught.value)


def test_a_read_only_folder_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> int:  # permissions do not stop root
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(
        StoreError, match=r"traces-.*\.jsonl': Permission denied\. Pass a path that you may write"
    ):
        open_store(tmp_path).append(make_trace())


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(tmp_path)
    store.append(make_trace(1))
    before, write = store.file.read_bytes(), os.write

    def half(descriptor: int, data: memoryview) -> int:
        if len(data) < 100:
            raise OSError(28, "No space left on device")
        return write(descriptor, data[: len(data) // 2])

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(StoreError, match="No space left on device"):
        store.append(make_trace(2))
    assert store.file.read_bytes() == before


def test_a_file_that_is_no_jsonl_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(StoreError, match=r"notes.txt' is a file, but no \.jsonl file"):
        open_store(tmp_path / "notes.txt")


def test_readers_may_ask_for_an_existing_store(tmp_path: Path) -> None:
    for name in ("missing", "missing.jsonl", "."):
        with pytest.raises(StoreError, match="There are no traces at"):
            open_store(tmp_path / name, must_exist=True)
    open_store(tmp_path).append(make_trace())
    assert len(list(open_store(tmp_path, must_exist=True))) == 1


def test_processes_append_at_once(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from supercorrect_agent.store import open_store\n"
        "from supercorrect_agent.types import Problem, Trace\n"
        "store, who = open_store(sys.argv[1]), sys.argv[2]\n"
        "for n in range(20):\n"
        "    problem = Problem(id=who, question='x' * 100_000)\n"
        "    store.append(Trace(id='t', problem=problem, status='accepted', sample=n))\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), who]) for who in "ab"]
    assert [writer.wait(120) for writer in writers] == [0, 0]
    store = open_store(tmp_path)
    assert len(list(store)) == 40
    assert store.skipped == 0
    assert store.keys() == {(who, number) for who in "ab" for number in range(20)}


def test_summary_by_hand() -> None:
    right, wrong = Verdict(status="correct"), Verdict(status="incorrect")
    traces = [
        make_trace(
            1, verdict=right, calls=(Call(role="student", model="m", input_tokens=10, output_tokens=5),)
        ),
        make_trace(
            2,
            verdict=wrong,
            status="corrected",
            rounds=(Round(critique=Critique(step=2)), Round(critique=Critique(step=1), verdict=right)),
            chosen=Chosen(index=2),
            calls=(
                Call(role="student", model="m", input_tokens=1, output_tokens=2, seconds=0.5),
                Call(role="teacher", model="t", input_tokens=7, output_tokens=3, seconds=1.0),
            ),
        ),
        make_trace(2, sample=1, verdict=Verdict(status="unreadable"), rounds=(Round(critique=Critique()),)),
        make_trace(3, verdict=Verdict(status="unscored")),
        make_trace(4, status="error", error="no server"),
    ]
    assert summarize_traces(traces) == {
        "traces": 5,
        "problems": 4,
        "status": {"accepted": 3, "corrected": 1, "error": 1},
        # traces 1 to 3 are scored, trace 1 is right at once, trace 2 after its second round
        "first": {"scored": 3, "correct": 1, "accuracy": 1 / 3},
        "final": {"scored": 3, "correct": 2, "accuracy": 2 / 3},
        "rounds": {"0": 3, "1": 1, "2": 1},
        "first_error_step": {"2": 1},
        "usage": {
            "student": {"calls": 2, "input_tokens": 11, "output_tokens": 7, "seconds": 0.5},
            "teacher": {"calls": 1, "input_tokens": 7, "output_tokens": 3, "seconds": 1.0},
        },
    }


def test_summary_of_nothing() -> None:
    summary = summarize_traces([])
    assert summary["traces"] == 0
    assert summary["first"] == {"scored": 0, "correct": 0, "accuracy": None}
