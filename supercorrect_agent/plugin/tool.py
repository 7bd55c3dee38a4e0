"""The solving graph as a tool that an agent can call."""

from __future__ import annotations

from typing import Annotated, Any, Final

from langchain_core.language_models import BaseChatModel
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import StructuredTool
from pydantic import BaseModel, Field, StringConstraints

from supercorrect_agent.gate import UNCHECKED
from supercorrect_agent.graph import create_supercorrect_graph
from supercorrect_agent.inspector.asking import InspectorSpec
from supercorrect_agent.solver import SolutionCheck
from supercorrect_agent.state import CorrectionConfig
from supercorrect_agent.teachers import Teacher

DESCRIPTION: Final = (
    "Solves a mathematics problem step by step, checks the steps and corrects the first wrong one. "
    "Returns the final answer and whether it was confirmed."
)
CONFIRMED: Final = ("accepted", "corrected", "human")


class SolverInput(BaseModel):
    """What the tool is called with."""

    problem: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)] = Field(
        description="The whole text of the problem, with every number and the question itself."
    )


def create_solver_tool(
    student: str | BaseChatModel,
    teacher: str | BaseChatModel | Teacher | None = None,
    *,
    verifier: SolutionCheck | None = None,
    inspector: InspectorSpec | None = None,
    memory: BaseRetriever | None = None,
    config: CorrectionConfig | None = None,
    name: str = "solve_math_problem",
    description: str = DESCRIPTION,
) -> StructuredTool:
    """The solving graph as a tool. Its content is the answer with how far it can be trusted, in words.

    The tool's artifact is the whole result of the graph. A model that fails is said in the content; the tool
    raises nothing but what its argument's schema refuses, and ``ConfigError`` where ``config`` wants a person
    to review critiques and the calling run has no checkpointer. Callbacks, tags and streams of the calling
    run reach the graph.

    Args:
        student: A chat model, or a string for ``load_chat_model``.
        teacher: A chat model, a Teacher or a string; None lets the student review itself.
        verifier: As for ``create_supercorrect_graph``, and so are the next two.
        inspector: What checks critiques.
        memory: A retriever of worked examples.
        config: The bounds of a run.
        name: What the calling model calls the tool.
        description: What the calling model is told about it.

    Raises:
        ConfigError: An argument is of the wrong kind.
        ModelError: A named model cannot be loaded.
    """
    graph = create_supercorrect_graph(
        student, teacher, verifier=verifier, inspector=inspector, memory=memory, config=config
    )

    # No config is handed on: the graph finds that of the tool's own run by itself and is traced below it.
    def solve(problem: str) -> tuple[str, dict[str, Any]]:
        result = graph.invoke({"problem": problem})
        return describe_result(result), result

    async def asolve(problem: str) -> tuple[str, dict[str, Any]]:
        result = await graph.ainvoke({"problem": problem})
        return describe_result(result), result

    return StructuredTool.from_function(
        solve,
        asolve,
        name=name,
        description=description,
        args_schema=SolverInput,
        response_format="content_and_artifact",
    )


def describe_result(result: dict[str, Any]) -> str:
    """A result of the solving graph in words for a model that has to decide what to do with it."""
    status = f"Status: {result['status']} ({result['reason']})."
    if result["answer"] is None:
        return f"No answer was found. {status} Do not make one up: try another way, or say that it failed."
    confirmed = result["status"] in CONFIRMED and not result["reason"].startswith(UNCHECKED)
    trust = "" if confirmed else " The answer is not confirmed: check it before using it."
    return f"The answer is {result['answer']}. {status}{trust}"
