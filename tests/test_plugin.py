"""The solving graph as a tool, and in a chat model's place."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import BaseTool
from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import ValidationError

from supercorrect_agent import CorrectionConfig, create_solver_tool, with_self_correction
from supercorrect_agent.errors import ConfigError, ModelError
from supercorrect_agent.prompts import DEFAULT_PROMPTS, render_prompt
from supercorrect_agent.types import Critique, Inspection, Problem, Solution, Verdict
from tests.fakes import ScriptedTeacher, prefilling
from tests.test_graph import FINE, FOUND, QUESTION, REST, RIGHT, WRONG
from tests.test_memory import shelf
from tests.test_middleware import ToolModel

ONCE = CorrectionConfig(max_rounds=1)


def accept(question: str, solution: Solution) -> Verdict:
    return Verdict(status="correct")


def refuse(problem: Problem, solution: Solution, found: Critique) -> list[Inspection]:
    return [Inspection(check="cause", passed=False)]


def corrected_tool(**options: Any) -> BaseTool:
    return create_solver_tool(prefilling(WRONG, REST), ScriptedTeacher(FOUND, FINE), **options)


def call(problem: str = QUESTION, number: int = 1) -> dict[str, Any]:
    args = {"problem": problem}
    return {"name": "solve_math_problem", "args": args, "id": str(number), "type": "tool_call"}


class TestStandardUnit(ToolsUnitTests):
    """LangChain's own conditions on a tool."""

    @property
    def tool_constructor(self) -> BaseTool:
        return create_solver_tool(prefilling(RIGHT), ScriptedTeacher(FINE))

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return {"problem": QUESTION}


class TestStandardIntegration(ToolsIntegrationTests):
    """LangChain's own conditions on a tool's results; the models are scripted."""

    @property
    def tool_constructor(self) -> BaseTool:
        return create_solver_tool(prefilling(RIGHT), ScriptedTeacher(FINE))

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return {"problem": QUESTION}


class TestTool:
    def test_it_is_described_for_a_model(self) -> None:
        tool = corrected_tool(name="word_problems", description="Solves word problems.")
        assert (tool.name, tool.description) == ("word_problems", "Solves word problems.")
        assert list(tool.args) == ["problem"]
        assert tool.args["problem"]["type"] == "string"
        assert "every number" in tool.args["problem"]["description"]
        assert corrected_tool().name == "solve_math_problem"

    @pytest.mark.parametrize("sync", [True, False], ids=["sync", "async"])
    def test_content_is_for_the_model_and_the_artifact_for_the_program(self, sync: bool) -> None:
        tool = corrected_tool()
        message = tool.invoke(call()) if sync else asyncio.run(tool.ainvoke(call()))
        assert message.content == "The answer is 396. Status: corrected (the critic finds no error)."
        assert (message.artifact["solution"], len(message.artifact["rounds"])) == (RIGHT, 2)
        assert set(message.artifact["usage"]) == {"student", "teacher"}

    def test_an_answer_that_nobody_confirmed_says_so(self) -> None:
        tool = create_solver_tool(prefilling(WRONG), ScriptedTeacher(ConnectionError("down")))
        content = tool.invoke({"problem": QUESTION})
        assert content.startswith("The answer is 386. Status: error (teacher: ConnectionError: down")
        assert content.endswith("The answer is not confirmed: check it before using it.")

    def test_an_answer_that_nobody_looked_at_says_so(self) -> None:
        unasked = CorrectionConfig(max_rounds=0)
        content = create_solver_tool(prefilling(WRONG), config=unasked).invoke({"problem": QUESTION})
        assert content == (
            "The answer is 386. Status: accepted (max_rounds=0: nobody checked the answer). "
            "The answer is not confirmed: check it before using it."
        )

    def test_the_verifier_and_samples_that_agree_have_looked(self) -> None:
        agreed = CorrectionConfig(max_rounds=0, samples=2, accept_agreement=1.0)
        for tool in (
            create_solver_tool(prefilling(RIGHT, RIGHT), config=agreed),
            create_solver_tool(prefilling(RIGHT), verifier=accept, config=CorrectionConfig(max_rounds=0)),
        ):
            assert "not confirmed" not in tool.invoke({"problem": QUESTION})

    def test_what_checks_and_what_is_remembered_reaches_the_graph(self) -> None:
        student = prefilling(RIGHT)
        tool = create_solver_tool(student, verifier=accept, memory=shelf("A"))
        assert "the verifier accepted" in tool.invoke({"problem": QUESTION})
        assert "<example>\nA\n</example>" in student.prompts[0][0].text
        content = create_solver_tool(prefilling(WRONG), ScriptedTeacher(FOUND), inspector=refuse).invoke(
            {"problem": QUESTION}
        )
        assert "it failed the inspection (cause)" in content

    def test_without_an_answer_it_says_what_happened(self) -> None:
        content = create_solver_tool(prefilling(TimeoutError("slow"))).invoke({"problem": QUESTION})
        assert content.startswith("No answer was found. Status: error (student: TimeoutError: slow")
        assert "Do not make one up" in content

    def test_a_problem_without_text_is_refused_and_an_agent_can_try_again(self) -> None:
        with pytest.raises(ValidationError, match="at least 1 character"):
            corrected_tool().invoke({"problem": "  "})
        asked = AIMessage("", tool_calls=[call("")])
        agent = create_agent(ToolModel(replies=[asked, "Sorry."]), [corrected_tool()])
        refused = agent.invoke({"messages": [HumanMessage("Solve it.")]})["messages"][2]
        assert (refused.status, "at least 1 character" in refused.text) == ("error", True)

    async def test_the_callers_callbacks_and_tags_reach_the_models_below_the_tools_run(self) -> None:
        events = [e async for e in corrected_tool().astream_events({"problem": QUESTION}, {"tags": ["mine"]})]
        tool = next(e for e in events if e["event"] == "on_tool_start")
        asked = [e for e in events if e["event"] == "on_chat_model_start"]
        assert [e["name"] for e in asked] == ["student_solve", "student_correct"]
        assert all({"mine", "role:student"} <= set(e["tags"]) for e in asked)
        assert all(tool["run_id"] in e["parent_ids"] for e in asked)

    def test_callbacks_reach_the_models_of_a_sync_run_too(self) -> None:
        class Handler(BaseCallbackHandler):
            seen: list[list[str]] = []

            def on_chat_model_start(self, *args: Any, tags: list[str], **kwargs: Any) -> None:
                self.seen.append(tags)

        corrected_tool().invoke({"problem": QUESTION}, {"callbacks": [Handler()], "tags": ["mine"]})
        assert len(Handler.seen) == 2
        assert all("mine" in tags for tags in Handler.seen)

    def test_its_tokens_and_rounds_reach_the_stream_of_the_agent_that_calls_it(self) -> None:
        model = ToolModel(replies=[AIMessage("", tool_calls=[call()]), "396."], disable_streaming=True)
        agent = create_agent(model, [corrected_tool()])
        given: Any = {"messages": [HumanMessage("Solve it.")]}
        modes = ["updates", "custom", "messages"]
        chunks: Any = list(agent.stream(given, stream_mode=modes, subgraphs=True))
        tokens = [chunk[0].text for ns, mode, chunk in chunks if mode == "messages" and ns]
        assert "".join(tokens) == WRONG + REST
        events = [event["event"] for _, mode, event in chunks if mode == "custom"]
        assert events == ["solution", "critique", "correction", "critique", "done"]
        nodes = [node for ns, mode, update in chunks if mode == "updates" and ns for node in update]
        assert nodes[:2] == ["student_solve", "verify"]

    async def test_two_calls_at_once_under_a_checkpointer_do_not_mix(self) -> None:
        class ByQuestion(ToolModel):
            """Answers by what it is asked, in whatever order."""

            def next_reply(self, messages: Any, options: Any) -> AIMessage:
                return AIMessage(RIGHT if "pens" in messages[0].text else RIGHT.replace("396", "397"))

        tool = create_solver_tool(ByQuestion(replies=[]), config=CorrectionConfig(max_rounds=0))
        asked = AIMessage("", tool_calls=[call(QUESTION, 1), call("Another one.", 2)])
        agent = create_agent(ToolModel(replies=[asked, "Done."]), [tool], checkpointer=InMemorySaver())
        config: Any = {"configurable": {"thread_id": "1"}}
        result = await agent.ainvoke({"messages": [HumanMessage("Solve both.")]}, config)
        replies = [m for m in result["messages"] if isinstance(m, ToolMessage)]
        assert [m.artifact["answer"] for m in replies] == ["396", "397"]

    def test_the_longest_run_does_not_depend_on_the_callers_recursion_limit(self) -> None:
        rests = [f"<Answer>{number}</Answer>" for number in range(8)]
        student, teacher = prefilling(WRONG, *rests), ScriptedTeacher(*[FOUND] * 8)
        tool = create_solver_tool(student, teacher, config=CorrectionConfig(max_rounds=8))
        message = tool.invoke(call(), {"recursion_limit": 5})
        assert (message.artifact["status"], message.artifact["answer"]) == ("budget", "7")


class TestInAChatModelsPlace:
    @pytest.mark.parametrize(
        "given",
        [
            QUESTION,
            [("system", "Be brief."), ("human", "Hello."), ("ai", "Hello!"), ("human", QUESTION)],
            [SystemMessage("Be brief."), HumanMessage(QUESTION)],
            ChatPromptTemplate.from_messages([("human", "{problem}")]).invoke({"problem": QUESTION}),
        ],
        ids=["text", "pairs", "messages", "prompt value"],
    )
    def test_it_takes_what_a_chat_model_takes(self, given: Any) -> None:
        student = prefilling(RIGHT)
        message = with_self_correction(student, ScriptedTeacher(FINE)).invoke(given)
        assert isinstance(message, AIMessage)
        assert message.content == RIGHT
        (request,) = student.prompts[0]
        assert request.text == render_prompt(DEFAULT_PROMPTS.solve, problem=QUESTION)

    def test_the_message_says_how_the_run_went_and_what_it_cost(self) -> None:
        student = prefilling(WRONG, REST)
        message = with_self_correction(student, ScriptedTeacher(FOUND, FINE)).invoke(QUESTION)
        assert message.content == RIGHT
        assert message.response_metadata == {
            "status": "corrected",
            "reason": "the critic finds no error",
            "answer": "396",
        }
        # the scripted student counts words, the scripted teacher says 7 in and 3 out for each of its two
        read = sum(len(str(one.text).split()) for prompt in student.prompts for one in prompt)
        written = len(WRONG.split()) + len(REST.split())
        assert message.usage_metadata == {
            "input_tokens": read + 14,
            "output_tokens": written + 6,
            "total_tokens": read + written + 20,
        }

    def test_in_a_pipe(self) -> None:
        prompt = ChatPromptTemplate.from_template("{problem}")
        chain = prompt | with_self_correction(prefilling(RIGHT), ScriptedTeacher(FINE)) | StrOutputParser()
        assert chain.invoke({"problem": QUESTION}) == RIGHT

    async def test_async_and_batches(self) -> None:
        solver = with_self_correction(prefilling(*[RIGHT] * 5), ScriptedTeacher(*[FINE] * 5))
        assert (await solver.ainvoke(QUESTION)).content == RIGHT
        assert [m.content for m in solver.batch([QUESTION] * 2)] == [RIGHT] * 2
        assert [m.content for m in await solver.abatch([QUESTION] * 2)] == [RIGHT] * 2

    async def test_a_stream_has_the_checked_message_and_the_events_every_token(self) -> None:
        def solver() -> Any:
            return with_self_correction(prefilling(WRONG, REST), ScriptedTeacher(FOUND, FINE))

        assert [m.content for m in solver().stream(QUESTION)] == [RIGHT]
        assert [m.content async for m in solver().astream(QUESTION)] == [RIGHT]
        events = [event async for event in solver().astream_events(QUESTION, version="v2")]
        tokens = [e["data"]["chunk"].text for e in events if e["event"] == "on_chat_model_stream"]
        assert "".join(tokens) == WRONG + REST
        assert events[0]["name"] == "self_correction"

    def test_a_failure_raises_only_where_there_is_no_solution(self) -> None:
        broken = with_self_correction(prefilling(TimeoutError("slow")))
        with pytest.raises(ModelError, match="There is no solution: student: TimeoutError: slow"):
            broken.invoke(QUESTION)
        instead = with_self_correction(prefilling(TimeoutError("slow"))).with_fallbacks(
            [RunnableLambda(lambda _: AIMessage("Ask me later."))]
        )
        assert instead.invoke(QUESTION).content == "Ask me later."
        half = with_self_correction(prefilling(WRONG), ScriptedTeacher(ConnectionError("down")))
        message = half.invoke(QUESTION)
        assert (message.content, message.response_metadata["status"]) == (WRONG, "error")

    @pytest.mark.parametrize("given", ["", " ", [], [("system", "Be brief.")]], ids=repr)
    def test_an_input_without_a_problem_is_refused(self, given: Any) -> None:
        with pytest.raises(ConfigError, match="The input has no problem"):
            with_self_correction(prefilling()).invoke(given)

    def test_its_schemas_are_a_chat_models(self) -> None:
        student = prefilling()
        solver = with_self_correction(student)
        assert solver.get_input_jsonschema()["anyOf"] == student.get_input_jsonschema()["anyOf"]
        assert solver.get_output_jsonschema()["title"] == "AIMessage"

    def test_what_checks_and_what_is_remembered_reaches_the_graph(self) -> None:
        student = prefilling(RIGHT)
        message = with_self_correction(student, verifier=accept, memory=shelf("A")).invoke(QUESTION)
        assert message.response_metadata["reason"] == "the verifier accepted the answer"
        assert "<example>\nA\n</example>" in student.prompts[0][0].text
        refused = with_self_correction(prefilling(WRONG), ScriptedTeacher(FOUND), inspector=refuse)
        assert refused.invoke(QUESTION).response_metadata["status"] == "unchanged"

    def test_the_bounds_of_the_config_hold(self) -> None:
        solver = with_self_correction(prefilling(WRONG, REST), ScriptedTeacher(FOUND), config=ONCE)
        assert solver.invoke(QUESTION).response_metadata["status"] == "budget"
