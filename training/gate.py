"""Whether a trained student replaces the present one: two paired tests on problems that neither has seen.

A student is promoted if the accuracy of the way it is used (``arm``) went up, and if it does not break more
right solutions on the way. Both are exact two-sided McNemar tests at level ``alpha``: a gain inside the noise
promotes nobody, and a loss of right solutions inside the noise holds nobody back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from supercorrect_agent.errors import ConfigError
from supercorrect_agent.types import Record
from training.config import GateConfig
from training.evaluate import compare_evaluations
from training.metrics import Difference, accuracy, paired_difference

FIRST_ARM = "single"
Report = Mapping[str, Any]


class Decision(Record):
    """What the gate found; differences are candidate minus incumbent, over all problems.

    Attributes:
        promoted: Whether the candidate takes the incumbent's place.
        in_noise: Whether the difference of accuracies is too small to tell, either way.
        accuracy: Right answers of the arm.
        right_to_wrong: Problems that are right in the first pass and wrong in the arm (decision B9).
        reason: One sentence with the figures, for people.
    """

    promoted: bool
    in_noise: bool
    accuracy: Difference
    right_to_wrong: Difference
    reason: str


def decide(incumbent: Report, candidate: Report, config: GateConfig) -> Decision:
    """Compares two reports of `training.evaluate.run_evaluate` about the same problems.

    Raises:
        ConfigError: The reports are about different problems, or one lacks the arm or the first pass.
    """
    reports = {"incumbent": incumbent, "candidate": candidate}
    for name, report in reports.items():
        _check_arms(name, report, config.arm)
    change = compare_evaluations(incumbent, candidate)[config.arm]
    broken = [_broken(report, config.arm) for report in reports.values()]
    more = paired_difference(*broken)
    in_noise = change["p_value"] > config.alpha
    breaks_more = more["value"] > 0 and more["p_value"] <= config.alpha
    promoted = change["value"] > 0 and not in_noise and not breaks_more
    right = [_right(report, config.arm) for report in reports.values()]
    words = [
        _accuracy_words(config.arm, change, [_share(each) for each in right], in_noise),
        _broken_words(config.arm, more, [_share(each) for each in broken], breaks_more),
    ]
    return Decision(
        promoted=promoted,
        in_noise=in_noise,
        accuracy=change,
        right_to_wrong=more,
        reason=f"{'promoted' if promoted else 'not promoted'}: {'; '.join(words)}",
    )


def _check_arms(name: str, report: Report, arm: str) -> None:
    lacking = sorted({FIRST_ARM, arm} - set(report["arms"]))
    if lacking:
        raise ConfigError(
            f"`arm={arm}` needs the arm `{lacking[0]}`, which the {name}'s evaluation lacks. "
            f"Evaluate with `--arms {FIRST_ARM} {arm}`."
        )


def _right(report: Report, arm: str) -> list[bool]:
    return [bool(row[arm]["correct"]) for row in _rows(report)]


def _broken(report: Report, arm: str) -> list[bool]:
    """For each problem, whether the arm lost a right first solution."""
    return [bool(row[FIRST_ARM]["correct"]) and not row[arm]["correct"] for row in _rows(report)]


def _rows(report: Report) -> list[dict[str, Any]]:
    return sorted(report["problems"], key=lambda row: str(row["id"]))


def _share(outcomes: list[bool]) -> float:
    return accuracy(outcomes)["value"]


def _accuracy_words(arm: str, change: Difference, shares: list[float], in_noise: bool) -> str:
    old, new = (f"{share:.1%}" for share in shares)
    bounds = f"{100 * change['value']:+.1f} points [{100 * change['low']:+.1f}, {100 * change['high']:+.1f}]"
    noise = ", inside the noise" if in_noise else ""
    return f"{arm} {old} -> {new}, {bounds}, p={change['p_value']:.2g}{noise}"


def _broken_words(arm: str, change: Difference, shares: list[float], up: bool) -> str:
    if arm == FIRST_ARM:
        return "right to wrong: nothing to compare, the arm is the first pass itself"
    old, new = (f"{share:.1%}" for share in shares)
    return f"right to wrong {old} -> {new}, {'up' if up else 'not up'} (p={change['p_value']:.2g})"
