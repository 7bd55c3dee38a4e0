"""Rows to token ids, with the boundary between what is given and what is learnt kept token by token (decision
B1).

The given part is tokenised exactly as the student is prompted in use: the chat template with its generation
prompt, then the kept prefix, as one string. The learnt part follows it; it ends in the end-of-turn token only
if it completes an answer, because a correction stops in mid-solution. Nothing is ever cut: a row that is too
long is dropped and counted, and a dataset that loses more than 1 % of its rows that way is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from supercorrect_agent.errors import DataError
from supercorrect_agent.types import Record
from training.manifest import Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_DROPPED_SHARE = 0.01
_ENDS = re.compile(r"</\s*answer\s*:?\s*>\s*$", re.IGNORECASE)

Tokenized = dict[str, list[int]]


class Lengths(Record):
    """Tokens per row (the longer side of a pair): median, 95th percentile, longest; rows kept and dropped."""

    p50: int
    p95: int
    longest: int
    kept: int
    dropped: int

    def __str__(self) -> str:
        return f"{self.kept} rows of {self.p50} to {self.longest} tokens, {self.dropped} were too long"


def tokenize_completion(row: Row, tokenizer: PreTrainedTokenizerBase) -> Tokenized:
    """Tokenises one stage-1 row, rendered in full by the chat template, end-of-turn included.

    Returns:
        ``input_ids`` and ``labels`` of the same length; labels are -100 on the prompt (paper eq. 5, decision
        B16).

    Raises:
        DataError: The template renders the prompt otherwise once an answer follows it.
    """
    prompt = _render(tokenizer, row["prompt"])
    whole = tokenizer.apply_chat_template([*row["prompt"], *row["completion"]], tokenize=False)
    if not whole.startswith(prompt):
        raise DataError(
            f"The chat template of '{tokenizer.name_or_path}' renders a prompt otherwise once an answer "
            f"follows (alone it ends in {prompt[-40:]!r}): training would not match use. Choose another."
        )
    prompt_ids = _ids(tokenizer, prompt)
    answer_ids = _continue(tokenizer, prompt, prompt_ids, whole[len(prompt) :])
    return {"input_ids": prompt_ids + answer_ids, "labels": [-100] * len(prompt_ids) + answer_ids}


def tokenize_pair(row: Row, tokenizer: PreTrainedTokenizerBase) -> Tokenized:
    """Tokenises one preference row for TRL's preference collator.

    Returns:
        ``prompt_ids`` (the templated prompt with its generation prompt, then the kept prefix), ``chosen_ids``
        and ``rejected_ids``. A side ends in the end-of-sequence token only if its text ends in ``</Answer>``.
    """
    prompt = _render(tokenizer, row["prompt"]) + row["prefix"]
    prompt_ids = _ids(tokenizer, prompt)
    sides = {
        f"{side}_ids": _continue(tokenizer, prompt, prompt_ids, row[side]) + _end(tokenizer, row[side])
        for side in ("chosen", "rejected")
    }
    return {"prompt_ids": prompt_ids, **sides}


def tokenize_rows(
    rows: Iterable[Row],
    tokenizer: PreTrainedTokenizerBase,
    tokenize: Callable[[Row, PreTrainedTokenizerBase], Tokenized],
    max_length: int | None,
) -> tuple[list[dict[str, Any]], Lengths]:
    """Tokenises rows and drops those over ``max_length`` tokens.

    Returns:
        The tokenised rows, each with its ``length``, longest first so that reference log-probabilities are
        computed without much padding; and the lengths' summary.

    Raises:
        DataError: More than 1 % of the rows are too long, or no row is left.
    """
    found: list[dict[str, Any]] = [
        {**ids, "length": _length(ids)} for ids in (tokenize(row, tokenizer) for row in rows)
    ]
    kept = [row for row in found if max_length is None or row["length"] <= max_length]
    lengths = sorted(row["length"] for row in found)
    if not found:
        raise DataError(
            "The dataset has no rows. Collect more traces, or look at `dropped` in its manifest.json."
        )
    if len(kept) < (1 - MAX_DROPPED_SHARE) * len(found) or not kept:
        raise DataError(
            f"{len(found) - len(kept)} of {len(found)} rows are longer than `max_length={max_length}` "
            f"tokens (the longest has {lengths[-1]}). Raise `max_length`, or collect shorter solutions."
        )
    summary = Lengths(
        p50=_quantile(lengths, 0.5),
        p95=_quantile(lengths, 0.95),
        longest=lengths[-1],
        kept=len(kept),
        dropped=len(found) - len(kept),
    )
    return sorted(kept, key=lambda row: -row["length"]), summary


def _render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[dict[str, str]]) -> str:
    return str(tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True))


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    # The template has already written the BOS token, where the family has one.
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _continue(
    tokenizer: PreTrainedTokenizerBase, prompt: str, prompt_ids: Sequence[int], completion: str
) -> list[int]:
    """The ids of ``completion`` after the prompt: in context, unless a token would straddle the boundary."""
    whole = _ids(tokenizer, prompt + completion)
    if whole[: len(prompt_ids)] == list(prompt_ids):
        return whole[len(prompt_ids) :]
    return _ids(tokenizer, completion)


def _end(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return [int(tokenizer.eos_token_id)] if _ENDS.search(text) else []


def _length(ids: Tokenized) -> int:
    if "input_ids" in ids:
        return len(ids["input_ids"])
    return len(ids["prompt_ids"]) + max(len(ids["chosen_ids"]), len(ids["rejected_ids"]))


def _quantile(ordered: Sequence[int], share: float) -> int:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
