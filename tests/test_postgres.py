"""The same runs against a real Postgres server, which these tests start and stop themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.types import Durability

from supercorrect_agent.graph import create_supercorrect_graph
from tests.durable_run import FINE, FOUND, QUESTION, REST, RIGHT, WRONG
from tests.fakes import ScriptedChatModel, ScriptedTeacher, prefilling
from tests.postgres_server import serve_postgres
from tests.test_durability import (
    BOUNDARIES,
    WAYS,
    Runs,
    check_boundary,
    check_every_boundary_in_turn,
    check_kill_after_samples,
    check_kill_around_a_person,
    check_kill_in_a_call,
    long_run,
)

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serve_postgres() as url:
        yield url


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    runs = Runs(tmp_path_factory.mktemp("runs") / "errors")
    yield runs
    runs.close()


@pytest.mark.parametrize("is_async", [False, True], ids=["invoke", "ainvoke"])
@pytest.mark.parametrize("finished", BOUNDARIES)
def test_a_run_killed_between_two_nodes_goes_on_in_another_process(
    runs: Runs, tmp_path: Path, server: str, finished: int, is_async: bool
) -> None:
    check_boundary(runs, tmp_path, server, finished, is_async=is_async)


@pytest.mark.parametrize(("calls", "way"), WAYS)
def test_a_run_killed_after_each_of_its_nodes_ends_like_one_left_alone(
    runs: Runs, tmp_path: Path, server: str, calls: list[str], way: dict[str, Any]
) -> None:
    check_every_boundary_in_turn(runs, tmp_path, server, calls, way)


def test_a_run_killed_in_a_call_makes_that_call_again_and_no_other(tmp_path: Path, server: str) -> None:
    check_kill_in_a_call(tmp_path, server)


def test_a_person_answers_another_process_than_the_one_that_asked(
    runs: Runs, tmp_path: Path, server: str
) -> None:
    check_kill_around_a_person(runs, tmp_path, server)


def test_samples_are_not_drawn_again(runs: Runs, tmp_path: Path, server: str) -> None:
    check_kill_after_samples(runs, tmp_path, server)


def test_no_process_was_warned_about_what_it_read_from_a_checkpoint(runs: Runs) -> None:
    assert "msgpack" not in runs.errors.read_text()


HOSTILE = ["\x00", "\ud800", "a\x00b\ud800c", "\\u0000", "'; DROP TABLE checkpoints; --"]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_text_of_the_student_is_kept(server: str, tmp_path: Path, text: str) -> None:
    config: Any = {"configurable": {"thread_id": tmp_path.name}}
    student = prefilling(WRONG.replace("Triple.", text), REST)
    with PostgresSaver.from_conn_string(server) as saver:
        saver.setup()
        graph = create_supercorrect_graph(student, ScriptedTeacher(FOUND, FINE), checkpointer=saver)
        result = graph.invoke({"problem": QUESTION}, config, durability="sync")
        kept = graph.get_state(config).values
    assert (result["status"], result["solution"]) == ("corrected", RIGHT)
    assert kept == {**kept, **{key: result[key] for key in result if key in kept}}


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
async def test_hostile_text_of_the_problem_is_kept(server: str, tmp_path: Path, text: str) -> None:
    config: Any = {"configurable": {"thread_id": tmp_path.name}}
    student = ScriptedChatModel(replies=[RIGHT])
    async with AsyncPostgresSaver.from_conn_string(server) as saver:
        await saver.setup()
        graph = create_supercorrect_graph(student, ScriptedTeacher(FINE), checkpointer=saver)
        result = await graph.ainvoke({"problem": QUESTION + text}, config, durability="sync")
        kept = (await graph.aget_state(config)).values
    assert result["status"] == "accepted"
    assert kept == {**kept, **{key: result[key] for key in result if key in kept}}


@pytest.mark.parametrize("durability", [None, "sync", "exit"], ids=["default", "sync", "exit"])
def test_eight_rounds_take_less_than_three_times_their_text(
    server: str, tmp_path: Path, durability: Durability | None
) -> None:
    with PostgresSaver.from_conn_string(server) as saver:
        saver.setup()
        payload = long_run(saver, tmp_path.name, durability)
    sizes = (
        "SELECT sum(octet_length(checkpoint::text) + octet_length(metadata::text)) FROM checkpoints",
        "SELECT sum(octet_length(blob)) FROM checkpoint_blobs",
        "SELECT sum(octet_length(blob)) FROM checkpoint_writes",
    )
    with psycopg.connect(server) as connection:
        rows = [connection.execute(f"{size} WHERE thread_id = %s", [tmp_path.name]) for size in sizes]
        parts = [int(row.fetchone()[0] or 0) for row in rows]
    total = sum(parts)
    assert total < 3 * payload, f"{total / payload:.2f} times the {payload} bytes of text: {parts}"
