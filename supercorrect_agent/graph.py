"""The graphs: wiring only. ``build_*`` returns a ``StateGraph``, ``create_*`` a compiled one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

from langchain_core.language_models import BaseChatModel
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.store.base import BaseStore

from supercorrect_agent import collecting, nodes
from supercorrect_agent.collecting import Collector
from supercorrect_agent.errors import ConfigError
from supercorrect_agent.models import load_chat_model
from supercorrect_agent.nodes import SolutionCheck, Solver, as_node
from supercorrect_agent.prompts import PromptSet
from supercorrect_agent.state import (
    MAX_ROUNDS,
    CollectConfig,
    CollectInput,
    CollectOutput,
    CollectState,
    CorrectionConfig,
    SolveInput,
    SolveOutput,
    SolveState,
)
from supercorrect_agent.student import Student, prompts_beside
from supercorrect_agent.teachers import Teacher, as_teacher
from supercorrect_agent.verification import MathVerifier, Verifier

SolveGraph = StateGraph[SolveState, CorrectionConfig, SolveInput, SolveOutput]
CollectGraph = StateGraph[CollectState, CollectConfig, CollectInput, CollectOutput]
CompiledSolveGraph = CompiledStateGraph[SolveState, CorrectionConfig, SolveInput, SolveOutput]
CompiledCollectGraph = CompiledStateGraph[CollectState, CollectConfig, CollectInput, CollectOutput]

# Node runs of the longest run there can be, since a run's context may raise max_rounds up to MAX_ROUNDS.
SOLVE_STEPS = 3 + (MAX_ROUNDS + 1) * 4
COLLECT_STEPS = 4 + (MAX_ROUNDS + 1) * (2 * (1 + collecting.MAX_REVISIONS) + 4)

COLLECTING: dict[str, Callable[..., Any]] = {
    "teacher_write": collecting.teacher_write,
    "student_solve": collecting.student_solve,
    "verify": collecting.verify,
    "teacher_critique": collecting.teacher_critique,
    "inspect": collecting.inspect,
    "student_review": collecting.student_review,
    "student_alternatives": collecting.student_alternatives,
    "student_correct": collecting.student_correct,
    "record": collecting.record,
}


def build_supercorrect_graph(
    student: str | BaseChatModel,
    teacher: str | BaseChatModel | Teacher | None = None,
    *,
    verifier: SolutionCheck | None = None,
    prompts: PromptSet | None = None,
    config: CorrectionConfig | None = None,
) -> SolveGraph:
    """Builds the solving graph, not compiled; for the arguments see ``create_supercorrect_graph``."""
    if verifier is not None and not callable(verifier):
        raise ConfigError(
            f"`verifier` is a {type(verifier).__name__}. Pass a callable that takes the problem's text and a "
            "Solution and returns a Verdict; the solving graph has no reference answer to compare with."
        )
    model = load_chat_model(student)
    prompts = prompts or prompts_beside(model)
    solver = Solver(
        student=Student(model, prompts),
        teacher=None if teacher is None else as_teacher(teacher, prompts),
        verifier=verifier,
        defaults=config or CorrectionConfig(),
    )
    critics: dict[str, Callable[..., Any]] = (
        {"student_review": nodes.critique}
        if teacher is None
        else {"student_review": nodes.student_review, "teacher_critique": nodes.critique}
    )
    graph = SolveGraph(
        SolveState, context_schema=CorrectionConfig, input_schema=SolveInput, output_schema=SolveOutput
    )
    steps: dict[str, Callable[..., Any]] = {
        "student_solve": nodes.student_solve,
        "verify": nodes.verify,
        **critics,
        "student_correct": nodes.student_correct,
        "record": nodes.record,
    }
    for name, flow in steps.items():
        graph.add_node(name, as_node(name, partial(flow, solver)))
    graph.add_edge(START, "student_solve")
    graph.add_conditional_edges("student_solve", _unless_ended("verify"), ["verify", "record"])
    graph.add_conditional_edges("verify", partial(nodes.after_verify, solver), [*critics, "record"])
    for name, target in pairwise([*critics, "student_correct"]):
        graph.add_conditional_edges(name, _unless_ended(target), [target, "record"])
    graph.add_conditional_edges("student_correct", _unless_ended("verify"), ["verify", "record"])
    graph.add_edge("record", END)
    return graph


def create_supercorrect_graph(
    student: str | BaseChatModel,
    teacher: str | BaseChatModel | Teacher | None = None,
    *,
    verifier: SolutionCheck | None = None,
    prompts: PromptSet | None = None,
    config: CorrectionConfig | None = None,
    checkpointer: BaseCheckpointSaver[Any] | bool | None = None,
    store: BaseStore | None = None,
) -> CompiledSolveGraph:
    """The solving graph: a student solves, a critic finds the first wrong step, the student goes on from it.

    It takes ``{"problem": text}`` and nothing else, so no reference answer can reach it. It returns
    ``answer``, ``solution``, ``status``, ``rounds``, ``usage`` and ``trace``. A model that fails ends the run
    with status ``error`` and whatever answer there was; it raises nothing.

    With ``ask_teacher="flagged"`` the student reviews its own solution first, and the teacher is asked only
    where that review finds an error, cannot be read, or contradicts the verifier.

    How a run ends: ``accepted`` (the critic finds no error in the first solution), ``corrected`` (the critic
    looked at a revision and finds no error), ``budget`` (rounds, tokens or seconds ran out first: the last
    readable revision is returned, unconfirmed), ``stalled`` (the same step is named again and the answer has
    not moved), ``unchanged`` (no revision was better than the first solution), ``parse_error`` (a reply
    stayed unreadable; the student's answer is kept), ``error``.

    Args:
        student: A chat model, or a string for ``load_chat_model``.
        teacher: A chat model, a Teacher or a string; None lets the student review itself.
        verifier: A callable from the problem's text and a Solution to a Verdict; an answer it finds correct
            is accepted without asking the critic. It runs in a worker thread under ``ainvoke``.
        prompts: The prompts; if None, those beside a local checkpoint, else the default ones.
        config: The bounds of a run; ``context=`` overrides single fields per run.
        checkpointer: A LangGraph saver, if runs are to be resumed.
        store: A LangGraph store, passed through.

    Raises:
        ConfigError: An argument is of the wrong kind.
        ModelError: A named model cannot be loaded.
    """
    graph = build_supercorrect_graph(student, teacher, verifier=verifier, prompts=prompts, config=config)
    compiled = graph.compile(checkpointer=checkpointer, store=store, name="supercorrect")
    return compiled.with_config(recursion_limit=SOLVE_STEPS)


def create_collecting_graph(
    student: str | BaseChatModel,
    teacher: str | BaseChatModel | Teacher,
    *,
    verifier: Verifier | None = None,
    prompts: PromptSet | None = None,
    config: CollectConfig | None = None,
    checkpointer: BaseCheckpointSaver[Any] | bool | None = None,
    store: BaseStore | None = None,
) -> CompiledCollectGraph:
    """The collecting graph: the teacher sees the reference, and everything goes into a trace for training.

    It takes ``{"problem": Problem as a dict, "sample": int}`` and returns ``{"trace": Trace as a dict}``. A
    wrong attempt gets the teacher's critique, the rule inspector's checks of it (a critique that fails stays
    on the trace with its failed checks), the student's own review forced to the same step where its model can
    continue a message, on request further words of the student at that step with the verdict on where they
    lead (decision B8), and a revision. A run that fails ends as a trace with status ``error``.

    Args:
        student: A chat model, or a string for ``load_chat_model``.
        teacher: A chat model, a Teacher or a string.
        verifier: Compares answers; ``MathVerifier()`` if None.
        prompts: The prompts; if None, those beside a local checkpoint, else the default ones.
        config: What is collected; ``context=`` overrides single fields per run.
        checkpointer: A LangGraph saver; bulk collection runs best without one.
        store: A LangGraph store, passed through.

    Raises:
        ConfigError: An argument is of the wrong kind.
        ModelError: A named model cannot be loaded.
    """
    model = load_chat_model(student)
    prompts = prompts or prompts_beside(model)
    collector = Collector(
        student=Student(model, prompts),
        teacher=as_teacher(teacher, prompts),
        verifier=verifier or MathVerifier(),
        defaults=config or CollectConfig(),
    )
    graph = CollectGraph(
        CollectState, context_schema=CollectConfig, input_schema=CollectInput, output_schema=CollectOutput
    )
    for name, flow in COLLECTING.items():
        graph.add_node(name, as_node(name, partial(flow, collector)))
    graph.add_edge(START, "teacher_write")
    for name, target in pairwise(COLLECTING):
        if name not in ("inspect", "student_correct"):
            graph.add_conditional_edges(name, _unless_ended(target), [target, "record"])
    graph.add_conditional_edges(
        "inspect", collecting.after_inspect, ["teacher_critique", "student_review", "record"]
    )
    graph.add_conditional_edges("student_correct", _unless_ended("verify"), ["verify", "record"])
    graph.add_edge("record", END)
    compiled = graph.compile(checkpointer=checkpointer, store=store, name="supercorrect_collect")
    return compiled.with_config(recursion_limit=COLLECT_STEPS)


def _unless_ended(target: str) -> Callable[[SolveState | CollectState], str]:
    def route(state: SolveState | CollectState) -> str:
        return "record" if state["ending"] else target

    return route
