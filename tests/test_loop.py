"""The loop's order, what it hands from stage to stage, and that a second call repeats nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from supercorrect_agent.types import Record
from training import loop
from training.config import DpoConfig, LoopConfig, SftConfig
from training.loop import matched_epochs, run_loop, trained_student

Stages = list[tuple[str, Any]]


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> Stages:
    """Replaces every stage by one that records its settings and leaves its result."""
    seen: Stages = []

    def stub(name: str, result: str | None) -> None:
        def run(config: Any, *, say: Any) -> Any:
            seen.append((name, config))
            if name == "evaluate":
                arm = {"accuracy": {"value": 0.5}, "output_tokens": {"student": 7}}
                row = {"id": "p", "single": {"correct": True}}
                config.output.parent.mkdir(parents=True, exist_ok=True)
                config.output.write_text(json.dumps({"arms": {"single": arm}, "problems": [row]}))
            elif result:
                config.output.mkdir(parents=True)
                (config.output / result).write_text("{}")
            else:
                config.store.mkdir(parents=True)
            return {}

        monkeypatch.setattr(loop, f"run_{name}", run)

    for name, result in [
        ("collect", None),
        ("data", "manifest.json"),
        ("sft", "run.json"),
        ("dpo", "run.json"),
    ]:
        stub(name, result)
    stub("evaluate", None)
    return seen


def run(folder: Path, **settings: Any) -> None:
    run_loop(LoopConfig.model_validate({"folder": folder, **settings}), say=lambda line: None)


ROUND = ["collect", "data", "sft", "evaluate", "collect", "data", "dpo", "evaluate"]


def test_a_round_runs_its_stages_in_order_and_a_second_call_none(stages: Stages, tmp_path: Path) -> None:
    run(tmp_path)
    assert [name for name, _ in stages] == ["evaluate", *ROUND]
    assert json.loads((tmp_path / "report.json").read_text())["against_base"]["HSFT"]
    costs = [json.loads(line) for line in (tmp_path / "stages.jsonl").read_text().splitlines()]
    assert [cost["stage"] for cost in costs][:3] == [
        "evaluate base",
        "collect round1/traces",
        "build round1/rows",
    ]
    assert costs[0]["tokens"] == 7
    stages.clear()
    run(tmp_path)
    assert stages == []


def test_a_stage_that_did_not_finish_is_run_again_alone(stages: Stages, tmp_path: Path) -> None:
    run(tmp_path)
    stages.clear()
    (tmp_path / "round1" / "dpo" / "run.json").unlink()
    (tmp_path / "round1" / "dpo").rmdir()
    run(tmp_path)
    assert [name for name, _ in stages] == ["dpo"]


def test_adapters_go_from_stage_to_stage_on_one_base(stages: Stages, tmp_path: Path) -> None:
    run(tmp_path, rounds=2, model="models/base")
    second = [config for _, config in stages][9:]
    collect, rows, sft, _, collect_pairs, pairs, dpo, evaluate = second
    first_dpo, own_sft = tmp_path / "round1" / "dpo", tmp_path / "round2" / "sft"
    # Round 2 collects with the student of round 1, but trains the base anew on all traces.
    assert (collect.student, collect.adapter) == ("local:models/base", first_dpo)
    assert rows.store == (tmp_path / "round1" / "traces", tmp_path / "round2" / "traces")
    assert (sft.model, sft.adapter) == ("models/base", None)
    assert (collect_pairs.adapter, dpo.adapter) == (own_sft, own_sft)
    assert pairs.store == (tmp_path / "round2" / "pair_traces",)
    assert (evaluate.student, evaluate.adapter) == ("local:models/base", tmp_path / "round2" / "dpo")
    assert collect.seed != stages[1][1].seed


def test_a_full_model_replaces_its_base() -> None:
    assert trained_student(SftConfig(full=True, output=Path("a"))) == ("a", None)
    assert trained_student(DpoConfig(model="m", output=Path("b"))) == ("m", Path("b"))


def test_stage_two_starts_from_the_full_model_of_stage_one(stages: Stages, tmp_path: Path) -> None:
    run(tmp_path, sft={"full": True}, dpo={"full": True})
    dpo = next(config for name, config in stages if name == "dpo")
    assert (dpo.model, dpo.adapter) == (str(tmp_path / "round1" / "sft"), None)


def test_the_control_sees_as_many_tokens(
    stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counted(Record):
        tokens: int

    counted = {"rows": Counted(tokens=600), "plain_rows": Counted(tokens=200)}
    monkeypatch.setattr(loop, "load_rows", lambda folder: ([], counted[folder.name]))
    run(tmp_path, control=True, sft={"num_train_epochs": 2})
    control = next(config for name, config in stages if name == "sft")
    assert control.num_train_epochs == matched_epochs(2, 600, 200) == 6
    plain = next(config for name, config in stages if name == "evaluate" and config.style == "plain")
    assert (plain.arms, plain.adapter) == (("single",), tmp_path / "round1" / "plain_sft")
