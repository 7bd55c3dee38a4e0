"""Traces of older schema versions are read as those of this one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from supercorrect_agent.errors import StoreError
from supercorrect_agent.store import open_store, trace_key
from supercorrect_agent.store.compaction import compact_store
from supercorrect_agent.store.migrations import migrate
from supercorrect_agent.types import SCHEMA_VERSION, Critique, Round, Solution, Step, Trace, Verdict

GOLDEN = Path(__file__).parent / "data" / "traces_v1.jsonl"  # written by the version before the first change


@pytest.fixture
def old(tmp_path: Path) -> Path:
    shutil.copy(GOLDEN, tmp_path / "traces.jsonl")
    return tmp_path


def check(traces: list[Trace]) -> None:
    corrected, failed, accepted = traces
    assert [trace.schema_version for trace in traces] == [SCHEMA_VERSION] * 3
    (round_,) = corrected.rounds
    assert round_.revisions == ()
    assert round_.free_review is None
    assert round_.critique == Critique(
        step=2, cause="42-5 is not 36.", correction="42-5=37", author="teacher", confidence=0.9,
        raw="<Cause>42-5 is not 36.</Cause><Correction>42-5=37</Correction>", cause_step=2, correction_step=2,
    )  # fmt: skip
    assert corrected.solution is not None
    assert corrected.solution.prefix(2) == "<Step1>12+30=42</Step1>\n"
    assert corrected.calls[0].sampling == {"temperature": 0.7, "stop": ["</Answer>"]}
    assert (corrected.sample, corrected.agreement, corrected.votes[0].count) == (1, 0.5, 2)
    assert (failed.problem.question, failed.error) == ("∪ \ud800?", "no server")
    assert (accepted.id, accepted.verdict) == ("golden-3", Verdict(status="correct"))


def test_the_golden_file_is_of_version_1() -> None:
    lines = GOLDEN.read_text(encoding="ascii").splitlines()
    assert [json.loads(line)["schema_version"] for line in lines] == [1, 1, 1]
    assert "revisions" not in lines[0]


def test_traces_of_version_1_are_read(old: Path) -> None:
    store = open_store(old)
    check(list(store))
    assert store.skipped == 0
    problem = next(iter(store)).problem
    assert store.done() == {trace_key(problem, 1), trace_key(problem, 2)}


def test_compaction_brings_them_up_to_this_version(old: Path) -> None:
    assert compact_store(old).traces == 3
    store = open_store(old)
    check(list(store))
    lines = [json.loads(line.text) for line in store.reading().records()]
    assert [line["schema_version"] for line in lines] == [SCHEMA_VERSION] * 3


def test_new_traces_go_beside_old_ones(old: Path) -> None:
    with open_store(old) as store:
        store.append(Trace(id="new", problem=next(iter(store)).problem, status="accepted"))
    assert [trace.id for trace in open_store(old)] == ["golden-1", "golden-2", "golden-3", "new"]


def test_migration_is_a_pure_function() -> None:
    record = {"schema_version": 1, "rounds": [{"critique": {}}], "status": "corrected"}
    before = json.dumps(record)
    assert migrate(record, where="f") == {
        "schema_version": 2,
        "rounds": [{"revisions": [], "free_review": None, "critique": {}}],
        "status": "corrected",
    }
    assert json.dumps(record) == before


def test_a_record_of_this_version_is_left_alone() -> None:
    record = {"schema_version": SCHEMA_VERSION}
    assert migrate(record, where="f") is record


def test_a_record_without_a_version_is_of_the_first() -> None:
    assert migrate({"id": "t"}, where="f") == {"id": "t", "schema_version": 2}


def test_a_newer_version_is_refused() -> None:
    with pytest.raises(StoreError, match=r"'f' holds traces of schema version 3; .* up to 2\. Upgrade it"):
        migrate({"schema_version": 3}, where="f")


def test_broken_rounds_of_version_1_are_a_broken_line(tmp_path: Path) -> None:
    record = json.loads(GOLDEN.read_text().splitlines()[0])
    for rounds in (7, [7], None):
        (tmp_path / "traces.jsonl").write_text(json.dumps({**record, "rounds": rounds}) + "\n")
        store = open_store(tmp_path)
        assert list(store) == []
        assert store.skipped == 1


def test_rounds_are_what_this_version_writes() -> None:
    """A new field of a round, solution or step needs a new version and a migration."""
    assert set(Round.model_fields) == {
        "critique", "revisions", "review", "free_review", "solution", "verdict", "inspections",
        "alternatives", "continuation",
    }  # fmt: skip
    assert set(Solution.model_fields) == {"steps", "generalized", "answer", "raw", "model"}
    assert set(Step.model_fields) == {"index", "text", "key", "start", "end"}
