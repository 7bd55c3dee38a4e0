"""Alarms for the ways in which DPO goes wrong, read off the trainer's log.

Three failures of preference training are reported again and again, and the loss shows none of them:

- **The chosen side's log-probability falls** (decision B8). The loss needs only the margin to grow, so both
  sides may fall. TRL logs ``rewards/chosen = beta * mean(log p(chosen) - log p_ref(chosen))``, sums over a
  side's tokens. The reference is the policy that training started from (checked at the first step), so
  ``rewards/chosen / beta / mean tokens of the chosen sides`` is the change since the start in nats per token.
  ``logps/chosen`` would not do: it is a sum over the tokens of whichever rows the batch holds, long or short,
  likely or not, while here each row is compared with itself. The value is the mean of the last five logged
  steps (of three or four while there are no more; of fewer none is taken), so that a single batch does not
  ring. The token count is that of all rows, so a batch of long rows weighs somewhat more.
- **Replies grow or shrink**: the probe's mean tokens against its first.
- **Replies do not end**: the share of the probe's replies that hit the limit, against its first.

The last two need ``probe``; without it only the first is watched. An alarm does not stop the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from supercorrect_agent.types import Record
from training.config import DpoConfig
from training.probe import ProbeResult

SMOOTHED = 5
FEWEST = 3
_REMEDY = "Raise the weight of `sft` in `loss_weights`, lower `learning_rate` or raise `beta`."

Log = Sequence[Mapping[str, Any]]


class Alarm(Record):
    """Something that went past its threshold.

    Attributes:
        kind: ``chosen_drop`` (nats per token), ``length`` (ratio) or ``no_end`` (share).
        step: The optimiser step at which it rang.
        value: What was measured.
        threshold: The setting it is past.
        message: One line for people: value, threshold and remedy.
    """

    kind: str
    step: int
    value: float
    threshold: float
    message: str


def chosen_alarm(config: DpoConfig, log: Log, chosen_tokens: float) -> Alarm | None:
    """Whether the chosen sides' log-probabilities have fallen too far; see above.

    Args:
        config: ``beta`` and ``alarm_chosen_drop``.
        log: The trainer's log so far; entries without ``rewards/chosen`` are passed over.
        chosen_tokens: Mean tokens of a chosen side.
    """
    entries = [entry for entry in log if "rewards/chosen" in entry][-SMOOTHED:]
    if len(entries) < FEWEST:
        return None
    reward = sum(entry["rewards/chosen"] for entry in entries) / len(entries)
    drop = -reward / config.beta / chosen_tokens
    if drop <= config.alarm_chosen_drop:
        return None
    return Alarm(
        kind="chosen_drop",
        step=entries[-1]["step"],
        value=drop,
        threshold=config.alarm_chosen_drop,
        message=f"the chosen sides' log-probability has fallen by {drop:.2f} nats per token since the start "
        f"(`alarm_chosen_drop={config.alarm_chosen_drop}`). {_REMEDY}",
    )


def probe_alarms(config: DpoConfig, log: Log) -> list[Alarm]:
    """The alarms of the last probe against the first: replies that grow or shrink, replies without an end.

    Args:
        config: ``alarm_length_ratio`` and ``alarm_no_end_share``.
        log: The trainer's log so far; entries without a probe are passed over.
    """
    made = probes(log)
    if len(made) < 2:
        return []
    (_, first), (step, last) = made[0], made[-1]
    alarms = []
    ratio, bound = last.tokens / first.tokens, config.alarm_length_ratio
    if not 1 / bound <= ratio <= bound:
        message = (
            f"the probe's replies have {last.tokens:.0f} tokens after {first.tokens:.0f}, {ratio:.2f} times "
            f"as many (`alarm_length_ratio={bound}`). {_REMEDY}"
        )
        alarms.append(Alarm(kind="length", step=step, value=ratio, threshold=bound, message=message))
    more, bound = last.unfinished - first.unfinished, config.alarm_no_end_share
    if more > bound:
        message = (
            f"{last.unfinished:.1%} of the probe's replies do not end, after {first.unfinished:.1%} "
            f"(`alarm_no_end_share={bound}`). {_REMEDY}"
        )
        alarms.append(Alarm(kind="no_end", step=step, value=more, threshold=bound, message=message))
    return alarms


def probes(log: Log) -> list[tuple[int, ProbeResult]]:
    """The probes in a trainer's log, with the steps at which they were made."""
    found = [entry for entry in log if "probe/accuracy" in entry]
    fields = {name: f"probe/{name}" for name in ProbeResult.model_fields}
    return [
        (entry["step"], ProbeResult(**{name: entry[key] for name, key in fields.items()})) for entry in found
    ]
