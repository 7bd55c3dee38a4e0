"""Collecting: what is stored, what a second call leaves out, and how failures end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from supercorrect_agent.errors import ModelError
from supercorrect_agent.sandbox.world import generate_problems
from supercorrect_agent.store import open_store
from supercorrect_agent.templates import critique_prefix
from tests.commands import heed_ctrl_c
from tests.pupil import Pupil, Sheet, ending, right_solution, wrong_solution
from tests.tiny import build_tiny_model
from training import collect
from training.config import CollectionConfig
from training.pairs import build_preference_dataset
from training.sft_rows import build_sft_dataset

PROBLEMS = generate_problems("train", 4, seed=0)
MISSED = "<Evaluate>ok</Evaluate></Step4>\n<Answer>\\boxed{1}</Answer>"


def make_pupil(count: int = 4) -> Pupil:
    """Every second problem is right at first; the others miss their error when asked to review."""
    sheets = {}
    for place, problem in enumerate(PROBLEMS[:count]):
        write = wrong_solution if place % 2 else right_solution
        sheets[problem.question] = Sheet(write(problem), MISSED, ending(problem), write(problem))
    return Pupil(sheets=sheets)


def run(
    monkeypatch: pytest.MonkeyPatch, pupil: Pupil, store: Path, **settings: Any
) -> tuple[dict[str, Any], list[str]]:
    monkeypatch.setattr(collect, "load_chat_model", lambda spec, **options: pupil)
    said: list[str] = []
    base = {"student": "vllm:pupil", "prompts": "default", "n": 4, "store": store}
    config = CollectionConfig.model_validate({**base, **settings})
    return collect.run_collect(config, say=said.append), said


def test_traces_are_stored_and_make_rows_of_every_kind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    summary, said = run(monkeypatch, make_pupil(), tmp_path)
    assert (summary["collected"], summary["attempts"], summary["right_first"], summary["right_final"]) == (
        4,
        4,
        2,
        4,
    )
    # four attempts, four reviews, two corrections; four templates, four critiques
    assert summary["calls"] == {"student": 10, "teacher": 8}
    assert summary["tokens"]["student"] == 15 * (4 + 4 + 2)  # four attempts, four reviews, two corrections
    assert said[-1].startswith("collect: 4/4 traces")
    assert "right at first 50.0%" in said[-1]
    traces = list(open_store(tmp_path))
    assert build_sft_dataset(traces, no_error_share=0.5)[1].kept_by_kind == {"review": 4, "solve": 4}
    assert build_preference_dataset(traces, solve_pairs=True)[1].kept_by_kind == {"missed": 2, "solve": 2}


def write_lines(path: Path, *lines: Any) -> str:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def test_a_second_call_collects_only_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run(monkeypatch, make_pupil(), tmp_path, n=2)
    seen: list[str] = []
    monkeypatch.setattr(collect, "load_chat_model", lambda spec, **options: make_pupil())
    config = CollectionConfig(student="vllm:pupil", prompts="default", n=4, store=tmp_path, samples=2)
    summary = collect.run_collect(config, say=seen.append, on_trace=lambda trace: seen.append(trace.id))
    assert (summary["collected"], summary["skipped"]) == (6, 2)
    assert len(open_store(tmp_path).keys()) == 8
    assert run(monkeypatch, make_pupil(), tmp_path, samples=2)[0]["collected"] == 0


def test_a_problem_that_a_file_holds_twice_is_collected_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    line = {"question": PROBLEMS[0].question, "answer": PROBLEMS[0].answer}
    file = write_lines(tmp_path / "twice.jsonl", line, line)
    summary, _ = run(monkeypatch, make_pupil(), tmp_path / "traces", problems=file, n=None)
    assert summary["collected"] == 1


def test_a_run_that_failed_is_kept_and_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    summary, _ = run(monkeypatch, make_pupil(count=3), tmp_path, write_template=False)
    assert (summary["collected"], summary["errors"]) == (4, 1)
    again, _ = run(monkeypatch, make_pupil(), tmp_path, write_template=False)
    assert (again["collected"], again["skipped"], again["errors"]) == (1, 3, 0)


def test_nothing_is_stored_when_no_run_succeeds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"first 4 problems all failed.*no sheet"):
        run(monkeypatch, make_pupil(count=0), tmp_path, summary=tmp_path / "summary.json")
    assert list(open_store(tmp_path)) == []
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["stopped"].startswith("The first 4 problems all failed")


def call_main(monkeypatch: pytest.MonkeyPatch, *flags: str) -> int:
    monkeypatch.setattr(sys, "argv", ["collect", *flags])
    return collect.main()


def test_a_server_that_is_not_there_ends_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--student", "vllm:m@http://127.0.0.1:9/v1", "--n", "2", "--store", str(tmp_path)]
    assert call_main(monkeypatch, *flags) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: The first 2 problems all failed:")
    assert "--student" in error


def test_a_store_that_cannot_be_written_ends_before_any_call(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    flags = ["--n", "2", "--store", str(tmp_path / "file" / "traces")]
    monkeypatch.setattr(collect, "load_chat_model", lambda spec, **options: pytest.fail("a model was loaded"))
    assert call_main(monkeypatch, *flags) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.integration
def test_ctrl_c_keeps_what_was_collected(tmp_path: Path) -> None:
    model, store = build_tiny_model(tmp_path / "model", context=2048), tmp_path / "traces.jsonl"
    flags = ["--student", f"local:{model}", "--n", "5000", "--store", str(store), "--concurrency", "4"]
    command = [sys.executable, "-m", "training.collect", *flags, "--max_new_tokens", "8"]
    pipes: dict[str, Any] = {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, preexec_fn=heed_ctrl_c, **pipes) as process:
        deadline = time.monotonic() + 240
        while not (store.exists() and store.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.strip().splitlines()[-1].startswith("interrupted: what was finished is saved")
    assert "Traceback" not in error
    kept = [json.loads(line) for line in store.read_text().splitlines()]
    assert kept
    assert store.read_text().endswith("\n")


@pytest.mark.integration
def test_a_killed_collection_loses_only_what_was_in_flight(tmp_path: Path) -> None:
    store = tmp_path / "traces.jsonl"
    flags = [
        "--n",
        "4",
        "--samples",
        "2",
        "--temperature",
        "0.7",
        "--concurrency",
        "2",
        "--store",
        str(store),
    ]
    command = [sys.executable, "-m", "training.collect", *flags, "--no-write_template"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("collect: 1/8")  # said once the first trace is stored
        process.kill()
    assert process.returncode == -signal.SIGKILL
    whole = list(open_store(store))
    assert 1 <= len(whole) < 8
    store.write_bytes(store.read_bytes()[:-100])  # as if it had been killed while it wrote this line

    again = subprocess.run(command, check=True, capture_output=True, text=True)
    missing = 8 - len(whole) + 1
    last = again.stdout.splitlines()[-1]
    assert last.startswith(f"collect: {missing}/{missing} traces")
    kept = sorted((trace.problem.id, trace.sample) for trace in open_store(store))
    assert kept == sorted((problem.id, sample) for problem in PROBLEMS for sample in range(2))


@pytest.mark.integration
def test_alternatives_of_the_packaged_student(tmp_path: Path) -> None:
    config = CollectionConfig(n=12, store=tmp_path, temperature=0.7, rewrite=True, resamples=2)
    summary = collect.run_collect(config, say=lambda line: None)
    traces = list(open_store(tmp_path))
    assert (summary["collected"], summary["errors"], len(traces)) == (12, 0, 12)
    verdicts = []
    for trace in traces:
        reviewed = [round_ for round_ in trace.rounds if round_.review is not None]
        wrong = [round_ for round_ in reviewed if round_.critique.found_error]
        followed: set[str] = set()
        for round_ in wrong:
            assert trace.solution is not None
            prefix = critique_prefix(trace.solution, round_.critique)[0]
            own = [one.critique for one in round_.alternatives if one.source == "student_rewrite"]
            assert [one.cause for one in own] == [round_.critique.cause]
            assert 2 <= len(round_.alternatives) <= 3
            assert all(one.critique.raw.startswith(prefix) for one in round_.alternatives)
            verdicts += [one.verdict for one in round_.alternatives]
            followed |= {one.critique.raw for one in round_.alternatives if one.verdict}
        # the attempt and its review; for each wrong one a rewrite, two samples, and a correction
        asked = 1 + len(reviewed) + 4 * len(wrong) + len(followed)
        assert sum(call.role == "student" for call in trace.calls) == asked
    assert any(verdict and verdict.correct for verdict in verdicts)
    assert any(verdict and not verdict.correct for verdict in verdicts)


def test_other_questions_under_one_id_are_collected_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As two files that count their problems from 1 hold them."""
    same = [problem.model_copy(update={"id": "1"}) for problem in PROBLEMS]
    for known in (2, 4):
        monkeypatch.setattr(collect, "load_problems", lambda *_, known=known, **__: same[:known])
        summary, _ = run(monkeypatch, make_pupil(), tmp_path / "traces")
        assert (summary["collected"], summary["skipped"]) == (2, known - 2)
