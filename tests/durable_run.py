"""A solving run in a process of its own, which tests kill and go on with in another process.

``python -m tests.durable_run`` reads jobs, one JSON object a line, and forks a child for each, so that
LangGraph is imported once and every job still has a process of its own that knows nothing of earlier ones.
``python -m tests.durable_run JOB`` does one job in this very process. Models and teachers append each call
to a file before they answer, and answer by what they are shown: they remember nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from importlib.util import find_spec
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.types import Command
from pydantic import BaseModel

from supercorrect_agent.graph import create_supercorrect_graph
from supercorrect_agent.models import PREFILL_METADATA
from supercorrect_agent.state import CorrectionConfig
from supercorrect_agent.types import Call, Critique, Inspection, Problem, Solution, Verdict
from tests.fakes import ScriptedChatModel, ScriptedTeacher

if find_spec("psycopg"):
    from langgraph.checkpoint.postgres import PostgresSaver
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

Job = Mapping[str, Any]
LOCK = threading.Lock()

QUESTION = "A shop sells 47 pens on Monday and 85 on Tuesday. How many is three times that?"
STEP1 = "<Step1>Add. 47+85=132</Step1>\n"
WRONG = STEP1 + "<Step2>Triple. 132*3=386</Step2>\n<Answer>\\boxed{386}</Answer>"
REST = "<Answer>\\boxed{396}</Answer>"
RIGHT = STEP1 + "<Step2>Triple. 132*3=396</Step2>\n" + REST
FOUND = Critique(step=2, cause="3 times 132 is 396.", correction="Triple. 132*3=396", author="t")
FINE = Critique(author="t")
REVIEW = (
    STEP1.replace("</Step1>", "<Evaluate>ok</Evaluate></Step1>")
    + "<Step2>Triple. 132*3=386<Evaluate>wrong</Evaluate><Cause>It is 396.</Cause>"
    + "<Correction>Triple. 132*3=396"
)
NO_ERROR = STEP1.replace("</Step1>", "<Evaluate>ok</Evaluate></Step1>") + "<Answer>\\boxed{396}</Answer>"


def log_call(job: Job, what: str) -> None:
    """Appends one call with its number, counted over all processes that worked on the thread."""
    with LOCK, open(job["log"], "a+") as log:
        log.seek(0)
        number = len(log.readlines()) + 1
        log.write(f"{number} {what}\n")
    if what == job.get("hold"):
        print("held", flush=True)
        time.sleep(600)


class LoggedStudent(ScriptedChatModel):
    """Is wrong at first, right when it goes on from its corrected text, and finds its own error."""

    job: Job

    def next_reply(self, messages: Any, options: dict[str, Any]) -> AIMessage:
        shown = messages[0].text
        if isinstance(messages[-1], AIMessage):
            what, reply = "student_correct", REST
        elif "Check the solution" in shown:
            what, reply = "student_review", NO_ERROR if RIGHT in shown else REVIEW
        else:
            what, reply = "student_solve", WRONG
        log_call(self.job, what)
        return AIMessage(reply)


class LoggedTeacher(ScriptedTeacher):
    """Finds the wrong product, and nothing else."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.job = job

    def critique(
        self,
        question: str,
        solution: Solution,
        *,
        reference: Problem | None = None,
        config: RunnableConfig | None = None,
    ) -> tuple[Critique, tuple[Call, ...]]:
        log_call(self.job, "teacher_critique")
        found = FOUND if solution.answer == "386" else FINE
        return found, (Call(role="teacher", model="t", input_tokens=7, output_tokens=3),)


class Executioner:
    """Kills this process between two nodes: ``node`` has finished for the nth time, the next one starts."""

    def __init__(self, node: str, nth: int) -> None:
        self.node, self.nth = node, nth
        self.finished: Counter[str] = Counter()

    def see(self, task: Mapping[str, Any]) -> None:
        if "input" not in task:
            self.finished[task["name"]] += 1
            self.finished["any"] += 1
        elif self.finished[self.node] >= self.nth:
            os.kill(os.getpid(), signal.SIGKILL)


def graph_of(job: Job, saver: BaseCheckpointSaver[Any] | None) -> Any:
    def check(question: str, solution: Solution) -> Verdict:
        log_call(job, "verify")
        return Verdict(status="unscored")

    def inspect(problem: Problem, solution: Solution, found: Critique) -> Sequence[Inspection]:
        log_call(job, "inspect_critique")
        return (Inspection(check="logged", passed=True),)

    student = LoggedStudent(replies=[], job=job, metadata=PREFILL_METADATA)
    teacher = None if job.get("alone") else LoggedTeacher(job)
    config = CorrectionConfig(**job.get("config", {}))
    return create_supercorrect_graph(
        student,
        teacher,
        verifier=check,
        inspector=inspect if job.get("inspected") else None,
        config=config,
        checkpointer=saver,
    )


@contextmanager
def open_saver(where: str) -> Iterator[BaseCheckpointSaver[Any]]:
    if where.startswith("postgresql:"):
        with PostgresSaver.from_conn_string(where) as saver:
            saver.setup()
            yield saver
    else:
        with SqliteSaver.from_conn_string(where) as sqlite:
            yield sqlite


@asynccontextmanager
async def open_async_saver(where: str) -> AsyncIterator[BaseCheckpointSaver[Any]]:
    if where.startswith("postgresql:"):
        async with AsyncPostgresSaver.from_conn_string(where) as saver:
            await saver.setup()
            yield saver
    else:
        async with AsyncSqliteSaver.from_conn_string(where) as sqlite:
            yield sqlite


def given(job: Job) -> Any:
    """What the run goes on with: the problem, a person's decision, or what its checkpoint holds."""
    if "decision" in job:
        return Command(resume={"decisions": [job["decision"]]})
    return {"problem": QUESTION} if job.get("begin") else None


def is_native(values: Any) -> bool:
    """Whether a state is JSON: it comes back equal, and no text changes."""
    return bool(json.loads(json.dumps(values)) == values)


def perform(job: Job) -> dict[str, Any]:
    """Runs (or, without a problem, resumes) the thread of a job; see `perform_async` for its twin."""
    config: RunnableConfig = {"configurable": {"thread_id": job["thread"]}}
    executioner = Executioner(*job.get("kill", ("nobody", 1)))
    with open_saver(job["saver"]) as saver:
        graph = graph_of(job, saver)
        before = graph.get_state(config)
        result: Any = None
        for mode, event in graph.stream(
            given(job), config, stream_mode=["tasks", "values"], durability=job.get("durability")
        ):
            if mode == "tasks":
                executioner.see(event)
            elif "__interrupt__" not in event:
                result = event
        return report(before, graph.get_state(config), result)


async def perform_async(job: Job) -> dict[str, Any]:
    config: RunnableConfig = {"configurable": {"thread_id": job["thread"]}}
    executioner = Executioner(*job.get("kill", ("nobody", 1)))
    async with open_async_saver(job["saver"]) as saver:
        graph = graph_of(job, saver)
        before = await graph.aget_state(config)
        result: Any = None
        async for mode, event in graph.astream(
            given(job), config, stream_mode=["tasks", "values"], durability=job.get("durability")
        ):
            if mode == "tasks":
                executioner.see(event)
            elif "__interrupt__" not in event:
                result = event
        return report(before, await graph.aget_state(config), result)


def report(before: Any, after: Any, result: Any) -> dict[str, Any]:
    """What a test wants to know of a run that came to its end or waits for a person."""
    return {
        "result": result,
        "asked": [one.value for one in after.interrupts],
        "before": list(before.next),
        "after": list(after.next),
        "native": is_native(before.values) and is_native(after.values),
        "kept": all(result[key] == value for key, value in after.values.items() if key in result),
    }


class Stranger(BaseModel):
    """A record as a careless state would hold it."""


def serializer_is_strict() -> bool:
    """Whether a record is no longer one when it comes back: only JSON survives."""
    serde = JsonPlusSerializer()
    return not isinstance(serde.loads_typed(serde.dumps_typed(Stranger())), Stranger)


def do(job: Job) -> None:
    if "strict" in job:
        print(json.dumps({"strict": serializer_is_strict()}), flush=True)
        return
    done = asyncio.run(perform_async(job)) if job.get("async") else perform(job)
    print(json.dumps(done), flush=True)


def serve() -> None:
    """Forks a child for each job on standard input; says how it ended."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                do(json.loads(line))
            except BaseException:
                sys.excepthook(*sys.exc_info())
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(json.dumps({"exit": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    if sys.argv[1:]:
        do(json.loads(sys.argv[1]))
    else:
        serve()
