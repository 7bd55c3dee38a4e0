"""GSM8K problems over HTTP: student and teacher behind a real OpenAI-compatible server (vLLM, CPU build)."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from supercorrect_agent.cli import app
from supercorrect_agent.problems import load_problems
from supercorrect_agent.store import open_store
from tests.vllm_server import MODEL_NAME
from training.collect import run_collect
from training.config import CollectionConfig

SAMPLE = Path(__file__).parent / "data" / "gsm8k_sample.jsonl"


def test_gsm8k_is_read_in_its_own_format() -> None:
    problems = load_problems(str(SAMPLE), n=None, seed=0, split="train")
    assert [problem.answer for problem in problems] == ["72", "10", "5", "42"]
    assert problems[0].reference_solution is not None
    assert "48/2" in problems[0].reference_solution
    assert "####" not in problems[0].reference_solution


@pytest.mark.vllm
@pytest.mark.timeout(1200)
def test_collecting_over_http(vllm_url: str, tmp_path: Path) -> None:
    served = f"vllm:{MODEL_NAME}@{vllm_url}"
    settings = CollectionConfig(
        problems=str(SAMPLE), student=served, teacher=served, store=tmp_path / "traces", max_new_tokens=64
    )
    summary = run_collect(settings, say=lambda line: None)
    traces = list(open_store(tmp_path / "traces"))
    assert summary["collected"] == len(traces) == 4
    assert summary["errors"] == 0
    # random weights solve nothing and judge nothing: every run ends with a name, nothing is lost
    assert {trace.status for trace in traces} <= {"parse_error", "unchanged", "budget"}
    for trace in traces:
        assert trace.solution is not None
        assert trace.verdict is not None
        assert not trace.verdict.correct
        assert {call.role for call in trace.calls} == {"student", "teacher"}
        assert all(call.input_tokens > 100 and call.output_tokens > 0 for call in trace.calls)
    assert run_collect(settings, say=lambda line: None)["skipped"] == 4


@pytest.mark.vllm
@pytest.mark.timeout(1200)
def test_solving_over_http(vllm_url: str) -> None:
    question = load_problems(str(SAMPLE), n=1, seed=0, split="train")[0].question
    student = f"vllm:{MODEL_NAME}@{vllm_url}"
    done = CliRunner().invoke(
        app,
        ["solve", question, "--student", student, "--teacher", "none", "--max-tokens", "64", "--rounds", "1"],
    )
    assert done.exit_code in (0, 1), done.output
    assert "Status" in done.output
    assert "Tokens  student:" in done.output
    assert "Traceback" not in done.output
