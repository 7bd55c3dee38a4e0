"""The token boundary between what is given and what is learnt, with ids derived by hand for two families."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, models, processors
from transformers import PreTrainedTokenizerFast

from supercorrect_agent.errors import DataError
from supercorrect_agent.models.engine import render
from tests.tiny import build_tiny_tokenizer
from training.tokens import tokenize_completion, tokenize_pair, tokenize_rows

LLAMA_LIKE = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '[A]' if m['role'] == 'assistant' else '[U]' }}{{ m['content'] }}"
    "{{ eos_token if m['role'] == 'assistant' }}{% endfor %}{{ '[A]' if add_generation_prompt }}"
)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tokenizer(
    vocabulary: str, merges: list[tuple[str, str]], special: str, *, template: str, end: str, begin: str = ""
) -> Any:
    """A BPE tokenizer whose ids are the places in ``vocabulary``; those in ``special`` are never split."""
    ids = {token.replace("\\n", "\n"): place for place, token in enumerate(vocabulary.split(" "))}
    core = Tokenizer(models.BPE(vocab=ids, merges=merges))
    core.add_special_tokens([AddedToken(token.replace("\\n", "\n")) for token in special.split(" ")])
    if begin:  # as Llama's does: plain calls put BOS in front
        core.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", special_tokens=[(begin, ids[begin])]
        )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token=begin or None, eos_token=end)
    tokenizer.chat_template = template
    return tokenizer


def llama_like() -> Any:
    #         0   1    2   3   4 5 6 7 8  9  10
    vocabulary = "<s> </s> [U] [A] a b c d ab cd </Answer>"
    merges = [("a", "b"), ("c", "d")]
    special = "<s> </s> [U] [A] </Answer>"
    return make_tokenizer(vocabulary, merges, special, begin="<s>", end="</s>", template=LLAMA_LIKE)


def chatml() -> Any:
    #             0            1          2    3         4   5 6 7 8 9  10
    vocabulary = "<|im_start|> <|im_end|> user assistant \\n a b c d ab bc </Answer>"
    merges = [("a", "b"), ("b", "c")]
    special = "<|im_start|> <|im_end|> user assistant \\n </Answer>"
    return make_tokenizer(vocabulary, merges, special, end="<|im_end|>", template=CHATML)


def pair(prefix: str, chosen: str, rejected: str) -> dict[str, Any]:
    prompt = [{"role": "user", "content": "ab"}]
    return {"prompt": prompt, "prefix": prefix, "chosen": chosen, "rejected": rejected}


def test_a_token_that_would_straddle_the_boundary_is_split_there_llama() -> None:
    ids = tokenize_pair(pair("c", "d", "ab"), llama_like())
    # <s> [U] ab [A] | c ; one BOS although the tokenizer adds one by itself, one assistant turn, no EOS
    assert ids["prompt_ids"] == [0, 2, 8, 3, 6]
    assert ids["chosen_ids"] == [7]  # "cd" is one token, but the c was given
    assert ids["rejected_ids"] == [8]


def test_the_boundary_and_the_turns_chatml() -> None:
    ids = tokenize_pair(pair("ab", "c", "ca"), chatml())
    # <|im_start|> user \n ab <|im_end|> \n <|im_start|> assistant \n | ab
    assert ids["prompt_ids"] == [0, 2, 4, 9, 1, 4, 0, 3, 4, 9]
    assert ids["chosen_ids"] == [7]
    assert ids["rejected_ids"] == [7, 5]


@pytest.mark.parametrize(("make", "end", "answer"), [(llama_like, 1, 10), (chatml, 1, 11)])
def test_only_a_side_that_completes_the_answer_ends_the_turn(make: Any, end: int, answer: int) -> None:
    ids = tokenize_pair(pair("", "d</Answer>", "</Answer>d"), make())
    assert ids["chosen_ids"][-2:] == [answer, end]
    assert end not in ids["rejected_ids"]


def test_an_empty_prefix_ends_on_the_generation_prompt() -> None:
    assert tokenize_pair(pair("", "d", "c"), llama_like())["prompt_ids"] == [0, 2, 8, 3]


@pytest.mark.parametrize("make", [llama_like, chatml, build_tiny_tokenizer])
@pytest.mark.parametrize("prefix", ["ab", "abab", "cd"])
def test_rows_render_as_the_student_is_prompted_in_use(make: Any, prefix: str) -> None:
    tokenizer = make()
    ids = tokenize_pair(pair(prefix, "d", "c"), tokenizer)["prompt_ids"]
    in_use = render(tokenizer, [{"role": "user", "content": "ab"}, {"role": "assistant", "content": prefix}])
    assert ids == tokenizer(in_use, add_special_tokens=False)["input_ids"]


def test_stage_one_learns_the_answer_and_its_end_only() -> None:
    row = {
        "prompt": [{"role": "user", "content": "ab"}],
        "completion": [{"role": "assistant", "content": "ab"}],
    }
    llama, chat = tokenize_completion(row, llama_like()), tokenize_completion(row, chatml())
    assert llama["input_ids"] == [0, 2, 8, 3, 8, 1]
    assert llama["labels"] == [-100, -100, -100, -100, 8, 1]
    assert chat["input_ids"] == [0, 2, 4, 9, 1, 4, 0, 3, 4, 9, 1, 4]
    assert chat["labels"] == [-100] * 9 + [9, 1, 4]


def test_a_template_that_renders_the_prompt_otherwise_in_training_is_refused() -> None:
    tokenizer = llama_like()
    tokenizer.chat_template = LLAMA_LIKE.replace(
        "'[A]' if add_generation_prompt", "'[A]c' if add_generation_prompt"
    )
    row = {
        "prompt": [{"role": "user", "content": "a"}],
        "completion": [{"role": "assistant", "content": "b"}],
    }
    with pytest.raises(DataError, match="chat template"):
        tokenize_completion(row, tokenizer)


def test_rows_that_are_too_long_are_dropped_whole_and_counted() -> None:
    rows = [pair("", "d", "c")] * 199 + [pair("", "d" * 20, "c")]
    kept, lengths = tokenize_rows(rows, llama_like(), tokenize_pair, max_length=10)
    assert len(kept) == 199
    assert (lengths.p50, lengths.p95, lengths.longest, lengths.dropped) == (5, 5, 24, 1)
    assert kept[0] == {"prompt_ids": [0, 2, 8, 3], "chosen_ids": [7], "rejected_ids": [6], "length": 5}


def test_more_than_one_percent_too_long_is_refused() -> None:
    rows = [pair("", "d", "c")] * 97 + [pair("", "d" * 20, "c")] * 2
    with pytest.raises(DataError, match="2 of 99 rows are longer than `max_length=10`"):
        tokenize_rows(rows, llama_like(), tokenize_pair, max_length=10)
    with pytest.raises(DataError, match="no rows"):
        tokenize_rows([], llama_like(), tokenize_pair, max_length=10)
    kept, _ = tokenize_rows(rows, llama_like(), tokenize_pair, max_length=None)
    assert [row["length"] for row in kept[:3]] == [24, 24, 5]  # longest first
