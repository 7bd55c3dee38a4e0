"""The graphs: wiring only. ``build_*`` returns a ``StateGraph``, ``create_*`` a compiled one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from types import UnionType
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.store.base import BaseStore

from supercorrect_agent import collecting, human, nodes, voting, written
from supercorrect_agent.collector import MAX_REVISIONS, build_collector
from supercorrect_agent.errors import ConfigError
from supercorrect_agent.inspector import Inspector, as_inspector, inspect_critique
from supercorrect_agent.inspector.asking import InspectorSpec
from supercorrect_agent.memory import check_memory, recall_examples
from supercorrect_agent.models import load_chat_model
from supercorrect_agent.prompts import PromptSet
from supercorrect_agent.running import Node, Router, Target
from supercorrect_agent.solver import SolutionCheck, Solver
from supercorrect_agent.state import (
    MAX_ROUNDS,
    CollectConfig,
    CollectInput,
    CollectOutput,
    CollectState,
    CorrectionConfig,
    Decided,
    Inspected,
    SolveInput,
    SolveOutput,
    SolveState,
)
from supercorrect_agent.student import Student, prompts_beside
from supercorrect_agent.teachers import RevisingTeacher, Teacher, as_teacher
from supercorrect_agent.verification import Verifier

SolveGraph = StateGraph[SolveState, CorrectionConfig, SolveInput, SolveOutput]
CollectGraph = StateGraph[CollectState, CollectConfig, CollectInput, CollectOutput]
CompiledSolveGraph = CompiledStateGraph[SolveState, CorrectionConfig, SolveInput, SolveOutput]
CompiledCollectGraph = CompiledStateGraph[CollectState, CollectConfig, CollectInput, CollectOutput]

# Node runs of the longest run there can be, since a run's context may raise every cap: samples and their
# vote, in each round a verdict, the student's review, a critique inspected and, once revised, inspected
# again, a person and a correction; at last a verdict and the record.
SOLVE_STEPS = 2 + MAX_ROUNDS * 8 + 2
COLLECT_STEPS = 4 + (MAX_ROUNDS + 1) * (1 + MAX_REVISIONS) * 6

# The key of a config under which LangGraph looks for the durability of a run that names none itself. Its own
# default saves beside the next node, so that a killed run asks a finished node again.
DURABILITY = "__pregel_durability"

COLLECTING: dict[str, Callable[..., Any]] = {
    "teacher_write": written.teacher_write,
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
    inspector: InspectorSpec | None = None,
    memory: BaseRetriever | None = None,
    prompts: PromptSet | None = None,
    config: CorrectionConfig | None = None,
) -> SolveGraph:
    """Builds the solving graph, not compiled; for the arguments see ``create_supercorrect_graph``."""
    _check_kind("student", student, str | BaseChatModel, "a chat model, or a string such as 'openai:NAME'")
    _check_kind("prompts", prompts, PromptSet | None, "a PromptSet, for instance of `load_prompts`")
    _check_kind("config", config, CorrectionConfig | None, "a CorrectionConfig")
    _check_callable(
        "verifier",
        verifier,
        "the problem's text and a Solution and returns a Verdict; the solving graph has no reference answer "
        "to compare with",
    )
    _check_inspector(inspector)
    model = load_chat_model(student)
    if isinstance(teacher, str) and teacher == student != "sandbox":  # whose teacher is not its student
        teacher = model  # one name, one model: weights in this process are loaded once
    prompts = prompts or prompts_beside(model)
    if inspector == "rules":
        inspector = inspect_critique
    elif isinstance(inspector, str | BaseChatModel):
        inspector = as_inspector(inspector, prompts)
    check_memory(memory, prompts)
    solver = Solver(
        student=Student(model, prompts),
        teacher=None if teacher is None else as_teacher(teacher, prompts),
        verifier=verifier,
        inspector=as_inspector(inspector, prompts)
        if isinstance(inspector, str | BaseChatModel)
        else inspector,
        memory=memory,
        defaults=config or CorrectionConfig(),
    )
    graph = SolveGraph(
        SolveState, context_schema=CorrectionConfig, input_schema=SolveInput, output_schema=SolveOutput
    )
    critics = _critics(solver)
    steps: dict[str, Callable[..., Any]] = {
        **({} if memory is None else {"recall_examples": recall_examples}),
        "student_solve": nodes.student_solve,
        "student_sample": voting.student_sample,
        "student_vote": voting.student_vote,
        "verify": nodes.verify,
        **critics,
        "human_review": human.human_review,
        "student_correct": nodes.student_correct,
        "record": nodes.record,
    }
    for name, flow in steps.items():
        graph.add_node(name, Node(name, partial(flow, solver)))
    _connect(graph, solver, list(critics))
    return graph


def _critics(solver: Solver) -> dict[str, Callable[..., Any]]:
    """The nodes that look at a solution, in order; the one before an inspector asks, the last one decides."""
    critics: dict[str, Callable[..., Any]] = (
        {"student_review": nodes.critique}
        if solver.teacher is None
        else {"student_review": nodes.student_review, "teacher_critique": nodes.critique}
    )
    return critics if solver.inspector is None else {**critics, "inspect_critique": nodes.inspect_critique}


def _connect(graph: SolveGraph, solver: Solver, critics: list[str]) -> None:
    """Draws the edges; with path maps, so that the drawn graph is right without a run."""
    if solver.memory is not None:
        graph.add_edge(START, "recall_examples")
    first = START if solver.memory is None else "recall_examples"
    graph.add_conditional_edges(first, _first_nodes(solver), ["student_solve", "student_sample"])
    graph.add_edge("student_sample", "student_vote")
    for name in ("student_solve", "student_vote", "student_correct"):
        graph.add_edge(name, "verify")
    asked = [name for name in critics if name != "inspect_critique"]
    graph.add_conditional_edges("verify", _first_critic(solver), [*asked, "record"])
    for name, target in pairwise(critics):
        graph.add_conditional_edges(name, _unless_ended(target), [target, "record"])
    ways = ["human_review", "student_correct", "record"]
    if solver.inspector is not None and isinstance(solver.teacher, RevisingTeacher):
        ways.append("teacher_critique")
    graph.add_conditional_edges(critics[-1], _after_critics(solver), ways)
    graph.add_conditional_edges(
        "human_review", _unless_ended("student_correct"), ["student_correct", "record"]
    )
    graph.add_edge("record", END)


def _first_nodes(solver: Solver) -> Router:
    def route(state: SolveState) -> Target:
        return voting.first_nodes(solver, state)

    return Router(route)


def _first_critic(solver: Solver) -> Router:
    def route(state: Decided) -> str:
        if state["ending"]:
            return "record"
        reviews = solver.teacher is None or solver.settings().ask_teacher == "flagged"
        return "student_review" if reviews else "teacher_critique"

    return Router(route)


def _after_critics(solver: Solver) -> Router:
    def route(state: Inspected) -> str:
        if state["ending"]:
            return "record"
        if state.get("notes"):
            return "teacher_critique"
        return "human_review" if solver.settings().human_review else "student_correct"

    return Router(route)


def _check_kind(name: str, given: object, kinds: type | UnionType, form: str) -> None:
    if not isinstance(given, kinds):
        raise ConfigError(f"`{name}` is a {type(given).__name__}. Pass {form}.")


def _check_callable(name: str, given: object, form: str) -> None:
    if given is not None and not callable(given):
        raise ConfigError(f"`{name}` is a {type(given).__name__}. Pass a callable that takes {form}.")


def _check_inspector(given: object) -> None:
    if not isinstance(given, str | Runnable | Inspector):
        _check_callable("inspector", given, "a Problem, a Solution and a Critique and returns Inspections")


def create_supercorrect_graph(
    student: str | BaseChatModel,
    teacher: str | BaseChatModel | Teacher | None = None,
    *,
    verifier: SolutionCheck | None = None,
    inspector: InspectorSpec | None = None,
    memory: BaseRetriever | None = None,
    prompts: PromptSet | None = None,
    config: CorrectionConfig | None = None,
    checkpointer: BaseCheckpointSaver[Any] | bool | None = None,
    store: BaseStore | None = None,
) -> CompiledSolveGraph:
    """The solving graph: a student solves, a critic finds the first wrong step, the student goes on from it.

    It takes ``{"problem": text}`` and nothing else, so no reference answer can reach it. It returns
    ``answer``, ``solution``, ``status``, ``reason``, ``rounds``, ``votes``, ``agreement``, ``usage`` and
    ``trace``. A model that fails ends the run with status ``error`` and whatever answer there was; it raises
    nothing.

    The solution returned is the best of all that the student wrote: by the verifier's verdict first; then one
    in which the critic found no error before one that nobody confirmed; then the latest. Where samples agree
    on the first solution's answer, no unconfirmed revision replaces it unless the critique of it states a
    confidence above their agreement, or a person approved it. A critique that states none counts as 0.5
    there, for doubt of unknown strength is no reason against a true majority. Without a vote the critique is
    the only evidence, and the revision is returned.

    With ``samples`` the student solves several times side by side (as far as ``max_concurrency`` and, under
    ``invoke``, the threads go), and the majority's first solution goes on. With ``ask_teacher="flagged"`` the
    student reviews its own solution first, and the teacher is asked only where that review finds an error,
    cannot be read, or contradicts the verifier. With ``human_review`` the run stops at an interrupt, before
    the student follows a critique, and goes on with ``Command(resume={"decisions": [...]})``.

    How a run ends: ``accepted`` (the verifier accepts the first solution, the critic finds no error in it,
    the samples agree on it, or ``max_rounds=0`` leaves it unchecked), ``corrected`` (the verifier accepts a
    revision, or the critic looked at it and finds no error), ``budget`` (rounds, tokens or seconds ran out
    first, or the ``recursion_limit`` of a graph around this one: the best revision is returned, unconfirmed),
    ``stalled`` (the same step is named again and the answer has not moved, the answers go round, or the
    critic finds no error in a revision that the verifier rejects), ``unchanged`` (no revision was better than
    the first solution, or none outweighs the samples that agree on it; the critique was too unsure or faulty
    to be followed; or the critic finds no error in a first solution that the verifier rejects),
    ``human`` (a person rejected the critique), ``parse_error`` (a reply stayed unreadable; the student's
    answer is kept), ``error``. ``reason`` says in a sentence what led to it.

    What ``call_timeout`` holds: under ``ainvoke`` a call is cancelled; one that runs in a thread, as that of
    a model without an async form, goes on unheard until it returns. Under ``invoke`` the client of an OpenAI
    or vLLM model is told to give up as well; any other call goes on unheard in a thread of its own, which
    does not keep the process from ending. A teacher that is no chat model has as long for one critique.

    With ``max_concurrency=1`` LangGraph's ``stream`` never ends in the modes ``custom`` and ``messages`` or
    with ``subgraphs=True``: whoever waits for events takes the only thread. ``astream`` does, and so does
    ``stream`` with 2.

    Args:
        student: A chat model, or a string for ``load_chat_model``.
        teacher: A chat model, a Teacher or a string; None lets the student review itself. A chat model's
            verdict follows a JSON schema where it is known to take one (``models.schema_kwargs``).
        verifier: A callable from the problem's text and a Solution to a Verdict; an answer it finds correct
            is accepted without asking the critic. It runs in a worker thread under ``ainvoke``.
        inspector: A chat model (or a string for ``load_chat_model``) that judges each critique; ``"rules"``
            for the checks of ``inspector.inspect_critique``; or a callable like that, from the Problem
            (without an answer), the Solution and the Critique to Inspections; or a Runnable that takes
            ``{"problem", "solution", "critique"}``. A critique that fails a check goes back to the teacher
            once, if that is a ``RevisingTeacher``, and is not followed if it fails again. A tracer sees the
            check as a run of the tag ``role:inspector``. A callable runs in a thread under ``ainvoke``.
        memory: A LangChain retriever that finds worked examples of similar problems by the problem's text.
            The student sees the first ``max_examples`` of them when it first solves the problem, not when it
            reviews or corrects, where it is asked as it was trained. The memory is asked once a run, for all
            samples together. If it fails, the student solves without examples and ``reason`` says why.
        prompts: The prompts; if None, those beside a local checkpoint, else the default ones.
        config: The bounds of a run; ``context=`` overrides single fields per run.
        checkpointer: A LangGraph saver, if runs are to be resumed. Each step is saved before the next one
            begins (``durability="sync"``), unless the run is started with another ``durability``.
        store: A LangGraph store, passed through.

    Raises:
        ConfigError: An argument is of the wrong kind.
        ModelError: A named model cannot be loaded.
    """
    graph = build_supercorrect_graph(
        student,
        teacher,
        verifier=verifier,
        inspector=inspector,
        memory=memory,
        prompts=prompts,
        config=config,
    )
    compiled = graph.compile(checkpointer=checkpointer, store=store, name="supercorrect")
    saved = {DURABILITY: "sync"} if checkpointer else {}
    return compiled.with_config(recursion_limit=SOLVE_STEPS + (memory is not None), configurable=saved)


def create_collecting_graph(
    student: str | BaseChatModel,
    teacher: str | BaseChatModel | Teacher,
    *,
    verifier: Verifier | None = None,
    inspector: InspectorSpec | None = None,
    prompts: PromptSet | None = None,
    config: CollectConfig | None = None,
    checkpointer: BaseCheckpointSaver[Any] | bool | None = None,
    store: BaseStore | None = None,
) -> CompiledCollectGraph:
    """The collecting graph: the teacher sees the reference, and everything goes into a trace for training.

    It takes ``{"problem": Problem as a dict, "sample": int, "known_errors": list[str]}``, of which only the
    first has to be there, and returns ``{"trace": Trace as a dict}``. A wrong attempt gets the teacher's
    critique, the inspector's checks of it, the student's own review forced to the same step where its model
    can continue a message, on request a free review and further words of the student at that step with the
    verdict on where they lead (decision B8), and a revision. A wrong attempt whose answer is among
    ``known_errors``, the answers of those that were kept already, ends at once, and so does one beyond
    ``max_errors`` (decision B24): the teacher is not asked.

    The inspector checks by rules first: the format, the step's number, words about a reference, the equations
    of the correction and any answer that is stated. What passes goes to ``inspector``, if there is one, which
    sees the reference. What fails goes back to the teacher with the notes, at most three times, if that is a
    ``RevisingTeacher``; each version stays on the trace with its checks. A critique that fails to the last
    ends the run as ``quarantined``. The teacher's own solution is checked in the same way
    (``RevisingWriter``); one that fails stays on the trace with its failed checks. Neither is trained on.

    How a run ends: ``accepted`` (the attempt is right, or cannot be scored), ``corrected`` (a revision is
    right), ``budget`` (no revision was), ``quarantined``, ``unchanged`` (the error is known already, or the
    teacher cannot judge the problem), ``parse_error`` (the teacher's reply stayed unreadable), ``error`` (a
    model failed). A run that fails ends as a trace, too.

    Args:
        student: A chat model, or a string for ``load_chat_model``.
        teacher: A chat model, a Teacher or a string. ``"same_model_grounded"``: the student's own model, as
            it is loaded, with the reference before it (decision B25).
        verifier: Compares answers; ``MathVerifier()`` if None.
        inspector: A chat model (or a string for ``load_chat_model``, or ``"same_model_grounded"``), an
            Inspector, or a callable or Runnable as for ``create_supercorrect_graph``. None and ``"rules"``:
            the rules alone decide.
        prompts: The prompts; if None, those beside a local checkpoint, else the default ones.
        config: What is collected; ``context=`` overrides single fields per run.
        checkpointer: A LangGraph saver; bulk collection runs best without one.
        store: A LangGraph store, passed through.

    Raises:
        ConfigError: An argument is of the wrong kind.
        ModelError: A named model cannot be loaded.
    """
    _check_inspector(inspector)
    collector = build_collector(
        student, teacher, verifier=verifier, inspector=inspector, prompts=prompts, config=config
    )
    graph = CollectGraph(
        CollectState, context_schema=CollectConfig, input_schema=CollectInput, output_schema=CollectOutput
    )
    for name, flow in COLLECTING.items():
        graph.add_node(name, Node(name, partial(flow, collector)))
    graph.add_edge(START, "teacher_write")
    for name, target in pairwise(COLLECTING):
        if name not in ("inspect", "student_correct"):
            graph.add_conditional_edges(name, _unless_ended(target), [target, "record"])
    graph.add_conditional_edges(
        "inspect", Router(collecting.after_inspect), ["teacher_critique", "student_review", "record"]
    )
    graph.add_conditional_edges("student_correct", _unless_ended("verify"), ["verify", "record"])
    graph.add_edge("record", END)
    compiled = graph.compile(checkpointer=checkpointer, store=store, name="supercorrect_collect")
    return compiled.with_config(recursion_limit=COLLECT_STEPS)


def _unless_ended(target: str) -> Router:
    def route(state: Decided) -> str:
        return "record" if state["ending"] else target

    return Router(route)
