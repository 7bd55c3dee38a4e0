"""A collecting run in a thread: JSON-native, safe under strict msgpack, resumed midway, used again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from langgraph.checkpoint.memory import InMemorySaver

from supercorrect_agent.graph import create_collecting_graph
from supercorrect_agent.state import CollectConfig
from supercorrect_agent.teachers.llm import LLMTeacher
from supercorrect_agent.types import Trace
from tests.fakes import ScriptedChatModel, ScriptedTeacher, prefilling
from tests.test_collect_inspector import LEAKING
from tests.test_collecting import OWN, PROBLEM, verdict
from tests.test_distinct_errors import FREE
from tests.test_graph import FOUND, REST, RIGHT, WRONG

ROOT = Path(__file__).parent.parent
THREAD: Any = {"configurable": {"thread_id": "1"}}
GIVEN: Any = {"problem": PROBLEM.model_dump(), "known_errors": ["380"]}


def graph(saver: Any, student: Any) -> Any:
    """A graph whose teacher revises its solution once and its critique once."""
    replies = [LEAKING, RIGHT, verdict(cause="the answer key"), verdict()]
    teacher = LLMTeacher(ScriptedChatModel(replies=replies))
    config = CollectConfig(free_review=True)
    return create_collecting_graph(student, teacher, config=config, checkpointer=saver)


def test_a_run_is_resumed_in_the_middle_with_its_revisions() -> None:
    saver = InMemorySaver()
    whole = graph(None, prefilling(WRONG, OWN, FREE, REST)).invoke(GIVEN)["trace"]
    graph(saver, prefilling(WRONG)).invoke(GIVEN, THREAD, interrupt_before=["student_review"])
    other = create_collecting_graph(
        prefilling(OWN, FREE, REST),
        ScriptedTeacher(),  # has been asked already
        config=CollectConfig(free_review=True),
        checkpointer=saver,
    )
    state = other.get_state(THREAD).values
    json.dumps(state)
    assert len(state["rounds"][0]["revisions"]) == len(state["template_revisions"]) == 1
    trace = other.invoke(None, THREAD)["trace"]
    for key in ("rounds", "status", "template_inspections"):
        assert trace[key] == whole[key]
    assert trace["rounds"][0]["free_review"]["step"] == 1


def test_the_next_problem_of_a_thread_begins_with_nothing() -> None:
    saver = InMemorySaver()
    graph(saver, prefilling(WRONG, OWN, FREE, REST)).invoke(GIVEN, THREAD)
    bare = create_collecting_graph(
        prefilling(WRONG, OWN, REST),
        ScriptedTeacher(FOUND),
        config=CollectConfig(write_template=False),
        checkpointer=saver,
    )
    trace = Trace.model_validate(bare.invoke({"problem": PROBLEM.model_dump()}, THREAD)["trace"])
    assert (trace.status, trace.template, trace.template_inspections, trace.template_revisions) == (
        "corrected", None, (), (),
    )  # fmt: skip
    assert trace.rounds[0].revisions == ()


STRICT_RUN = """
from langgraph.checkpoint.memory import InMemorySaver
from tests.fakes import prefilling
from tests.test_collect_thread import FREE, GIVEN, OWN, REST, THREAD, WRONG, graph
saver = InMemorySaver()
graph(saver, prefilling(WRONG)).invoke(GIVEN, THREAD, interrupt_before=["student_review"])
again = graph(saver, prefilling(OWN, FREE, REST))
state = again.get_state(THREAD).values
print(again.invoke(None, THREAD)["trace"]["status"], len(state["template_revisions"]))
"""


def test_a_checkpoint_survives_strict_msgpack() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STRICT_RUN],
        env={**os.environ, "LANGGRAPH_STRICT_MSGPACK": "true", "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "corrected 1", done.stderr
    assert "msgpack" not in done.stderr
