"""The gate's two paired tests, on reports whose discordant problems are counted by hand.

The exact two-sided McNemar p of d discordant problems that all point one way is 2 / 2^d: 0.0625 for five and
0.03125 for six, on either side of 0.05.
"""

from __future__ import annotations

from typing import Any

import pytest

from supercorrect_agent.errors import ConfigError
from training.config import GateConfig
from training.gate import Decision, decide

Rows = list[tuple[str, str]]
RIGHT, WRONG, FIXED, BROKEN = ("c", "c"), ("i", "i"), ("i", "c"), ("c", "i")


def report(rows: Rows, *, arm: str = "review", first_id: int = 0) -> dict[str, Any]:
    """A report with one (first pass, arm) pair a problem: c is correct, i is not."""
    problems = [
        {"id": str(first_id + number), "single": {"correct": one == "c"}, arm: {"correct": two == "c"}}
        for number, (one, two) in enumerate(rows)
    ]
    return {"arms": {"single": {}, arm: {}}, "problems": problems}


def gate(incumbent: Rows, candidate: Rows, **settings: Any) -> Decision:
    return decide(report(incumbent), report(candidate), GateConfig(**settings))


def test_a_clear_gain_is_promoted_and_said_with_its_figures() -> None:
    # Four of ten right before, ten after: six discordant problems, all gained.
    found = gate([RIGHT] * 4 + [WRONG] * 6, [RIGHT] * 4 + [FIXED] * 6)
    assert (found.promoted, found.in_noise) == (True, False)
    assert (found.accuracy["only_first"], found.accuracy["only_second"]) == (0, 6)
    assert found.accuracy["p_value"] == 0.03125
    assert found.right_to_wrong["value"] == 0
    assert found.reason.startswith("promoted: review 40.0% -> 100.0%, +60.0 points [")
    assert found.reason.endswith("], p=0.031; right to wrong 0.0% -> 0.0%, not up (p=1)")


def test_a_gain_inside_the_noise_is_not() -> None:
    found = gate([RIGHT] * 4 + [WRONG] * 5, [RIGHT] * 4 + [FIXED] * 5)
    assert (found.promoted, found.in_noise) == (False, True)
    assert found.accuracy["p_value"] == 0.0625
    assert found.reason.startswith("not promoted: review 44.4% -> 100.0%, +55.6 points [")
    assert "p=0.062, inside the noise; " in found.reason


def test_alpha_itself_is_enough() -> None:
    rows = [WRONG] * 6, [FIXED] * 6
    assert gate(*rows, alpha=0.03125).promoted
    assert not gate(*rows, alpha=0.031).promoted


def test_equal_students_are_in_the_noise() -> None:
    rows = [RIGHT, WRONG, FIXED, BROKEN]
    found = gate(rows, rows)
    assert (found.promoted, found.in_noise) == (False, True)
    assert (found.accuracy["value"], found.accuracy["p_value"]) == (0.0, 1.0)
    assert found.right_to_wrong["p_value"] == 1.0


def test_a_loss_is_not_promoted_though_it_is_beyond_the_noise() -> None:
    found = gate([RIGHT] * 6, [WRONG] * 6)
    assert (found.promoted, found.in_noise) == (False, False)
    assert found.accuracy["value"] == -1.0


def test_a_gain_that_breaks_more_right_solutions_is_refused() -> None:
    # 20 gained and 6 lost: p = 2 P(X <= 6) for 26 fair coins = 2 * 313,912 / 2^26 = 0.0094. The six are
    # right in both first passes, so all six are newly broken: p = 0.03125.
    incumbent, candidate = [WRONG] * 20 + [RIGHT] * 6, [FIXED] * 20 + [BROKEN] * 6
    found = gate(incumbent, candidate)
    assert found.accuracy["p_value"] == pytest.approx(2 * 313_912 / 2**26)
    assert (found.right_to_wrong["only_second"], found.right_to_wrong["p_value"]) == (6, 0.03125)
    assert (found.promoted, found.in_noise) == (False, False)
    assert found.reason.endswith("; right to wrong 0.0% -> 23.1%, up (p=0.031)")
    # Five newly broken are inside the noise: nobody is held back by them.
    almost = gate([WRONG] * 20 + [RIGHT] * 6, [FIXED] * 20 + [BROKEN] * 5 + [RIGHT])
    assert almost.right_to_wrong["p_value"] == 0.0625
    assert almost.promoted
    assert almost.reason.endswith("right to wrong 0.0% -> 19.2%, not up (p=0.062)")


def test_fewer_broken_solutions_refuse_nobody() -> None:
    found = gate([BROKEN] * 6, [RIGHT] * 6)
    assert (found.right_to_wrong["value"], found.right_to_wrong["p_value"]) == (-1.0, 0.03125)
    assert found.promoted


def test_wrong_first_solutions_that_stay_wrong_are_not_broken() -> None:
    found = gate([RIGHT] * 6, [WRONG] * 6)
    assert found.right_to_wrong["value"] == 0.0


def test_the_first_pass_alone_has_nothing_to_break() -> None:
    found = gate([WRONG] * 6, [RIGHT] * 6, arm="single")
    assert found.promoted
    assert found.right_to_wrong["value"] == 0.0
    assert found.reason.endswith("; right to wrong: nothing to compare, the arm is the first pass itself")


def test_no_problems_promote_nobody() -> None:
    found = gate([], [])
    assert (found.promoted, found.in_noise, found.accuracy["total"]) == (False, True, 0)


def test_problems_are_matched_by_id_not_by_place() -> None:
    incumbent = report([WRONG] * 6 + [RIGHT] * 6)
    candidate = report([WRONG] * 6 + [RIGHT] * 6)
    candidate["problems"].reverse()
    found = decide(incumbent, candidate, GateConfig())
    assert (found.accuracy["only_first"], found.accuracy["only_second"]) == (0, 0)
    assert (found.right_to_wrong["only_first"], found.right_to_wrong["only_second"]) == (0, 0)


def test_reports_that_cannot_be_compared_are_refused() -> None:
    one = report([RIGHT] * 2)
    with pytest.raises(ConfigError, match="different problems"):
        decide(one, report([RIGHT] * 2, first_id=1), GateConfig())
    with pytest.raises(ConfigError, match=r"`arm=teacher` needs the arm `teacher`, which the incumbent's"):
        decide(one, report([RIGHT] * 2, arm="teacher"), GateConfig(arm="teacher"))
    with pytest.raises(ConfigError, match=r"the candidate's evaluation lacks.*--arms single review"):
        decide(one, report([RIGHT] * 2, arm="teacher"), GateConfig())


def test_a_decision_survives_json() -> None:
    found = gate([WRONG] * 6, [FIXED] * 6)
    assert Decision.model_validate_json(found.model_dump_json()) == found
