"""The loop's order, what it hands from stage to stage, and that a second call repeats nothing."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from supercorrect_agent.errors import ConfigError, ModelError
from supercorrect_agent.store import JsonlTraceStore
from supercorrect_agent.types import Record
from tests.training_traces import make_round, make_trace
from training import loop
from training import stages as stages_module
from training.config import DpoConfig, GateConfig, LoopConfig, SftConfig
from training.folders import hold_folder
from training.loop import matched_epochs, run_loop
from training.rounds import plot_rounds
from training.stages import trained_student

Stages = list[tuple[str, Any]]


def evaluation(config: Any, solved: dict[str, int]) -> dict[str, Any]:
    """A report on 40 problems; the student's name says how many of them it solves, in every arm."""
    who = str(config.adapter or config.student)
    right = next((count for name, count in solved.items() if name in who), 20)
    share = {"value": right / 40, "low": 0.0, "high": 1.0, "count": right, "total": 40}
    arm = {"accuracy": share, "output_tokens": {"student": 7}}
    cost = {"calls": 60, "tokens": 6000, "calls_per_correct": 60 / right, "tokens_per_correct": 6000 / right}
    arms = {name: {**arm, **({"cost": cost} if name in ("teacher", "asked") else {})} for name in config.arms}
    rows = [
        {"id": str(i), **{name: {"correct": i < right, "step": None} for name in arms}} for i in range(40)
    ]
    return {"arms": arms, "problems": rows}


@pytest.fixture
def solved() -> dict[str, int]:
    """How many of 40 problems a student solves, by a part of its path; 20 where nothing is said."""
    return {}


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch, solved: dict[str, int]) -> Stages:
    """Replaces every stage by one that records its settings and leaves its result."""
    seen: Stages = []

    def stub(name: str, result: str | None) -> None:
        def run(config: Any, *, say: Any) -> Any:
            seen.append((name, config))
            if name == "evaluate":
                config.output.parent.mkdir(parents=True, exist_ok=True)
                config.output.write_text(json.dumps(evaluation(config, solved)))
            elif result:
                config.output.mkdir(parents=True)
                (config.output / result).write_text('{"data_hash": "abc"}')
            else:
                JsonlTraceStore(config.store).append(make_trace(make_round()))
            return {}

        monkeypatch.setattr(stages_module, f"run_{name}", run)

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


ROUND = ["collect", "data", "sft", "collect", "data", "dpo"]


def test_a_round_runs_its_stages_in_order_and_a_second_call_none(stages: Stages, tmp_path: Path) -> None:
    run(tmp_path)
    assert [name for name, _ in stages] == [*ROUND, "evaluate", "evaluate", "evaluate"]
    assert json.loads((tmp_path / "report.json").read_text())["against_base"]["HSFT"]
    costs = [json.loads(line) for line in (tmp_path / "stages.jsonl").read_text().splitlines()]
    assert [cost["stage"] for cost in costs][:2] == ["collect round1/traces", "build round1/rows"]
    assert (costs[6]["stage"], costs[6]["tokens"]) == ("evaluate base", 4 * 7)  # four arms
    stages.clear()
    run(tmp_path)
    assert stages == []


def test_a_second_collection_is_by_the_first_student_and_stage_1_starts_anew_on_both(
    stages: Stages, tmp_path: Path
) -> None:
    run(tmp_path, model="models/base", collect_again={"n": 5, "seed": 9})
    assert [name for name, _ in stages][:8] == [
        "collect",
        "data",
        "sft",
        "collect",
        "data",
        "sft",
        *ROUND[3:5],
    ]
    folder = tmp_path / "round1"
    _, first_rows, first, again, rows, sft, pair_traces, *_ = (config for _, config in stages)
    assert first_rows.store == (folder / "traces",)
    assert (first.data, first.output) == (folder / "first" / "rows", folder / "first" / "sft")
    assert (again.student, again.adapter, again.n, again.seed) == ("local:models/base", first.output, 5, 9)
    assert rows.store == (folder / "traces", folder / "traces_again")
    assert (sft.model, sft.adapter, sft.data) == ("models/base", None, folder / "rows")
    assert pair_traces.adapter == folder / "sft"


@pytest.mark.parametrize("replay", [True, False])
def test_stage_2_replays_the_rows_of_its_rounds_stage_1_on_request(
    stages: Stages, tmp_path: Path, replay: bool
) -> None:
    run(tmp_path, replay=replay, rounds=2)
    found = [config.replay for name, config in stages if name == "dpo"]
    assert found == [tmp_path / f"round{n}" / "rows" if replay else None for n in (1, 2)]


def test_stage_2_learns_whole_chosen_sides_beside_short_pairs_on_request(
    stages: Stages, tmp_path: Path
) -> None:
    run(tmp_path, learn_chosen=True, pairs={"pair_scope": "difference", "solve_pairs": True})
    folder = tmp_path / "round1"
    built = [config for name, config in stages if name == "data"]
    assert [(config.output, config.pair_scope) for config in built[-2:]] == [
        (folder / "pairs", "difference"), (folder / "units", "unit"),
    ]  # fmt: skip
    assert {(config.kind, config.solve_pairs, config.store) for config in built[-2:]} == {
        ("preference", True, (folder / "pair_traces",))
    }
    dpo = next(config for name, config in stages if name == "dpo")
    assert (dpo.data, dpo.learn_chosen) == (folder / "pairs", folder / "units")


def test_stage_1_need_not_be_measured(stages: Stages, tmp_path: Path) -> None:
    run(tmp_path, evaluate_stage1=False)
    assert list(json.loads((tmp_path / "report.json").read_text())["files"]) == ["base", "HSFT + DPO"]
    run(tmp_path)  # it may be later
    assert list(json.loads((tmp_path / "report.json").read_text())["files"]) == ["base", "HSFT", "HSFT + DPO"]


def test_a_stage_that_did_not_finish_is_run_again_alone(stages: Stages, tmp_path: Path) -> None:
    run(tmp_path)
    stages.clear()
    (tmp_path / "round1" / "dpo" / "run.json").unlink()
    (tmp_path / "round1" / "dpo").rmdir()
    run(tmp_path)
    assert [name for name, _ in stages] == ["dpo"]


def test_adapters_go_from_stage_to_stage_on_one_base(stages: Stages, tmp_path: Path) -> None:
    run(tmp_path, rounds=2, model="models/base")
    second = [config for _, config in stages][6:]
    collect, rows, sft, collect_pairs, pairs, dpo, *_, evaluate = second
    first_dpo, own_sft = tmp_path / "round1" / "dpo", tmp_path / "round2" / "sft"
    # Round 2 collects with the student of round 1, but trains the base anew on all traces.
    assert (collect.student, collect.adapter) == ("local:models/base", first_dpo)
    assert rows.store == (tmp_path / "round1" / "traces", tmp_path / "round2" / "traces")
    assert (sft.model, sft.adapter) == ("models/base", None)
    assert (collect_pairs.adapter, dpo.adapter) == (own_sft, own_sft)
    assert pairs.store == (tmp_path / "round2" / "pair_traces",)
    assert (evaluate.student, evaluate.adapter) == ("local:models/base", tmp_path / "round2" / "dpo")
    assert collect.seed != stages[0][1].seed


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
    monkeypatch.setattr(loop, "load_manifest", lambda folder: counted[folder.name])
    run(tmp_path, control=True, sft={"num_train_epochs": 2})
    control = next(config for name, config in stages if name == "sft")
    assert control.num_train_epochs == matched_epochs(2, 600, 200) == 6
    plain = next(config for name, config in stages if name == "evaluate" and config.style == "plain")
    assert (plain.arms, plain.adapter) == (("single",), tmp_path / "round1" / "plain_sft")


GATE = {"gate": {"n": 40}}


def report_of(folder: Path) -> Any:
    return json.loads((folder / "report.json").read_text())


def test_a_better_student_is_promoted_and_collects_the_next_round(
    stages: Stages, solved: dict[str, int], tmp_path: Path
) -> None:
    solved |= {"round1": 30, "round2": 40}  # of 40; McNemar of 10 to 0 discordant pairs: p = 2/2**10
    run(tmp_path, rounds=2, model="models/base", **GATE)
    names = [name for name, _ in stages]
    assert names[:8] == ["evaluate", *ROUND, "evaluate"]  # the base and the new student, before round 2
    first_dpo = tmp_path / "round1" / "dpo"
    assert stages[8][1].adapter == first_dpo
    report = report_of(tmp_path)
    assert [entry["promoted"] for entry in report["rounds"]] == [None, True, True]
    for arm in ("teacher", "asked"):
        assert [entry[arm]["calls_per_correct"] for entry in report["rounds"]] == [3.0, 2.0, 1.5]
    assert report["student"] == str(tmp_path / "round2" / "dpo")
    assert (tmp_path / "round2" / "progress.png").read_bytes().startswith(b"\x89PNG")


def test_the_development_problems_decide_and_the_test_problems_come_last(
    stages: Stages, solved: dict[str, int], tmp_path: Path
) -> None:
    solved["round"] = 30
    run(tmp_path, rounds=2, **GATE)
    sets = [config.problems for name, config in stages if name == "evaluate"]
    assert sets == ["sandbox:dev", "sandbox:dev", "sandbox:dev", *["sandbox:test"] * 5]


def test_a_gain_inside_the_noise_ends_the_loop_and_is_said(
    stages: Stages, solved: dict[str, int], tmp_path: Path
) -> None:
    solved |= {"round1": 30, "round2": 31}
    said: list[str] = []
    settings = {"folder": tmp_path, "rounds": 5, **GATE}
    run_loop(LoopConfig.model_validate(settings), say=said.append)
    report = report_of(tmp_path)
    assert [entry["promoted"] for entry in report["rounds"]] == [None, True, False]
    assert report["student"] == str(tmp_path / "round1" / "dpo")
    assert "round 2 is inside the noise" in report["ended"]
    assert any("inside the noise" in line for line in said)
    assert not (tmp_path / "round3").exists()


def test_a_worse_student_is_refused_and_the_present_one_collects_on(
    stages: Stages, solved: dict[str, int], tmp_path: Path
) -> None:
    solved["round1"] = 5
    run(tmp_path, rounds=2, **GATE)
    second_collection = [config for name, config in stages if name == "collect"][2]
    assert (second_collection.student, second_collection.adapter) == ("sandbox", None)
    assert report_of(tmp_path)["rounds"][1]["promoted"] is False


def test_a_folder_with_other_settings_is_refused_but_may_have_more_rounds(
    stages: Stages, tmp_path: Path
) -> None:
    run(tmp_path, rounds=1)
    run(tmp_path, rounds=2)
    assert sum(name == "sft" for name, _ in stages) == 2
    with pytest.raises(ConfigError, match=r"`sft\.learning_rate=0\.0002`, but now `sft\.learning_rate=0\.1`"):
        run(tmp_path, rounds=2, sft={"learning_rate": 0.1})


def test_two_runs_in_one_folder_are_refused(stages: Stages, tmp_path: Path) -> None:
    with hold_folder(tmp_path, argument="folder"), pytest.raises(ConfigError, match="Another run"):
        run(tmp_path)
    run(tmp_path)


def test_a_promoted_student_is_served_and_a_refused_one_is_not(
    stages: Stages, solved: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    solved |= {"round1": 40, "round2": 5}
    served: list[Path] = []

    class Served(Record):
        name: str = "x"
        url: str | None = None
        loaded: bool = True
        command: str = ""

    def serve(adapter: Path, model: str, config: Any, *, say: Any) -> Served:
        served.append(adapter)
        return Served()

    monkeypatch.setattr(loop, "serve_adapter", serve)
    run(tmp_path, rounds=2, serve={"name": "x"}, model="models/base", **GATE)
    assert served == [tmp_path / "round1" / "dpo"]
    run(tmp_path, rounds=2, serve={"name": "x"}, model="models/base", **GATE)
    assert len(served) == 1  # the server may hold a later student by now
    assert GateConfig().problems == "sandbox:dev"


def test_with_patience_a_round_in_the_noise_is_followed_by_another(
    stages: Stages, solved: dict[str, int], tmp_path: Path
) -> None:
    solved |= {"round1": 30, "round2": 31, "round3": 40}
    run(tmp_path, rounds=3, **GATE)
    run(tmp_path, rounds=3, patience=1, **GATE)  # goes on where the first call ended
    report = report_of(tmp_path)
    assert [entry["promoted"] for entry in report["rounds"]] == [None, True, False, True]
    assert report["ended"] == "All 3 rounds are done."
    third = [config for name, config in stages if name == "collect"][4]
    assert third.adapter == tmp_path / "round1" / "dpo"  # the present student, not the refused one


def test_without_a_gate_the_test_problems_give_the_rounds_and_their_plots(
    stages: Stages, solved: dict[str, int], tmp_path: Path
) -> None:
    solved |= {"round1": 30, "round2": 40}
    run(tmp_path, rounds=2)
    rounds = report_of(tmp_path)["rounds"]
    assert [entry["teacher"]["calls_per_correct"] for entry in rounds] == [3.0, 2.0, 1.5]
    assert [entry["promoted"] for entry in rounds] == [None, None, None]
    assert all((tmp_path / f"round{n}" / "progress.png").exists() for n in (1, 2))


def test_settings_that_an_earlier_version_did_not_know_had_their_default(
    stages: Stages, tmp_path: Path
) -> None:
    run(tmp_path)
    path = tmp_path / "config.json"
    settings = json.loads(path.read_text())
    del settings["rows"]["near_duplicate"]
    path.write_text(json.dumps(settings))
    run(tmp_path)
    with pytest.raises(ConfigError, match=r"`rows\.near_duplicate=0\.9`, but now"):
        run(tmp_path, rows={"near_duplicate": 0.5})
    path.write_text("{")
    with pytest.raises(ConfigError, match="not the settings of a loop"):
        run(tmp_path)


def test_a_server_that_is_down_loses_nothing(
    stages: Stages, solved: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    solved |= {"round1": 40}

    def refuse(*_: Any, **__: Any) -> None:
        raise ModelError("The server does not answer.")

    with monkeypatch.context() as down:
        down.setattr(loop, "serve_adapter", refuse)
        with pytest.raises(ModelError, match="does not answer"):
            run(tmp_path, serve={"url": "http://127.0.0.1:1"}, **GATE)
    assert report_of(tmp_path)["rounds"][1]["promoted"] is True
    (tmp_path / "round1" / "dpo" / "adapter_config.json").write_text('{"r": 16}')
    stages.clear()
    run(tmp_path, serve={"url": None}, **GATE)  # where it is served may change
    assert [name for name, _ in stages] == ["evaluate"] * 3  # the test problems only
    assert json.loads((tmp_path / "round1" / "serve.json").read_text())["loaded"] is False


def test_a_teacher_that_is_never_asked_is_drawn_without_a_warning(tmp_path: Path) -> None:
    """Matplotlib warns of an axis from 0 to 0."""
    cost = {"calls": 0, "tokens": 0, "calls_per_correct": 0.0, "tokens_per_correct": 0.0}
    rounds = [{"round": number, "accuracy": {}, "teacher": cost, "promoted": None} for number in (0, 1)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_rounds(rounds, tmp_path / "progress.png")
    assert (tmp_path / "progress.png").is_file()
