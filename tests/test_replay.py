"""Replay on a tiny random model: which rows come when, and what they add to the loss."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from supercorrect_agent.errors import ConfigError, DataError
from tests.training_runs import largest_difference, log_of, losses, pair_rows, run, settings, sft_rows
from training.data import load_rows
from training.replay import Replay, WithReplay
from training.student import load_tokenizer
from training.tokens import tokenize_chosen, tokenize_completion, tokenize_rows

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pair_rows(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sft_rows(tmp_path_factory.mktemp("rows"))


def make_replay(lengths: list[int], batch_size: int, seed: int = 0) -> Replay:
    """Row ``i`` is the token ``i + 1`` over and over, of which the first is given and the rest is learnt."""
    import datasets

    found = [
        {"input_ids": [i + 1] * n, "labels": [-100] + [i + 1] * (n - 1), "length": n}
        for i, n in enumerate(lengths)
    ]
    return Replay(datasets.Dataset.from_list(found), batch_size, seed, pad=0)


def names(replay: Replay, number: int) -> list[int]:
    return [int(row[0]) for row in replay.batch(number)["input_ids"]]


def test_every_epoch_replays_every_row_once_in_another_order() -> None:
    replay = make_replay([3, 9, 4, 8, 5, 7], batch_size=2)
    epochs = [[name for number in range(3 * e, 3 * e + 3) for name in names(replay, number)] for e in (0, 1)]
    assert [sorted(epoch) for epoch in epochs] == [[1, 2, 3, 4, 5, 6]] * 2
    assert epochs[0] != epochs[1]


def test_a_batch_depends_on_the_seed_and_its_number_alone() -> None:
    lengths = list(range(2, 42))
    one, other = make_replay(lengths, 4), make_replay(lengths, 4)
    for number in (0, 1, 11):
        one.batch(number)
    assert names(one, 13) == names(other, 13)
    assert [names(make_replay(lengths, 4, seed=1), n) for n in range(10)] != [
        names(one, n) for n in range(10)
    ]


def test_a_batch_is_padded_where_nothing_is_read_and_nothing_learnt() -> None:
    batch = make_replay([2, 3], batch_size=8).batch(5)  # two rows are all there are
    found = sorted(
        zip(*(batch[key].tolist() for key in ("input_ids", "attention_mask", "labels")), strict=True)
    )
    assert found == [
        ([1, 1, 0], [1, 1, 0], [-100, 1, -100]),
        ([2, 2, 2], [1, 1, 1], [-100, 2, 2]),
    ]


@pytest.mark.parametrize(
    ("world", "accumulation", "process", "wanted"),
    [(1, 2, 0, [6, 7, 8]), (2, 1, 0, [6, 8]), (2, 1, 1, [7, 9])],
)
def test_processes_share_what_one_would_replay(
    world: int, accumulation: int, process: int, wanted: list[int]
) -> None:
    """Step 3 holds the batches 6 and 7, whether one process accumulates two or two take one each."""
    trainer: Any = WithReplay()
    trainer.args = SimpleNamespace(
        world_size=world, gradient_accumulation_steps=accumulation, process_index=process
    )
    trainer.state = SimpleNamespace(global_step=3)
    found = [trainer._next_batch() for _ in range(accumulation)]
    trainer.state.global_step = 4
    assert [*found, trainer._next_batch()] == wanted


def test_the_replayed_loss_is_added_to_the_preference_loss(
    model: Path, pairs: Path, rows: Path, tmp_path: Path
) -> None:
    """ln 2 for the pairs, and half of the mean negative log-likelihood of all eight rows' completions."""
    changes = {
        "loss_type": "sigmoid", "max_steps": 1, "per_device_train_batch_size": 8,
        "replay": str(rows), "replay_batch_size": 8, "replay_weight": 0.5,
    }  # fmt: skip
    folder, _ = run("dpo", settings("dpo", model, pairs, tmp_path / "out", **changes))
    again = negative_log_likelihood(model, rows, tokenize_completion)
    assert losses(folder)[0] == pytest.approx(math.log(2) + 0.5 * again, abs=1e-3)
    assert log_of(folder)[0]["replay_loss"] == pytest.approx(again, abs=1e-3)


def negative_log_likelihood(model: Path, folder: Path, tokenize: Any) -> float:
    """Mean over the learnt tokens of all rows of a dataset folder, by plain forward passes."""
    import torch
    from transformers import AutoModelForCausalLM

    student = AutoModelForCausalLM.from_pretrained(model).eval()
    total = tokens = 0.0
    for row in tokenize_rows(load_rows(folder)[0], load_tokenizer(str(model)), tokenize, None)[0]:
        ids, learnt = torch.tensor(row["input_ids"]), torch.tensor(row["labels"][1:]) != -100
        with torch.no_grad():
            logps = student(ids[None]).logits.log_softmax(-1)[0, :-1]
        total += float(logps.gather(1, ids[1:, None])[:, 0][learnt].sum())
        tokens += int(learnt.sum())
    return -total / tokens


def test_chosen_sides_are_learnt_in_full_beside_pairs_of_a_few_words(
    model: Path, pairs: Path, rows: Path, tmp_path: Path
) -> None:
    short = pair_rows(tmp_path / "short", pair_scope="difference")
    changes = {
        "loss_type": "sigmoid", "max_steps": 1, "per_device_train_batch_size": 8, "replay_batch_size": 8,
    }  # fmt: skip
    beside = {"replay": str(rows), "learn_chosen": str(pairs)}
    folder, _ = run("dpo", settings("dpo", model, short, tmp_path / "out", **changes, **beside))
    first = negative_log_likelihood(model, rows, tokenize_completion)
    chosen = negative_log_likelihood(model, pairs, tokenize_chosen)
    assert abs(first - chosen) > 0.01
    assert losses(folder)[0] == pytest.approx(math.log(2) + first + chosen, abs=1e-3)


def test_with_no_weight_on_the_pairs_only_the_replay_is_learnt(
    model: Path, pairs: Path, rows: Path, tmp_path: Path
) -> None:
    """The control: other pairs, the same weights in the end."""
    changes = {"loss_type": "sft", "loss_weights": [0.0], "max_steps": 3, "replay": str(rows), "full": True}
    one, _ = run("dpo", settings("dpo", model, pairs, tmp_path / "one", **changes))
    other_pairs = pair_rows(tmp_path / "pairs", solve_pairs=False)
    other, _ = run("dpo", settings("dpo", model, other_pairs, tmp_path / "other", **changes))
    with_pairs, _ = run(
        "dpo", settings("dpo", model, pairs, tmp_path / "third", **{**changes, "loss_weights": [1.0]})
    )
    assert largest_difference(one, other) < 1e-6
    assert largest_difference(one, with_pairs) > 1e-4


def test_each_kind_of_rows_has_its_place(model: Path, pairs: Path, rows: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"`replay=.* holds rows of kind preference.*--kind sft"):
        run("dpo", settings("dpo", model, pairs, tmp_path / "out", replay=str(pairs)))
    with pytest.raises(DataError, match=r"`learn_chosen=.* holds rows of kind sft.*--kind preference"):
        run("dpo", settings("dpo", model, pairs, tmp_path / "out", learn_chosen=str(rows)))


def test_other_rows_to_replay_are_another_run(model: Path, pairs: Path, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("dpo", settings("dpo", model, pairs, out, replay=str(rows), max_steps=1))
    moved = rows.rename(tmp_path / "moved")
    _, said = run("dpo", settings("dpo", model, pairs, out, replay=str(moved), max_steps=1))
    assert said == [f"dpo: {out} is finished already"]
    moved.rename(rows)
    other = sft_rows(tmp_path / "other", max_rows=4)
    with pytest.raises(ConfigError, match="replay hash"):
        run("dpo", settings("dpo", model, pairs, out, replay=str(other), max_steps=1))
