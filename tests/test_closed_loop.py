"""The closed-loop experiment: what its report makes of small evaluations, worked out by hand; no training."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest
import torch

from benchmarks import closed_loop, closed_loop_runs
from benchmarks.closed_loop import Task, parse, run_tasks
from benchmarks.closed_loop_layout import (
    ALONE,
    BASE,
    CHOSEN,
    CONTROLS,
    FINAL,
    HSFT,
    LITERAL,
    PLAIN,
    REPLAY,
    ROUND_STUDENTS,
    STUDENTS,
    WHOLE,
    runs,
)  # fmt: skip
from benchmarks.closed_loop_measures import cell, first_errors, key, pool, rate, rate_difference
from benchmarks.closed_loop_plots import draw_accuracy, draw_first_errors, draw_flips, draw_rounds
from benchmarks.closed_loop_report import write_report
from benchmarks.closed_loop_targets import Target
from supercorrect_agent.errors import ConfigError, DataError
from training.config import DpoConfig

# One letter a problem. The teacher finds the first error of every wrong solution in step 2.
OUTCOMES: dict[str, tuple[bool, bool, int | None]] = {  # right at t1, right at t2, the step the review names
    "R": (True, True, None), "B": (True, False, 1), "F": (True, True, 3),
    "C": (False, True, 2), "M": (False, False, None), "L": (False, False, 1),
}  # fmt: skip
# t2 of 20: HSFT 14, then replay 16, SFT 12, whole 11, literal 13, without SFT 13, final 19.
CODES = {
    BASE: "R" * 6 + "M" * 14, PLAIN: "R" * 8 + "M" * 12, HSFT: "R" * 12 + "C" * 2 + "M" * 3 + "L" * 3,
    REPLAY: "R" * 12 + "C" * 4 + "M" * 4, CHOSEN: "R" * 12 + "M" * 8, WHOLE: "R" * 11 + "M" * 9,
    LITERAL: "R" * 12 + "C" * 1 + "L" * 7, ALONE: "R" * 13 + "L" * 7,
    FINAL: "R" * 14 + "C" * 5 + "B" * 1,
}  # fmt: skip


def row(number: int, code: str) -> dict[str, Any]:
    first, second, step = OUTCOMES[code]
    calls = int(step is not None)
    return {
        "id": f"p{number}", "single": {"correct": first, "step": None},
        "review": {"correct": second, "step": step},
        "teacher": {"correct": first, "step": None if first else 2, "teacher_calls": 1},
        "retry": {"correct": second, "step": None},
        "asked": {"correct": second, "step": step, "teacher_calls": calls, "teacher_tokens": 10 * calls},
    }  # fmt: skip


def report(codes: str, *arms: str, tokens: dict[str, int] | None = None) -> dict[str, Any]:
    rows = [row(number, code) for number, code in enumerate(codes)]
    return {
        "arms": {arm: {"output_tokens": {"student": (tokens or {}).get(arm, 0)}} for arm in arms},
        "n": len(rows), "commit": "abc", "machine": "two cores", "versions": {},
        "problems": [{name: each[name] for name in ("id", *arms)} for each in rows],
    }  # fmt: skip


def save(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def save_loop(folder: Path, reports: dict[str, Any]) -> None:
    files = {name: f"{number}.json" for number, name in enumerate(reports)}
    for name, file in files.items():
        save(folder / file, reports[name])
    save(folder / "report.json", {"files": files, "ended": "All rounds are done."})


def save_seed(folder: Path, codes: dict[str, str], tokens: dict[str, int], rounds: list[str]) -> None:
    own = ("single", "review", "teacher")
    reports = {name: report(codes[name], *(("single",) if name == PLAIN else own)) for name in STUDENTS}
    save_loop(folder / "main", {name: reports[name] for name in (BASE, PLAIN, HSFT, FINAL)})
    for control in CONTROLS:
        save(folder / control.folder / "evaluation.json", reports[control.name])
    for name, stem in ((HSFT, "hsft"), (FINAL, "dpo")):
        save(folder / "unseen" / f"{stem}.json", reports[name])
        critique = report("C" * 10 + "M" * 10, "single", "teacher", "retry", tokens=tokens)
        for each in critique["problems"]:  # the teacher puts right what retry leaves wrong, and the other way
            each["teacher"]["correct"] = not each["retry"]["correct"] or each["id"] == "p0"
        save(folder / "critique" / f"{stem}.json", critique)
    curve = {name: report(code, *own, "asked") for name, code in zip(ROUND_STUDENTS, rounds, strict=True)}
    save_loop(folder / "rounds", curve)
    for name, path in runs(folder).items():
        config = {"output": str(path), "data": "pairs" if name != WHOLE else "whole", "seed": 0}
        run = {"config": config, "results": {"step": 7}, "tokens_seen": 5000}
        save(path / "run.json", run)
    save(folder / "main" / "stages.jsonl", {"stage": "train", "seconds": 90.0, "tokens": 1})


ROUNDS = ["L" * 10 + "C" * 10, "L" * 8 + "C" * 12, "L" * 4 + "C" * 16, "R" * 20]


def save_experiment(folder: Path) -> Path:
    for seed in (0, 1):
        save_seed(folder / f"seed{seed}", CODES, {"teacher": 400, "retry": 500}, ROUNDS)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment with its report; the tests that change one make their own."""
    folder = save_experiment(tmp_path_factory.mktemp("experiment"))
    write_report(folder, [0, 1])
    return folder


@pytest.fixture
def results(folder: Path) -> Any:
    return json.loads((folder / "closed_loop.json").read_text())


def find(results: dict[str, Any], group: str, criterion: str) -> Target:
    return next(
        each for each in results["targets"] if group in each["group"] and criterion == each["criterion"]
    )


def test_seeds_are_pooled_and_each_share_has_its_own_base() -> None:
    reports = {
        seed: {HSFT: report(codes, "single", "review", "teacher")}
        for seed, codes in ((1, "RCML"), (0, "RRBC"))
    }
    rows = pool(reports)[HSFT]
    assert [(each["seed"], each["id"]) for each in rows] == [(s, f"p{i}") for s in (0, 1) for i in range(4)]
    found = cell(rows)
    own = found["self_correction"]
    counts = {name: (own[name]["count"], own[name]["total"]) for name in ("corrected", "broken")}
    # R R B C and R C M L: right at t1 are R R B R, at t2 R R C R C.
    assert (own["accuracy_t1"]["count"], own["accuracy_t2"]["count"]) == (4, 5)
    assert own["delta"]["value"] == pytest.approx(1 / 8)
    assert counts == {"corrected": (2, 4), "broken": (1, 4)}
    shares = {name: (found[name]["count"], found[name]["total"]) for name in ("flagged", "located")}
    assert shares == {"flagged": (3, 4), "located": (2, 4)}  # C C L of C C M L; L names another step
    assert (found["false_alarms"]["count"], found["false_alarms"]["total"]) == (1, 4)


def test_students_of_one_seed_must_have_the_same_problems() -> None:
    with pytest.raises(DataError, match="Seed 3: 'HSFT' and 'base' were not asked the same problems"):
        pool({3: {BASE: report("RR", "single"), HSFT: report("RRR", "single")}})


def test_calls_per_correct_answer_have_the_delta_interval() -> None:
    # R = 2/3, mean correct 3/4: (c - R k) / (3/4) is 4/9, 4/9, -8/9, 0; half = z sqrt(96/81) / 4 = 0.53344
    found = rate([1, 1, 0, 0], [True, True, True, False])
    assert found is not None
    assert found["value"] == pytest.approx(2 / 3)
    assert found["high"] - found["value"] == pytest.approx(0.53344, abs=1e-4)
    assert rate([1, 1], [False, False]) is None
    same = ([1, 1, 0, 0], [True, True, True, False])
    assert rate_difference(same, same) == {"value": 0, "low": 0, "high": 0}
    assert rate_difference(same, ([1] * 4, [False] * 4)) is None


def test_first_errors_are_split_by_what_the_own_review_makes_of_them() -> None:
    rows = pool({0: {HSFT: report("RCCML", "single", "review", "teacher")}})[HSFT]
    rows[3]["teacher"]["step"], rows[4]["teacher"]["step"] = 5, None
    found = first_errors(rows)
    assert found["n"] == 5
    assert found["steps"]["2"] == {"put right": 2, "left wrong": 0}
    assert found["steps"]["4+"] == {"put right": 0, "left wrong": 1}
    assert found["steps"]["not placed"] == {"put right": 0, "left wrong": 1}


def test_differences_are_paired_over_both_seeds(results: Any) -> None:
    found = results["students"]["differences"][key((REPLAY, "review"), (FINAL, "review"))]
    # A seed: the last four of `replay only` are left wrong, the last of the final student is broken.
    assert (found["only_first"], found["only_second"], found["total"]) == (0, 6, 40)
    assert found["value"] == pytest.approx(3 / 20)
    assert found["p_value"] == pytest.approx(2 / 2**6)
    assert {seed: each["only_second"] for seed, each in found["per_seed"].items()} == {"0": 3, "1": 3}
    assert results["time"]["stage_minutes"] == 3.0


def test_targets_are_met_or_missed(folder: Path, results: Any) -> None:
    reviewer = "reviewer after stage 1"
    # HSFT: C C M M M L L L are wrong; C and L flagged, C located; no false alarm.
    flagged = find(results, reviewer, "own wrong solutions flagged")
    assert (flagged["value"], flagged["met"]) == (5 / 8, False)
    assert find(results, reviewer, "own wrong solutions located")["value"] == 2 / 8
    assert find(results, reviewer, "false alarms")["met"]
    own = "self-correction"
    # The final student: 15 right at t1 (R and B), 19 at t2; 1 of 15 broken, 5 of 5 put right.
    gain = find(results, own, "t2 - t1")
    assert gain["value"] == pytest.approx(4 / 20)
    assert gain["met"] is (gain["low"] is not None and gain["low"] > 0)
    assert find(results, own, "right to wrong")["value"] == pytest.approx(1 / 15)
    assert not find(results, own, "right to wrong")["met"]
    assert find(results, own, "wrong to right")["met"]
    assert (find(results, own, "t1")["value"], find(results, own, "t1")["met"]) == (0.75, True)
    assert find(results, own, f"t2 above the single pass of {PLAIN}")["value"] == pytest.approx(11 / 20)
    better = find(results, "stage 2", f"t2 above {REPLAY}")
    assert (better["p_value"], better["met"]) == (2 / 64, True)
    text = (folder / "closed_loop.md").read_text()
    (line,) = [
        line for line in text.splitlines() if "| reviewer after stage 1 | own wrong solutions flagged" in line
    ]
    assert line.endswith("| >= 85 % | 62.5 [38.6, 81.5] % | **missed** |")
    assert f"{sum(each['met'] for each in results['targets'])} of {len(results['targets'])} met." in text


def test_a_gain_that_may_be_chance_is_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.closed_loop_report.write_plots", lambda *_: [])
    codes = {**CODES, REPLAY: "R" * 12 + "C" * 6 + "M" * 2}
    for seed in (0, 1):
        save_seed(tmp_path / f"seed{seed}", codes, {"teacher": 9, "retry": 8}, ROUNDS)
    results = write_report(tmp_path, [0, 1])
    # A seed: one more right, one broken that was not: +1 - 0 over 20 is 5 points, p = 2 / 2^2.
    found = find(results, "stage 2", f"t2 above {REPLAY}")
    assert found["value"] == pytest.approx(1 / 20)
    assert (found["p_value"], found["met"]) == (0.5, False)
    # The teacher is ahead of retry by 1 of 20, but retry had fewer tokens.
    assert not find(results, "critique", f"{FINAL}: teacher above retry")["met"]


def test_rounds_compare_calls_and_accuracy(results: Any) -> None:
    last = ROUND_STUDENTS[-1]
    # Base: 20 calls for 10 right, the last round none for 20; in between 20/12 and 20/16.
    values = [
        results["rounds"]["cells"][name]["asked"]["calls_per_correct"]["value"] for name in ROUND_STUDENTS
    ]
    assert values == pytest.approx([2, 20 / 12, 20 / 16, 0])
    fall = find(results, "calls", f"{last} against {BASE}")
    assert fall["value"] == pytest.approx(-2)
    assert fall["met"]
    assert find(results, "accuracy", f"{last} above {BASE}")["value"] == pytest.approx(0.5)
    assert find(results, "accuracy", f"{ROUND_STUDENTS[2]} not significantly below {ROUND_STUDENTS[1]}")[
        "met"
    ]


def test_what_is_not_finished_is_left_out_and_named(tmp_path: Path) -> None:
    folder = save_experiment(tmp_path)
    (folder / "seed1" / "rounds" / "report.json").unlink()
    (folder / "seed0" / "unseen" / "dpo.json").unlink()
    (folder / "seed1" / "unseen" / "dpo.json").unlink()
    results = write_report(folder, [0, 1])
    assert (results["rounds"]["seeds"], results["unseen"]) == ([0], None)
    assert (
        "**Not finished:** unseen has seeds none; rounds has seeds 0."
        in (folder / "closed_loop.md").read_text()
    )
    assert not [each for each in results["targets"] if "unseen" in each["group"]]


def test_the_report_shows_what_sets_a_control_apart(folder: Path, results: Any) -> None:
    assert results["students"]["training"]["0"][WHOLE] == {"steps": 7, "tokens": 5000, "changes": ["data"]}
    assert f"| {WHOLE} | 7 7 | 5,000 5,000 | data |" in (folder / "closed_loop.md").read_text()


def test_plots_show_every_student_and_are_not_blank(folder: Path, results: Any) -> None:
    (axis,) = draw_accuracy(results["students"]).axes
    points = [len(series.lines[0].get_xdata()) for series in axis.containers]
    assert points == [len(STUDENTS), len(STUDENTS) - 1]  # plain SFT does not review
    assert list(axis.containers[0].lines[0].get_xdata())[STUDENTS.index(FINAL)] == 75
    flips = draw_flips(results["students"]).axes
    assert [len(axis.containers[0].lines[0].get_xdata()) for axis in flips] == [len(STUDENTS) - 1] * 2
    errors = draw_first_errors(results["students"]).axes
    assert [axis.get_title() for axis in errors] == [BASE, HSFT, REPLAY, FINAL]
    assert [bar.get_height() for bar in errors[1].containers[0]] == [0, 10, 0, 0]  # C C of 20
    assert [bar.get_height() for bar in errors[1].containers[1]] == [0, 30, 0, 0]
    calls, accuracy = draw_rounds(results["rounds"]).axes
    assert list(calls.containers[0].lines[0].get_ydata()) == pytest.approx([2, 20 / 12, 20 / 16, 0])
    assert [len(series.lines[0].get_ydata()) for series in accuracy.containers] == [4, 4, 4]
    for name in ("accuracy", "flips", "first_errors", "rounds"):
        assert matplotlib.image.imread(folder / f"{name}.png").std() > 0.05
        assert f"({name}.png)" in (folder / "closed_loop.md").read_text()


class Recorder:
    """Stands in for the stages: what would be built, trained and evaluated."""

    made: list[Any] = []

    def __init__(self, config: Any, *_: Any) -> None:
        self.config = config

    def build(self, stage: Any, output: Path, stores: tuple[Path, ...], **changes: Any) -> Path:
        self.made.append(("build", stage.model_copy(update=changes), stores))
        return output

    def train(self, config: DpoConfig) -> str:
        self.made.append(("train", config))
        return f"student of {config.output.parent.name}"

    def evaluate(self, student: Any, output: Path, **changes: Any) -> None:
        self.made.append(("evaluate", student, output, {**self.config.evaluate.model_dump(), **changes}))


def test_controls_differ_from_the_main_run_in_what_the_table_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_loop(config: Any, say: Any) -> None:
        first = config.folder / "round1"
        main = DpoConfig(
            model=str(first / "sft"), full=True, data=first / "pairs", output=first / "dpo", seed=20_000,
            learning_rate=3e-5, replay=first / "rows", replay_batch_size=4, loss_type=("sigmoid",),
            loss_weights=(0.2,), beta=1.0, learn_chosen=first / "units",
        )  # fmt: skip
        content = {"config": main.model_dump(mode="json"), "results": {"step": 123}}
        save(first / "dpo" / "run.json", content)

    monkeypatch.setattr(closed_loop_runs, "run_loop", run_loop)
    monkeypatch.setattr(closed_loop_runs, "Stages", Recorder)
    monkeypatch.setattr(Recorder, "made", [])
    closed_loop_runs.run_main_chain(tmp_path, 2, 50, print)
    first = tmp_path / "main" / "round1"
    trained = [each[1] for each in Recorder.made if each[0] == "train"]
    assert [config.loss_type for config in trained] == [*[("sft",)] * 2, *[("sigmoid",)] * 3]
    assert [config.loss_weights for config in trained] == [(0.0,), (0.0,), (1.0,), (1.0,), (0.2,)]
    assert [config.beta for config in trained] == [1.0, 1.0, 0.1, 1.0, 1.0]
    assert [bool(config.learn_chosen) for config in trained] == [False, True, False, False, True]
    assert {config.learn_chosen for config in trained} == {None, first / "units"}
    whole, literal = (tmp_path / CONTROLS[place].folder / "pairs" for place in (2, 4))
    assert [config.data for config in trained] == [*[first / "pairs"] * 2, whole, first / "pairs", literal]
    for config in trained:
        assert (config.max_steps, config.model, config.seed) == (123, str(first / "sft"), 20_000)
        assert (config.replay, config.replay_batch_size) == (first / "rows", 4)
        assert (config.learning_rate, config.full) == (3e-5, True)
    built = [each for each in Recorder.made if each[0] == "build"]
    assert [stage.pair_format for _, stage, _ in built] == ["whole_answer", "literal_eq8"]
    assert [stage.pair_scope for _, stage, _ in built] == ["unit", "difference"]
    assert all(stage.solve_pairs and stage.kind == "preference" for _, stage, _ in built)
    assert {stores for _, _, stores in built} == {(first / "pair_traces",)}
    asked = [each[1:] for each in Recorder.made if each[0] == "evaluate"]
    assert [(out.parent.name, found["problems"], found["arms"]) for _, out, found in asked[5:]] == [
        ("unseen", "sandbox:unseen", ("single", "review", "teacher")),
        ("critique", "sandbox:test", ("teacher", "retry")),
    ] * 2
    assert [found["n"] for _, _, found in asked] == [50] * 5 + [25] * 4
    assert {found["seed"] for _, _, found in asked} == {20_000}
    assert asked[0][0] == "student of replay-only"


def test_the_rounds_are_put_to_half_as_many_test_problems_of_their_seed(tmp_path: Path) -> None:
    found = [
        make(tmp_path, seed, 70)
        for seed in (0, 3)
        for make in (closed_loop_runs.main_config, closed_loop_runs.rounds_config)
    ]
    tested = [(each.evaluate.problems, each.evaluate.n, each.evaluate.seed) for each in found]
    assert tested == [("sandbox:test", n, seed) for seed in (0, 30_000) for n in (70, 35)]
    assert [(each.rounds, each.patience) for each in found[:2]] == [(1, found[0].patience), (3, 3)]
    assert found[1].evaluate.arms == ("single", "review", "teacher", "asked")
    assert found[3].gate is not None
    assert (found[3].gate.problems, found[3].gate.seed) == ("sandbox:dev", 30_000)
    assert found[2].collect_pairs.seed - found[0].collect_pairs.seed == 30_000


def fail_for_seed_1(task: Task, folder: Path) -> None:
    if task.seed == 1:
        raise ValueError("no such luck")
    (folder / f"{task.seed}{task.chain}").write_text("done")


def test_a_task_that_fails_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = run_tasks([Task(1, "main"), Task(2, "rounds")], fail_for_seed_1, (tmp_path,), 1)
    assert failed == [Task(1, "main")]
    assert [path.name for path in tmp_path.iterdir()] == ["2rounds"]
    assert "[seed 1, main] failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ConfigError("`n=0` is too few. Pass more."), 2, "error: `n=0`"),
        (ValueError("odd"), 1, "ValueError: odd"),
    ],
)
def test_a_task_says_whose_error_it_was(
    error: Exception, code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(closed_loop_runs, "run_rounds_chain", fail)
    with pytest.raises(SystemExit) as ended:
        closed_loop.work(Task(1, "rounds"), tmp_path, 5, torch.get_num_threads())
    assert ended.value.code == code
    out = capsys.readouterr().out
    assert out.startswith("[seed 1, rounds] ")
    assert said in out


def test_the_exit_code_tells_of_a_failed_task_and_the_session_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_experiment(tmp_path)
    monkeypatch.setattr("benchmarks.closed_loop_report.write_plots", lambda *_: [])

    def run_tasks(tasks: list[Task], *_: Any) -> list[Task]:
        assert tasks == [Task(0, "main"), Task(1, "main")]
        return tasks[1:]

    monkeypatch.setattr(closed_loop, "run_tasks", run_tasks)
    words = ["closed_loop", "--folder", str(folder), "--seeds", "0", "1"]
    monkeypatch.setattr(sys, "argv", [*words, "--only", "main"])
    assert closed_loop.main() == 1
    monkeypatch.setattr(sys, "argv", [*words, "--report"])
    assert closed_loop.main() == 0
    sessions = json.loads((folder / "closed_loop.json").read_text())["time"]["sessions"]
    assert [session["workers"] for session in sessions] == [2]
    assert "--only main" in sessions[0]["command"]


def test_quick_is_the_demo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr("training.demo.run_demo", lambda out, seed: seen.update(out=out, seed=seed))
    monkeypatch.setattr(sys, "argv", ["closed_loop", "--quick", "--seed", "4"])
    assert closed_loop.main() == 0
    assert seen == {"out": Path("runs/demo"), "seed": 4}
    assert parse(["--seeds", "5"]).folder == Path("runs/closed_loop")
    monkeypatch.setattr(sys, "argv", ["closed_loop", "--folder", "no/such/folder", "--report"])
    assert closed_loop.main() == 2
    assert "is not there" in capsys.readouterr().err
