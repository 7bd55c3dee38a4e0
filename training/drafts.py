"""Traces to candidate rows, one trace at a time: here, or in worker processes where there are many traces."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

from supercorrect_agent.problems import HeldOut
from supercorrect_agent.prompts import PromptSet
from supercorrect_agent.types import Trace
from supercorrect_agent.verification import MathVerifier, Verifier
from training.manifest import Ledger, unusable
from training.rows import Candidates, Draft


class DraftReader(ABC):
    """Reads the candidate rows of one kind; what it finds depends on the trace and its settings alone.

    Args:
        prompts: The prompts the student is used with.
        refused: Questions of evaluation sets.
        verifier: Grades solutions; `MathVerifier` by default.
    """

    kind = ""

    def __init__(
        self,
        prompts: PromptSet,
        refused: HeldOut | None = None,
        verifier: Verifier | None = None,
    ) -> None:
        self.prompts = prompts
        self._refused, self.verifier = refused or HeldOut(), verifier or MathVerifier()
        self.can_be_shared = verifier is None and not len(self._refused)

    def settings(self) -> dict[str, Any]:
        """The same reader as JSON, for a worker that makes it again; only if it ``can_be_shared``."""
        return {"kind": self.kind, "prompts": self.prompts.model_dump(by_alias=True)}

    def read(self, trace: Trace, ledger: Ledger) -> Iterator[Draft]:
        """The candidate rows of a trace; what gives none is counted."""
        ledger.traces_read += 1
        reason = unusable(trace, self._refused)
        if reason:
            ledger.drop(reason)
        else:
            yield from self.drafts(trace, ledger)

    @abstractmethod
    def drafts(self, trace: Trace, ledger: Ledger) -> Iterator[Draft]:
        """The same of a trace that may be trained on."""


class TraceSource(ABC):
    """Traces that know a faster way to candidate rows than one trace after the other."""

    @abstractmethod
    def spool(self, reader: DraftReader, candidates: Candidates, ledger: Ledger) -> None:
        """Reads every trace once, and keeps its candidate rows."""


def spool(
    traces: Iterable[Trace] | TraceSource, reader: DraftReader, candidates: Candidates, ledger: Ledger
) -> None:
    """Reads every trace once, and keeps its candidate rows."""
    if isinstance(traces, TraceSource):
        traces.spool(reader, candidates, ledger)
        return
    for trace in traces:
        for draft in reader.read(trace, ledger):
            candidates.put(draft)
