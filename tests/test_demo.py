"""The demo at a twentieth of its size: every stage runs for real and leaves what it promises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from training.demo import demo_config, format_difference, format_interval, read_reports, run_demo
from training.metrics import paired_difference, wilson_interval

STUDENTS = ["base", "plain SFT", "HSFT", "HSFT + DPO"]


def test_shares_and_differences_are_written_with_their_intervals() -> None:
    # Wilson for 8 of 10, z = 1.96: centre (0.8 + z²/20)/(1 + z²/10) = 0.7167, half-width 0.2266
    assert format_interval(wilson_interval(8, 10)) == "80.0 [49.0, 94.3]"
    same = [True, False] * 20
    assert format_difference(paired_difference(same, same)).startswith("+0.0 [")


def test_every_stage_gets_the_seed_and_pairs_come_from_other_problems(tmp_path: Path) -> None:
    config = demo_config(tmp_path, quick=False, seed=3)
    assert (config.collect.seed, config.sft.seed, config.evaluate.seed) == (3, 3, 3)
    assert config.collect_pairs.seed == 503
    assert config.evaluate.problems == "sandbox:test"
    assert demo_config(tmp_path, quick=True, seed=0).evaluate.n == config.evaluate.n // 20


@pytest.mark.integration
@pytest.mark.timeout(900)
def test_the_demo_runs_and_a_second_call_runs_nothing_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run_demo(tmp_path / "demo", quick=True)
    first = capsys.readouterr().out
    for word in (
        "The base student meets a problem",
        "Accuracy on 15 test problems",
        "What each stage cost",
    ):
        assert word in first
    reports = read_reports(out)
    assert list(reports) == STUDENTS
    for name in ("base", "HSFT", "HSFT + DPO"):
        assert set(reports[name]["arms"]) == {"single", "review", "teacher", "retry"}
    stages = [json.loads(line) for line in (out / "stages.jsonl").read_text().splitlines()]
    assert [stage["stage"] for stage in stages if stage["tokens"] == 0] == [
        "build round1/first/rows",
        "build round1/rows",
        "build round1/plain_rows",
        "build round1/pairs",
        "build round1/units",
    ]
    assert (out / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "table.md").read_text().count("\n") == 2 + len(STUDENTS)
    run_demo(out, quick=True)
    assert len((out / "stages.jsonl").read_text().splitlines()) == len(stages)
