"""The same four calls made by three programs: our graph, a LangGraph graph wired by hand, and a plain loop.

The student's first solution has its error in step 3 of 4; the critic names it, the student goes on from the
corrected step, and the critic finds no error. All contestants send the same messages: the student is a model
that continues a partial message. Each problem has texts of its own.

What is wired by hand knows only what this run needs: no other endings, no usage, no trace, no progress
events, no retries and no caps. It reads texts in one of two ways. ``PLAIN`` is what somebody writes in an
afternoon: the prompts filled by ``str.replace``, one search for the box, ``json.loads`` of the verdict.
``PACKAGE`` uses our own readers, so that the parsing of hostile text is on both sides. Its router is a plain
function, as in LangGraph's own examples, and so runs in a thread under ``ainvoke``; one contestant has a
coroutine in its place.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict

from benchmarks.overhead_job import FIRST, Job, student_rule, teacher_rule
from supercorrect_agent.graph import create_supercorrect_graph
from supercorrect_agent.models import PREFILL_METADATA
from supercorrect_agent.prompts import DEFAULT_PROMPTS, fence, render_prompt, student_messages
from supercorrect_agent.teachers.verdict import read_verdict
from supercorrect_agent.templates import parse_solution, splice_correction
from supercorrect_agent.types import Critique

Contestant = Callable[[], Awaitable[Any]]


class RuleChatModel(BaseChatModel):
    """Answers by a rule over the messages, so that any number of runs may share it.

    Under ``ainvoke`` it waits ``seconds`` first, give or take half; by default it answers at once.
    """

    rule: Callable[[Sequence[BaseMessage]], str]
    seconds: float = 0.0
    model_name: str = "rule"
    max_retries: int = 0  # as the models have that `load_chat_model` makes: the graph retries

    @property
    def _llm_type(self) -> str:
        return "rule"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        usage = UsageMetadata(input_tokens=200, output_tokens=80, total_tokens=280)
        message = AIMessage(self.rule(messages), usage_metadata=usage)
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        if self.seconds:
            await asyncio.sleep(self.seconds * random.uniform(0.5, 1.5))
        return self._generate(messages)  # in place: the default is a thread


def make_student(seconds: float = 0.0) -> RuleChatModel:
    """The student, which continues a partial message."""
    return RuleChatModel(rule=student_rule, seconds=seconds, metadata=PREFILL_METADATA)


def make_teacher(seconds: float = 0.0) -> RuleChatModel:
    """The critic."""
    return RuleChatModel(rule=teacher_rule, seconds=seconds)


@dataclass(frozen=True)
class Reading:
    """How a program that is wired by hand fills the prompts and reads the replies."""

    solve: Callable[[str], str]
    judge: Callable[[str, str], str]
    answer: Callable[[str], str | None]
    verdict: Callable[[str, str], dict[str, Any]]
    keep: Callable[[str, dict[str, Any]], str]


# The prompts as text with two slots to fill; what this run leaves out of them is gone.
_SOLVE = render_prompt(DEFAULT_PROMPTS.solve, problem="{problem}")
_JUDGE = render_prompt(DEFAULT_PROMPTS.judge, problem="{problem}", solution="{solution}")


def _judge_plainly(problem: str, solution: str) -> str:
    text = _JUDGE.replace("{problem}", f"<problem>\n{problem}\n</problem>")
    return text.replace("{solution}", f"<solution>\n{solution}\n</solution>")


def _answer_plainly(solution: str) -> str | None:
    _, box, after = solution.rpartition("\\boxed{")
    return after.partition("}")[0] if box else None


def _keep_plainly(solution: str, verdict: dict[str, Any]) -> str:
    step = verdict["first_wrong_step"]
    kept = solution[: solution.index(f"<Step{step}>")]
    return f"{kept}<Step{step}>{verdict['correction']}</Step{step}>\n"


def _judge_fenced(problem: str, solution: str) -> str:
    fenced = {"problem": fence(problem, "problem"), "solution": fence(solution, "solution")}
    return render_prompt(DEFAULT_PROMPTS.judge, **fenced)


def _keep_parsed(solution: str, verdict: dict[str, Any]) -> str:
    critique = Critique(step=verdict["first_wrong_step"], correction=verdict["correction"])
    return splice_correction(parse_solution(solution), critique)


PLAIN = Reading(
    solve=lambda problem: _SOLVE.replace("{problem}", problem),
    judge=_judge_plainly,
    answer=_answer_plainly,
    verdict=lambda solution, reply: dict(json.loads(reply)),
    keep=_keep_plainly,
)
PACKAGE = Reading(
    solve=lambda problem: str(student_messages(DEFAULT_PROMPTS, problem)[0].text),
    judge=_judge_fenced,
    answer=lambda solution: parse_solution(solution).answer,
    verdict=lambda solution, reply: read_verdict(
        reply, steps=len(parse_solution(solution).steps)
    ).model_dump(),
    keep=_keep_parsed,
)


class HandState(TypedDict, total=False):
    """What the graph that is wired by hand keeps."""

    problem: str
    solution: str
    answer: str | None
    critique: dict[str, Any]
    rounds: list[dict[str, Any]]
    status: str


def hand_wired(
    student: BaseChatModel, teacher: BaseChatModel, reading: Reading, *, async_router: bool = False
) -> Any:
    """A compiled LangGraph graph with our node sequence and nothing that this run does not need.

    Args:
        student: The student.
        teacher: The critic.
        reading: How the prompts are filled and the replies read.
        async_router: Whether the one router is a coroutine; LangGraph gives a plain function to a thread.
    """

    async def student_solve(state: HandState) -> HandState:
        reply = await student.ainvoke([HumanMessage(reading.solve(state["problem"]))])
        return {"solution": str(reply.text), "rounds": []}

    async def verify(state: HandState) -> HandState:
        return {"answer": reading.answer(state["solution"])}

    async def teacher_critique(state: HandState) -> HandState:
        asked = HumanMessage(reading.judge(state["problem"], state["solution"]))
        reply = await teacher.ainvoke([asked])
        return {"critique": reading.verdict(state["solution"], str(reply.text))}

    async def student_correct(state: HandState) -> HandState:
        kept = reading.keep(state["solution"], state["critique"])
        request = HumanMessage(reading.solve(state["problem"]))
        reply = await student.ainvoke([request, AIMessage(kept)])
        return {"solution": kept + str(reply.text), "rounds": [*state["rounds"], state["critique"]]}

    async def record(state: HandState) -> HandState:
        return {"status": "corrected" if state["rounds"] else "accepted"}

    def after_critique(state: HandState) -> str:
        return "record" if state["critique"]["first_wrong_step"] is None else "student_correct"

    async def aafter_critique(state: HandState) -> str:
        return after_critique(state)

    graph = StateGraph(HandState)
    for node in (student_solve, verify, teacher_critique, student_correct, record):
        graph.add_node(node.__name__, node)
    graph.add_edge(START, "student_solve")
    graph.add_edge("student_solve", "verify")
    graph.add_edge("verify", "teacher_critique")
    router = aafter_critique if async_router else after_critique
    graph.add_conditional_edges("teacher_critique", router, ["student_correct", "record"])
    graph.add_edge("student_correct", "verify")
    graph.add_edge("record", END)
    return graph.compile()


async def plain_loop(
    student: BaseChatModel, teacher: BaseChatModel, reading: Reading, problem: str
) -> HandState:
    """The same calls without any graph."""
    request = HumanMessage(reading.solve(problem))
    solution, rounds = str((await student.ainvoke([request])).text), list[dict[str, Any]]()
    while True:
        reply = await teacher.ainvoke([HumanMessage(reading.judge(problem, solution))])
        critique = reading.verdict(solution, str(reply.text))
        if critique["first_wrong_step"] is None:
            status = "corrected" if rounds else "accepted"
            return {"solution": solution, "answer": reading.answer(solution), "status": status}
        kept = reading.keep(solution, critique)
        rounds.append(critique)
        solution = kept + str((await student.ainvoke([request, AIMessage(kept)])).text)


def contestants(student: BaseChatModel, teacher: BaseChatModel) -> dict[str, Contestant]:
    """Every program, as a call that solves the next job; all of them begin with the same one."""
    ours = create_supercorrect_graph(student, teacher)
    plain, parsed = (hand_wired(student, teacher, reading) for reading in (PLAIN, PACKAGE))
    in_place = hand_wired(student, teacher, PLAIN, async_router=True)
    programs: dict[str, Callable[[str], Awaitable[Any]]] = {
        "ours": lambda question: ours.ainvoke({"problem": question}),
        "langgraph": lambda question: plain.ainvoke({"problem": question}),
        "langgraph, our readers": lambda question: parsed.ainvoke({"problem": question}),
        "langgraph, async router": lambda question: in_place.ainvoke({"problem": question}),
        "asyncio": lambda question: plain_loop(student, teacher, PLAIN, question),
    }
    return {name: _one_after_another(solve) for name, solve in programs.items()}


def _one_after_another(solve: Callable[[str], Awaitable[Any]]) -> Contestant:
    jobs = map(Job, count(FIRST.copies))
    return lambda: solve(next(jobs).question)
