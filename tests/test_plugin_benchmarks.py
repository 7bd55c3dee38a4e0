"""The benchmarks of the solving graph: their arithmetic by hand, and that they run. No figure is asserted."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import BaseMessage

from benchmarks import imports, overhead, tokens_per_fix
from benchmarks.heartbeat import (
    Beat,
    Step,
    beats_during,
    frozen,
    late_share,
    steps_during,
    summarize_beats,
    summarize_steps,
)
from benchmarks.imports import Comparison, command, compare, cpu_seconds, heaviest
from benchmarks.overhead_contestants import (
    PACKAGE,
    PLAIN,
    RuleChatModel,
    contestants,
    hand_wired,
    make_student,
    make_teacher,
)
from benchmarks.overhead_job import FIRST, Job
from benchmarks.ratios import Target, in_turn, ratio, sentence, spread
from benchmarks.tokens_per_fix import Outcome, Run, corrected, rate_ratio, run_graph, sample_anew, sampled
from supercorrect_agent.errors import ModelError
from supercorrect_agent.graph import create_supercorrect_graph
from supercorrect_agent.state import CorrectionConfig
from supercorrect_agent.types import Call, Critique, Problem, Round, Solution, Trace
from tests.fakes import ScriptedChatModel

NODES = [
    "student_solve",
    "verify",
    "teacher_critique",
    "student_correct",
    "verify",
    "teacher_critique",
    "record",
]
OTHERS = ["langgraph", "langgraph, our readers", "langgraph, async router", "asyncio"]


def test_a_ratio_is_taken_within_each_repeat() -> None:
    # 3/2, 2/2, 8/2
    assert ratio([3, 2, 8], [2, 2, 2]) == {"median": 1.5, "low": 1.0, "high": 4.0}
    # 1/4, 6/2, 4/1: the medians would give 4/2
    assert ratio([1, 6, 4], [4, 2, 1]) == {"median": 3.0, "low": 0.25, "high": 4.0}


def test_a_ratio_needs_the_same_repeats() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratio([1, 2], [1])


def test_a_spread_has_four_digits() -> None:
    assert spread([1.23456, 12345.6]) == {"median": 6173.0, "low": 1.235, "high": 12350.0}


def test_every_repeat_begins_with_another_name() -> None:
    assert [in_turn("abc", repeat) for repeat in range(4)] == [
        list("abc"),
        list("bca"),
        list("cab"),
        list("abc"),
    ]


def test_a_target_says_whether_equal_is_enough() -> None:
    assert (Target(1.5).met(1.5), Target(2.0, inclusive=False).met(2.0)) == (True, False)
    found = {"median": 2.0, "low": 1.0, "high": 3.0}
    line = sentence("a / b", found, Target(2.0, inclusive=False))  # type: ignore[arg-type]
    assert line == "a / b: 2.00 (1.00 to 3.00); target under 2: missed"
    assert sentence("a / b", found).endswith("; no target")  # type: ignore[arg-type]


def test_late_beats_are_those_over_the_limit() -> None:
    beats = [Beat(late, 0.0) for late in (0.0, 0.01, 0.02, 0.06)]
    assert (late_share(beats, 0.01), late_share(beats, 0.05)) == (0.5, 0.25)


def test_the_longest_hold_up_is_that_of_each_run_and_late_beats_are_counted_over_all() -> None:
    runs = [[Beat(0.02, 0.003), Beat(0.0, 0.005)], [Beat(0.06, 0.001)], [Beat(0.001, 0.0)]]
    assert summarize_beats(runs) == {
        "longest_wall_ms": {"median": 20.0, "low": 1.0, "high": 60.0},
        "longest_cpu_ms": {"median": 1.0, "low": 0.0, "high": 5.0},
        "beats": 4,
        "late_share": {"over_10_ms": 0.5, "over_50_ms": 0.25},
    }


async def test_a_beat_sees_a_loop_that_was_held_up_to_the_very_end() -> None:
    async def block() -> None:
        time.sleep(0.02)

    beats = await beats_during([block()])
    assert max(beat.late for beat in beats) > 0.015  # 20 ms less the interval of 1 ms


async def test_work_that_fails_stops_the_heart() -> None:
    async def fail() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await beats_during([fail()])
    await asyncio.sleep(0.005)
    assert len(asyncio.all_tasks()) == 1


async def test_steps_are_measured_and_the_loop_is_left_as_it_was() -> None:
    run, callbacks = asyncio.Handle._run, list(gc.callbacks)

    async def collect() -> None:
        await asyncio.sleep(0)
        gc.collect()

    steps = await steps_during([collect() for _ in range(3)])
    assert len(steps) >= 6  # each of three tasks begins, and goes on once
    assert sum(step.collecting > 0 for step in steps) >= 3
    counted = len(steps)
    await asyncio.sleep(0)
    assert len(steps) == counted  # what follows the work is no step of it
    assert all(step.cpu >= step.collecting for step in steps)
    assert asyncio.Handle._run is run
    assert gc.callbacks == callbacks


def test_the_longest_step_need_not_be_the_longest_without_the_collector() -> None:
    runs = [[Step(0.15, 0.14), Step(0.02, 0.0)], [Step(0.05, 0.0)]]
    assert summarize_steps(runs) == {
        "longest_ms": {"median": 100.0, "low": 50.0, "high": 150.0},
        "without_gc_ms": {"median": 35.0, "low": 20.0, "high": 50.0},
    }


def test_what_is_frozen_is_the_collectors_again_afterwards() -> None:
    with frozen():
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() == 0


def test_a_job_has_its_error_in_step_3() -> None:
    # 100 + 200 = 300 on two days, 300 - 47 = 253 on the third, 553 in all; the slip makes that 10 more
    job = Job(100)
    assert f"<Step3>Wednesday is 47 fewer. {job.slip}</Step3>" in job.wrong
    assert job.slip == "300-47=263"
    assert job.wrong.endswith("300+263=563</Step4>\n<Answer>\\boxed{563}</Answer>")
    assert job.rest == "<Step4>All three days. 300+253=553</Step4>\n<Answer>\\boxed{553}</Answer>"


def recording(model: RuleChatModel, into: list[list[BaseMessage]]) -> RuleChatModel:
    """The model with a rule that writes down what it is sent."""
    rule: Callable[[Sequence[BaseMessage]], str] = model.rule

    def record(messages: Sequence[BaseMessage]) -> str:
        into.append(list(messages))
        return rule(messages)

    return model.model_copy(update={"rule": record})


async def test_all_contestants_send_the_same_messages_and_find_the_same_answer() -> None:
    sent: list[list[BaseMessage]] = []
    field = contestants(recording(make_student(), sent), recording(make_teacher(), sent))
    seen = {}
    for name, solve in field.items():
        sent.clear()
        state = await solve()
        # 3 * 128 + (3 * 128 - 47)
        assert (state["answer"], state["solution"], state["status"]) == ("721", FIRST.right, "corrected"), (
            name
        )
        seen[name] = [[(message.type, message.text) for message in messages] for messages in sent]
    assert [[kind for kind, _ in messages] for messages in seen["ours"]] == [
        ["human"],
        ["human"],
        ["human", "ai"],
        ["human"],
    ]
    assert list(seen) == ["ours", *OTHERS]
    assert all(messages == seen["ours"] for messages in seen.values())
    again = [(await solve())["answer"] for solve in field.values()]
    assert again == ["727"] * 5  # the next job: one copy more on Monday are six more in all


async def test_the_graph_wired_by_hand_has_our_node_sequence() -> None:
    models = make_student(), make_teacher()
    for graph in (
        create_supercorrect_graph(*models),
        hand_wired(*models, PLAIN),
        hand_wired(*models, PACKAGE),
        hand_wired(*models, PLAIN, async_router=True),
    ):
        updates = [
            update async for update in graph.astream({"problem": FIRST.question}, stream_mode="updates")
        ]
        assert [name for update in updates for name in update] == NODES


async def test_our_graph_sends_nothing_to_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("something was sent to a thread")

    monkeypatch.setattr(asyncio.get_running_loop(), "run_in_executor", refuse)
    state = await create_supercorrect_graph(make_student(), make_teacher()).ainvoke(
        {"problem": FIRST.question}
    )
    assert state["status"] == "corrected"


def test_overhead_reports_every_contestant_and_writes_what_it_is_told_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "overhead.json"
    sizes = ["--problems", "1", "--repeats", "2", "--at-once", "2", "--loop-repeats", "1", "--wait", "0.001"]
    overhead.main([*sizes, "--output", str(output)])
    report = json.loads(output.read_text())
    assert list(report["overhead"]["cpu_ms_per_problem"]) == ["ours", *OTHERS]
    assert list(report["overhead"]["ratios"]) == OTHERS
    for key in ("steps", "steps_frozen", "beats", "beats_waiting"):
        assert list(report[key]) == ["ours", "langgraph"]
    assert all(one["beats"] >= 1 for key in ("beats", "beats_waiting") for one in report[key].values())
    said = capsys.readouterr().out
    assert json.loads(said[: said.rindex("}") + 1]) == report
    assert "ours / langgraph: " in said
    assert said.count("target at most 1.5") == 1
    assert said.count("target at most 50") == 2  # with and without the garbage collector


IMPORTTIME = """import time: self [us] | cumulative | imported package
import time:       500 |        500 |   typer.core
import time:      1500 |       2000 | typer
import time:       700 |        700 |     rich.console
import time:        20 |         20 | re
a warning of somebody's
"""


def test_the_heaviest_packages_are_those_with_most_time_of_their_own() -> None:
    assert heaviest(IMPORTTIME, 2) == {"typer": 2.0, "rich": 0.7}


def test_imports_are_compared_with_and_without_the_start_of_python() -> None:
    seconds = {"a": [0.4, 0.5], "b": [0.3, 0.25], "pass": [0.2, 0.0]}
    row = compare(seconds, Comparison("a", "b"))
    # 4/3 and 2; without the start 0.2/0.1 and 2
    assert (row["ratio"]["low"], row["ratio"]["high"]) == (1.333, 2.0)
    assert row["ratio_without_start"] == {"median": 2.0, "low": 2.0, "high": 2.0}


def test_rows_are_run_by_this_interpreter() -> None:
    assert command("import re", "-X", "importtime")[1:] == ["-X", "importtime", "-c", "import re"]
    assert command("supercorrect --help")[-1] == "--help"


def test_a_command_that_fails_gives_no_figure() -> None:
    with pytest.raises(SystemExit, match="exit code 3"):
        cpu_seconds("raise SystemExit(3)")


def test_imports_name_what_dominates_where_a_target_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = "import decimal"
    rows = (
        Comparison("import json", theirs, Target(0.0)),
        Comparison("import argparse", theirs, Target(1e9)),
    )
    monkeypatch.setattr(imports, "COMPARISONS", rows)
    output = tmp_path / "imports.json"
    imports.main(["--repeats", "1", "--output", str(output)])
    missed, met = json.loads(output.read_text())["comparisons"]
    assert len(missed["heaviest_ms"]) == 8  # which ones they are, a busy machine may change
    assert "heaviest_ms" not in met
    assert "missed" in capsys.readouterr().out


def test_the_ratio_of_two_rates_has_the_interval_of_its_logarithm() -> None:
    # 20 tokens for 2 fixed answers against 40 for 2: 10 / 20. Problem 1 moves the logarithm by
    # 10/5 - 1/.5 - 30/10 + 1/.5 = -1, problem 3 by 10/5 - 1/.5 - 10/10 + 1/.5 = 1, the others by 0.
    # Half of the interval is 1.96 * sqrt(2) / 4 = 0.69295.
    fixed = [1, 0, 1, 0]
    found = rate_ratio(([10, 0, 10, 0], fixed), ([30, 0, 10, 0], fixed))
    assert found is not None
    assert found["value"] == 0.5
    assert (found["low"], found["high"]) == pytest.approx((0.25005, 0.99980), abs=1e-5)


def test_a_way_that_fixes_nothing_has_no_ratio() -> None:
    assert rate_ratio(([10, 5], [1, 0]), ([10, 5], [0, 0])) is None


def traced(*rounds: Round) -> Trace:
    spent = [("student", 0, 50), ("teacher", 1, 9), ("student", 1, 20), ("teacher", 2, 9), ("student", 2, 7)]
    calls = tuple(Call(role=role, model="m", round=number, output_tokens=n) for role, number, n in spent)  # type: ignore[arg-type]
    return Trace(id="1", problem=Problem.create("?"), status="budget", rounds=rounds, calls=calls)


def test_only_the_tokens_of_corrections_count() -> None:
    critique = Critique(step=1, cause="c", correction="d")
    revised = [Round(critique=critique, solution=Solution(raw=raw)) for raw in ("a b c", "a b")]
    run = Run(traced(*revised, Round(critique=Critique())), first=False, final=True)
    # 20 + 7 of the student's rounds 1 and 2, in two calls; the whole texts have 3 + 2 words
    outcome = corrected(run, lambda text: len(text.split()))
    assert outcome == Outcome(first=False, final=True, tokens=27, calls=2, whole=5)
    assert outcome.fixed
    assert corrected(run).whole == 0


def test_a_further_sample_costs_all_that_the_student_wrote() -> None:
    attempt = Outcome(first=False, final=False, tokens=100, calls=1)
    again = sampled(attempt, Run(traced(), first=True, final=True))
    assert again == Outcome(first=False, final=True, tokens=177, calls=2)  # 50 + 20 + 7 more


def test_a_summary_counts_what_was_fixed_and_what_was_broken() -> None:
    kept = [Outcome(False, True, 30, 1), Outcome(True, False, 10, 1), Outcome(False, False, 20, 2)]
    summary = tokens_per_fix.summarize(kept)
    assert (summary["fixed"], summary["broken"], summary["corrections"]) == (1, 1, 4)
    assert (summary["completion_tokens"], summary["tokens_per_fixed"]["value"]) == (60, 60.0)
    anew = [Outcome(False, True, 80, 1), Outcome(True, True), Outcome(False, False, 40, 2)]
    found = tokens_per_fix.compare(kept, anew)
    # 60 / 1 against 120 / 1; 60 / 4 against 120 / 3; 4 / 1 against 3 / 1; accuracies 1/3 and 2/3
    assert found["tokens_per_fixed"]["value"] == pytest.approx(0.5)
    assert found["tokens_per_correction"]["value"] == pytest.approx(0.375)
    assert found["corrections_per_fixed"]["value"] == pytest.approx(4 / 3)
    assert found["accuracy_after"]["value"] == pytest.approx(-1 / 3)


WRONG = "<Step1>132*3=386</Step1> <Answer>386</Answer>"


async def test_only_what_is_wrong_is_sampled_again_until_it_is_right() -> None:
    problems = [Problem.create(question, answer="396") for question in ("3 times 132?", "132 times 3?")]
    student = ScriptedChatModel(replies=[WRONG, WRONG.replace("386", "396"), "not asked"])
    outcomes = await sample_anew(student, "sandbox", problems, [True, False], rounds=3)
    assert outcomes == [Outcome(True, True), Outcome(False, True, tokens=4, calls=2)]  # 2 words a reply
    assert len(student.prompts) == 2
    assert [options["temperature"] for options in student.options] == [0.7, 0.7]


async def test_a_run_that_fails_is_not_a_cheap_one() -> None:
    with pytest.raises(ModelError, match="ScriptExhausted"):
        await run_graph(
            ScriptedChatModel(replies=[]), "sandbox", [Problem.create("3 times 132?")], CorrectionConfig()
        )


@pytest.mark.integration
def test_the_sandbox_student_is_measured_in_all_three_ways(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "tokens.json"
    tokens_per_fix.main(["--n", "4", "--max-rounds", "1", "--output", str(output)])
    report: dict[str, Any] = json.loads(output.read_text())
    assert list(report["arms"]) == ["prefix kept", "written anew", "sampled anew"]
    shares = [arm["accuracy_first"] for arm in report["arms"].values()]
    assert shares[0] == shares[1] == shares[2]  # all begin with the same first solutions
    assert [arm["accuracy_after"]["total"] for arm in report["arms"].values()] == [4, 4, 4]
    assert list(report["prefix kept against"]) == ["written anew", "sampled anew"]
    assert "prefix kept / written anew: " in capsys.readouterr().out
