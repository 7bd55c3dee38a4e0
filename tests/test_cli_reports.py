"""`supercorrect traces` and `supercorrect doctor`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import PathDistribution
from pathlib import Path
from typing import Any

import pytest

from supercorrect_agent.cli import doctor as doctor_module
from supercorrect_agent.errors import ModelError
from supercorrect_agent.store import open_store
from supercorrect_agent.types import (
    Alternative,
    Call,
    Chosen,
    Critique,
    Problem,
    Round,
    Solution,
    Step,
    Trace,
    Verdict,
)
from tests.commands import QUESTION, RIGHT, WRONG, assert_one_sentence, run_cli

# --- traces


def make_trace(number: int, *, right: bool) -> Trace:
    """A trace whose first answer is right, or whose second step is wrong and gets corrected."""
    steps = (Step(index=1, text="12+30=42"), Step(index=2, text="42-5=36", key="12-5"))
    first = Solution(steps=steps, answer="36", raw=WRONG)
    fixed = Solution(steps=(steps[0], Step(index=2, text="42-5=37")), answer="37", raw=RIGHT)
    critique = Critique(step=2, cause="42-5 is not 36.", correction="42-5=37", author="sandbox")
    yes, no = Verdict(status="correct"), Verdict(status="incorrect")
    rounds = () if right else (Round(critique=critique, solution=fixed, verdict=yes),)
    return Trace(
        id=f"{number:04d}abcd",
        problem=Problem.create(QUESTION, answer="37"),
        solution=fixed if right else first,
        verdict=yes if right else no,
        rounds=rounds,
        chosen=Chosen(index=len(rounds), reason="checked"),
        status="accepted" if right else "corrected",
        calls=(Call(role="student", model="m", input_tokens=10, output_tokens=4, seconds=0.5),),
        sample=number,
    )


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Three right and one corrected trace, and a torn line."""
    path = tmp_path / "traces.jsonl"
    kept = open_store(path)
    for number, right in enumerate([True, False, True, True]):
        kept.append(make_trace(number, right=right))
    with path.open("a") as file:
        file.write('{"id": "torn')
    return path


def test_stats_counts(store: Path) -> None:
    result = run_cli("traces", "stats", str(store))
    assert result.exit_code == 0
    assert [line.strip() for line in result.stdout.splitlines()] == [
        "Traces  4 of 1 problems",
        "Status  accepted: 3, corrected: 1",
        "Right at first  3 of 4 scored (75.0%)",
        "Right in the end  4 of 4 scored (100.0%)",
        "Traces by rounds  0: 3, 1: 1",
        "Traces by first wrong step  2: 1",
        "Tokens  student: 40 in, 16 out (4 calls, 2.0 s)",
    ]
    assert result.stderr == f"warning: 1 broken line was skipped in '{store}'.\n"


def test_stats_json(store: Path) -> None:
    summary = json.loads(run_cli("traces", "stats", str(store.parent), "--json").stdout)
    assert summary["final"] == {"scored": 4, "correct": 4, "accuracy": 1.0}


def test_show_lists_filters_and_limits(store: Path) -> None:
    lines = run_cli("traces", "show", str(store)).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["id", "0000abcd", "0001abcd", "0002abcd", "0003abcd"]
    assert lines[2].split()[:6] == ["0001abcd", "corrected", "incorrect", "correct", "2", "37"]
    assert QUESTION[:70] in lines[2]
    two = run_cli("traces", "show", str(store), "--status", "accepted", "--limit", "2", "--json").stdout
    assert [json.loads(line)["id"] for line in two.splitlines()] == ["0000abcd", "0002abcd"]


def test_show_one_marks_the_wrong_step(store: Path) -> None:
    result = run_cli("traces", "show", str(store), "--id", "0001")
    assert [line.strip() for line in result.stdout.splitlines()] == [
        "trace 0001abcd",
        f"Problem  {QUESTION}",
        "student: incorrect",
        "Step 1  12+30=42",
        "✗ Step 2  42-5=36 [12-5]",
        "Answer  36",
        "sandbox",
        "✗  step 2 is wrong",
        "Cause  42-5 is not 36.",
        "Correction  42-5=37",
        "student, corrected: correct",
        "Step 1  12+30=42",
        "Step 2  42-5=37",
        "Answer  37",
        "result",
        "Status  corrected (checked)",
        "Answer  37",
        "True answer  37",
    ]


def test_show_one_has_a_line_for_each_alternative(tmp_path: Path) -> None:
    trace, own = (
        make_trace(1, right=False),
        Critique(step=2, cause="c", correction="<Step2>42-5=\n37</Step2>"),
    )
    made = (
        Alternative(source="student_rewrite", critique=own, verdict=Verdict(status="correct")),
        Alternative(source="student_resample", critique=Critique()),
        Alternative(source="student_resample", critique=Critique(step=1, cause="c")),
        Alternative(source="student_resample", critique=Critique(readable=False)),
    )
    (one,) = trace.rounds
    with_them = trace.model_copy(update={"rounds": (one.model_copy(update={"alternatives": made}),)})
    open_store(tmp_path).append(with_them)
    lines = run_cli("traces", "show", str(tmp_path), "--id", trace.id).stdout.splitlines()
    assert [line.strip() for line in lines if "Student re" in line] == [
        "Student rewrite  step 2, 42-5= 37: correct",
        "Student resample  no error found: -",
        "Student resample  step 1, no correction: -",
        "Student resample  unreadable: -",
    ]


def test_traces_misuse(store: Path) -> None:
    nothing = run_cli("traces", "stats", "/nowhere/at/all")
    assert_one_sentence(nothing, 2, "no traces at '/nowhere/at/all'", "Pass")
    assert_one_sentence(
        run_cli("traces", "show", str(store), "--status", "acepted"), 2, "Did you mean 'accepted'?"
    )
    unknown = run_cli("traces", "show", str(store.parent), "--id", "zz")
    assert unknown.exit_code == 2
    assert "`--id zz` is no trace" in unknown.stderr


def test_a_terminal_without_unicode_ends_no_run(store: Path) -> None:
    command = [sys.executable, "-m", "supercorrect_agent.cli", "traces", "show", str(store), "--id", "0001"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment)
    assert done.returncode == 0
    assert "? Step 2  42-5=36" in done.stdout


# --- doctor


def test_doctor_reports_and_fails_with_the_student(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        doctor_module, "try_student", lambda: {"ok": False, "detail": "No weights. Get some."}
    )
    result = run_cli("doctor")
    assert_one_sentence(result, 1, "No weights. Get some.")
    assert "✗ sandbox student  No weights. Get some." in result.stdout
    assert f"  python  {sys.version.split()[0]}" in result.stdout
    assert "Free disk" in result.stdout


def test_doctor_explains_a_student_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(spec: str, **_: Any) -> None:
        raise ModelError(f"'{spec}' is gone.")

    monkeypatch.setattr("supercorrect_agent.models.load_chat_model", fail)
    report = json.loads(run_cli("doctor", "--json").stdout)
    assert report["ok"] is False
    assert report["student"] == {"ok": False, "detail": "'sandbox' is gone."}
    assert report["packages"]["langgraph"].startswith("1.")


@pytest.mark.integration
def test_doctor_finds_the_packaged_student() -> None:
    result = run_cli("doctor", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["student"]["ok"] is True


def test_missing_extras_come_with_their_command(tmp_path: Path) -> None:
    folder = tmp_path / "supercorrect_agent-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
        "Metadata-Version: 2.4\nName: supercorrect-agent\nVersion: 1\nProvides-Extra: a\nProvides-Extra: b\n"
        "Requires-Dist: not-there-either\n"
        'Requires-Dist: not-there>=3; extra == "a"\nRequires-Dist: pytest<1; extra == "a"\n'
        'Requires-Dist: pytest>=2; extra == "a"\nRequires-Dist: supercorrect-agent[a]; extra == "b"\n'
    )
    package = PathDistribution(folder)
    assert doctor_module.missing_requirements(package, "a") == ["not-there>=3", "pytest<1"]
    assert doctor_module.missing_requirements(package, "b") == ["not-there>=3", "pytest<1"]
    assert doctor_module.install_command(package, "a").endswith(" -m pip install 'supercorrect-agent[a]'")
    origin = {"url": "file:///some%20where", "dir_info": {"editable": True}}
    (folder / "direct_url.json").write_text(json.dumps(origin))
    assert doctor_module.install_command(package, "a").endswith(" -m pip install -e '/some where[a]'")
