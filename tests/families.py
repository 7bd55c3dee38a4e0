"""Tiny tokenizers built like those of the common families: an id is a place in the written-out vocabulary."""

from __future__ import annotations

from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nS<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
LLAMA2 = (
    "{{ bos_token }}{% for m in messages %}{{ '[A]' if m['role'] == 'assistant' else '[U]' }}"
    "{{ m['content'] }}{{ eos_token if m['role'] == 'assistant' }}"
    "{% endfor %}{{ '[A]' if add_generation_prompt }}"
)
# An empty thought before the last answer, and none before the generation prompt's.
QWEN3 = CHATML.replace(
    "{{ m['content'] }}",
    "{{ '<think></think>' if m['role'] == 'assistant' and loop.last }}{{ m['content'] }}",
)
# The generation prompt opens a thought that no finished turn shows.
R1 = CHATML.replace("<|im_start|>assistant\n", "<|im_start|>assistant\n<think>")


def llama3() -> Any:
    """Byte-level BPE; BOS is written by the template, and by the tokenizer too unless it is told not to."""
    # 0 to 3                                                       4    5         6 7 8 9 10 11 12 13 14
    vocabulary = (
        "<|bos|> <|eot_id|> <|start_header_id|> <|end_header_id|> user assistant Ċ a b c d ĊĊ ab cd Ġ"
    )
    vocabulary += " </Answer>"  # 15
    merges = [("Ċ", "Ċ"), ("a", "b"), ("c", "d")]
    return _make(vocabulary, merges, "<|eot_id|>", LLAMA3, begin="<|bos|>", style="bytes")


def qwen() -> Any:
    """ChatML on byte-level BPE: no BOS, a system prompt by default."""
    #             0            1          2             3      4    5         6 7 8 9 10 11 12 13
    vocabulary = "<|im_start|> <|im_end|> <|endoftext|> system user assistant Ċ a b c d ab bc S </Answer>"
    vocabulary += " <think> </think>"  # 14 is </Answer>
    merges = [("a", "b"), ("b", "c")]
    return _make(vocabulary, merges, "<|im_end|>", CHATML, style="bytes")


def smollm2() -> Any:
    """As Qwen's, but ``<|im_start|>`` is called BOS, and digits stand alone."""
    #             0            1          2             3      4    5         6 7 8 9 10 11 12 13
    vocabulary = "<|im_start|> <|im_end|> <|endoftext|> system user assistant Ċ a b c d ab bc S </Answer>"
    vocabulary += " 1 2 12"  # 15 16 17
    merges = [("a", "b"), ("b", "c"), ("1", "2")]
    return _make(vocabulary, merges, "<|im_end|>", CHATML, style="digits", bos="<|im_start|>")


def gemma() -> Any:
    """SentencePiece BPE without a leading space; a turn ends otherwise than a text does."""
    #             0     1     2               3             4    5     6   7 8 9 10 11 12 13 14
    vocabulary = "<bos> <eos> <start_of_turn> <end_of_turn> user model \\n a b c d ab cd ▁ ▁c </Answer>"
    merges = [("a", "b"), ("▁", "c"), ("c", "d")]
    return _make(vocabulary, merges, "<eos>", GEMMA, begin="<bos>", style="spaces")


def llama2(scheme: str = "always") -> Any:
    """SentencePiece BPE that puts a space in front of every text (or, ``first``, of the whole)."""
    #             0   1    2   3   4 5 6 7 8 9  10 11 12  13
    vocabulary = "<s> </s> [U] [A] ▁ a b c d ab cd ▁d \\n </Answer>"
    merges = [("▁", "d"), ("a", "b"), ("c", "d")]
    return _make(vocabulary, merges, "</s>", LLAMA2, begin="<s>", style=scheme)


def _make(
    vocabulary: str,
    merges: list[tuple[str, str]],
    end: str,
    template: str,
    *,
    style: str,
    begin: str = "",
    bos: str = "",
) -> Any:
    ids = {token.replace("\\n", "\n"): place for place, token in enumerate(vocabulary.split(" "))}
    core = Tokenizer(models.BPE(vocab=ids, merges=merges))
    whole = [token for token in ids if len(token) > 3 or token in ("[U]", "[A]", "<s>")]
    core.add_special_tokens([AddedToken(token, normalized=False) for token in whole])
    if style in ("bytes", "digits"):
        split = [pre_tokenizers.Digits(individual_digits=True)] if style == "digits" else []
        core.pre_tokenizer = pre_tokenizers.Sequence(
            [*split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
        core.decoder = decoders.ByteLevel()
    elif style == "spaces":
        core.normalizer = normalizers.Replace(" ", "▁")
        core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    else:
        core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=style)
        core.decoder = decoders.Metaspace(prepend_scheme=style)
    if begin:  # plain calls put BOS in front
        core.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", special_tokens=[(begin, ids[begin])]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=begin or bos or None,
        eos_token=end,
        pad_token=end,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = template
    tokenizer.name_or_path = "tiny"
    return tokenizer
