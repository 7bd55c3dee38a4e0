"""The solving graph in a chat model's place: messages in, one message out."""

from __future__ import annotations

from typing import Any

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, convert_to_messages
from langchain_core.messages.ai import UsageMetadata
from langchain_core.prompt_values import PromptValue
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable, RunnableLambda

from supercorrect_agent.errors import ConfigError, ModelError
from supercorrect_agent.graph import CompiledSolveGraph, create_supercorrect_graph
from supercorrect_agent.inspector.asking import InspectorSpec
from supercorrect_agent.models import load_chat_model
from supercorrect_agent.plugin.messages import last_question
from supercorrect_agent.solver import SolutionCheck
from supercorrect_agent.state import CorrectionConfig
from supercorrect_agent.teachers import Teacher


def with_self_correction(
    model: str | BaseChatModel,
    teacher: str | BaseChatModel | Teacher | None = None,
    *,
    verifier: SolutionCheck | None = None,
    inspector: InspectorSpec | None = None,
    memory: BaseRetriever | None = None,
    config: CorrectionConfig | None = None,
) -> Runnable[LanguageModelInput, AIMessage]:
    """A chat model whose answers are checked and corrected before they are returned.

    It takes what a chat model takes (a text, a prompt value, or messages, of which the last human one is the
    problem and the others are not looked at) and returns the solution as one message. Its
    ``usage_metadata`` is the sum over all calls of both roles; its ``response_metadata`` holds ``status``,
    ``reason`` and ``answer`` of the run. ``stream`` yields that one message, since a draft may yet be
    corrected; ``astream_events`` shows the tokens of every call.

    Args:
        model: The student: a chat model, or a string for ``load_chat_model``.
        teacher: A chat model, a Teacher or a string; None lets the model review itself.
        verifier: As for ``create_supercorrect_graph``, and so are the next two.
        inspector: What checks critiques.
        memory: A retriever of worked examples.
        config: The bounds of a run.

    Raises:
        ConfigError: An argument is of the wrong kind. When run: there is no problem in the input.
        ModelError: A named model cannot be loaded. When run: the model failed before it had written
            anything (with any solution at all, a failure is ``status="error"`` on the message).
    """
    student = load_chat_model(model)
    graph = create_supercorrect_graph(
        student, teacher, verifier=verifier, inspector=inspector, memory=memory, config=config
    )
    return messages_to_answer(graph).with_types(input_type=student.InputType, output_type=AIMessage)


def messages_to_answer(graph: CompiledSolveGraph) -> RunnableLambda[LanguageModelInput, AIMessage]:
    """A solving graph that takes what a chat model takes, and returns its solution as one message."""

    # No config is handed on: the graph finds that of this runnable's own run by itself.
    def solve(prompt: LanguageModelInput) -> AIMessage:
        return answer_message(graph.invoke({"problem": read_problem(prompt)}))

    async def asolve(prompt: LanguageModelInput) -> AIMessage:
        return answer_message(await graph.ainvoke({"problem": read_problem(prompt)}))

    return RunnableLambda(solve, asolve, name="self_correction")


def read_problem(prompt: LanguageModelInput) -> str:
    """The problem in the input of a chat model.

    Raises:
        ConfigError: No human message has a text.
    """
    if isinstance(prompt, str):
        problem = prompt
    else:
        messages = prompt.to_messages() if isinstance(prompt, PromptValue) else convert_to_messages(prompt)
        problem = last_question(messages)
    if not problem.strip():
        raise ConfigError("The input has no problem. Pass a text, or messages with a human message.")
    return problem


def answer_message(result: dict[str, Any]) -> AIMessage:
    """A result of the solving graph as a message.

    Raises:
        ModelError: There is no solution at all.
    """
    reason = result["reason"]
    if result["solution"] is None:
        raise ModelError(f"There is no solution: {reason}.")
    roles = result["usage"].values()
    taken = sum(role["input_tokens"] for role in roles)
    written = sum(role["output_tokens"] for role in roles)
    return AIMessage(
        result["solution"],
        usage_metadata=UsageMetadata(input_tokens=taken, output_tokens=written, total_tokens=taken + written),
        response_metadata={"status": result["status"], "reason": reason, "answer": result["answer"]},
    )
