"""How far the sides of a pair go: on request to the first word in which they differ, and no further.

The traces are those of tests/training_traces.py: the teacher corrects 132*3=386 to 396, the student to 376.
"""

from __future__ import annotations

import pytest

from tests.training_traces import PREFIX, make_round, make_trace
from training.pair_kinds import Pair, until_difference
from training.pairs import build_preference_dataset


def side(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def test_on_request_both_sides_end_with_the_first_word_in_which_they_differ() -> None:
    rows, _ = build_preference_dataset([make_trace(make_round())], pair_scope="difference", solve_pairs=True)
    sides = {row["kind"]: (row["chosen"], row["rejected"], row["prefix"], row["ends"]) for row in rows}
    said = "<Evaluate>wrong</Evaluate><Cause>"
    kept = "<Step1>47+85=132</Step1>\n"
    assert sides == {
        "correction": (side(PREFIX + said + "3"), side(PREFIX + said + "Carry"), PREFIX, False),
        "solve": (side(kept + "<Step2>132*3=396"), side(kept + "<Step2>132*3=386"), kept, False),
    }


@pytest.mark.parametrize(
    ("chosen", "rejected", "wanted"),
    [
        ("so 347 apples", "so 342 apples", ("so 347", "so 342")),  # a number is one word
        ("Add 3. <Key>3+4=7</Key> 7", "Add 3. 9", ("Add 3. <", "Add 3. 9")),
        ("ja, \u00fcber 3", "ja, \u00fcben 3", ("ja, \u00fcber", "ja, \u00fcben")),
        ("a b", "a b c", None),
    ],
)
def test_words_are_not_cut_in_two(chosen: str, rejected: str, wanted: tuple[str, str] | None) -> None:
    found = until_difference(Pair("solve", [], "", chosen, rejected, 1))
    assert (found and (found.chosen, found.rejected)) == wanted


def test_whole_answers_can_be_cut_too() -> None:
    trace = make_trace(make_round())
    rows, _ = build_preference_dataset([trace], pair_format="whole_answer", pair_scope="difference")
    kept = "<Step1>47+85=132</Step1>\n<Step2>132*3="
    assert [(row["chosen"], row["rejected"], row["ends"]) for row in rows] == [
        (side(kept + "396"), side(kept + "386"), False)
    ]
