"""Intervals and paired tests, with expected values worked out by hand."""

from __future__ import annotations

import pytest

from training.metrics import (
    accuracy,
    mcnemar_exact,
    paired_difference,
    self_correction,
    wilson_interval,
)


def test_wilson_interval_of_half() -> None:
    # p = 1/2, n = 10, z^2 = 3.8415: centre 1/2, half = z sqrt(1/40 + z^2/400) / (1 + z^2/10)
    # = 1.95996 * sqrt(0.025 + 0.0096037) / 1.38415 = 0.26341
    interval = wilson_interval(5, 10)
    assert interval["value"] == 0.5
    assert interval["low"] == pytest.approx(0.23659, abs=1e-5)
    assert interval["high"] == pytest.approx(0.76341, abs=1e-5)


def test_wilson_interval_at_the_ends() -> None:
    # 0 of n: the upper end is z^2 / (n + z^2) = 3.8415 / 13.8415
    assert wilson_interval(0, 10)["low"] == 0.0
    assert wilson_interval(0, 10)["high"] == pytest.approx(0.27753, abs=1e-5)
    assert wilson_interval(10, 10)["high"] == 1.0
    assert wilson_interval(0, 0) == {"value": 0.0, "low": 0.0, "high": 1.0, "count": 0, "total": 0}
    with pytest.raises(ValueError, match="count=3"):
        wilson_interval(3, 2)


def test_mcnemar_is_the_two_sided_binomial_tail() -> None:
    assert mcnemar_exact(0, 0) == 1.0
    assert mcnemar_exact(0, 5) == pytest.approx(2 / 32)
    assert mcnemar_exact(1, 5) == pytest.approx(2 * (1 + 6) / 64)
    assert mcnemar_exact(5, 1) == mcnemar_exact(1, 5)
    assert mcnemar_exact(3, 3) == 1.0  # twice the tail is above one


def test_paired_difference_without_correlation_is_the_square_and_add() -> None:
    # Each of the four cells holds one problem: phi = 0, and both accuracies are 1/2 with the same Wilson
    # interval, so the bounds are -/+ sqrt(2) times its half width:
    # z sqrt(1/16 + z^2/64) / (1 + z^2/4) = 0.34996.
    found = paired_difference([True, True, False, False], [True, False, True, False])
    assert (found["value"], found["only_first"], found["only_second"]) == (0.0, 1, 1)
    assert found["high"] == pytest.approx(0.34996 * 2**0.5, abs=1e-4)
    assert found["low"] == pytest.approx(-found["high"])
    assert found["p_value"] == 1.0


def test_paired_difference_of_a_clear_gain_excludes_zero() -> None:
    first = [True] * 40 + [False] * 60
    second = [True] * 70 + [False] * 30
    found = paired_difference(first, second)
    assert found["value"] == pytest.approx(0.3)
    assert 0 < found["low"] < 0.3 < found["high"] < 0.5
    assert found["p_value"] == pytest.approx(2 / 2**30)
    with pytest.raises(ValueError, match="same problems"):
        paired_difference([True], [])


def test_self_correction_counts_flips_over_their_own_bases() -> None:
    first = [True, True, True, True, False, False]
    second = [True, True, True, False, True, False]
    found = self_correction(first, second)
    assert found["accuracy_t1"]["count"] == 4
    assert found["accuracy_t2"]["count"] == 4
    assert (found["corrected"]["count"], found["corrected"]["total"]) == (1, 2)
    assert (found["broken"]["count"], found["broken"]["total"]) == (1, 4)
    assert found["delta"]["value"] == 0.0
    assert accuracy([])["total"] == 0
