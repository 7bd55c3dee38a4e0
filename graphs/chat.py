"""Studio entry point: messages in, messages out. Solves the last message with the graph of ``solve.py``."""

from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langgraph.graph import END, START, MessagesState, StateGraph

from graphs.solve import graph as solver
from supercorrect_agent.errors import ModelError


def _reply(result: dict[str, Any]) -> dict[str, Any]:
    if result["solution"] is None:
        raise ModelError(f"There is no answer: {result['trace']['error']}.")
    return {"messages": [AIMessage(result["solution"], response_metadata={"status": result["status"]})]}


def _solve(state: MessagesState) -> dict[str, Any]:
    return _reply(solver.invoke({"problem": str(state["messages"][-1].text)}))


async def _asolve(state: MessagesState) -> dict[str, Any]:
    return _reply(await solver.ainvoke({"problem": str(state["messages"][-1].text)}))


_builder = StateGraph(MessagesState).add_node("student_answer", RunnableLambda(_solve, _asolve))
graph = _builder.add_edge(START, "student_answer").add_edge("student_answer", END).compile(name="chat")
