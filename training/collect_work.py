"""What is left to collect: drawn one by one, shared with other processes, what failed before at the end."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from supercorrect_agent.store import JsonlTraceStore, TraceKey, trace_key
from supercorrect_agent.types import Problem, content_id


class Item(NamedTuple):
    """One attempt at one problem."""

    problem: Problem
    sample: int
    key: TraceKey


Standing = tuple[set[TraceKey], Counter[TraceKey]]
Unit = tuple[Item, ...]  # attempts that are made one after another


class Claiming(Protocol):
    """Lets processes on one store share the work."""

    def claim(self, key: TraceKey) -> bool: ...

    def release(self, key: TraceKey) -> None: ...


class Work:
    """The attempts that are missing from a store.

    Args:
        problems: All problems.
        samples: Attempts at each.
        done: What need not be made again.
        failures: How often each attempt failed in earlier runs.
        retry_failed: How often one that failed is made again.
        claims: Shares the work with other processes; None: there are none.
        together: The samples of one problem are one unit, for the later ones look at the earlier.

    Attributes:
        skipped: Attempts that are in the store.
        given_up: Attempts that failed too often.
        total: Attempts to make.
        elsewhere: Units that another process has in hand.
        begun: Whether any attempt was made before.
        problems: Those of which attempts are missing.
    """

    def __init__(
        self,
        problems: Iterable[Problem],
        *,
        samples: int,
        done: set[TraceKey],
        failures: Counter[TraceKey],
        retry_failed: int,
        claims: Claiming | None = None,
        together: bool = False,
    ) -> None:
        self.skipped = self.given_up = self.total = 0
        self.elsewhere: deque[Unit] = deque()
        self.problems: list[Problem] = []
        self._failures, self._claims = failures, claims
        fresh: list[Unit] = []
        again: list[Unit] = []
        seen: set[TraceKey] = set()
        for items in _attempts(problems, samples):
            missing: list[Item] = []
            for item in items:
                if item.key in seen:
                    continue
                seen.add(item.key)
                if item.key in done:
                    self.skipped += 1
                elif failures[item.key] > retry_failed:
                    self.given_up += 1
                else:
                    missing.append(item)
            self.total += len(missing)
            self.problems += [missing[0].problem] if missing else []
            for unit in [tuple(missing)] if together else [(item,) for item in missing]:
                if unit:
                    (again if any(failures[item.key] for item in unit) else fresh).append(unit)
        # whatever failed before may fail in a row: it comes last, so that it never stands in the way
        self._units: Iterator[Unit] = iter([*fresh, *again])
        self._fresh = len(fresh)
        self.begun = bool(self.skipped or self.given_up or again)

    @property
    def retrying(self) -> bool:
        """Whether all is drawn but what failed before."""
        return self._fresh <= 0

    def failed_before(self, key: TraceKey) -> bool:
        """Whether an attempt failed in an earlier run."""
        return self._failures[key] > 0

    def draw(self) -> Unit | None:
        """The next attempts, claimed; None: there are none that another process has not in hand."""
        for unit in self._units:
            self._fresh -= 1
            if self._claim(unit):
                return unit
            self.elsewhere.append(unit)
        return None

    def redraw(self) -> Unit | None:
        """Attempts that another process had in hand and gave up."""
        for _ in range(len(self.elsewhere)):
            unit = self.elsewhere.popleft()
            if self._claim(unit):
                return unit
            self.elsewhere.append(unit)
        return None

    def forget(self, done: set[TraceKey], failures: Counter[TraceKey]) -> int:
        """Leaves out what another process has made meanwhile, and says how many attempts that were."""
        before = sum(map(len, self.elsewhere))
        left = (
            tuple(
                item
                for item in unit
                if item.key not in done and failures[item.key] <= self._failures[item.key]
            )
            for unit in self.elsewhere
        )
        self.elsewhere = deque(unit for unit in left if unit)
        return before - sum(map(len, self.elsewhere))

    def give_back(self, items: Iterable[Item]) -> None:
        """Lets other processes make what was drawn and not made."""
        if self._claims is not None:
            for item in items:
                self._claims.release(item.key)

    def _claim(self, unit: Unit) -> bool:
        if self._claims is None:
            return True
        taken: list[Item] = []
        for item in unit:
            if not self._claims.claim(item.key):
                self.give_back(taken)
                return False
            taken.append(item)
        return True


def _attempts(problems: Iterable[Problem], samples: int) -> Iterator[list[Item]]:
    for problem in problems:
        yield [Item(problem, sample, trace_key(problem, sample)) for sample in range(samples)]


def read_standing(store: JsonlTraceStore) -> Standing:
    """Which attempts need not be made again, and how often each of the others failed."""
    done: set[TraceKey] = set()
    failures: Counter[TraceKey] = Counter()
    for key, status in store.reading().endings():
        if status == "error":
            failures[key] += 1
        else:
            done.add(key)
    return done, failures


def take_part(problems: Sequence[Problem], part: str) -> list[Problem]:
    """The part ``I/N`` of the problems: by what they ask, so that it stays the same when others are added."""
    index, parts = (int(number) for number in part.split("/"))
    if parts == 1:
        return list(problems)
    return [each for each in problems if int(content_id(each.question), 16) % parts == index - 1]
