"""`load_chat_model("vllm:NAME@URL")` against the real engine, beside the same weights in this process."""

from __future__ import annotations

import pytest
from langchain_core.messages import AIMessage, HumanMessage

from supercorrect_agent.errors import ModelError
from supercorrect_agent.models import continue_message_kwargs, explain_model_error, load_chat_model
from tests.tiny import build_tiny_model
from tests.vllm_server import MODEL_NAME

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1200)]
QUESTION = "What is 7*8?"


@pytest.fixture(scope="module")
def served(vllm_url):
    return load_chat_model(f"vllm:{MODEL_NAME}@{vllm_url}", temperature=0, max_tokens=40)


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    folder = build_tiny_model(tmp_path_factory.mktemp("beside") / "tiny", context=1024)
    return load_chat_model(f"local:{folder}", max_tokens=40)


async def test_it_writes_what_the_same_weights_write_here(served, local):
    reply, here = await served.ainvoke(QUESTION), local.invoke(QUESTION)
    assert reply.content == here.content
    assert reply.usage_metadata["input_tokens"] == here.usage_metadata["input_tokens"] == 15
    assert reply.usage_metadata["output_tokens"] == here.usage_metadata["output_tokens"] > 0
    assert reply.response_metadata["finish_reason"] == here.response_metadata["finish_reason"]


async def test_it_streams_and_counts_tokens(served):
    chunks = [chunk async for chunk in served.astream(QUESTION)]
    message = sum(chunks[1:], chunks[0])
    assert sum(bool(chunk.content) for chunk in chunks) > 5
    assert message.content == served.invoke(QUESTION).content
    assert message.usage_metadata["total_tokens"] == 15 + 40


async def test_it_continues_a_partial_message(served):
    whole = served.invoke(QUESTION).content
    messages = [HumanMessage(QUESTION), AIMessage(whole[:9])]
    reply = await served.ainvoke(messages, **continue_message_kwargs(served))
    assert reply.content.startswith(whole[9:])
    assert not served.invoke(messages).content.startswith(whole[9:])  # unasked, it opens a new turn


async def test_the_stop_string_is_no_part_of_the_text(served, local):
    whole = served.invoke(QUESTION).content
    stop = whole[12:16]
    for model in (served, local):
        reply = await model.ainvoke(QUESTION, stop=[stop])
        assert reply.content == whole[: whole.index(stop)]
        assert reply.response_metadata["finish_reason"] == "stop"


def test_a_model_that_is_not_served_is_explained(vllm_url):
    spec = f"vllm:absent@{vllm_url}"
    with pytest.raises(Exception, match="404") as caught:
        load_chat_model(spec).invoke(QUESTION)
    error = explain_model_error(caught.value, spec)
    assert isinstance(error, ModelError)
    assert str(error).startswith(f"The server at {vllm_url} has no model 'absent'.")
