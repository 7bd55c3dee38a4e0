"""Roles by name, over HTTP and in this process, and one model for both of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_openai import ChatOpenAI

from supercorrect_agent.graph import create_supercorrect_graph
from supercorrect_agent.models import PREFILL_METADATA, folder, load_chat_model
from supercorrect_agent.state import CorrectionConfig
from supercorrect_agent.teachers import as_teacher
from tests.durable_run import QUESTION, REST, RIGHT, WRONG
from tests.fakes import prefilling
from tests.http_server import running
from tests.test_canary import FINE, FOUND, Server


@pytest.fixture
def server() -> Iterator[Server]:
    with running(Server()) as server:
        yield server


def test_a_vllm_student_and_an_openai_teacher(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "of-openai")
    monkeypatch.setenv("OPENAI_API_BASE", server.url)
    graph = create_supercorrect_graph(f"vllm:student@{server.url}", "openai:teacher")
    result = graph.invoke({"problem": QUESTION})
    assert (result["status"], result["solution"]) == ("corrected", RIGHT)
    assert result["rounds"][0]["continuation"] == "prefill"
    assert server.keys == ["Bearer none", "Bearer of-openai"] * 2
    # the server says 5 tokens in and 4 out a call
    tokens = {role: (used["input_tokens"], used["output_tokens"]) for role, used in result["usage"].items()}
    assert tokens == {"student": (10, 8), "teacher": (10, 8)}


def test_tokens_are_counted_in_a_stream_wherever_an_openai_model_is_served() -> None:
    """LangChain leaves that off as soon as the address is not OpenAI's own."""
    served: dict[str, Any] = {"base_url": "http://127.0.0.1:9/v1", "api_key": "none"}
    assert load_chat_model("openai:m", **served).stream_usage is True  # type: ignore[attr-defined]
    own = load_chat_model("openai:m", stream_usage=False, **served)
    assert own.stream_usage is False  # type: ignore[attr-defined]


def test_a_chat_model_that_is_marked_as_vllm_counts_streamed_tokens_unless_it_says_no() -> None:
    served: dict[str, Any] = {"model": "m", "base_url": "http://127.0.0.1:9/v1", "api_key": "none"}
    marked = ChatOpenAI(**served, metadata=PREFILL_METADATA)
    assert marked.stream_usage is None
    assert create_student(marked).stream_usage is True
    assert create_teacher(marked).stream_usage is True
    refusing = ChatOpenAI(**served, metadata=PREFILL_METADATA, stream_usage=False)
    assert create_student(refusing) is refusing
    unknown = ChatOpenAI(**served)  # many servers refuse to be asked
    assert create_student(unknown) is unknown


def create_student(model: BaseChatModel) -> Any:
    return load_chat_model(model)


def create_teacher(model: BaseChatModel) -> Any:
    return as_teacher(model).model  # type: ignore[attr-defined]


class Uncounted(ChatOpenAI):
    """As a server that streams without usage is seen by LangChain."""

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(RIGHT))])


def test_whoever_streams_without_a_count_is_told_how_to_get_one() -> None:
    model = Uncounted(model="m", base_url="http://127.0.0.1:9/v1", api_key="none")  # type: ignore[arg-type]
    graph = create_supercorrect_graph(model, config=CorrectionConfig(max_rounds=0))
    with pytest.warns(UserWarning, match="'m' streams without counting its tokens.*stream_usage=True"):
        result = graph.invoke({"problem": QUESTION})
    assert result["usage"]["student"]["output_tokens"] == 0


def test_one_model_may_play_both_roles() -> None:
    model = prefilling(WRONG, json.dumps(FOUND), REST, json.dumps(FINE))
    result = create_supercorrect_graph(model, model).invoke({"problem": QUESTION})
    assert (result["status"], result["solution"]) == ("corrected", RIGHT)
    assert {role: used["calls"] for role, used in result["usage"].items()} == {"student": 2, "teacher": 2}


@pytest.mark.integration
@pytest.mark.parametrize("reviewer", ["teacher", "student"])
def test_a_local_model_in_both_roles_is_loaded_once(
    model: Path, reviewer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, load = [], folder.load_folder

    def counted(*arguments: Any) -> Any:
        loaded.append(arguments[0])
        return load(*arguments)

    monkeypatch.setattr(folder, "load_folder", counted)
    spec = f"local:{model}"
    graph = create_supercorrect_graph(
        spec,
        spec if reviewer == "teacher" else None,
        config=CorrectionConfig(max_new_tokens=8, max_rounds=1),
    )
    result = graph.invoke({"problem": "2+2?"})
    assert loaded == [model]
    assert result["status"] != "error"
    assert result["usage"][reviewer]["output_tokens"] > 0
