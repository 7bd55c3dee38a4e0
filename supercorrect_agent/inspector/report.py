"""What each check of the inspector caught: one table over traces, which a runner can fill as they come."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from supercorrect_agent.inspector import REACHES_ANSWER
from supercorrect_agent.types import Inspection, Trace

COLUMNS = ("seen", "failed", "mended", "quarantined")
CRITIQUES, TEMPLATES = "all critiques", "all templates"
Checked = Sequence[Inspection]


class InspectionReport:
    """Counts what each check caught, trace by trace.

    A row is a check: by its name for critiques, as ``template NAME`` for the teacher's own solutions, and
    ``all critiques`` and ``all templates`` for all checks of one together. A text that went back to its
    teacher counts once, with all its versions:

    * ``seen``: texts that met the check, in any version;
    * ``failed``: those that failed it in any version;
    * ``mended``: those of them that did not fail it in their last version;
    * ``quarantined``: those that failed it to the last.

    So ``failed`` is the sum of the two behind it, except in the row ``reaches_answer``: a correction from
    which the student missed the answer is quarantined only on request (``CollectConfig.revise_unreached``);
    else the builders leave it out, unless they trust its teacher.
    """

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, int]] = {}

    def add(self, trace: Trace) -> None:
        """Counts one trace; one that broke off (status ``error``) was not inspected to its end."""
        if trace.status == "error":
            return
        for round_ in trace.rounds:
            earlier = [one.inspections for one in round_.revisions]
            self._count([*earlier, round_.inspections], CRITIQUES, "", trace.status == "quarantined")
        drafts = [one.inspections for one in trace.template_revisions]
        self._count([*drafts, trace.template_inspections], TEMPLATES, "template ", False)

    def table(self) -> dict[str, dict[str, int]]:
        """The rows so far, each with the four ``COLUMNS``; a check that nobody met has none."""
        return {name: dict(row) for name, row in self._rows.items()}

    def _count(self, versions: list[Checked], total: str, prefix: str, quarantined: bool) -> None:
        if not any(versions):
            return  # nobody inspected it
        judged = [[one for one in version if one.check != REACHES_ANSWER] for version in versions]
        self._tally(total, any(map(_fails, judged)), _fails(judged[-1]))
        for check in dict.fromkeys(one.check for version in versions for one in version):
            failed = any(_fails(version, check) for version in versions)
            held_back = quarantined or check != REACHES_ANSWER
            self._tally(prefix + check, failed, _fails(versions[-1], check), held_back)

    def _tally(self, name: str, failed: bool, to_the_last: bool, held_back: bool = True) -> None:
        row = self._rows.setdefault(name, dict.fromkeys(COLUMNS, 0))
        row["seen"] += 1
        row["failed"] += failed
        row["mended"] += failed and not to_the_last
        row["quarantined"] += to_the_last and held_back


def inspection_report(traces: Iterable[Trace]) -> dict[str, dict[str, int]]:
    """What each check caught in these traces; for the rows and columns see ``InspectionReport``."""
    report = InspectionReport()
    for trace in traces:
        report.add(trace)
    return report.table()


def _fails(version: Checked, check: str | None = None) -> bool:
    return any(not one.passed and check in (None, one.check) for one in version)
