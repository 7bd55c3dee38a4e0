"""A run that may take so many seconds: a call that is under way then does not go on."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatResult

from supercorrect_agent.graph import create_supercorrect_graph
from supercorrect_agent.state import CorrectionConfig
from tests.durable_run import FOUND, QUESTION, WRONG
from tests.fakes import ScriptedChatModel, ScriptedTeacher, prefilling

GIVEN: Any = {"problem": QUESTION}
SHORT = CorrectionConfig(max_seconds=0.2)
LET_GO = threading.Event()  # never set: whoever waits for it hangs for this long
HANGING_SECONDS = 20.0


class Hanging(ScriptedChatModel):
    """Takes far longer than a run may."""

    replies: list[Any] = []

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        LET_GO.wait(HANGING_SECONDS)
        raise AssertionError("nobody waits for this")

    async def _agenerate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        await asyncio.sleep(HANGING_SECONDS)
        raise AssertionError("nobody waits for this")


class HangingTeacher(ScriptedTeacher):
    """A teacher without a chat model that does the same."""

    def critique(self, *args: Any, **kwargs: Any) -> Any:
        LET_GO.wait(HANGING_SECONDS)

    async def acritique(self, *args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(HANGING_SECONDS)


def solve(kind: str, *roles: Any, config: CorrectionConfig = SHORT) -> dict[str, Any]:
    graph = create_supercorrect_graph(*roles, config=config)
    result: dict[str, Any] = graph.invoke(GIVEN) if kind == "sync" else asyncio.run(graph.ainvoke(GIVEN))
    return result


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("teacher", [Hanging(), HangingTeacher()], ids=["model", "teacher"])
def test_a_teacher_that_hangs_costs_the_seconds_and_not_the_answer(kind: str, teacher: Any) -> None:
    result = solve(kind, prefilling(WRONG), teacher)
    assert (result["status"], result["answer"]) == ("budget", "386")
    assert result["reason"] == (
        "max_seconds of the run are used up; the teacher had not answered; nobody checked the answer"
    )
    assert result["usage"]["teacher"]["calls"] == 0


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_student_that_hangs_leaves_no_answer(kind: str) -> None:
    result = solve(kind, Hanging(), ScriptedTeacher())
    assert (result["status"], result["answer"]) == ("budget", None)
    several = CorrectionConfig(max_seconds=0.2, samples=2)
    assert solve(kind, Hanging(), ScriptedTeacher(), config=several)["status"] == "budget"


def test_no_second_attempt_is_made_when_the_seconds_are_over() -> None:
    model = ScriptedChatModel(replies=[ConnectionError("down")] * 3, max_retries=0)
    result = solve("sync", model, ScriptedTeacher(FOUND), config=CorrectionConfig(max_seconds=0.2, retries=2))
    # the wait before the second attempt, a second at least, is longer than that
    assert (result["status"], len(model.prompts)) == ("budget", 1)
