"""Chat models by name, and the student in this process on a tiny random Llama."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from supercorrect_agent.errors import ConfigError, ModelError
from supercorrect_agent.models import (
    can_prefill,
    continue_message_kwargs,
    explain_model_error,
    load_chat_model,
)
from tests.tiny import build_tiny_model, build_tiny_tokenizer

QUESTION = "What is 7*8?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return build_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def student(folder):
    return load_chat_model(f"local:{folder}", max_tokens=40)


@pytest.fixture
def generate_calls(student, monkeypatch):
    """The batch size of every `generate` call that follows."""
    model, sizes = student._engine._worker.model, []
    generate = model.generate

    def counted(ids, **options):
        sizes.append(len(ids))
        return generate(ids, **options)

    monkeypatch.setattr(model, "generate", counted)
    return sizes


# The student in this process


@pytest.mark.integration
async def test_concurrent_calls_share_one_generate(student, generate_calls):
    questions = [f"{'long ' * i}What is {i}*8?" for i in range(8)]
    replies = await asyncio.gather(*(student.ainvoke(question) for question in questions))
    assert generate_calls[0] == 8
    assert sum(generate_calls) < 16  # a row that goes on after a pause is not begun again
    alone = [student.invoke(question).content for question in questions]
    assert [reply.content for reply in replies] == alone
    assert len(set(alone)) > 4


@pytest.mark.integration
def test_threads_share_generate_too(student, generate_calls):
    with ThreadPoolExecutor(6) as pool:
        replies = list(pool.map(student.invoke, [QUESTION] * 6))
    assert max(generate_calls) > 1
    assert {reply.content for reply in replies} == {student.invoke(QUESTION).content}


@pytest.mark.integration
async def test_each_call_of_a_batch_keeps_its_settings(student):
    whole = (await student.ainvoke(QUESTION)).content
    cut = whole[10:13]
    short, stopped, sampled, plain = await asyncio.gather(
        student.ainvoke(QUESTION, max_tokens=3),
        student.ainvoke(QUESTION, stop=[cut]),
        student.ainvoke(QUESTION, temperature=5.0, seed=1),
        student.ainvoke(QUESTION),
    )
    assert whole.startswith(short.content)
    assert short.usage_metadata["output_tokens"] == 3
    assert short.response_metadata == {"finish_reason": "length", "model_name": "tiny"}
    assert stopped.content == whole[: whole.index(cut)]
    assert stopped.response_metadata["finish_reason"] == "stop"
    assert sampled.content != whole
    assert plain.content == whole


@pytest.mark.integration
def test_rows_that_go_on_after_a_pause_read_like_rows_alone(student):
    sizes = [3, 5, 9, 17, 33, 38, 39, 40]
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda size: student.invoke("?" * size, max_tokens=size), sizes))
    assert [reply.usage_metadata["output_tokens"] for reply in replies] == sizes
    for size, reply in zip(sizes, replies, strict=True):
        assert reply.content == student.invoke("?" * size, max_tokens=size).content


@pytest.mark.integration
def test_usage_is_counted_from_the_ids(student):
    # <s> <|user|> 12 bytes <|assistant|>
    reply = student.invoke(QUESTION, max_tokens=7)
    assert reply.usage_metadata == {"input_tokens": 15, "output_tokens": 7, "total_tokens": 22}
    ids = build_tiny_tokenizer()(reply.content, add_special_tokens=False)["input_ids"]
    assert len(ids) == 7  # every token wrote readable text, a tag among them counts once


@pytest.mark.integration
async def test_streams_the_text_of_invoke(student):
    whole = student.invoke(QUESTION)
    chunks = list(student.stream(QUESTION))
    assert len(chunks) > 10
    message = sum(chunks[1:], chunks[0])
    assert (message.content, message.usage_metadata) == (whole.content, whole.usage_metadata)
    assert message.response_metadata == whole.response_metadata
    assert "".join([chunk.content async for chunk in student.astream(QUESTION)]) == whole.content


@pytest.mark.integration
def test_a_stream_never_shows_a_part_of_a_stop_string(student):
    whole = student.invoke(QUESTION).content
    stop = whole[12:16]
    pieces = [chunk.content for chunk in student.stream(QUESTION, stop=[stop])]
    assert "".join(pieces) == whole[: whole.index(stop)]


@pytest.mark.integration
@pytest.mark.parametrize("kept", [1, 9, 28])
def test_continues_a_partial_message(student, kept):
    whole = student.invoke(QUESTION).content
    reply = student.invoke([HumanMessage(QUESTION), AIMessage(whole[:kept])])
    assert reply.content.startswith(whole[kept:])


@pytest.mark.integration
def test_trailing_space_of_a_partial_message_survives_a_template_that_trims(student):
    from supercorrect_agent.models.engine import render

    tokenizer = build_tiny_tokenizer()
    trimmed = tokenizer.chat_template.replace("message['content']", "message['content'] | trim")
    tokenizer.chat_template = trimmed
    chat = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "<Step1>2</Step1>\n"}]
    assert render(tokenizer, chat) == "<s><|user|>1+1?<|assistant|><Step1>2</Step1>\n"
    assert render(tokenizer, chat[:1]) == "<s><|user|>1+1?<|assistant|>"


@pytest.mark.integration
async def test_sampling_repeats_with_a_seed(folder):
    async def draw(seed):
        model = load_chat_model(f"local:{folder}", max_tokens=12, temperature=1.0, seed=seed)
        alone = [model.invoke(QUESTION).content for _ in range(2)]
        together = await asyncio.gather(*(model.ainvoke(f"{i}?") for i in range(4)))
        return alone, [reply.content for reply in together]

    first, again, other = await draw(3), await draw(3), await draw(4)
    assert first == again
    assert first != other
    assert first[0][0] != first[0][1]  # asked twice, drawn twice


@pytest.mark.integration
def test_a_tiny_nucleus_is_greedy(student):
    assert student.invoke(QUESTION, temperature=2.0, top_p=1e-6).content == student.invoke(QUESTION).content


@pytest.mark.integration
def test_draws_follow_the_probabilities():
    from supercorrect_agent.models.decoding import Choose

    class Sampled:
        temperature, top_p = 2.0, 0.7
        draw = torch.Generator().manual_seed(0)

    # exp(logit / 2) is proportional to 1, 3, 6: at top_p 0.7 the nucleus is the last two, with odds 3 to 6
    scores = 2 * torch.tensor([[1.0, 3.0, 6.0]]).log()
    choose = Choose([Sampled()] * 3000, torch.device("cpu"))
    picked = choose(None, scores.repeat(3000, 1)).argmax(-1)
    share = torch.bincount(picked, minlength=3) / 3000
    assert share[0] == 0
    assert share[2] == pytest.approx(2 / 3, abs=0.04)


@pytest.mark.integration
async def test_a_failing_call_leaves_its_neighbours_alone(student):
    replies = await asyncio.gather(
        student.ainvoke("x" * 600), student.ainvoke(QUESTION), return_exceptions=True
    )
    assert isinstance(replies[0], ModelError)
    # <s> <|user|> 600 bytes <|assistant|>
    assert "603 tokens, but this model reads 512 at most" in str(replies[0])
    assert replies[1].content == student.invoke(QUESTION).content
    last = student.invoke("x" * 505)  # 508 of 512 tokens: four are left
    assert last.usage_metadata["output_tokens"] == 4


@pytest.mark.integration
async def test_an_error_of_the_model_reaches_every_caller(student, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(student._engine._worker.model, "generate", broken)
        replies = await asyncio.gather(*(student.ainvoke(QUESTION) for _ in range(5)), return_exceptions=True)
    assert [str(reply) for reply in replies] == ["out of memory"] * 5
    assert student.invoke(QUESTION).content  # and the thread is still there


@pytest.mark.integration
async def test_cancelled_callers_are_dropped(student, generate_calls):
    hold = threading.Event()
    blocker = Future()
    blocker.cancelled = lambda: not hold.wait(10)  # keeps the thread busy while the others queue
    from supercorrect_agent.models.engine import Request

    student._engine.submit(Request([{"role": "user", "content": "?"}], 1, 0.0, 1.0, future=blocker))
    await asyncio.sleep(0.05)
    tasks = [asyncio.create_task(student.ainvoke(QUESTION)) for _ in range(4)]
    await asyncio.sleep(0.05)
    for task in tasks[:3]:
        task.cancel()
    await asyncio.sleep(0)
    hold.set()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(reply, asyncio.CancelledError) for reply in done] == [True, True, True, False]
    assert sum(generate_calls[1:]) <= 1


@pytest.mark.integration
async def test_leaving_a_stream_ends_its_row(student, generate_calls):
    stream = student.astream(QUESTION, max_tokens=400)
    await anext(stream)
    await stream.aclose()
    assert student.invoke(QUESTION, max_tokens=2).usage_metadata["output_tokens"] == 2


@pytest.mark.integration
def test_closing_fails_waiting_calls_and_later_ones(folder):
    model = load_chat_model(f"local:{folder}", max_tokens=400)
    worker = model._engine._worker
    stream = model.stream("What?")
    next(stream)
    model.close()
    with pytest.raises(ModelError, match="was closed"):
        list(stream)
    with pytest.raises(ModelError, match="was closed"):
        model.invoke("What?")
    assert worker.model is None


@pytest.mark.integration
def test_an_unused_model_is_freed(folder):
    model = load_chat_model(f"local:{folder}")
    worker, thread = model._engine._worker, model._engine._thread
    del model
    gc.collect()
    thread.join(5)
    assert not thread.is_alive()
    assert worker.model is None


@pytest.mark.integration
def test_an_adapter_changes_the_output(student, folder, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(folder)
    model = get_peft_model(
        model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    )
    model.save_pretrained(tmp_path / "lora")
    adapted = load_chat_model(f"local:{folder}+{tmp_path / 'lora'}", max_tokens=40)
    reply = adapted.invoke(QUESTION)
    assert reply.content != student.invoke(QUESTION).content
    assert reply.response_metadata["model_name"] == "tiny+lora"


@pytest.mark.integration
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_tokens": 0}, "`max_tokens=0` is out of range"),
        ({"temperature": -1}, "`temperature=-1` is out of range"),
        ({"top_p": 0}, "`top_p=0` is out of range"),
        ({"tempratur": 1}, "no option `tempratur=1`"),
    ],
)
def test_a_wrong_option_of_a_call_is_named(student, options, words):
    with pytest.raises(ConfigError, match=words):
        student.invoke(QUESTION, **options)


@pytest.mark.integration
def test_messages_it_cannot_read_are_refused(student):
    with pytest.raises(ModelError, match="type 'tool'"):
        student.invoke([HumanMessage("?"), ToolMessage("1", tool_call_id="1")])
    with pytest.raises(ModelError, match="no messages"):
        student.invoke([])


@pytest.mark.parametrize(
    ("text", "stop", "settled"),
    [
        ("abc", (), 3),
        ("abc</Cor", ("</Correction>",), 3),
        ("abc<", ("</Correction>",), 3),
        ("aab", ("ab ",), 1),
        ("two\ufffd", (), 3),  # half a character
        ("a<b", ("</Correction>",), 3),
    ],
)
def test_settled_length(text, stop, settled):
    from supercorrect_agent.models.decoding import settled_length

    assert settled_length(text, stop) == settled


# Models by name


def test_importing_models_loads_no_torch():
    code = "import sys, supercorrect_agent.models; assert not {'torch', 'transformers'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_chat_model_passes_through():
    model = FakeListChatModel(responses=["1"])
    assert load_chat_model(model) is model
    assert not can_prefill(model)
    assert continue_message_kwargs(model) == {}


@pytest.mark.integration
def test_the_student_continues_without_being_asked_to(student):
    assert can_prefill(student)
    assert continue_message_kwargs(student) == {}


@pytest.mark.parametrize(
    ("spec", "url"),
    [
        ("vllm:qwen@http://127.0.0.1:8123", "http://127.0.0.1:8123/v1"),
        ("vllm:qwen@http://127.0.0.1:8123/v1/", "http://127.0.0.1:8123/v1"),
    ],
)
def test_a_vllm_model(spec, url, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    model = load_chat_model(spec, temperature=0.5)
    assert (model.model_name, model.openai_api_base, model.temperature) == ("qwen", url, 0.5)
    assert model.stream_usage is True
    assert can_prefill(model)
    extra = continue_message_kwargs(model)["extra_body"]
    assert extra == {"continue_final_message": True, "add_generation_prompt": False}


def test_an_openai_model(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "a-canary")
    model = load_chat_model("openai:gpt-5-mini")
    assert model.model_name == "gpt-5-mini"
    assert not can_prefill(model)


def make_folder(folder: Path, *names: str) -> str:
    folder.mkdir()
    for name in names:
        (folder / name).write_text("{}")
    return f"local:{folder}"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("gpt", "'gpt' names no chat model. Write one of: local:FOLDER"),
        ("", "names no chat model"),
        ("nobody:gpt", "provider 'nobody' is unknown"),
        ("openai:gpt", "needs an API key. Set OPENAI_API_KEY"),
        ("sandbox:teacher", "'sandbox:teacher' names no chat model"),
        ("vllm:qwen", "'vllm:qwen' names no server"),
        ("vllm:qwen@localhost:80", "names no server"),
        ("vllm:@http://localhost", "names no server"),
        ("local:/nowhere/at/all", "'/nowhere/at/all' does not exist"),
        ("local:/nowhere/at/all+adapter", "'/nowhere/at/all' does not exist"),
    ],
)
def test_a_wrong_spec_is_one_sentence(spec, words, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ModelError) as caught:
        load_chat_model(spec)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_neither_model_nor_text_is_refused():
    with pytest.raises(ConfigError, match=r"`spec` is a int\. Pass a chat model, or a text: local:FOLDER"):
        load_chat_model(3)


def test_an_incomplete_folder_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"has no config\.json"):
        load_chat_model(make_folder(tmp_path / "a"))
    with pytest.raises(ModelError, match="has no weights"):
        load_chat_model(make_folder(tmp_path / "b", "config.json"))
    with pytest.raises(ModelError, match="has no tokenizer"):
        load_chat_model(make_folder(tmp_path / "c", "config.json", "model.safetensors"))
    broken = make_folder(tmp_path / "d", "config.json", "model.safetensors", "tokenizer.json")
    with pytest.raises(ModelError, match="cannot be loaded") as caught:
        load_chat_model(broken)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match=r"no adapter_config\.json"):
        load_chat_model(f"{broken}+{tmp_path}")


@pytest.mark.integration
def test_a_tokenizer_without_a_template_is_refused(tmp_path):
    folder = build_tiny_model(tmp_path / "plain")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="has no chat template"):
        load_chat_model(f"local:{folder}")


@pytest.mark.integration
def test_wrong_fields_are_named(folder, monkeypatch):
    with pytest.raises(ConfigError, match="`max_tokens=0`"):
        load_chat_model(f"local:{folder}", max_tokens=0)
    with pytest.raises(ConfigError, match="`max_token=9`"):
        load_chat_model(f"local:{folder}", max_token=9)
    with pytest.raises(ConfigError, match="`device='gpu'`"):
        load_chat_model(f"local:{folder}", device="gpu")
    with pytest.raises(ConfigError, match="`dtype='int8'`"):
        load_chat_model(f"local:{folder}", dtype="int8")
    with pytest.raises(ConfigError) as caught:
        load_chat_model("vllm:m@http://127.0.0.1:1", api_key=["canary"])
    assert "canary" not in str(caught.value)


def test_a_server_that_is_not_there_is_explained():
    spec = "vllm:qwen@http://127.0.0.1:9"
    model = load_chat_model(spec, max_retries=0)
    with pytest.raises(Exception, match="Connection") as caught:
        model.invoke("?")
    for named in (spec, model):
        message = str(explain_model_error(caught.value, named))
        assert "No model server answers at http://127.0.0.1:9" in message
        assert "vllm serve qwen" in message
    assert str(explain_model_error(KeyError("x"), "local:here")) == "The model 'here' failed (KeyError): 'x'"
