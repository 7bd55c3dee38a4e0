"""Rows to token ids, with the boundary between what is given and what is learnt kept token by token (decision
B1).

The given part is tokenised exactly as the student is prompted in use: the chat template with its generation
prompt, then the kept prefix, as one string. The learnt part follows it. It ends as the template ends a turn
(``<|im_end|>``, ``<end_of_turn>``, ...) only if it completes an answer, because a correction stops in
mid-solution. Nothing is ever cut: a row that is too long is dropped and counted, and a dataset that loses
more than 1 % of its rows that way is refused.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from supercorrect_agent.errors import DataError
from supercorrect_agent.models.engine import render
from supercorrect_agent.types import Record
from training.critiques import completes_answer
from training.manifest import Row

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

MAX_DROPPED_SHARE = 0.01

Tokenized = dict[str, list[int]]


class Lengths(Record):
    """Tokens per row (the longer side of a pair): median, 95th percentile, longest; rows kept and dropped."""

    p50: int
    p95: int
    longest: int
    kept: int
    dropped: int

    def __str__(self) -> str:
        return (
            f"{self.kept} rows, half of them up to {self.p50} tokens, 95 % up to {self.p95}, "
            f"the longest {self.longest}; {self.dropped} were too long"
        )


def tokenize_completion(row: Row, tokenizer: PreTrainedTokenizerBase) -> Tokenized:
    """Tokenises one stage-1 row, rendered in full by the chat template, end of turn included.

    Returns:
        ``input_ids`` and ``labels`` of the same length; labels are -100 on the prompt (paper eq. 5, decision
        B16).

    Raises:
        DataError: The chat template does not render the row as it is used.
    """
    given = _given(tokenizer, row["prompt"], "")
    prompt_ids = _ids(tokenizer, given)
    answer_ids = _learnt(tokenizer, row["prompt"], given, "", row["completion"][0]["content"], ends=True)
    return {"input_ids": prompt_ids + answer_ids, "labels": [-100] * len(prompt_ids) + answer_ids}


def tokenize_pair(row: Row, tokenizer: PreTrainedTokenizerBase) -> Tokenized:
    """Tokenises one preference row for TRL's preference collator.

    Returns:
        ``prompt_ids`` (the templated prompt with its generation prompt, then the kept prefix), ``chosen_ids``
        and ``rejected_ids``. A side ends the turn only if its text ends in ``</Answer>``.

    Raises:
        DataError: A side does not start with the row's prefix, or the chat template does not render the row
            as it is used.
    """
    given = _given(tokenizer, row["prompt"], row["prefix"])
    found = {"prompt_ids": _ids(tokenizer, given)}
    for side in ("chosen", "rejected"):
        content = row[side][0]["content"]
        if not content.startswith(row["prefix"]):
            raise DataError(
                f"A row's `{side}` does not start with its `prefix` ({row['prefix'][-40:]!r}). "
                "Build the dataset anew with `python -m training.data`."
            )
        text = content[len(row["prefix"]) :]
        ends = completes_answer(text)
        found[f"{side}_ids"] = _learnt(tokenizer, row["prompt"], given, row["prefix"], text, ends=ends)
    return found


def tokenize_chosen(row: Row, tokenizer: PreTrainedTokenizerBase) -> Tokenized:
    """Tokenises the chosen side of a preference row as `tokenize_completion` does a row of stage 1."""
    pair = tokenize_pair(row, tokenizer)
    given, learnt = pair["prompt_ids"], pair["chosen_ids"]
    return {"input_ids": given + learnt, "labels": [-100] * len(given) + learnt}


def tokenize_rows(
    rows: Iterable[Row],
    tokenizer: PreTrainedTokenizerBase,
    tokenize: Callable[[Row, PreTrainedTokenizerBase], Tokenized],
    max_length: int | None,
    *,
    max_dropped: float = MAX_DROPPED_SHARE,
    file: Path | None = None,
    num_proc: int | None = None,
) -> tuple[Dataset, Lengths]:
    """Tokenises rows and drops those over ``max_length`` tokens.

    Args:
        rows: A `datasets.Dataset`, or few enough rows to be held in memory.
        tokenizer: The student's.
        tokenize: `tokenize_completion` or `tokenize_pair`.
        max_length: Tokens; None drops nothing.
        max_dropped: Share of the rows that may be dropped.
        file: Arrow file to write and map, so that no row is held in memory; None keeps the ids in memory.
        num_proc: Processes that tokenise; None is this one.

    Returns:
        The tokenised rows, each with its ``length``, longest first so that reference log-probabilities are
        computed without much padding; and the lengths' summary.

    Raises:
        DataError: More than ``max_dropped`` of the rows are too long, or no row is left.
    """
    import datasets

    source = rows if isinstance(rows, datasets.Dataset) else datasets.Dataset.from_list(list(rows))
    if not len(source):
        raise DataError(
            "The dataset has no rows. Collect more traces, or look at `dropped` in its manifest.json."
        )

    def with_length(row: Row) -> dict[str, Any]:
        ids = tokenize(row, tokenizer)
        return {**ids, "length": _length(ids)}

    ids32 = datasets.Sequence(datasets.Value("int32"))
    names = tokenize(source[0], tokenizer)
    found = source.map(
        with_length,
        remove_columns=source.column_names,
        features=datasets.Features({**dict.fromkeys(names, ids32), "length": datasets.Value("int32")}),
        num_proc=num_proc,
        load_from_cache_file=False,
        new_fingerprint="tokens",  # instead of a hash of the tokenizer
        **_to(file, "unsorted"),
    )
    order, lengths = _longest_first(found, max_length, max_dropped)
    ordered = found.select(order, keep_in_memory=True)
    fingerprint = _fingerprint(found, max_length)
    ordered = ordered.flatten_indices(new_fingerprint=fingerprint, **_to(file, "sorted"))
    if file is None:
        return ordered, lengths
    file.with_suffix(".json").write_text(lengths.model_dump_json(), encoding="utf-8")
    os.replace(f"{file}.sorted", file)
    for part in found.cache_files:
        Path(part["filename"]).unlink()
    return read_tokens(file, fingerprint)


def read_tokens(file: Path, fingerprint: str | None = None) -> tuple[Dataset, Lengths]:
    """Maps what `tokenize_rows` wrote to ``file``.

    Raises:
        DataError: There is no such file.
    """
    import datasets

    try:
        lengths = Lengths.model_validate_json(file.with_suffix(".json").read_text(encoding="utf-8"))
        dataset = datasets.Dataset.from_file(str(file))
    except OSError as error:
        raise DataError(f"`{file}` cannot be read ({error}). Run the stage again.") from error
    if fingerprint is not None:  # names TRL's cache of reference log-probabilities
        dataset._fingerprint = fingerprint
    return dataset, lengths


def _to(file: Path | None, stage: str) -> dict[str, Any]:
    return {"keep_in_memory": True} if file is None else {"cache_file_name": f"{file}.{stage}"}


def _fingerprint(found: Dataset, max_length: int | None) -> str:
    """A name that two datasets share only if they hold the same ids."""
    digest = hashlib.sha256(str(max_length).encode())
    for part in found.cache_files:
        with Path(part["filename"]).open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16] if found.cache_files else "tokens"


def _longest_first(found: Dataset, max_length: int | None, max_dropped: float) -> tuple[Any, Lengths]:
    import numpy

    lengths = found.data.column("length").to_numpy()
    kept = len(lengths) if max_length is None else int((lengths <= max_length).sum())
    if len(lengths) - kept > max_dropped * len(lengths) or not kept:
        raise DataError(
            f"{len(lengths) - kept} of {len(lengths)} rows are longer than `max_length={max_length}` "
            f"tokens (the longest has {lengths.max()}). Raise `max_length`, or collect shorter solutions."
        )
    order = numpy.argsort(-lengths, kind="stable")[len(lengths) - kept :]
    ordered = numpy.sort(lengths)
    summary = Lengths(
        p50=_quantile(ordered, 0.5),
        p95=_quantile(ordered, 0.95),
        longest=int(ordered[-1]),
        kept=kept,
        dropped=len(lengths) - kept,
    )
    return order, summary


def _given(tokenizer: PreTrainedTokenizerBase, prompt: Sequence[dict[str, str]], prefix: str) -> str:
    """The text that the student is given in use; it must begin as every reply to this prompt begins."""
    opening = _rendered(tokenizer, prompt)
    # Many templates trim white space that stands alone: it is learnt with what follows it.
    given = _rendered(tokenizer, [*prompt, _assistant(prefix)]) if prefix.strip() else opening
    if not given.startswith(opening):
        raise _unfit(tokenizer, f"a begun answer does not follow the generation prompt {opening[-40:]!r}")
    return given


def _learnt(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Sequence[dict[str, str]],
    given: str,
    prefix: str,
    text: str,
    *,
    ends: bool,
) -> list[int]:
    """The ids after the given text: up to where the text stops, or for ``ends`` up to the end of the turn."""
    whole = _rendered(tokenizer, [*prompt, _assistant(prefix + text)], ends=ends)
    if not whole.startswith(given):
        raise _unfit(tokenizer, f"the prompt, which ends in {given[-40:]!r}, changes once an answer follows")
    learnt = whole[len(given) :]
    if text.strip() not in learnt:
        raise _unfit(tokenizer, f"it changes an answer that starts with {text[:40]!r}")
    if ends and learnt.rstrip().endswith(text.rstrip()):
        raise _unfit(tokenizer, "nothing marks the end of an assistant's turn")
    return _continue(tokenizer, given, learnt)


def _assistant(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


def _rendered(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[dict[str, str]], *, ends: bool = False
) -> str:
    try:
        if ends:
            return str(tokenizer.apply_chat_template(list(messages), tokenize=False))
        return render(tokenizer, messages)
    except (TemplateError, ValueError) as error:
        raise _unfit(tokenizer, str(error).splitlines()[0].rstrip(".")) from error


def _unfit(tokenizer: PreTrainedTokenizerBase, reason: str) -> DataError:
    return DataError(
        f"The chat template of '{tokenizer.name_or_path}' cannot be trained as it is used: {reason}. "
        "Use another checkpoint, or give it a `chat_template` that writes the answer right behind the prompt."
    )


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    # The template has already written the BOS token, where the family has one.
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _continue(tokenizer: PreTrainedTokenizerBase, given: str, learnt: str) -> list[int]:
    """The ids of ``learnt`` after ``given``: in context, unless a token would straddle the boundary.

    There it is split. Tokenised alone, a SentencePiece tokenizer would put a space in front, so the text is
    then also tried behind a token that can be taken off again.
    """
    given_ids, whole_ids = _ids(tokenizer, given), _ids(tokenizer, given + learnt)
    if whole_ids[: len(given_ids)] == given_ids:
        return whole_ids[len(given_ids) :]
    text = tokenizer.decode(whole_ids)
    for anchor in ("", "\n", str(tokenizer.eos_token)):
        anchor_ids, ids = _ids(tokenizer, anchor), _ids(tokenizer, anchor + learnt)
        rest = ids[len(anchor_ids) :]
        if ids[: len(anchor_ids)] == anchor_ids and tokenizer.decode(given_ids + rest) == text:
            return rest
    raise DataError(
        f"The tokenizer of '{tokenizer.name_or_path}' cannot split {(given[-20:], learnt[:20])!r} at the "
        "boundary of what is learnt. Use another checkpoint."
    )


def _length(ids: Tokenized) -> int:
    if "input_ids" in ids:
        return len(ids["input_ids"])
    return len(ids["prompt_ids"]) + max(len(ids["chosen_ids"]), len(ids["rejected_ids"]))


def _quantile(ordered: Any, share: float) -> int:
    return int(ordered[min(len(ordered) - 1, int(share * len(ordered)))])
