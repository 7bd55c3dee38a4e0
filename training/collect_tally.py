"""What a collection has come to so far: counts, tokens, money, and why anything failed or was left out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from supercorrect_agent.inspector.report import CRITIQUES, TEMPLATES, InspectionReport
from supercorrect_agent.store.summary import final_verdict
from supercorrect_agent.types import Trace
from training.critiques import not_criticised
from training.free_reviews import FreeReviews
from training.progress import Pace

MILLION = 1_000_000
_TELLING = r"'https?://[^']{0,80}'|https?://[^\s'\",;)]+|\b(?:localhost|\d{1,3}(?:\.\d{1,3}){3})(?::\d+)?\b"
_TELLING += r"|\b(?:[Cc]ode|[Ss]tatus|HTTP)(?: code)?[:= ]{1,2}[1-5]\d\d\b"
_VARIABLE = re.compile(rf"({_TELLING})|'[^']{{0,80}}'|\d+(?:\.\d+)?")
Prices = Mapping[str, tuple[float, float]]


class Tally:
    """Counts traces as they come in.

    Args:
        total: Runs that are to be made.
        skipped: Runs that are in the store already.
        prices: By role, the price of a million tokens, in and out.

    Attributes:
        row: How many of the last runs failed, one after another.
        scored: Attempts whose answer could be compared; the others are neither right nor wrong.
        elsewhere: Runs that another process on the same store made meanwhile.
    """

    def __init__(self, *, total: int, skipped: int, prices: Prices | None = None) -> None:
        self.total, self.skipped, self._prices = total, skipped, dict(prices or {})
        self.done = self.errors = self.attempts = self.scored = self.right_first = self.right_final = 0
        self.row = self.elsewhere = 0
        self.calls: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()
        self.tokens_in: Counter[str] = Counter()
        self.status: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.set_aside: Counter[str] = Counter()
        self.inspections = InspectionReport()
        self.free_reviews = FreeReviews()
        self.quarantined: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.pace = Pace()

    def add(self, trace: Trace) -> None:
        """Counts one trace."""
        self.done += 1
        self.status[trace.status] += 1
        self.row = self.row + 1 if trace.status == "error" else 0
        if trace.status == "error":
            self.errors += 1
            self.failed[failure_reason(trace)] += 1
        for call in trace.calls:
            self.calls[call.role] += 1
            self.tokens[call.role] += call.input_tokens + call.output_tokens
            self.tokens_in[call.role] += call.input_tokens
        if trace.solution is not None and trace.verdict is not None:
            final = final_verdict(trace)
            self.attempts += 1
            self.scored += trace.verdict.status != "unscored"
            self.right_first += trace.verdict.correct
            self.right_final += final is not None and final.correct
        self.inspections.add(trace)
        self.free_reviews.add(trace)
        reason = not_criticised(trace)
        if reason is not None:
            self.set_aside[reason] += 1
        if trace.status == "quarantined":
            last = trace.rounds[-1].inspections if trace.rounds else ()
            self.quarantined.update([one.check for one in last if not one.passed] or ["other"])

    @property
    def caught(self) -> Counter[str]:
        """By check of the inspector, the texts that failed it in any version."""
        rows = self.inspections.table().items()
        sums = (CRITIQUES, TEMPLATES)
        return Counter({check: row["failed"] for check, row in rows if row["failed"] and check not in sums})

    @property
    def cost(self) -> dict[str, float]:
        """Money by role."""
        spent = {}
        for role, tokens in self.tokens.items():
            price_in, price_out = self._prices.get(role, (0.0, 0.0))
            read = self.tokens_in[role]
            spent[role] = (read * price_in + (tokens - read) * price_out) / MILLION
        return spent

    @property
    def priced(self) -> bool:
        """Whether anything costs money."""
        return any(price for prices in self._prices.values() for price in prices)

    def line(self) -> str:
        """All of it in one line."""
        return ", ".join([f"collect: {self.done}/{self.total} traces", *self.words()])

    def words(self) -> list[str]:
        """What there is to say beside the number of traces."""
        rate = self.done / self.pace.elapsed
        parts = [f"{rate:.1f}/s"]
        left = self.total - self.done - self.elsewhere
        if self.done and left > 0:
            parts.append(f"{_duration(left / rate)} left")
        if self.scored:
            parts.append(f"right at first {self.right_first / self.scored:.1%}")
        parts.append(f"{self.tokens.total()} tokens")
        if self.priced:
            parts.append(f"cost {sum(self.cost.values()):.2f}")
        if self.skipped:
            parts.append(f"{self.skipped} were there already")
        if self.elsewhere:
            parts.append(f"{self.elsewhere} by another process")
        if self.errors:
            parts.append(f"{self.errors} failed")
        return parts

    def details(self) -> list[str]:
        """What was dropped, failed and caught, each with its reason and count: one line a kind."""
        kinds = {
            "dropped problems": self.dropped, "failed": self.failed,
            "wrong attempts set aside": self.set_aside, "caught by the inspector": self.caught,
            "quarantined": self.quarantined,
        }  # fmt: skip
        return [f"collect: {kind}: {_counts(counts)}" for kind, counts in kinds.items() if counts]

    def summary(self) -> dict[str, Any]:
        """All of it as JSON. What free reviews are worth is there where there were any."""
        tokens_out = {role: self.tokens[role] - self.tokens_in[role] for role in self.tokens}
        measured = {"free_reviews": self.free_reviews.quality()} if self.free_reviews else {}
        return {
            "collected": self.done, "skipped": self.skipped, "elsewhere": self.elsewhere,
            "left": max(0, self.total - self.done - self.elsewhere),
            "errors": self.errors, "failed": dict(self.failed.most_common()),
            "dropped": dict(self.dropped.most_common()), "quarantined": dict(self.quarantined.most_common()),
            "set_aside": dict(self.set_aside.most_common()), "inspector": self.inspections.table(),
            "status": dict(self.status.most_common()),
            "attempts": self.attempts, "scored": self.scored,
            "right_first": self.right_first, "right_final": self.right_final,
            "accuracy": self.right_first / self.scored if self.scored else None,
            "calls": dict(self.calls), "tokens": dict(self.tokens), "tokens_in": dict(self.tokens_in),
            "tokens_out": tokens_out, "cost": {role: round(cost, 6) for role, cost in self.cost.items()},
            "seconds": round(self.pace.elapsed, 2), "rate": round(self.done / self.pace.elapsed, 3),
            **measured,
        }  # fmt: skip


def failure_reason(trace: Trace) -> str:
    """Why a run failed, without the numbers and names that differ from problem to problem.

    Addresses and HTTP status codes stay: they say which server it was, and what is wrong with it.
    """
    text = (trace.error or "no reason given").strip()
    return _VARIABLE.sub(lambda found: found[1] or "_", text)[:160]


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
