"""The token boundary between what is given and what is learnt, with ids derived by hand for each family.

The vocabularies stand in tests/families.py; the comments below read the ids off there.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from supercorrect_agent.errors import DataError
from supercorrect_agent.models import SANDBOX_STUDENT
from supercorrect_agent.models.engine import render
from tests.families import LLAMA2, QWEN3, R1, gemma, llama2, llama3, qwen, smollm2
from tests.tiny import build_tiny_tokenizer
from training.student import load_tokenizer
from training.tokens import (
    read_tokens,
    tokenize_chosen,
    tokenize_completion,
    tokenize_pair,
    tokenize_rows,
)

# <bos> <start> user <end> \n\n ab <eot> <start> assistant <end> \n\n
LLAMA3_PROMPT = [0, 2, 4, 3, 11, 12, 1, 2, 5, 3, 11]
# <im_start> system \n S <im_end> \n <im_start> user \n ab <im_end> \n <im_start> assistant \n
CHATML_PROMPT = [0, 3, 6, 13, 1, 6, 0, 4, 6, 11, 1, 6, 0, 5, 6]
# <bos> <start_of_turn> user \n ab <end_of_turn> \n <start_of_turn> model \n
GEMMA_PROMPT = [0, 2, 4, 6, 11, 3, 6, 2, 5, 6]
# <s> [U] _ ab [A]: this tokenizer writes a space before the question
LLAMA2_PROMPT = [0, 2, 4, 9, 3]


def sandbox() -> Any:
    return load_tokenizer(str(SANDBOX_STUDENT))


FAMILIES = {
    "llama3": llama3,
    "qwen": qwen,
    "smollm2": smollm2,
    "gemma": gemma,
    "llama2": llama2,
    "sandbox": sandbox,
    "tiny": build_tiny_tokenizer,
}
every_family = pytest.mark.parametrize("make", FAMILIES.values(), ids=FAMILIES)


def pair(prefix: str, chosen: str, rejected: str, *, question: str = "ab") -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": question}],
        "prefix": prefix,
        "chosen": [{"role": "assistant", "content": prefix + chosen}],
        "rejected": [{"role": "assistant", "content": prefix + rejected}],
    }


def solution(text: str, *, question: str = "ab") -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": question}],
        "completion": [{"role": "assistant", "content": text}],
    }


@pytest.mark.parametrize(
    ("make", "prompt", "c", "d", "ab"),
    [
        (llama3, LLAMA3_PROMPT, [9], [10], [12]),
        (gemma, GEMMA_PROMPT, [9], [10], [11]),
        (llama2, LLAMA2_PROMPT, [4, 7], [8], [9]),  # _ c | d: no space may appear before the d
        (partial(llama2, "first"), [0, 2, 9, 3], [7], [8], [9]),
    ],
)
def test_a_token_that_would_straddle_the_boundary_is_split_there(
    make: Any, prompt: list[int], c: list[int], d: list[int], ab: list[int]
) -> None:
    """``cd`` is one token of all three, but the c was given."""
    ids = tokenize_pair(pair("c", "d", "ab"), make())
    assert ids == {"prompt_ids": prompt + c, "chosen_ids": d, "rejected_ids": ab}


@pytest.mark.parametrize("make", [qwen, smollm2])
def test_a_straddling_token_in_chatml(make: Any) -> None:
    """With ``bc`` a token, ``ab`` + ``c`` stays ab, c (the first merge wins), and ``b`` + ``c`` is split."""
    ids = tokenize_pair(pair("ab", "c", "ca"), make())
    assert ids == {"prompt_ids": [*CHATML_PROMPT, 11], "chosen_ids": [9], "rejected_ids": [9, 7]}
    ids = tokenize_pair(pair("b", "c", "d"), make())
    assert ids == {"prompt_ids": [*CHATML_PROMPT, 8], "chosen_ids": [9], "rejected_ids": [10]}


def test_digits_stand_alone_on_both_sides_of_the_boundary() -> None:
    ids = tokenize_pair(pair("1", "2", "12"), smollm2())  # never the token 17, "12"
    assert ids == {"prompt_ids": [*CHATML_PROMPT, 15], "chosen_ids": [16], "rejected_ids": [15, 16]}


def test_a_leading_space_belongs_to_the_learnt_side() -> None:
    """``_d`` is a piece: after ``c`` it is learnt whole; behind the generation prompt the space
    comes by itself."""
    ids = tokenize_pair(pair("c", " d", " ab"), llama2())
    assert ids == {"prompt_ids": [*LLAMA2_PROMPT, 4, 7], "chosen_ids": [11], "rejected_ids": [4, 9]}
    assert tokenize_pair(pair("", "d", "ab"), llama2())["chosen_ids"] == [11]
    # Gemma's pieces keep their spaces too, but none is put in front.
    ids = tokenize_pair(pair("ab", " c", "c"), gemma())
    assert ids == {"prompt_ids": [*GEMMA_PROMPT, 11], "chosen_ids": [14], "rejected_ids": [9]}


@pytest.mark.parametrize(
    ("make", "prompt", "d", "end"),
    [
        (llama3, LLAMA3_PROMPT, 10, [15, 1]),
        (qwen, CHATML_PROMPT, 10, [14, 1, 6]),
        (smollm2, CHATML_PROMPT, 10, [14, 1, 6]),
        (gemma, GEMMA_PROMPT, 10, [15, 3, 6]),  # <end_of_turn> and not <eos>, which is 1
        (llama2, LLAMA2_PROMPT, 11, [13, 1]),
    ],
)
def test_only_a_side_that_completes_the_answer_ends_the_turn(
    make: Any, prompt: list[int], d: int, end: list[int]
) -> None:
    ids = tokenize_pair(pair("", "d</Answer>", "d"), make())
    assert ids == {"prompt_ids": prompt, "chosen_ids": [d, *end], "rejected_ids": [d]}
    stops = tokenize_pair(pair("", "d</Answer>", "</Answer>d"), make())["rejected_ids"]
    assert end[1] not in stops  # the tag in mid-text completes nothing


def test_only_the_chosen_side_behind_the_prefix_is_learnt() -> None:
    found = tokenize_chosen(pair("ab", " c", "c"), gemma())
    sides = tokenize_pair(pair("ab", " c", "c"), gemma())
    assert found["input_ids"] == sides["prompt_ids"] + sides["chosen_ids"]
    assert found["labels"] == [-100] * len(sides["prompt_ids"]) + sides["chosen_ids"]


@every_family
def test_a_row_has_one_bos_and_no_second_turn(make: Any) -> None:
    tokenizer = make()
    ids = tokenize_pair(pair("c", "d</Answer>", "d"), tokenizer)
    text = tokenizer.decode(ids["prompt_ids"] + ids["chosen_ids"])
    question = [{"role": "user", "content": "ab"}]
    without = tokenizer.apply_chat_template(question, tokenize=False)
    assert text.count(render(tokenizer, question)[len(without) :]) == 1
    if tokenizer.bos_token and make is not smollm2:
        assert (ids["prompt_ids"] + ids["chosen_ids"]).count(tokenizer.bos_token_id) == 1


@every_family
@pytest.mark.parametrize("prefix", ["", "ab", "abab", "cd", "ab\n"])
def test_rows_render_as_the_student_is_prompted_in_use(make: Any, prefix: str) -> None:
    tokenizer = make()
    ids = tokenize_pair(pair(prefix, "d", "c"), tokenizer)["prompt_ids"]
    begun = [{"role": "assistant", "content": prefix}] if prefix else []
    in_use = render(tokenizer, [{"role": "user", "content": "ab"}, *begun])
    assert ids == tokenizer(in_use, add_special_tokens=False)["input_ids"]
    assert tokenize_completion(solution("d"), tokenizer)["labels"].count(-100) == len(
        tokenize_pair(pair("", "d", "c"), tokenizer)["prompt_ids"]
    )


def test_a_template_that_trims_trims_whole_answers_but_never_what_was_given() -> None:
    assert tokenize_completion(solution(" ab\n"), llama3())["input_ids"] == [*LLAMA3_PROMPT, 12, 1]
    assert tokenize_completion(solution(" ab\n"), gemma())["input_ids"] == [*GEMMA_PROMPT, 11, 3, 6]
    ids = tokenize_pair(pair("ab\n", "c\n", "d"), llama3())
    assert ids == {"prompt_ids": [*LLAMA3_PROMPT, 12, 6], "chosen_ids": [9, 6], "rejected_ids": [10]}


@pytest.mark.parametrize(
    ("make", "prompt", "learnt"),
    [(llama3, LLAMA3_PROMPT, [9]), (gemma, GEMMA_PROMPT, [9]), (qwen, CHATML_PROMPT, [6, 9])],
)
def test_a_prefix_of_white_space_only_is_no_begun_answer(
    make: Any, prompt: list[int], learnt: list[int]
) -> None:
    """A wrong first step behind a line break: a template that trims takes the break (6) off the answer."""
    ids = tokenize_pair(pair("\n", "c", "c"), make())
    assert ids == {"prompt_ids": prompt, "chosen_ids": learnt, "rejected_ids": learnt}


def test_stage_one_learns_the_answer_and_its_end_only() -> None:
    for make, prompt, learnt in [
        (llama3, LLAMA3_PROMPT, [12, 1]),
        (qwen, CHATML_PROMPT, [11, 1, 6]),
        (gemma, GEMMA_PROMPT, [11, 3, 6]),
        (llama2, LLAMA2_PROMPT, [4, 9, 1]),
    ]:
        ids = tokenize_completion(solution("ab"), make())
        assert ids == {"input_ids": prompt + learnt, "labels": [-100] * len(prompt) + learnt}


def test_an_empty_thought_that_the_template_adds_is_learnt_as_it_will_be_written() -> None:
    """Qwen3: in use the student writes it first; a begun answer has it in front already."""
    tokenizer = qwen()
    tokenizer.chat_template = QWEN3
    ids = tokenize_completion(solution("ab"), tokenizer)
    assert ids["input_ids"] == [*CHATML_PROMPT, 15, 16, 11, 1, 6]
    assert ids["labels"] == [-100] * len(CHATML_PROMPT) + [15, 16, 11, 1, 6]
    begun = tokenize_pair(pair("ab", "c", "d"), tokenizer)
    assert begun["prompt_ids"] == [*CHATML_PROMPT, 15, 16, 11]


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (R1, "the prompt, which ends in '.*<think>', changes once an answer follows"),
        (LLAMA2.replace("{{ eos_token if m['role'] == 'assistant' }}", ""), "nothing marks the end"),
        (
            LLAMA2.replace("m['content'] }}{{ eos", "m['content'] | replace('d', 'a') }}{{ eos"),
            "it changes an answer",
        ),
    ],
    ids=["opens a thought", "no end of turn", "rewrites"],
)
def test_a_template_that_differs_between_training_and_use_is_refused(template: str, reason: str) -> None:
    tokenizer = qwen() if template is R1 else llama2()
    tokenizer.chat_template = template
    with pytest.raises(DataError, match=f"chat template of 'tiny' cannot be trained as it is used: {reason}"):
        tokenize_completion(solution("d"), tokenizer)


def test_a_begun_answer_that_leaves_out_the_open_thought_is_refused() -> None:
    tokenizer = qwen()
    tokenizer.chat_template = R1
    with pytest.raises(DataError, match="does not follow the generation prompt"):
        tokenize_pair(pair("ab", "c", "d"), tokenizer)


def test_a_template_without_a_system_role_is_one_sentence() -> None:
    row = solution("ab")
    row["prompt"] = [{"role": "system", "content": "S"}, *row["prompt"]]
    with pytest.raises(DataError, match="'tiny' cannot be trained as it is used: System role not supported"):
        tokenize_completion(row, gemma())


def test_a_side_without_its_prefix_is_refused() -> None:
    row = {**pair("c", "d", "ab"), "prefix": "a"}
    with pytest.raises(DataError, match="`chosen` does not start with its `prefix`"):
        tokenize_pair(row, llama3())


ANSWERS = ["d</Answer>", "ab\ncd</Answer>", "1 2 </Answer>\n"]


@every_family
def test_whole_answers_are_the_ids_that_trl_makes(make: Any) -> None:
    """TRL's own preparation of the same conversational rows, for both stages."""
    import datasets
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    tokenizer = make()
    texts = [text for text in ANSWERS if "1" not in text or make in (smollm2, sandbox, build_tiny_tokenizer)]
    shared = {"output_dir": "unused", "use_cpu": True, "bf16": False, "max_length": None}
    as_trainer = SimpleNamespace(_tokenizer=tokenizer, chat_template=None, completion_only_loss=True)
    rows = datasets.Dataset.from_list([solution(text) for text in texts])
    arguments = SFTConfig(**shared)
    theirs = SFTTrainer._prepare_dataset(as_trainer, rows, tokenizer, arguments, False, None, "train")
    for row, other in zip(rows, theirs, strict=True):
        ours = tokenize_completion(row, tokenizer)
        assert ours == {name: other[name] for name in ours}
    rows = datasets.Dataset.from_list([pair("", text, f"a{text}") for text in texts])
    theirs = DPOTrainer._prepare_dataset(as_trainer, rows, tokenizer, DPOConfig(**shared), "train")
    for row, other in zip(rows, theirs, strict=True):
        ours = tokenize_pair(row, tokenizer)
        assert ours == {name: other[name] for name in ours}


@pytest.mark.parametrize("on_disk", [False, True])
def test_rows_that_are_too_long_are_dropped_whole_and_counted(tmp_path: Path, on_disk: bool) -> None:
    """A row has 11 ids of prompt: with one learnt id it is 12 long, with 20 d's 31."""
    rows = [pair("", "d", "c")] * 199 + [pair("", "d" * 20, "c")]
    file = tmp_path / "train.arrow" if on_disk else None
    kept, lengths = tokenize_rows(rows, llama3(), tokenize_pair, max_length=12, file=file)
    assert len(kept) == lengths.kept == 199
    assert (lengths.p50, lengths.p95, lengths.longest, lengths.dropped) == (12, 12, 31, 1)
    assert kept[0] == {"prompt_ids": LLAMA3_PROMPT, "chosen_ids": [10], "rejected_ids": [9], "length": 12}
    assert sorted(each.name for each in tmp_path.iterdir()) == (["train.arrow", "train.json"] if file else [])


def test_rows_on_disk_are_longest_first_and_named_by_their_content(tmp_path: Path) -> None:
    rows = [pair("", "d" * n, "c") for n in (1, 3, 2)]
    first, _ = tokenize_rows(rows, llama3(), tokenize_pair, None, file=tmp_path / "a.arrow")
    assert list(first["length"]) == [14, 13, 12]
    again, _ = tokenize_rows(rows, llama3(), tokenize_pair, None, file=tmp_path / "b.arrow")
    other, _ = tokenize_rows(rows[:2], llama3(), tokenize_pair, None, file=tmp_path / "b.arrow")
    assert first._fingerprint == again._fingerprint != other._fingerprint
    mapped, lengths = read_tokens(tmp_path / "a.arrow")
    assert mapped[:] == first[:]
    assert lengths.longest == 14
    with pytest.raises(DataError, match="Run the stage again"):
        read_tokens(tmp_path / "nowhere.arrow")


def test_more_than_one_percent_too_long_is_refused() -> None:
    rows = [pair("", "d", "c")] * 97 + [pair("", "d" * 20, "c")] * 2
    with pytest.raises(DataError, match="2 of 99 rows are longer than `max_length=12`"):
        tokenize_rows(rows, llama3(), tokenize_pair, max_length=12)
    with pytest.raises(DataError, match="no rows"):
        tokenize_rows([], llama3(), tokenize_pair, max_length=12)
    kept, _ = tokenize_rows(rows, llama3(), tokenize_pair, max_length=None)
    assert list(kept["length"])[:3] == [31, 31, 12]  # longest first
    kept, lengths = tokenize_rows(rows, llama3(), tokenize_pair, max_length=12, max_dropped=1)
    assert (len(kept), lengths.dropped) == (97, 2)
