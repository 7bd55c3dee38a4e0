"""Servers that fail while a collection runs: nothing is lost, nothing is twice, every failure has a name."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from supercorrect_agent import pacing
from supercorrect_agent.errors import ModelError
from supercorrect_agent.models import load_chat_model
from tests.collecting_runs import collect, config, counts, each_once, solves, stored, sums, write_problems
from tests.http_server import running
from tests.model_server import Answer, ModelServer, fails, model_server, says

WRONG = says("<Step1>1+1=3</Step1>\n<Answer>\\boxed{3}</Answer>")
NO_ERROR = json.dumps(
    {"first_wrong_step": None, "cause": "", "corrected_step": "", "final_answer": "", "confidence": 1}
)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(pacing, "LONGEST_PAUSE", 0.05)


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    return write_problems(tmp_path / "sums.jsonl", sums(40))


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """More than the eight whose failure could mean that a model is missing."""
    return write_problems(tmp_path / "few.jsonl", sums(10))


def test_a_while_of_429s_costs_no_problem(problems: Path, tmp_path: Path) -> None:
    """Requests 11 to 60 are refused, as by a quota that is used up for a while."""
    with model_server(lambda number, body: fails(429) if 10 < number <= 60 else solves(body)) as server:
        summary = collect(config(problems, server.url, tmp_path / "traces"))
        assert len(server.requests) == 40 + 50
    assert (summary["collected"], summary["errors"]) == (40, 0)
    assert counts(stored(tmp_path / "traces")) == each_once(40)


def test_errors_of_the_server_cost_no_problem_either(problems: Path, tmp_path: Path) -> None:
    statuses = [500, 502, 503, 504, 529]

    def respond(number: int, body: dict[str, Any]) -> Answer | None:
        if 10 < number <= 20:
            return fails(statuses[number % 5])
        return None if 20 < number <= 30 else solves(body)  # None: hangs up

    with model_server(respond) as server:
        summary = collect(config(problems, server.url, tmp_path / "traces"))
    assert (summary["collected"], summary["errors"]) == (40, 0)
    assert counts(stored(tmp_path / "traces")) == each_once(40)


def test_a_server_that_is_restarted_costs_no_problem(problems: Path, tmp_path: Path) -> None:
    """It is gone from the eleventh request on, until a call has been refused."""
    gone, refused = threading.Event(), threading.Event()

    def respond(number: int, body: dict[str, Any]) -> Answer | None:
        if number <= 10:
            return solves(body)
        gone.set()
        return None

    first = ModelServer(respond)
    port, found = first.server_port, dict[str, Any]()
    settings = config(problems, first.url, tmp_path / "traces")
    run = threading.Thread(target=lambda: found.update(collect(settings)))
    with running(first):
        run.start()
        assert gone.wait(60)
    judge = pacing.Endpoint._judge

    def noticing(self: pacing.Endpoint, failure: Exception, begun: float, own: int) -> Any:
        refused.set()
        return judge(self, failure, begun, own)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pacing.Endpoint, "_judge", noticing)
        assert refused.wait(60)
    with running(ModelServer(lambda number, body: solves(body), port)):
        run.join(60)
    assert (found["collected"], found["errors"]) == (40, 0)
    assert counts(stored(tmp_path / "traces")) == each_once(40)


def test_a_server_that_stays_away_ends_the_run_and_the_same_command_goes_on(
    problems: Path, tmp_path: Path
) -> None:
    gone = threading.Event()

    def respond(number: int, body: dict[str, Any]) -> Answer | None:
        if number > 10:
            gone.set()
        return None if number > 10 else solves(body)

    settings = config(problems, "", tmp_path / "traces", patience=0.3)
    with model_server(respond) as server:
        settings = settings.model_copy(update={"student": f"vllm:m@{server.url}"})
        with pytest.raises(ModelError, match=r"has answered nobody.*the same\s+command goes on"):
            collect(settings)
    kept = stored(tmp_path / "traces")
    assert len(counts(kept)) == 10
    assert len(kept) < 40  # the others were not even begun
    with model_server(lambda number, body: solves(body)) as server:
        summary = collect(settings.model_copy(update={"student": f"vllm:m@{server.url}"}))
    assert (summary["skipped"], summary["collected"]) == (10, 30)
    assert counts(stored(tmp_path / "traces")) == each_once(40)


BODIES = {
    "nothing": b"",
    "a web page": b"<html>Bad gateway</html>",
    "no choices": b'{"choices": []}',
    "another document": b'{"detail": "fine"}',
    "half a reply": b'{"choices": [{"index": 0, "message": {"role": "assistant", "content": "<St',
    "an error with status 200": b'{"error": {"message": "overloaded"}}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_reply_that_is_none_fails_its_problem_by_name(body: bytes, problems: Path, tmp_path: Path) -> None:
    """Only for the one question; asked for three times."""

    def respond(number: int, sent: dict[str, Any]) -> Answer:
        return Answer(body) if "What is 7 plus" in str(sent) else solves(sent)

    with model_server(respond) as server:
        summary = collect(config(problems, server.url, tmp_path / "traces"))
        assert len(server.requests) == 39 + 3
    assert (summary["collected"], summary["errors"]) == (40, 1)
    (failed,) = [trace for trace in stored(tmp_path / "traces") if trace.status == "error"]
    assert failed.problem.id == "p7"
    assert failed.error is not None
    assert failed.error.startswith(f"student: The server at {server.url}/v1 answered for 'm' with something")
    assert summary["failed"] == {next(iter(summary["failed"])): 1}


def teaching(problems: Path, student: ModelServer, teacher: ModelServer, store: Path, **more: Any) -> Any:
    base = {"teacher": f"vllm:t@{teacher.url}", "max_rounds": 1, "review_correct": True}
    return config(problems, student.url, store, **{**base, **more})


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_teacher_that_never_replies_properly_is_on_every_trace(
    body: bytes, few: Path, tmp_path: Path
) -> None:
    """Also on the first ones: the student's work is there, and the teacher is no server that is missing."""
    with (
        model_server(lambda number, sent: solves(sent)) as student,
        model_server(lambda number, sent: Answer(body)) as teacher,
    ):
        summary = collect(teaching(few, student, teacher, tmp_path / "traces"))
    assert (summary["collected"], summary["errors"]) == (10, 10)
    traces = stored(tmp_path / "traces")
    assert all(trace.error and trace.error.startswith("teacher: The server at") for trace in traces)
    assert len({trace.problem.id for trace in traces}) == 10


@pytest.mark.parametrize("text", ["", "Lorem ipsum " * 50, "{}", '{"first_wrong_step": 99}', "\x00\ud800"])
def test_a_teacher_that_writes_garbage_is_never_trained_on(text: str, few: Path, tmp_path: Path) -> None:
    from training.pairs import build_preference_dataset
    from training.sft_rows import build_sft_dataset

    garbage = says(text)
    with model_server(lambda number, sent: WRONG) as student, model_server(lambda *_: garbage) as teacher:
        summary = collect(teaching(few, student, teacher, tmp_path / "traces", write_template=True))
    assert (summary["collected"], summary["errors"]) == (10, 0)
    traces = stored(tmp_path / "traces")
    assert counts(traces) == each_once(10)
    assert {trace.status for trace in traces} <= {"parse_error", "quarantined"}
    assert build_sft_dataset(traces)[1].kept_by_kind == {}
    assert build_preference_dataset(traces)[1].kept_by_kind == {}


def test_every_reply_has_a_limit(few: Path, tmp_path: Path) -> None:
    limits = {"max_new_tokens": 77, "teacher_max_new_tokens": 99, "temperature": 0.3}
    with model_server(lambda *_: WRONG) as student, model_server(lambda *_: says("Well.")) as teacher:
        collect(teaching(few, student, teacher, tmp_path / "traces", **limits))
    names = ("max_completion_tokens", "temperature")
    for server, expected in ((student, (77, 0.3)), (teacher, (99, 0.0))):
        assert {tuple(sent[name] for name in names) for sent in server.requests} == {expected}


def test_a_teacher_that_hangs_fails_its_problem_by_name(problems: Path, tmp_path: Path) -> None:
    """Only for one problem; the others do not wait for it."""
    release = threading.Event()

    def respond(number: int, sent: dict[str, Any]) -> Answer:
        if "What is 7 plus" in str(sent):
            release.wait(60)
        return says(NO_ERROR)

    with model_server(lambda number, sent: solves(sent)) as student, model_server(respond) as teacher:
        summary = collect(teaching(problems, student, teacher, tmp_path / "traces", call_timeout=2.0))
        release.set()
    assert (summary["collected"], summary["errors"]) == (40, 1)
    (failed,) = [trace for trace in stored(tmp_path / "traces") if trace.status == "error"]
    assert failed.problem.id == "p7"
    assert failed.error == "teacher: TimeoutError: no reply within call_timeout=2.0 s"
    assert failed.solution is not None


def test_a_request_that_the_server_refuses_is_one_failed_trace(problems: Path, tmp_path: Path) -> None:
    """The first nine, too: they are no sign of a missing model."""

    def respond(number: int, sent: dict[str, Any]) -> Answer:
        return fails(400) if any(f"What is {i} plus" in str(sent) for i in range(9)) else solves(sent)

    with model_server(respond) as server:
        summary = collect(config(problems, server.url, tmp_path / "traces", concurrency=1))
    assert (summary["collected"], summary["errors"]) == (40, 9)


def test_a_key_that_is_refused_ends_the_run_at_once(problems: Path, tmp_path: Path) -> None:
    with model_server(lambda number, sent: fails(401)) as server:
        with pytest.raises(
            ModelError, match=r"first 8 problems all failed: student: The server at .* refused"
        ):
            collect(config(problems, server.url, tmp_path / "traces"))
        assert len(server.requests) <= 8 + 7  # those that were under way by then
    assert stored(tmp_path / "traces") == []


def test_a_teacher_that_was_never_there_ends_the_run_when_it_is_first_needed(tmp_path: Path) -> None:
    """Two of three attempts are right and need no teacher; eight calls of it fail, or a few more."""
    problems = write_problems(tmp_path / "sums.jsonl", sums(200))

    def respond(number: int, sent: dict[str, Any]) -> Answer:
        return WRONG if number % 3 == 0 else solves(sent)

    with model_server(respond) as server:
        settings = config(
            problems, server.url, tmp_path / "traces", teacher="vllm:t@http://127.0.0.1:9", max_rounds=1
        )
        with pytest.raises(ModelError, match=r"http://127\.0\.0\.1:9/v1 has not answered a single call"):
            collect(settings)
    failed = [trace for trace in stored(tmp_path / "traces") if trace.status == "error"]
    assert 8 <= len(failed) <= 8 + 8
    assert len(stored(tmp_path / "traces")) < 200


def test_many_failures_in_a_row_stop_the_run_and_are_kept(tmp_path: Path) -> None:
    """From the eleventh request on the key is refused: 64 in a row, and the 7 that were under way.

    A few failures may be there before the last of the ten successes, which are verified besides.
    """
    problems = write_problems(tmp_path / "sums.jsonl", sums(200))
    with model_server(lambda number, sent: solves(sent) if number <= 10 else fails(401)) as server:
        settings = config(problems, server.url, tmp_path / "traces")
        with pytest.raises(ModelError, match="the last 64 problems all failed"):
            collect(settings)
        assert 74 <= len(server.requests) <= 74 + 2 * 8
    with model_server(lambda number, sent: solves(sent)) as server:
        summary = collect(settings.model_copy(update={"student": f"vllm:m@{server.url}"}))
    assert (summary["skipped"], summary["collected"], summary["errors"]) == (10, 190, 0)
    assert counts(stored(tmp_path / "traces")) == each_once(200)


def test_what_fails_again_and_again_is_left_out_in_the_end(problems: Path, tmp_path: Path) -> None:
    def respond(number: int, sent: dict[str, Any]) -> Answer:
        return fails(400) if "What is 7 plus" in str(sent) else solves(sent)

    with model_server(respond) as server:
        settings = config(problems, server.url, tmp_path / "traces", retry_failed=2)
        runs = [collect(settings) for _ in range(4)]
    assert [run["collected"] for run in runs] == [40, 1, 1, 0]
    assert runs[-1]["dropped"] == {"failed too often": 1}
    assert len(stored(tmp_path / "traces")) == 39 + 3


def test_the_calls_of_one_problem_are_counted_once(problems: Path, tmp_path: Path) -> None:
    """100 tokens in and 10 out for each of 40, though every second request is refused."""
    with model_server(lambda number, sent: fails(429) if number % 2 else solves(sent)) as server:
        prices = {"student_price": (1.0, 2.0), "teacher_price": (5.0, 5.0)}
        summary = collect(config(problems, server.url, tmp_path / "traces", **prices))
    assert summary["calls"] == {"student": 40}
    assert (summary["tokens_in"], summary["tokens_out"]) == ({"student": 4000}, {"student": 400})
    assert summary["cost"] == {"student": (4000 * 1.0 + 400 * 2.0) / 1e6}


def test_a_named_model_does_not_wait_on_its_own() -> None:
    assert load_chat_model("vllm:m@http://127.0.0.1:9").max_retries == 0  # type: ignore[attr-defined]
