"""`load_chat_model("vllm:NAME@URL")` against the real engine, beside the same weights in this process."""

from __future__ import annotations

import pytest
from langchain_core.messages import AIMessage, HumanMessage

from supercorrect_agent.errors import ModelError
from supercorrect_agent.models import continue_message_kwargs, explain_model_error, load_chat_model
from tests.tiny import build_tiny_model
from tests.tiny_adapter import build_tiny_adapter
from tests.training_runs import pair_rows, run, settings, sft_rows
from tests.vllm_server import MODEL_NAME
from training.config import ServeConfig
from training.serve import serve_adapter

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1200)]
QUESTION = "What is 7*8?"


@pytest.fixture(scope="module")
def served(vllm_url):
    return load_chat_model(f"vllm:{MODEL_NAME}@{vllm_url}", temperature=0, max_tokens=40)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return build_tiny_model(tmp_path_factory.mktemp("beside") / "tiny", context=1024)


@pytest.fixture(scope="module")
def local(base):
    return load_chat_model(f"local:{base}", max_tokens=40)


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


def here(base, adapter, question=QUESTION):
    """What the model and the adapter write in this process."""
    model = load_chat_model(f"local:{base}+{adapter}", max_tokens=40)
    try:
        return model.invoke(question).content
    finally:
        model.close()


def there(name, url, question=QUESTION):
    """What the server writes under a name."""
    return load_chat_model(f"vllm:{name}@{url}", temperature=0, max_tokens=40).invoke(question).content


def test_an_adapter_goes_into_the_running_server_and_another_takes_its_place(vllm_url, base, local, tmp_path):
    config = ServeConfig(url=vllm_url, name="student")
    texts = [local.invoke(QUESTION).content]
    for seed, rank in ((1, 8), (2, 16)):  # also of another rank
        adapter = build_tiny_adapter(base, tmp_path / f"round{seed}", rank=rank, seed=seed)
        assert serve_adapter(adapter, str(base), config).loaded
        texts.append(there("student", vllm_url))
        assert texts[-1] == here(base, adapter)
    assert len(set(texts)) == 3  # the base and both adapters write different texts
    assert there(MODEL_NAME, vllm_url) == texts[0]


def test_what_both_stages_leave_is_served(vllm_url, base, local, tmp_path):
    rows, pairs = sft_rows(tmp_path / "rows"), pair_rows(tmp_path / "pairs")
    first, _ = run("sft", settings("sft", base, rows, tmp_path / "sft", num_train_epochs=10))
    second, _ = run("dpo", settings("dpo", base, pairs, tmp_path / "dpo", adapter=str(first)))
    for adapter in (first, second):
        serve_adapter(adapter, str(base), ServeConfig(url=vllm_url, name="trained"))
        assert there("trained", vllm_url) == here(base, adapter) != local.invoke(QUESTION).content


def test_weights_that_changed_under_one_path_are_not_mixed_with_the_former(vllm_url, base, tmp_path):
    """The question is longer than a block of the server's prefix cache, which goes by name and path."""
    config, question = ServeConfig(url=vllm_url, name="again"), "What is " + "7*8 + " * 100 + "1?"
    texts = []
    for seed in (1, 2):
        adapter = build_tiny_adapter(base, tmp_path / "adapter", seed=seed)
        serve_adapter(adapter, str(base), config)
        texts.append(there("again", vllm_url, question))
        assert texts[-1] == here(base, adapter, question)
    assert texts[0] != texts[1]


def test_an_adapter_that_the_server_refuses_leaves_the_present_one(vllm_url, base, tmp_path):
    config = ServeConfig(url=vllm_url, name="kept")
    adapter = build_tiny_adapter(base, tmp_path / "small", seed=1)
    serve_adapter(adapter, str(base), config)
    large = build_tiny_adapter(base, tmp_path / "large", rank=32)
    with pytest.raises(ModelError, match=r"rank 32 is greater than max_lora_rank 16.*--max-lora-rank 32 "):
        serve_adapter(large, str(base), config)
    assert there("kept", vllm_url) == here(base, adapter)


def test_the_name_of_the_base_is_no_name_for_an_adapter(vllm_url, base, tmp_path):
    adapter = build_tiny_adapter(base, tmp_path / "adapter")
    with pytest.raises(ModelError, match="conflicts with a served base model"):
        serve_adapter(adapter, str(base), ServeConfig(url=vllm_url, name=MODEL_NAME))
