"""A run that is killed goes on where it was, in another process, and asks nobody twice; and what it keeps."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import Durability

from supercorrect_agent.graph import create_supercorrect_graph
from supercorrect_agent.state import CorrectionConfig
from tests.durable_run import QUESTION, RIGHT, graph_of
from tests.fakes import ScriptedChatModel, prefilling

ROOT = Path(__file__).parent.parent
# Read when LangGraph is imported: only JSON comes back from a checkpoint, a record does not.
STRICT = {**os.environ, "LANGGRAPH_STRICT_MSGPACK": "true", "PYTHONPATH": str(ROOT)}
COMMAND = [sys.executable, "-m", "tests.durable_run"]

# A run with one correction: what finishes, in order. After each, the run is killed before the next node.
NODES = ["student_solve", "verify", "teacher_critique", "student_correct", "verify", "teacher_critique"]
ALONE = [node.replace("teacher_critique", "student_review") for node in NODES]
# With samples, with a teacher that is asked where the student doubts, and with an inspector.
FULL = [
    *["student_solve"] * 3,
    *["verify", "student_review", "teacher_critique", "inspect_critique", "student_correct"],
    *["verify", "student_review"],
]
FULLY: dict[str, Any] = {"config": {"samples": 3, "ask_teacher": "flagged"}, "inspected": True}
WAYS = [
    pytest.param(NODES, {}, id="teacher"),
    pytest.param(ALONE, {"alone": True}, id="self review"),
    pytest.param(FULL, FULLY, id="samples, review, teacher, inspector"),
]
BOUNDARIES = [pytest.param(n, id=f"{n + 1} after {node}") for n, node in enumerate(NODES)]


class Runs:
    """Runs jobs of `tests.durable_run`, each in a process of its own."""

    def __init__(self, errors: Path) -> None:
        self.errors = errors
        with errors.open("w") as log:
            self.server = subprocess.Popen(
                COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=STRICT
            )

    def run(self, **job: Any) -> tuple[int, dict[str, Any]]:
        """Does one job; returns its process's exit code and what it reported, if it lived to."""
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(json.dumps(job) + "\n")
        self.server.stdin.flush()
        lines = [json.loads(self.server.stdout.readline())]
        while "exit" not in lines[-1]:
            lines.append(json.loads(self.server.stdout.readline()))
        return lines[-1]["exit"], lines[0]

    def close(self) -> None:
        self.server.communicate()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    runs = Runs(tmp_path_factory.mktemp("runs") / "errors")
    yield runs
    runs.close()


def numbered(calls: list[str]) -> list[str]:
    return [f"{number} {call}" for number, call in enumerate(calls, 1)]


def calls_of(job: dict[str, Any]) -> list[str]:
    return Path(job["log"]).read_text().splitlines()


def timeless(result: dict[str, Any]) -> dict[str, Any]:
    """A result without what differs between two runs of the same script: ids, dates and seconds."""
    trace = {key: value for key, value in result["trace"].items() if key not in ("id", "created")}
    trace["calls"] = [{**call, "seconds": 0} for call in trace["calls"]]
    return {**{key: result[key] for key in ("answer", "solution", "status", "rounds")}, "trace": trace}


def uninterrupted(folder: Path, **job: Any) -> dict[str, Any]:
    """The same run, left alone and without a saver."""
    graph = graph_of({"log": str(folder / "alone.log"), **job}, None)
    return timeless(graph.invoke({"problem": QUESTION}))


def assert_whole(done: dict[str, Any], folder: Path, **job: Any) -> None:
    """A resumed run ended like one left alone, and its state was JSON all the way."""
    result = done["result"]
    assert (result["answer"], result["solution"], result["status"]) == ("396", RIGHT, "corrected")
    assert timeless(result) == uninterrupted(folder, **job)
    assert done["native"]
    assert done["kept"]
    assert (len(done["before"]), done["after"]) == (1, [])


def check_boundary(runs: Runs, folder: Path, where: str, finished: int, *, is_async: bool) -> None:
    """Kills a run after its node number ``finished`` (from 0) and resumes it, each in its own process."""
    job = {"saver": where, "thread": folder.name, "log": str(folder / "log"), "async": is_async}
    node = NODES[finished]
    code, _ = runs.run(**job, begin=True, kill=[node, NODES[: finished + 1].count(node)])
    assert code == -signal.SIGKILL, runs.errors.read_text()
    assert calls_of(job) == numbered(NODES[: finished + 1])
    code, done = runs.run(**job)
    assert code == 0, runs.errors.read_text()
    assert calls_of(job) == numbered(NODES)
    assert_whole(done, folder)


def check_every_boundary_in_turn(
    runs: Runs, folder: Path, where: str, calls: list[str], way: dict[str, Any]
) -> None:
    """Kills one run between all its nodes: no process does more than one node (or one set of samples)."""
    job: dict[str, Any] = {"saver": where, "thread": folder.name, "log": str(folder / "log"), **way}
    kills = 0
    code, done = runs.run(**job, begin=True, kill=["any", 1])
    while code == -signal.SIGKILL and kills < 50:
        kills += 1
        code, done = runs.run(**job, kill=["any", 1])
    assert code == 0, runs.errors.read_text()
    # Three samples are one step, and their vote, which calls nobody, is one more.
    assert kills == len(calls) - (1 if "config" in way else 0)
    assert calls_of(job) == numbered(calls)
    assert_whole(done, folder, **way)


def check_kill_in_a_call(folder: Path, where: str) -> None:
    """Two fresh interpreters; the first is killed by this process while it waits for its teacher."""
    job = {"saver": where, "thread": folder.name, "log": str(folder / "log")}
    held = json.dumps({**job, "begin": True, "hold": "teacher_critique"})
    run = subprocess.Popen([*COMMAND, held], stdout=subprocess.PIPE, text=True, env=STRICT)
    assert run.stdout is not None
    try:
        assert run.stdout.readline() == "held\n"
    finally:
        run.kill()
    assert run.wait() == -signal.SIGKILL
    again = [*COMMAND, json.dumps(job)]
    done = subprocess.run(again, capture_output=True, text=True, env=STRICT, check=False)
    assert done.returncode == 0, done.stderr
    assert "msgpack" not in done.stderr
    # The call that was under way is made again, and no other.
    assert calls_of(job) == numbered([*NODES[:2], *NODES[2:3], *NODES[2:]])
    assert_whole(json.loads(done.stdout), folder)


def test_without_a_saver_a_run_keeps_nothing(tmp_path: Path) -> None:
    graph = graph_of({"log": str(tmp_path / "log")}, None)
    assert graph.invoke({"problem": QUESTION})["answer"] == "396"
    with pytest.raises(ValueError, match="No checkpointer set"):
        graph.get_state({"configurable": {"thread_id": "1"}})


def test_the_serializer_of_these_tests_lets_only_json_through(runs: Runs) -> None:
    assert runs.run(strict=True) == (0, {"strict": True})


@pytest.mark.parametrize("is_async", [False, True], ids=["invoke", "ainvoke"])
@pytest.mark.parametrize("finished", BOUNDARIES)
def test_a_run_killed_between_two_nodes_goes_on_in_another_process(
    runs: Runs, tmp_path: Path, finished: int, is_async: bool
) -> None:
    check_boundary(runs, tmp_path, str(tmp_path / "saver.sqlite"), finished, is_async=is_async)


@pytest.mark.parametrize(("calls", "way"), WAYS)
def test_a_run_killed_after_each_of_its_nodes_ends_like_one_left_alone(
    runs: Runs, tmp_path: Path, calls: list[str], way: dict[str, Any]
) -> None:
    check_every_boundary_in_turn(runs, tmp_path, str(tmp_path / "saver.sqlite"), calls, way)


def test_a_run_killed_in_a_call_makes_that_call_again_and_no_other(tmp_path: Path) -> None:
    check_kill_in_a_call(tmp_path, str(tmp_path / "saver.sqlite"))


def check_kill_around_a_person(runs: Runs, folder: Path, where: str) -> None:
    """The person answers another process than the one that asked; it is killed before the student follows."""
    config = {"human_review": True}
    job = {"saver": where, "thread": folder.name, "log": str(folder / "log"), "config": config}
    code, asked = runs.run(**job, begin=True)
    assert (code, asked["after"], len(asked["asked"])) == (0, ["human_review"], 1), runs.errors.read_text()
    assert asked["native"]
    assert asked["asked"][0]["action_requests"][0]["args"]["step"] == 2
    assert runs.run(**job, decision={"type": "approve"}, kill=["human_review", 1])[0] == -signal.SIGKILL
    assert calls_of(job) == numbered(NODES[:3])
    code, done = runs.run(**job)
    assert code == 0, runs.errors.read_text()
    assert (done["before"], done["after"], done["native"]) == (["student_correct"], [], True)
    assert (done["result"]["answer"], done["result"]["status"]) == ("396", "corrected")
    assert calls_of(job) == numbered(NODES)


def check_kill_after_samples(runs: Runs, folder: Path, where: str) -> None:
    """Three samples side by side; none is drawn again."""
    config = {"samples": 3}
    job = {"saver": where, "thread": folder.name, "log": str(folder / "log"), "config": config}
    assert runs.run(**job, begin=True, kill=["student_sample", 3])[0] == -signal.SIGKILL
    code, done = runs.run(**job)
    assert code == 0, runs.errors.read_text()
    assert (done["native"], done["result"]["answer"], done["result"]["agreement"]) == (True, "396", 1.0)
    assert calls_of(job) == numbered(["student_solve"] * 2 + NODES)


def test_a_person_answers_another_process_than_the_one_that_asked(runs: Runs, tmp_path: Path) -> None:
    check_kill_around_a_person(runs, tmp_path, str(tmp_path / "saver.sqlite"))


def test_samples_are_not_drawn_again(runs: Runs, tmp_path: Path) -> None:
    check_kill_after_samples(runs, tmp_path, str(tmp_path / "saver.sqlite"))


def test_a_run_that_saves_only_at_its_exit_is_lost_when_it_is_killed(runs: Runs, tmp_path: Path) -> None:
    job = {"saver": str(tmp_path / "db"), "thread": "1", "log": str(tmp_path / "log"), "durability": "exit"}
    assert runs.run(**job, begin=True, kill=["student_correct", 1])[0] == -signal.SIGKILL
    code, done = runs.run(**job, begin=True)
    assert (code, done["before"], done["result"]["answer"]) == (0, [], "396")
    assert calls_of(job) == numbered([*NODES[:4], *NODES])


def test_no_process_was_warned_about_what_it_read_from_a_checkpoint(runs: Runs) -> None:
    lines = runs.errors.read_text().splitlines()
    assert not any("msgpack" in line for line in lines if "Stranger" not in line)


ROUNDS = 8


def letters(random_: random.Random, count: int) -> str:
    return "".join(random_.choices("abcdefghijklmnopqrstuvwxyz ", k=count))


def long_run(saver: Any, name: str, durability: Durability | None) -> int:
    """A run of eight rounds: the student writes 4 kB each time, the teacher a verdict with a cause of 1 kB.

    Returns:
        The payload: the bytes of all that the two models wrote. Their texts have nothing in common.
    """
    draw = random.Random(0)
    first, *rests = (f"<Step{n}>{letters(draw, 3950)}</Step{n}>\n<Answer>" for n in (1, *[2] * ROUNDS))
    written = [f"{text}{number}</Answer>" for number, text in enumerate([first, *rests])]
    verdicts = [
        json.dumps({"first_wrong_step": 1, "cause": letters(draw, 1000), "correction": letters(draw, 100)})
        for _ in range(ROUNDS)
    ]
    student, teacher = prefilling(*written), ScriptedChatModel(replies=verdicts)
    config = CorrectionConfig(max_rounds=ROUNDS)
    graph = create_supercorrect_graph(student, teacher, config=config, checkpointer=saver)
    thread: Any = {"configurable": {"thread_id": name}}
    result = graph.invoke({"problem": QUESTION}, thread, durability=durability)
    trace, kept = result.pop("trace"), graph.get_state(thread).values
    assert (result["answer"], len(result["rounds"]), len(trace["rounds"])) == ("8", ROUNDS, ROUNDS)
    assert kept == {**kept, **result}
    return sum(len(text.encode()) for text in (*written, *verdicts))


@pytest.mark.parametrize("durability", [None, "sync", "exit"], ids=["default", "sync", "exit"])
def test_eight_rounds_take_less_than_three_times_their_text(
    durability: Durability | None, tmp_path: Path
) -> None:
    with SqliteSaver.from_conn_string(str(tmp_path / "saver.sqlite")) as saver:
        payload = long_run(saver, "1", durability)
    with sqlite3.connect(tmp_path / "saver.sqlite") as database:
        total = sum(bytes_of(database, table) for table in ("checkpoints", "writes"))
    assert total < 3 * payload, f"{total / payload:.2f} times the {payload} bytes of text"


def bytes_of(database: sqlite3.Connection, table: str) -> int:
    """The bytes of all values of a table, keys and metadata included."""
    values = (value for row in database.execute(f"SELECT * FROM {table}") for value in row)  # noqa: S608
    return sum(len(value if isinstance(value, bytes) else str(value or "").encode()) for value in values)
