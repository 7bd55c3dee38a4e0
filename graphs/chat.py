"""Studio entry point: messages in, messages out. Solves the last question with the graph of ``solve.py``."""

from operator import itemgetter
from typing import Annotated

from langchain_core.messages import AnyMessage
from langchain_core.runnables import RunnableLambda
from langgraph.graph import END, START, StateGraph, add_messages
from pydantic import Field
from typing_extensions import TypedDict

from graphs.solve import graph as solver
from supercorrect_agent import CorrectionConfig
from supercorrect_agent.plugin.runnable import messages_to_answer


class Chat(TypedDict):
    """A conversation; what came before a question is not looked at."""

    messages: Annotated[list[AnyMessage], Field(description="The last human one is solved."), add_messages]


_ask = RunnableLambda[Chat, list[AnyMessage]](itemgetter("messages")) | messages_to_answer(solver)
_builder = StateGraph(Chat, context_schema=CorrectionConfig)
_builder.add_node("student_answer", _ask | (lambda answer: {"messages": [answer]}))
_builder.add_edge(START, "student_answer").add_edge("student_answer", END)
graph = _builder.compile(name="supercorrect_chat")
