"""Self-correction always ends: its own counter, limits beside it, and one run after another on a thread."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    ModelCallLimitMiddleware,
    ModelRetryMiddleware,
    hook_config,
)
from langchain.agents.middleware.model_call_limit import ModelCallLimitExceededError
from langchain.agents.structured_output import ToolStrategy
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel

from supercorrect_agent import SelfCorrectionMiddleware
from tests.fakes import ScriptedTeacher
from tests.test_middleware import (
    FINE,
    FOUND,
    QUESTION,
    RIGHT,
    WRONG,
    ToolModel,
    calling,
    either,
    run,
    scripted,
    texts,
    times,
)


@pytest.mark.parametrize("most", [0, 1, 2, 8])
def test_its_own_counter_bounds_it(most: int) -> None:
    model = scripted(*[f"132*3={number}\nThe answer is {number}." for number in range(20)])
    teacher = ScriptedTeacher(*[FOUND] * 20)
    result = run(create_agent(model, middleware=[SelfCorrectionMiddleware(teacher, max_corrections=most)]))
    assert (len(model.prompts), len(teacher.seen)) == (most + 1, most + 1)
    report = result["self_correction"]
    assert report["status"] == "budget"
    assert f"max_corrections={most}" in report["reason"]
    assert result["messages"][-1].text == f"132*3={most}\nThe answer is {most}."


class TestBesideACallLimit:
    """A jump out of ``after_agent`` and a limit that jumps to the end can send each other round."""

    def agent(self, order: str, how: Any, limit: int = 3) -> tuple[Any, ToolModel, ScriptedTeacher]:
        model = scripted(*[f"132*3={number}\nThe answer is {number}." for number in range(500)])
        first = FOUND.model_copy(update={"step": 1})  # which the limit's own message has, too
        teacher = ScriptedTeacher(*[first] * 500)
        beside = [
            ModelCallLimitMiddleware(run_limit=limit, exit_behavior=how),
            SelfCorrectionMiddleware(teacher, max_corrections=8),
        ]
        if order == "limit last":
            beside.reverse()
        return create_agent(model, middleware=beside), model, teacher

    @either
    @pytest.mark.parametrize("order", ["limit first", "limit last"])
    def test_the_limit_ends_the_run_and_the_last_answer_is_put_back(self, order: str, sync: bool) -> None:
        agent, model, teacher = self.agent(order, "end")
        result = run(agent, sync=sync)
        assert (len(model.prompts), len(teacher.seen)) == (3, 3)
        *_, feedback, limit, answer = texts(result)
        assert "first wrong step" in feedback
        assert limit.startswith("Model call limits exceeded")
        assert answer == "132*3=2\nThe answer is 2."
        report = result["self_correction"]
        assert report["status"] == "budget"
        assert report["reason"] == "step 1 is wrong, and the agent was stopped before it answered again"
        assert [one["answer"] for one in report["critiques"]] == ["0", "1", "2"]

    @either
    @pytest.mark.parametrize("order", ["limit first", "limit last"])
    def test_the_limit_raises_if_that_is_what_it_was_made_for(self, order: str, sync: bool) -> None:
        agent, model, teacher = self.agent(order, "error")
        with pytest.raises(ModelCallLimitExceededError):
            run(agent, sync=sync)
        assert (len(model.prompts), len(teacher.seen)) == (3, 3)

    @pytest.mark.parametrize("order", ["limit first", "limit last"])
    def test_a_limit_before_the_first_answer_leaves_nothing_to_review(self, order: str) -> None:
        model, teacher = scripted(*[calling("times", a=3, b=132)] * 9), ScriptedTeacher()
        beside = [ModelCallLimitMiddleware(run_limit=1), SelfCorrectionMiddleware(teacher)]
        if order == "limit last":
            beside.reverse()
        result = run(create_agent(model, [times], middleware=beside))
        assert result["messages"][-1].text.startswith("Model call limits exceeded")
        assert result["self_correction"] == {
            "status": "unreviewed",
            "reason": "the agent gave no answer in words",
            "critiques": [],
        }


class Censor(AgentMiddleware[Any, Any]):
    """Puts a message of its own in the place of each answer but the first."""

    def wrap_model_call(self, request: Any, handler: Any) -> Any:
        answer = handler(request)
        return answer if len(request.messages) == 1 else AIMessage("I cannot say that.")


class TestWhatStandsInTheModelsPlace:
    """A message that another middleware put where the correction should be; the last answer is not lost."""

    @pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
    @pytest.mark.parametrize(
        ("other", "said"),
        [(ModelRetryMiddleware(max_retries=0), "Model call failed"), (Censor(), "I cannot say that.")],
        ids=["retry", "censor"],
    )
    def test_the_answer_that_was_sent_back_ends_the_run(self, other: Any, said: str, first: bool) -> None:
        failure = ConnectionError("down") if isinstance(other, ModelRetryMiddleware) else RIGHT
        beside = [other, SelfCorrectionMiddleware(ScriptedTeacher(FOUND))]
        result = run(create_agent(scripted(WRONG, failure), middleware=beside if first else beside[::-1]))
        assert texts(result)[3].startswith(said)
        assert texts(result)[4:] == [WRONG]
        report = result["self_correction"]
        assert (report["status"], [one["answer"] for one in report["critiques"]]) == ("budget", ["386"])

    def test_nobody_is_asked_to_review_it(self) -> None:
        model = scripted(ConnectionError("down"))
        beside = [SelfCorrectionMiddleware(), ModelRetryMiddleware(max_retries=0)]
        result = run(create_agent(model, middleware=beside))
        assert len(model.prompts) == 1
        assert result["self_correction"]["status"] == "unreviewed"


@tool(return_direct=True)
def product(a: int, b: int) -> str:
    """Multiplies, and that is the answer."""
    return str(a * b)


class Price(BaseModel):
    """A price."""

    euros: int


@pytest.mark.parametrize(
    ("asked", "how"),
    [
        (calling("product", a=3, b=132), {}),
        (calling("Price", euros=396), {"response_format": ToolStrategy(Price)}),
    ],
    ids=["a tool's result", "a structured response"],
)
def test_a_correction_without_words_is_not_buried_under_the_wrong_answer(asked: Any, how: Any) -> None:
    agent = create_agent(
        scripted(WRONG, asked),
        [product],
        middleware=[SelfCorrectionMiddleware(ScriptedTeacher(FOUND))],
        **how,
    )
    result = run(agent)
    assert isinstance(result["messages"][-1], ToolMessage)
    assert "396" in texts(result)[-1]
    report = result["self_correction"]
    assert (report["status"], [one["answer"] for one in report["critiques"]]) == ("unreviewed", ["386"])


def test_the_same_answer_to_the_same_critique_is_a_stall() -> None:
    model, teacher = scripted(WRONG, WRONG), ScriptedTeacher(FOUND, FOUND)
    correction = SelfCorrectionMiddleware(teacher, max_corrections=8)
    report = run(create_agent(model, middleware=[correction]))["self_correction"]
    assert (report["status"], report["reason"]) == (
        "stalled",
        "step 2 was corrected and the answer is still 386",
    )


class Guard(AgentMiddleware[Any, Any]):
    """Answers the second question itself."""

    @hook_config(can_jump_to=["end"])
    def before_agent(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        if state["messages"][-1].text == QUESTION:
            return None
        return {"jump_to": "end", "messages": [AIMessage("I do not talk about this.")]}


@either
def test_every_run_on_a_thread_starts_anew(sync: bool) -> None:
    model, teacher = scripted(WRONG, RIGHT, WRONG, RIGHT), ScriptedTeacher(FOUND, FINE, FOUND, FINE)
    agent = create_agent(model, middleware=[SelfCorrectionMiddleware(teacher)], checkpointer=InMemorySaver())
    for turn, question in enumerate(("How many on Wednesday?", "And how many is that again?")):
        result = run(agent, sync=sync, question=question, configurable={"thread_id": "1"})
        assert result["self_correction"]["status"] == "corrected"
        assert len(result["self_correction"]["critiques"]) == 2
        assert [seen[0] for seen in teacher.seen[2 * turn :]] == [question] * 2


def test_what_a_guard_says_in_the_models_place_is_not_reviewed_nor_taken_for_the_last_runs() -> None:
    model, teacher = scripted(WRONG, RIGHT), ScriptedTeacher(FOUND, FINE)
    beside = [Guard(), SelfCorrectionMiddleware(teacher)]
    agent = create_agent(model, middleware=beside, checkpointer=InMemorySaver())
    assert run(agent, configurable={"thread_id": "1"})["self_correction"]["status"] == "corrected"
    result = run(agent, question="Who are you?", configurable={"thread_id": "1"})
    assert texts(result)[-1] == "I do not talk about this."
    assert result["self_correction"]["status"] == "unreviewed"
