"""One layer of retries, the time of a call, and what a cancelled run leaves behind."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import httpx
import openai
import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatResult
from langchain_openai import ChatOpenAI
from pydantic import PrivateAttr, ValidationError

from supercorrect_agent import limits
from supercorrect_agent.errors import ModelError, TeacherError
from supercorrect_agent.graph import create_collecting_graph, create_supercorrect_graph
from supercorrect_agent.limits import CALL_THREAD
from supercorrect_agent.models import is_transient, load_chat_model, retries_itself
from supercorrect_agent.state import CollectConfig, CorrectionConfig
from supercorrect_agent.types import Problem
from tests.fakes import ScriptedChatModel, ScriptedTeacher
from tests.test_confidence import judged
from tests.test_graph import FINE, FOUND, QUESTION, REST, RIGHT, WRONG

GIVEN: Any = {"problem": QUESTION}
REQUEST = httpx.Request("POST", "http://127.0.0.1:1/v1")
DOWN = ConnectionError("down")


def answered(status: int) -> httpx.Response:
    return httpx.Response(status, request=REQUEST)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RETRY_WAIT", {"initial": 0, "max": 0, "jitter": 0})


def plain(*replies: Any, **fields: Any) -> ScriptedChatModel:
    """A scripted model that does not retry by itself."""
    return ScriptedChatModel(replies=list(replies), max_retries=0, **fields)


def solve(kind: str, student: Any, teacher: Any, **options: Any) -> dict[str, Any]:
    graph = create_supercorrect_graph(student, teacher, **options)
    return graph.invoke(GIVEN) if kind == "sync" else asyncio.run(graph.ainvoke(GIVEN))


BOTH = pytest.mark.parametrize("kind", ["sync", "async"])


class TestRetries:
    @BOTH
    def test_what_fails_for_a_moment_is_tried_again(self, kind: str) -> None:
        student = plain(DOWN, DOWN, RIGHT)
        result = solve(kind, student, ScriptedTeacher(FINE))
        assert (result["status"], result["answer"], len(student.prompts)) == ("accepted", "396", 3)
        assert result["usage"]["student"]["calls"] == 1

    @BOTH
    def test_no_oftener_than_is_wanted(self, kind: str) -> None:
        student = plain(DOWN, DOWN, RIGHT)
        result = solve(kind, student, ScriptedTeacher(), config=CorrectionConfig(retries=1))
        assert (result["status"], len(student.prompts)) == ("error", 2)
        assert result["trace"]["error"] == "student: ConnectionError: down"

    def test_never_where_it_is_turned_off(self) -> None:
        student = plain(DOWN, RIGHT)
        solve("sync", student, ScriptedTeacher(), config=CorrectionConfig(retries=0))
        assert len(student.prompts) == 1

    @BOTH
    def test_a_fault_of_the_request_is_not_tried_again(self, kind: str) -> None:
        for fault in (
            ValueError("no"),
            openai.BadRequestError("no", response=answered(400), body=None),
            openai.AuthenticationError("no", response=answered(401), body=None),
        ):
            student = plain(fault, RIGHT)
            assert solve(kind, student, ScriptedTeacher())["status"] == "error"
            assert len(student.prompts) == 1

    @BOTH
    def test_a_teacher_that_is_a_chat_model_is_asked_again_too(self, kind: str) -> None:
        judge = plain(DOWN, judged(), DOWN, judged(first_wrong_step=None))
        result = solve(kind, plain(WRONG, DOWN, REST), judge)
        assert (result["status"], result["answer"]) == ("corrected", "396")
        assert (len(judge.prompts), result["usage"]["teacher"]["calls"]) == (4, 2)

    def test_the_settings_of_the_run_reach_the_teacher(self) -> None:
        judge = plain(DOWN, judged())
        graph = create_supercorrect_graph(plain(WRONG), judge)
        result = graph.invoke(GIVEN, context=CorrectionConfig(retries=0))
        assert (result["status"], len(judge.prompts)) == ("error", 1)

    def test_a_model_that_retries_by_itself_gets_no_second_layer(self) -> None:
        student = ScriptedChatModel(replies=[DOWN, RIGHT], max_retries=2)
        assert solve("sync", student, ScriptedTeacher())["status"] == "error"
        assert len(student.prompts) == 1

    def test_each_sample_is_tried_again_for_itself(self) -> None:
        student = plain(DOWN, RIGHT, DOWN, RIGHT, RIGHT)
        result = solve("sync", student, ScriptedTeacher(FINE), config=CorrectionConfig(samples=3))
        assert (result["agreement"], len(student.prompts)) == (1.0, 5)

    def test_the_collecting_graph_tries_again_as_well(self) -> None:
        student = plain(DOWN, RIGHT)
        graph = create_collecting_graph(
            student, ScriptedTeacher(), config=CollectConfig(write_template=False)
        )
        problem = Problem.create(QUESTION, answer="396").model_dump()
        assert graph.invoke({"problem": problem})["trace"]["status"] == "accepted"
        assert len(student.prompts) == 2

    async def test_names_tags_and_tokens_are_as_without(self) -> None:
        graph = create_supercorrect_graph(plain(DOWN, WRONG, REST), ScriptedTeacher(FOUND, FINE))
        events = [event async for event in graph.astream_events(GIVEN, version="v2")]
        started = [event for event in events if event["event"] == "on_chat_model_start"]
        assert [event["name"] for event in started] == ["student_solve"] * 2 + ["student_correct"]
        assert "retry:attempt:2" in started[1]["tags"]
        # the run around the attempts has a name of its own: the node's would stream its message twice
        assert "student_solve_attempts" in {event["name"] for event in events}
        assert all("role:student" in event["tags"] for event in started)
        assert all(
            event["metadata"]["round"] == number for event, number in zip(started, [0, 0, 1], strict=True)
        )

    async def test_a_call_that_succeeds_at_once_has_no_run_around_it(self) -> None:
        graph = create_supercorrect_graph(plain(RIGHT), ScriptedTeacher(FINE))
        names = {event["name"] async for event in graph.astream_events(GIVEN, version="v2")}
        assert "student_solve" in names
        assert "student_solve_attempts" not in names

    def test_each_further_attempt_waits_twice_as_long(self, monkeypatch: pytest.MonkeyPatch) -> None:
        waits: list[float] = []
        monkeypatch.setattr(limits, "RETRY_WAIT", {"initial": 0.5, "exp_base": 2, "max": 30, "jitter": 0})
        monkeypatch.setattr("tenacity.nap.time.sleep", waits.append)
        student = plain(DOWN, DOWN, DOWN, RIGHT)
        solve("sync", student, ScriptedTeacher(FINE), config=CorrectionConfig(retries=3))
        assert waits == [0.5, 1.0, 2.0]

    async def test_each_token_streams_once(self) -> None:
        graph = create_supercorrect_graph(plain(RIGHT), ScriptedTeacher(FINE))
        chunks = [pair async for pair in graph.astream(GIVEN, stream_mode="messages")]
        assert "".join(chunk.text for chunk, _ in chunks) == RIGHT
        assert chunks[0][1]["tags"] == ["role:student"]
        assert chunks[0][1]["langgraph_node"] == "student_solve"

    def test_bounds(self) -> None:
        for wrong in ({"retries": -1}, {"retries": 9}, {"call_timeout": 0}):
            with pytest.raises(ValidationError):
                CorrectionConfig(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (openai.APIConnectionError(request=REQUEST), True),
        (openai.APITimeoutError(request=REQUEST), True),
        (openai.RateLimitError("busy", response=answered(429), body=None), True),
        (openai.InternalServerError("oops", response=answered(503), body=None), True),
        (httpx.ConnectError("down"), True),
        (httpx.ReadTimeout("slow"), True),
        (import_module("httpx2" if find_spec("httpx2") else "httpx").ReadError("torn off"), True),
        (ConnectionResetError("reset"), True),
        (TimeoutError("slow"), True),
        (openai.BadRequestError("no", response=answered(400), body=None), False),
        (openai.AuthenticationError("no", response=answered(401), body=None), False),
        (openai.NotFoundError("no", response=answered(404), body=None), False),
        (httpx.InvalidURL("no"), False),
        (ValueError("no"), False),
        (OSError("no"), False),
        (ModelError("no"), False),
        (TeacherError("no"), False),
        (KeyboardInterrupt(), False),
        (asyncio.CancelledError(), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_which_errors_pass(error: BaseException, transient: bool) -> None:
    assert is_transient(error) == transient


def test_named_models_leave_the_retries_to_the_graph() -> None:
    served = load_chat_model("vllm:m@http://127.0.0.1:9")
    assert isinstance(served, ChatOpenAI)
    assert (served.max_retries, retries_itself(served)) == (0, False)
    named = load_chat_model("openai:m", api_key="none")
    assert isinstance(named, ChatOpenAI)
    assert named.max_retries == 0
    own = load_chat_model("openai:m", api_key="none", max_retries=3)
    assert retries_itself(own)
    # None is not none: the client of OpenAI then tries twice more
    assert retries_itself(ChatOpenAI(model="m", api_key="none"))
    assert not retries_itself(plain())


class Waiting(ScriptedChatModel):
    """Waits for ever where it is to play ``WAIT``, and keeps count of the calls under way."""

    under_way: list[int] = [0, 0]  # now, and at most so far
    _release: threading.Event = PrivateAttr(default_factory=threading.Event)

    async def _agenerate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        self.under_way[0] += 1
        self.under_way[1] = max(self.under_way)
        try:
            if self.replies[len(self.prompts)] is WAIT:
                self.prompts.append(messages)
                await asyncio.Event().wait()
            return super()._generate(messages)
        finally:
            self.under_way[0] -= 1

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        if self.replies[len(self.prompts)] is WAIT:
            self.prompts.append(messages)
            self._release.wait(60)
            raise RuntimeError("nobody listens any more")
        return super()._generate(messages)


WAIT = "(waits)"


def waiting(*replies: Any, **fields: Any) -> Waiting:
    return Waiting(replies=list(replies), max_retries=0, disable_streaming=True, under_way=[0, 0], **fields)


class Hanging(ScriptedTeacher):
    """A teacher that is no chat model, and hangs until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.release = threading.Event()
        self.asked = asyncio.Event()

    async def acritique(self, *args: Any, **kwargs: Any) -> Any:
        self.asked.set()
        await asyncio.Event().wait()

    def critique(self, *args: Any, **kwargs: Any) -> Any:
        self.release.wait(60)


@pytest.fixture
def silent_server() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


class TestCallTimeout:
    SHORT = CorrectionConfig(call_timeout=1, retries=0)  # long enough for a scripted reply on a busy machine
    LATE = "TimeoutError: no reply within call_timeout=1.0 s"

    @BOTH
    def test_a_call_that_hangs_ends_the_run_with_what_there_is(self, kind: str) -> None:
        student = waiting(WRONG, WAIT)
        result = solve(kind, student, ScriptedTeacher(FOUND), config=self.SHORT)
        assert (result["status"], result["answer"]) == ("error", "386")
        assert result["trace"]["error"] == f"student: {self.LATE}"
        assert student.under_way[0] == 0
        student._release.set()

    @BOTH
    def test_it_is_tried_again(self, kind: str) -> None:
        student = waiting(WAIT, RIGHT)
        config = CorrectionConfig(call_timeout=1, retries=1)
        result = solve(kind, student, ScriptedTeacher(FINE), config=config)
        assert (result["status"], result["answer"], len(student.prompts)) == ("accepted", "396", 2)
        student._release.set()

    @BOTH
    def test_a_judge_that_hangs(self, kind: str) -> None:
        judge = waiting(WAIT)
        result = solve(kind, plain(WRONG), judge, config=self.SHORT)
        assert (result["status"], result["answer"]) == ("error", "386")
        assert result["reason"] == f"teacher: {self.LATE}; nobody checked the answer"
        judge._release.set()

    @BOTH
    def test_a_teacher_that_is_no_model_and_hangs(self, kind: str) -> None:
        teacher = Hanging()
        result = solve(kind, plain(WRONG), teacher, config=self.SHORT)
        assert result["trace"]["error"] == f"teacher: {self.LATE}"
        teacher.release.set()

    @BOTH
    def test_a_teacher_that_has_a_model_of_its_own_and_hangs(self, kind: str) -> None:
        teacher = Hanging()
        teacher.model = plain()  # which it may ask in its own way, past the limits  # type: ignore[attr-defined]
        result = solve(kind, plain(WRONG), teacher, config=self.SHORT)
        assert result["trace"]["error"] == f"teacher: {self.LATE}"
        teacher.release.set()

    def test_tokens_and_events_stream_as_without(self) -> None:
        config = CorrectionConfig(call_timeout=60)
        graph = create_supercorrect_graph(plain(RIGHT), ScriptedTeacher(FINE), config=config)
        parts = list(graph.stream(GIVEN, stream_mode=["messages", "custom"]))
        chunks = [part for mode, part in parts if mode == "messages"]
        assert "".join(chunk.text for chunk, _ in chunks) == RIGHT
        assert {metadata["langgraph_node"] for _, metadata in chunks} == {"student_solve"}
        assert [part["event"] for mode, part in parts if mode == "custom"] == ["solution", "critique", "done"]

    def test_a_failure_in_time_is_told_as_it_is(self) -> None:
        config = CorrectionConfig(call_timeout=60, retries=0)
        for kind in ("sync", "async"):
            result = solve(kind, plain(TimeoutError("own")), ScriptedTeacher(), config=config)
            assert result["trace"]["error"] == "student: TimeoutError: own"

    def test_the_client_of_a_served_model_gives_up_as_well(self, silent_server: str) -> None:
        student, before = load_chat_model(f"vllm:m@{silent_server}"), set(threading.enumerate())
        result = solve(
            "sync", student, ScriptedTeacher(), config=CorrectionConfig(call_timeout=0.3, retries=0)
        )
        assert (result["status"], result["answer"]) == ("error", None)
        left = [thread for thread in threading.enumerate() if thread.name == CALL_THREAD]
        for thread in set(left) - before:
            thread.join(30)
            assert not thread.is_alive()


class TestCancellation:
    @pytest.mark.parametrize("samples", [1, 4])
    @pytest.mark.parametrize("role", ["student", "judge"])
    async def test_a_cancelled_run_leaves_no_task_behind(self, samples: int, role: str) -> None:
        model = waiting(*[WAIT] * samples) if role == "student" else waiting(WAIT)
        student: BaseChatModel = model if role == "student" else plain(*[WRONG] * samples)
        judge: Any = model if role == "judge" else ScriptedTeacher()
        graph = create_supercorrect_graph(student, judge, config=CorrectionConfig(samples=samples))
        before = asyncio.all_tasks()
        run = asyncio.create_task(graph.ainvoke(GIVEN))
        expected = samples if role == "student" else 1
        while model.under_way[0] < expected:
            await asyncio.sleep(0.01)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert model.under_way == [0, expected]
        assert asyncio.all_tasks() == before

    async def test_a_cancelled_run_is_not_tried_again(self) -> None:
        student = waiting(WAIT, RIGHT)
        run = asyncio.create_task(create_supercorrect_graph(student, ScriptedTeacher()).ainvoke(GIVEN))
        while not student.under_way[0]:
            await asyncio.sleep(0.01)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert len(student.prompts) == 1

    async def test_a_cancelled_teacher_that_is_no_model(self) -> None:
        before = asyncio.all_tasks()
        teacher = Hanging()
        run = asyncio.create_task(create_supercorrect_graph(plain(WRONG), teacher).ainvoke(GIVEN))
        await teacher.asked.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert asyncio.all_tasks() == before
