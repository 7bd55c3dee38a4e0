"""Worked examples of similar problems, out of a retriever, for the student's first solution."""

from __future__ import annotations

from collections.abc import Iterable

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig

from supercorrect_agent.calls import Effect, Flow, call_config, storable
from supercorrect_agent.errors import ConfigError
from supercorrect_agent.events import report
from supercorrect_agent.limits import arun_within, run_within
from supercorrect_agent.progress import failure_text
from supercorrect_agent.prompts import PromptSet
from supercorrect_agent.running import Update
from supercorrect_agent.solver import Solver, check_run
from supercorrect_agent.state import SolveState

EXAMPLE_LIMIT = 8_000  # characters; a longer document is not the solution of one problem


def check_memory(memory: object, prompts: PromptSet) -> None:
    """Refuses a memory that could never show the student anything.

    Raises:
        ConfigError: It is no retriever, or the student's prompt has no place for examples.
    """
    if memory is None:
        return
    if not isinstance(memory, BaseRetriever):
        raise ConfigError(
            f"`memory` is a {type(memory).__name__}. Pass a LangChain retriever, for instance "
            "`vector_store.as_retriever()`."
        )
    if "examples" not in prompts.solve.placeholders:
        raise ConfigError(
            f"`memory` has nowhere to show its examples: the student's prompt '{prompts.solve.id}' has no "
            "{examples}. Pass `prompts=` with {examples} in the text of [solve], or leave `memory` out: a "
            "student that was trained with this prompt knows no other."
        )


def recall_examples(solver: Solver, state: SolveState, config: RunnableConfig) -> Flow[Update]:
    """Asks the memory, once a run: all samples see the same examples.

    A memory that fails leaves the student without examples, and the run with a remark in its reason.
    """
    settings = solver.settings()
    check_run(state["problem"], settings, config)
    examples: list[str] = []
    failure = ""
    if solver.memory is not None and settings.max_examples:
        try:
            found = yield _search(solver.memory, state["problem"], config, settings.call_timeout)
            examples = worked_examples(found)[: settings.max_examples]
        except Exception as error:
            failure = failure_text("memory", error, solver.memory)
    report("examples", 0, shown=len(examples), failure=failure or None)
    update: Update = {"examples": examples, "memory_failure": failure}
    # an empty key that was empty is not written: each costs room in every checkpoint
    return {key: value for key, value in update.items() if value or state.get(key)}


def worked_examples(documents: Iterable[Document]) -> list[str]:
    """The texts of documents, best first as they came; neither empty ones nor ones past ``EXAMPLE_LIMIT``."""
    texts = (storable(document.page_content).strip() for document in documents)
    return [text for text in texts if 0 < len(text) <= EXAMPLE_LIMIT]


def memory_remark(state: SolveState) -> str:
    """What the run's reason says of a memory that failed; "" of one that did not."""
    failure = state.get("memory_failure")
    return f"the student saw no examples ({failure})" if failure else ""


def _search(
    memory: BaseRetriever, question: str, config: RunnableConfig, seconds: float | None
) -> Effect[list[Document]]:
    child = call_config(config, role="memory", name="recall_examples", round=0)
    return Effect(
        lambda: run_within(lambda: memory.invoke(question, child), seconds),
        lambda: arun_within(lambda: memory.ainvoke(question, child), seconds),
    )
