"""A tiny random Llama with a byte-level tokenizer: real code paths in a second, no download."""

from __future__ import annotations

from pathlib import Path

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "<|assistant|>{% generation %}{{ message['content'] }}{{ eos_token }}{% endgeneration %}"
    "{% else %}<|{{ message['role'] }}|>{{ message['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<pad>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>"]
TAGS = ["<Step1>", "</Step1>", "<Step2>", "</Step2>", "<Key>", "</Key>", "<Answer>", "</Answer>"]
TAGS += ["<Evaluate>", "</Evaluate>", "<Cause>", "</Cause>", "<Correction>", "</Correction>"]


def build_tiny_model(folder: Path, *, seed: int = 0, context: int = 512) -> Path:
    """Writes a random model, its tokenizer and chat template into ``folder``; returns the folder.

    The vocabulary: the six special tokens (ids 0 to 5), the 256 bytes, and the tags as ordinary added tokens.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = build_tiny_tokenizer()
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,  # the smallest that vLLM serves on a CPU
        max_position_embeddings=context,
        initializer_range=0.3,  # wide enough for varied text and clear winners
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config)
    unwritten = [i for i in range(len(tokenizer)) if i != 2 and not writes_ascii(tokenizer.decode([i]))]
    with torch.no_grad():  # greedy text stays readable, so that it can be tokenized again
        model.lm_head.weight[[*unwritten, 0, 1, 3, 4, 5]] = 0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def writes_ascii(text: str) -> bool:
    return text.isascii() and (text.isprintable() or text == "\n")


def build_tiny_tokenizer():  # type: ignore[no-untyped-def]
    """The tokenizer alone: one token a byte, tags and roles one token each."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(SPECIAL + letters)}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    core.add_tokens([AddedToken(tag, special=False) for tag in TAGS])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=SPECIAL[0],
        bos_token=SPECIAL[1],
        eos_token=SPECIAL[2],
        additional_special_tokens=SPECIAL[3:],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer
