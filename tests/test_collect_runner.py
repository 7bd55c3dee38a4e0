"""The runner: what is drawn and in which order, budgets, parts, what it says, and what a dry run counts."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from supercorrect_agent.errors import ConfigError, DataError
from supercorrect_agent.prompts import DEFAULT_PROMPTS
from supercorrect_agent.sandbox.world import generate_problems
from supercorrect_agent.store import Claims, TraceKey, open_store, trace_key
from supercorrect_agent.types import (
    Call,
    Chosen,
    Critique,
    Inspection,
    Problem,
    Round,
    Solution,
    Trace,
    Verdict,
)
from tests.collecting_runs import collect, config, counts, each_once, solves, stored, sums, write_problems
from tests.commands import run_cli
from tests.model_server import ModelServer, model_server, says
from training import collect as module
from training.collect import ProblemCollector, prices_of
from training.collect_estimate import estimate_collection
from training.collect_tally import Tally, failure_reason
from training.collect_work import Work, take_part
from training.config import CollectionConfig
from training.flags import make_config, parse_config
from training.progress import Bar


@pytest.fixture
def server() -> Any:
    with model_server(lambda number, body: solves(body)) as running:
        yield running


def problem(number: int) -> Problem:
    return Problem(id=f"p{number}", question=f"What is {number} plus 5?", answer=str(number + 5))


def drawn(work: Work) -> list[list[str]]:
    found = []
    while (unit := work.draw()) is not None:
        found.append([f"{item.problem.id}.{item.sample}" for item in unit])
    return found


def key(number: int, sample: int = 0) -> TraceKey:
    return trace_key(problem(number), sample)


class TestWork:
    def make(self, **changes: Any) -> Work:
        base: dict[str, Any] = {"samples": 1, "done": set(), "failures": Counter(), "retry_failed": 2}
        return Work([problem(i) for i in range(4)], **{**base, **changes})

    def test_each_sample_is_drawn_once_in_the_order_of_the_problems(self) -> None:
        work = self.make(samples=2)
        assert drawn(work) == [[f"p{i}.{sample}"] for i in range(4) for sample in range(2)]
        assert (work.total, work.skipped, work.begun) == (8, 0, False)

    def test_what_is_done_is_left_out(self) -> None:
        work = self.make(done={key(0), key(2)})
        assert drawn(work) == [["p1.0"], ["p3.0"]]
        assert (work.total, work.skipped, work.begun) == (2, 2, True)

    def test_what_failed_comes_last_and_not_for_ever(self) -> None:
        work = self.make(failures=Counter({key(0): 2, key(1): 3}))
        assert drawn(work) == [["p2.0"], ["p3.0"], ["p0.0"]]
        assert (work.total, work.given_up, work.retrying) == (3, 1, True)

    def test_a_problem_that_is_there_twice_is_drawn_once(self) -> None:
        twice = Work([problem(1), problem(1)], samples=1, done=set(), failures=Counter(), retry_failed=0)
        assert drawn(twice) == [["p1.0"]]

    def test_samples_that_know_each_other_are_one_unit(self) -> None:
        work = self.make(samples=3, done={key(1, 0), key(2, 0), key(2, 1), key(2, 2)}, together=True)
        assert drawn(work) == [["p0.0", "p0.1", "p0.2"], ["p1.1", "p1.2"], ["p3.0", "p3.1", "p3.2"]]

    def test_two_share_and_one_takes_over_what_the_other_leaves(self, tmp_path: Path) -> None:
        with Claims(tmp_path) as ours:
            theirs = Claims(tmp_path)
            assert theirs.claim(key(1))
            assert theirs.claim(key(3))
            work = self.make(claims=ours)
            assert drawn(work) == [["p0.0"], ["p2.0"]]
            assert work.redraw() is None
            assert work.forget({key(3)}, Counter()) == 1  # the other one has made it
            theirs.close()
            unit = work.redraw()
            assert unit is not None
            assert unit[0].problem.id == "p1"
            assert not work.elsewhere

    def test_what_failed_elsewhere_is_not_made_again_here(self) -> None:
        work = self.make()
        work.elsewhere.extend([work.draw() or (), work.draw() or ()])
        assert work.forget(set(), Counter({key(0): 1})) == 1
        assert [unit[0].problem.id for unit in work.elsewhere] == ["p1"]

    def test_a_unit_is_claimed_whole_or_not_at_all(self, tmp_path: Path) -> None:
        with Claims(tmp_path) as ours, Claims(tmp_path) as theirs:
            assert theirs.claim(key(0, 1))
            work = self.make(samples=2, claims=ours, together=True)
            assert [unit[0] for unit in drawn(work)] == ["p1.0", "p2.0", "p3.0"]
            assert theirs.claim(key(0, 0))


class TestParts:
    def test_parts_are_disjoint_and_all_of_it(self) -> None:
        problems = [problem(i) for i in range(50)]
        parts = [take_part(problems, f"{i}/3") for i in (1, 2, 3)]
        assert sorted(each.id for part in parts for each in part) == sorted(each.id for each in problems)
        assert all(parts)

    def test_a_part_does_not_depend_on_what_else_is_there(self) -> None:
        few, more = ([problem(i) for i in range(count)] for count in (20, 50))
        assert take_part(few, "2/3") == [each for each in take_part(more, "2/3") if each in few]

    @pytest.mark.parametrize("part", ["0/2", "3/2", "1", "a/b", "1/0"])
    def test_bounds(self, part: str) -> None:
        with pytest.raises(ConfigError, match="part"):
            make_config(CollectionConfig, {"part": part})


def test_a_store_at_a_file_address_is_shared_too(server: ModelServer, tmp_path: Path) -> None:
    problems = write_problems(tmp_path / "sums.jsonl", sums(10))
    other = Claims(tmp_path / "traces")
    assert other.claim(key(3))
    waited: list[str] = []

    def say(line: str) -> None:
        if "waiting for 1 that another process" in line:
            waited.extend(trace.problem.id for trace in stored(tmp_path / "traces"))
            other.close()

    store: Any = f"file://{tmp_path}/traces"
    assert collect(config(problems, server.url, store), say)["collected"] == 10
    assert waited
    assert "p3" not in waited


def test_two_parts_make_a_whole(server: ModelServer, tmp_path: Path) -> None:
    problems = write_problems(tmp_path / "sums.jsonl", sums(30))
    made = [
        collect(config(problems, server.url, tmp_path / "traces", part=f"{i}/2"))["collected"] for i in (1, 2)
    ]
    assert sum(made) == 30
    assert min(made) > 0
    assert counts(stored(tmp_path / "traces")) == each_once(30)


class TestBudgets:
    """Each problem costs 110 tokens, and at these prices 100 * 1 + 10 * 10 = 200 millionths."""

    @pytest.fixture
    def problems(self, tmp_path: Path) -> Path:
        return write_problems(tmp_path / "sums.jsonl", sums(100))

    def test_tokens(self, problems: Path, server: ModelServer, tmp_path: Path) -> None:
        """The eighth is the first that brings them to 880; one at a time."""
        settings = config(problems, server.url, tmp_path / "t", max_total_tokens=850, concurrency=1)
        said: list[str] = []
        summary = collect(settings, said.append)
        assert (summary["collected"], summary["left"]) == (8, 92)
        assert summary["stopped"] == "max_total_tokens=850 is used up"
        assert "collect: stopped (max_total_tokens=850 is used up) with 92 left" in said[-2]
        assert collect(settings)["skipped"] == 8  # a budget is of one run

    def test_many_at_once_hardly_overspend(self, problems: Path, server: ModelServer, tmp_path: Path) -> None:
        """Once the first is through, it is known what one costs: at most 8 more than foreseen."""
        summary = collect(config(problems, server.url, tmp_path / "t", max_total_tokens=5500))
        assert 5500 <= sum(summary["tokens"].values()) <= 5500 + 110

    def test_money(self, problems: Path, server: ModelServer, tmp_path: Path) -> None:
        prices = {"student_price": (1.0, 10.0), "max_cost": 0.0019}
        summary = collect(config(problems, server.url, tmp_path / "t", concurrency=1, **prices))
        assert (summary["collected"], summary["cost"]) == (10, {"student": 0.002})
        assert summary["stopped"] == "max_cost=0.0019 is used up"

    def test_seconds(self, problems: Path, server: ModelServer, tmp_path: Path) -> None:
        summary = collect(config(problems, server.url, tmp_path / "t", max_seconds=1e-6))
        assert (summary["collected"], summary["left"]) == (0, 100)
        assert summary["stopped"] == "max_seconds=1e-06 is used up"

    def test_money_needs_prices(self) -> None:
        with pytest.raises(ConfigError, match=r"max_cost.*needs prices"):
            make_config(CollectionConfig, {"max_cost": 1})
        with pytest.raises(ConfigError, match="negative"):
            make_config(CollectionConfig, {"student_price": (-1, 0)})


class TestIsolation:
    def test_a_graph_that_raises_is_one_failed_trace(
        self, server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = ProblemCollector.__init__

        def fragile(self: ProblemCollector, settings: CollectionConfig) -> None:
            whole(self, settings)
            graph = self._graph

            class Fragile:
                async def ainvoke(self, given: dict[str, Any], **options: Any) -> Any:
                    if given["problem"]["id"] in ("p3", "p4"):
                        raise RecursionError("too deep in 'p3'")
                    return await graph.ainvoke(given, **options)

            self._graph = Fragile()

        monkeypatch.setattr(ProblemCollector, "__init__", fragile)
        problems = write_problems(tmp_path / "sums.jsonl", sums(20))
        summary = collect(config(problems, server.url, tmp_path / "traces"))
        assert (summary["collected"], summary["errors"]) == (20, 2)
        assert summary["failed"] == {"run: RecursionError: too deep in _": 2}
        failed = [trace for trace in stored(tmp_path / "traces") if trace.status == "error"]
        assert {trace.error for trace in failed} == {"run: RecursionError: too deep in 'p3'"}

    def test_a_bad_problem_file_costs_only_its_bad_lines(self, server: ModelServer, tmp_path: Path) -> None:
        """Two broken lines, one without a question, one of 10 MB, and one that is there twice."""
        lines: list[Any] = [*sums(20), "{", "[1, 2]", {"answer": "1"}, sums(3)[2]]
        lines.append({"question": "What is 7 plus 5?" + " now" * 2_500_000, "answer": "12"})
        problems = write_problems(tmp_path / "sums.jsonl", lines)
        said: list[str] = []
        summary = collect(config(problems, server.url, tmp_path / "traces"), said.append)
        assert (summary["collected"], summary["errors"]) == (20, 0)
        assert sum(summary["dropped"].values()) == 5
        assert len(summary["dropped"]) >= 3
        assert any(line.startswith("collect: dropped problems: ") for line in said)
        assert counts(stored(tmp_path / "traces")) == each_once(20)

    def test_ten_megabytes_that_are_let_through_are_one_trace(
        self, server: ModelServer, tmp_path: Path
    ) -> None:
        long = {"id": "long", "question": "What is 7 plus 5?" + " now" * 2_500_000, "answer": "12"}
        problems = write_problems(tmp_path / "sums.jsonl", [*sums(5), long])
        settings = config(problems, server.url, tmp_path / "traces", max_characters=20_000_000)
        assert collect(settings)["collected"] == 6
        assert counts(stored(tmp_path / "traces")) == each_once(5) + Counter({("long", 0): 1})

    def test_evaluation_questions_are_dropped_or_refused(self, server: ModelServer, tmp_path: Path) -> None:
        problems = write_problems(tmp_path / "sums.jsonl", sums(6))
        held = write_problems(tmp_path / "test.jsonl", [{"question": "what is 3 PLUS 5", "answer": "8"}])
        settings = config(problems, server.url, tmp_path / "traces", held_out=(str(held),))
        summary = collect(settings)
        assert (summary["collected"], summary["dropped"]) == (5, {"held out": 1})
        with pytest.raises(DataError):
            collect(settings.model_copy(update={"on_match": "refuse"}))


class TestErrorsOfOneProblem:
    """Every attempt is wrong: 1+5 is none of these, each of which comes twice."""

    WRONG = ("100", "100", "200", "200", "300", "300")

    def collect(self, tmp_path: Path, **settings: Any) -> list[Trace]:
        asked = iter(self.WRONG)
        verdict = {"first_wrong_step": 1, "cause": "It is a sum.", "correction": "1+5=6", "confidence": 1}

        def respond(number: int, body: dict[str, Any]) -> Any:
            if body["model"] == "t":
                return says(json.dumps(verdict))
            if body["messages"][-1]["role"] == "assistant":
                return says("")
            return says(f"<Step1>1+5={(answer := next(asked))}</Step1>\n<Answer>\\boxed{{{answer}}}</Answer>")

        problems = write_problems(tmp_path / "sums.jsonl", sums(2)[1:])
        with model_server(respond) as server:
            changes = {"teacher": f"vllm:t@{server.url}", "max_rounds": 1, "samples": 6, "temperature": 0.7}
            collect(config(problems, server.url, tmp_path / "traces", **changes, **settings))
        return sorted(stored(tmp_path / "traces"), key=lambda trace: trace.sample)

    def test_at_most_two_distinct_ones_are_kept(self, tmp_path: Path) -> None:
        traces = self.collect(tmp_path)
        assert [bool(trace.rounds) for trace in traces] == [True, False, True, False, False, False]
        assert [trace.chosen.reason for trace in traces if not trace.rounds] == [
            "error already kept", "error already kept", "max_errors", "max_errors",
        ]  # fmt: skip

    def test_errors_of_another_question_under_the_same_id_are_not_its_own(self, tmp_path: Path) -> None:
        """Two problem files that count from 1, in one store, and a run that goes on."""
        first = self.collect(tmp_path)
        other = Problem(id="p1", question="What is 90 plus 5?", answer="95")
        with open_store(tmp_path / "before") as store:
            for made in (first[0], first[2]):  # 100 and 200
                store.append(made.model_copy(update={"problem": other}))
            store.append(first[3].model_copy(update={"sample": 5}))
        (tmp_path / "traces").rename(tmp_path / "gone")
        (tmp_path / "before").rename(tmp_path / "traces")
        traces = self.collect(tmp_path)
        own = [bool(trace.rounds) for trace in traces if trace.problem.question != other.question]
        assert own == [True, False, True, False, False, False]

    def test_a_later_run_knows_the_earlier_ones_errors(self, tmp_path: Path) -> None:
        first = self.collect(tmp_path)
        kept = [trace for trace in first if trace.sample < 2]
        (tmp_path / "traces").rename(tmp_path / "before")
        with open_store(tmp_path / "traces") as store:
            for trace in kept:
                store.append(trace)
        type(self).WRONG = ("100", "200", "300", "100")
        try:
            traces = self.collect(tmp_path)
        finally:
            type(self).WRONG = ("100", "100", "200", "200", "300", "300")
        assert [bool(trace.rounds) for trace in traces] == [True, False, False, True, False, False]


def trace(status: str = "accepted", **fields: Any) -> Trace:
    return Trace.model_validate({"id": "1", "problem": problem(1), "status": status, **fields})


class TestTally:
    def test_every_figure_of_the_summary(self) -> None:
        """Two attempts, one right; the other is corrected after a critique that came back once."""
        tally = Tally(total=5, skipped=1, prices={"student": (1.0, 2.0), "teacher": (10.0, 20.0)})
        right, wrong = Verdict(status="correct"), Verdict(status="incorrect")
        student = Call(role="student", model="m", input_tokens=100, output_tokens=50)
        teacher = Call(role="teacher", model="t", input_tokens=1000, output_tokens=10)
        solution = Solution(raw="x", answer="6")
        tally.add(trace(solution=solution, verdict=right, calls=(student,)))
        failed = Inspection(check="leak", passed=False, note="It says so.")
        passed = Inspection(check="leak", passed=True)
        critique = Critique(step=1, cause="a", correction="b")
        earlier = [{"critique": critique, "inspections": [failed]}]
        mended = Round(critique=critique, inspections=(passed,), solution=solution, verdict=right)
        mended = Round.model_validate({**mended.model_dump(), "revisions": earlier})
        fields = {"solution": solution, "verdict": wrong, "rounds": (mended,), "chosen": Chosen(index=1)}
        tally.add(trace("corrected", calls=(student, teacher), **fields))
        tally.add(trace("error", error="student: ConnectionError: 'p1' at port 17"))
        lost = Round(critique=critique, inspections=(failed,))
        tally.add(trace("quarantined", solution=solution, verdict=wrong, rounds=(lost,)))
        found = tally.summary()
        assert (found["collected"], found["skipped"], found["left"], found["errors"]) == (4, 1, 1, 1)
        assert (found["attempts"], found["right_first"], found["right_final"]) == (3, 1, 2)
        assert found["tokens"] == {"student": 300, "teacher": 1010}
        # 200 * 1 + 100 * 2 millionths, and 1000 * 10 + 10 * 20
        assert found["cost"] == {"student": 0.0004, "teacher": 0.0102}
        assert found["failed"] == {"student: ConnectionError: _ at port _": 1}
        assert found["quarantined"] == {"leak": 1}
        row = {"seen": 2, "failed": 2, "mended": 1, "quarantined": 1}
        assert found["inspector"]["leak"] == row
        assert tally.line().startswith("collect: 4/5 traces, ")
        assert "cost 0.01" in tally.line()
        assert "right at first 33.3%" in tally.line()

    def test_right_in_the_end_is_the_solution_that_was_chosen(self) -> None:
        """A right attempt that the student spoiled after a critique, and stood by in the end."""
        tally = Tally(total=1, skipped=0)
        right, wrong = Verdict(status="correct"), Verdict(status="incorrect")
        spoiled = Round(critique=Critique(step=1), solution=Solution(raw="y"), verdict=wrong)
        tally.add(trace("unchanged", solution=Solution(raw="x"), verdict=right, rounds=(spoiled,)))
        assert (tally.right_first, tally.right_final) == (1, 1)

    def test_an_attempt_that_cannot_be_scored_is_neither_right_nor_wrong(self) -> None:
        """Of one right, one wrong and two without a target, one of two is right."""
        tally = Tally(total=4, skipped=0)
        for status in ("correct", "incorrect", "unscored", "unscored"):
            verdict = Verdict.model_validate({"status": status})
            tally.add(trace(solution=Solution(raw="x", answer="6"), verdict=verdict))
        found = tally.summary()
        assert (found["attempts"], found["scored"], found["accuracy"]) == (4, 2, 0.5)
        assert "right at first 50.0%" in tally.line()

    def test_without_a_scored_attempt_there_is_no_accuracy(self) -> None:
        tally = Tally(total=1, skipped=0)
        tally.add(trace(solution=Solution(raw="x"), verdict=Verdict(status="unscored")))
        assert tally.summary()["accuracy"] is None
        assert "right at first" not in tally.line()

    @pytest.mark.parametrize(
        ("texts", "reason"),
        [
            (
                (
                    "teacher: APIStatusError: Error code: 503 - {'id': 'a1'}",
                    "teacher: APIStatusError: Error code: 503 - {'id': 'b2'}",
                ),
                "teacher: APIStatusError: Error code: 503 - {_: _}",
            ),
            (
                (
                    "http://127.0.0.1:8000/v1 gave up after 2.5 s.",
                    "http://127.0.0.1:8000/v1 gave up after 300 s.",
                ),
                "http://127.0.0.1:8000/v1 gave up after _ s.",
            ),
            (("HTTP 429 from 'http://gpu:1/v1' for 'p1'",), "HTTP 429 from 'http://gpu:1/v1' for _"),
            (("status 404 at localhost:8000 in step 404",), "status 404 at localhost:8000 in step _"),
        ],
    )
    def test_status_codes_and_addresses_stay_in_a_reason(self, texts: tuple[str, ...], reason: str) -> None:
        assert {failure_reason(trace("error", error=text)) for text in texts} == {reason}

    def test_failures_with_other_numbers_are_one_reason(self) -> None:
        texts = ("step 3 of 'a1' failed after 2.5 s", "step 14 of 'b2' failed after 30 s")
        assert len({failure_reason(trace("error", error=text)) for text in texts}) == 1


class TestDryRun:
    def test_it_calls_nobody_and_writes_nothing(
        self, server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "load_chat_model", lambda *_, **__: pytest.fail("a model was loaded"))
        problems = write_problems(tmp_path / "sums.jsonl", [*sums(10), "{"])
        said: list[str] = []
        settings = config(problems, server.url, tmp_path / "traces", dry_run=True, samples=2)
        found = collect(settings, said.append)
        assert (found["problems"], found["runs"], found["dropped"].popitem()[1]) == (10, 20, 1)
        assert found["calls"] == {"student": 20}  # the sandbox's teacher is no model
        assert server.requests == []
        assert not (tmp_path / "traces").exists()
        assert any(line.startswith("dry run: assumed: ") for line in said)

    def test_calls_and_tokens_by_hand(self, tmp_path: Path) -> None:
        """40 attempts, a quarter right: 30 are criticised and corrected, the 10 right ones reviewed, too.

        A solution has 7 tokens of reference (28 characters at 4 a token), a critique 50.
        """
        reference = "x" * 28
        lines = [{"question": f"{'q' * 37}{i:03d}", "answer": "1", "solution": reference} for i in range(40)]
        problems = write_problems(tmp_path / "p.jsonl", lines)
        settings = make_config(
            CollectionConfig,
            {
                "problems": str(problems), "student": "vllm:m@http://127.0.0.1:9", "dry_run": True,
                "teacher": "vllm:t@http://127.0.0.1:9", "store": tmp_path / "t", "write_template": False,
                "student_price": (0, 10), "teacher_price": (0, 100), "prompts": "default",
                "estimate": {
                    "accuracy": 0.25, "chars_per_token": 4, "review_tokens": 50, "tokens_per_second": 100,
                },
            },
        )  # fmt: skip
        found = collect(settings)
        # an attempt each, a review of each attempt, and a correction of 30
        assert found["calls"] == {"student": 40 + 40 + 30, "teacher": 40}
        # the reference with its answer has 28 + 10 characters: 9.5, rounded to the even 10 tokens
        assert found["tokens_out"] == {"student": 40 * 10 + 40 * 50 + 30 * 5, "teacher": 40 * 50}
        assert found["cost"] == {"student": 2550 * 10 / 1e6, "teacher": 2000 * 100 / 1e6}
        assert found["seconds"] == 45.5

    def test_what_is_in_the_store_is_not_counted(self, server: ModelServer, tmp_path: Path) -> None:
        problems = write_problems(tmp_path / "sums.jsonl", sums(10))
        collect(config(problems, server.url, tmp_path / "traces", n=4))
        found = collect(config(problems, server.url, tmp_path / "traces", dry_run=True))
        assert (found["skipped"], found["runs"], found["problems"]) == (4, 6, 6)

    def test_the_sampled_problems_are_spread_over_all(self) -> None:
        """Of 1,999 problems every second is looked at: 500 of 40 characters and 500 of 140."""
        made = [Problem(id=f"{i}", question="x" * (40 if i < 1000 else 140)) for i in range(1999)]
        settings = CollectionConfig.model_validate(
            {"student": "vllm:m@http://127.0.0.1:9", "write_template": False, "max_rounds": 0,
             "review_correct": False, "estimate": {"chars_per_token": 1}}
        )  # fmt: skip
        mixed, short = (
            estimate_collection(settings, problems, 1000, DEFAULT_PROMPTS, prices_of(settings))
            for problems in (made, made[:1])
        )
        assert mixed["tokens_in"]["student"] - short["tokens_in"]["student"] == 1000 * 50


class TestCommandLine:
    def test_the_command_takes_the_flags_of_the_module(self, server: ModelServer, tmp_path: Path) -> None:
        problems = write_problems(tmp_path / "sums.jsonl", sums(5))
        file = tmp_path / "collect.yaml"
        file.write_text("write_template: false\nreview_correct: false\n")
        words = ["--config", str(file), "--problems", str(problems), "--store", str(tmp_path / "traces")]
        result = run_cli("collect", *words, "--student", f"vllm:m@{server.url}", "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["collected"] == 5
        assert "collect: 5/5 traces" in result.stderr

    def test_help_lists_the_flags(self) -> None:
        result = run_cli("collect", "--help")
        assert result.exit_code == 0
        assert "usage: supercorrect collect" in result.stdout
        assert "--max_total_tokens" in result.stdout

    def test_a_terminal_is_left_as_it_was_by_an_error_before_the_first_problem(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        screen = StringIO()
        bar = Bar("collect", Console(file=screen, force_terminal=True))
        monkeypatch.setattr(module, "_show", lambda as_json: bar)
        assert module.main(["--problems", "nosuch.jsonl"]) == 2
        assert "nosuch.jsonl" in capsys.readouterr().err
        assert screen.getvalue().rfind("\x1b[?25h") > screen.getvalue().rfind("\x1b[?25l") >= 0

    def test_a_misspelt_flag_is_one_sentence(self) -> None:
        result = run_cli("collect", "--problmes", "x")
        assert result.exit_code == 2
        assert "Did you mean `problems`?" in result.stderr

    def test_an_address_stays_an_address(self) -> None:
        parsed = parse_config(CollectionConfig, ["--store", "s3://bucket/traces"], program="training.collect")
        assert parsed.store == "s3://bucket/traces"
        assert make_config(CollectionConfig, {"store": "traces"}).store == Path("traces")


class TestBar:
    def test_what_others_print_stands_above_the_bar(self) -> None:
        """On a terminal of 100 columns: each line is whole, and the bar is drawn again below it."""
        screen = StringIO()
        bar = Bar("collect", Console(file=screen, force_terminal=True, width=100, markup=False))
        bar.update(Tally(total=3, skipped=0))
        print("warning: look here", file=sys.stderr)
        bar.say("a [line] with brackets")
        bar.close()
        written = [line.rsplit("\x1b[2K", 1)[-1] for line in screen.getvalue().split("\n")]  # erased before
        lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", line) for line in written]
        assert "warning: look here" in lines
        assert "a [line] with brackets" in lines
        assert any("0/3" in line for line in lines)


def test_the_sandbox_runs_as_before(tmp_path: Path) -> None:
    """The teacher's solutions alone: no model is asked, and the rows come in the order of the problems."""
    settings = make_config(
        CollectionConfig,
        {"n": 6, "store": tmp_path / "traces", "attempt": False, "student": "vllm:m@http://127.0.0.1:9"},
    )
    assert collect(settings)["collected"] == 6
    assert [each.problem.id for each in stored(tmp_path / "traces")] == [
        each.id for each in generate_problems("train", 6, seed=0)
    ]
