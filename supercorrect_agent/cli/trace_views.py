"""How ``supercorrect traces`` prints sums, tables and whole traces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from supercorrect_agent.store.compaction import Compaction
    from supercorrect_agent.store.listing import StoreFile
    from supercorrect_agent.types import Alternative, Trace, Verdict


def print_summary(summary: dict[str, Any]) -> None:
    from supercorrect_agent.cli.screen import make_console, print_field

    console = make_console()
    print_field(console, "Traces", f"{summary['traces']} of {summary['problems']} problems")
    print_field(console, "Status", _counts(summary["status"]))
    for name, label in (("first", "Right at first"), ("final", "Right in the end")):
        print_field(console, label, _accuracy(summary[name]))
    print_field(console, "Traces by rounds", _counts(summary["rounds"]))
    print_field(console, "Traces by first wrong step", _counts(summary["first_error_step"]))
    for role, used in summary["usage"].items():
        tokens = f"{used['input_tokens']} in, {used['output_tokens']} out"
        print_field(console, "Tokens", f"{role}: {tokens} ({used['calls']} calls, {used['seconds']:.1f} s)")
    for label, text in _more(summary):
        print_field(console, label, text)


def _more(summary: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What only some stores have."""
    if "inspector" in summary:
        checks = summary["inspector"].items()
        yield (
            "Inspector caught",
            ", ".join(f"{name}: {one['caught']} of {one['made']}" for name, one in checks),
        )
    if "revisions" in summary:
        yield "Critiques sent back", str(summary["revisions"])
    if "quarantined" in summary:
        yield "Quarantined", _counts(summary["quarantined"])
    if "free_review" in summary:
        yield "Student's own step is the teacher's", _accuracy(summary["free_review"])
    if "cost" in summary:
        yield "Cost", f"{summary['cost']:.2f}"
    if "errors" in summary:
        yield "Failed", _counts(summary["errors"])
    if "rows" in summary:
        rows = summary["rows"]
        yield f"Rows ({rows['kind']})", f"{rows['kept']} kept; dropped: {_counts(rows['dropped'])}"


def print_files(console: Console, files: list[StoreFile]) -> None:
    from rich.table import Table
    from rich.text import Text

    from supercorrect_agent.cli.screen import clean

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("file", "kind", "traces", "bytes", "schema", "broken", "state"):
        table.add_column(name, no_wrap=True, justify="right" if name in ("traces", "bytes") else "left")
    for file in files:
        versions = ", ".join(
            version if len(file.versions) == 1 else f"{version}: {count}"
            for version, count in sorted(file.versions.items())
        )
        state = ["being written"] if file.live else []
        state += [f"torn from byte {file.torn}"] if file.torn is not None else []
        cells = (file.name, file.kind, str(file.traces), str(file.bytes), versions, str(file.broken))
        table.add_row(*(Text(clean(cell)) for cell in (*cells, ", ".join(state))))
    console.print(table, soft_wrap=False)
    total = sum(file.traces for file in files), sum(file.bytes for file in files)
    console.print(Text(f"{len(files)} files, {total[0]} traces, {total[1]} bytes"))


def print_compaction(done: Compaction) -> None:
    from supercorrect_agent.cli.screen import make_console, print_field

    console = make_console()
    print_field(console, "Traces", f"{done.traces} moved to {len(done.files)} Parquet files")
    print_field(console, "Bytes", f"{done.bytes_before} before, {done.bytes_after} after")
    if done.superseded:
        print_field(console, "Left out", f"{done.superseded} failed runs that succeeded later")
    if done.broken:
        print_field(console, "Broken lines", f"{done.broken}, now in a file broken-*.jsonl")
    if done.live:
        print_field(console, "Left alone", f"{done.live} shards that are being written")


def _counts(histogram: dict[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in histogram.items()) or "none"


def _accuracy(counts: dict[str, Any]) -> str:
    if counts["accuracy"] is None:
        return "nothing was scored"
    return f"{counts['correct']} of {counts['scored']} scored ({counts['accuracy']:.1%})"


def print_table(console: Console, traces: list[Trace]) -> None:
    from rich.table import Table
    from rich.text import Text

    from supercorrect_agent.cli.screen import clean

    table = Table(box=None, pad_edge=False, header_style="bold", expand=console.is_terminal)
    for name in ("id", "status", "first", "final", "wrong step", "answer"):
        table.add_column(name, no_wrap=True)
    table.add_column("problem", no_wrap=True, overflow="ellipsis", ratio=1)
    for trace in traces:
        final = trace.final_solution
        steps = [str(one.critique.step) for one in trace.rounds if one.critique.step is not None]
        row = (
            trace.id,
            trace.status,
            _mark(trace.verdict),
            _mark(_final_verdict(trace)),
            " ".join(steps),
            ((final and final.answer) or "")[:20],
            trace.problem.question[:100],
        )
        table.add_row(*(Text(clean(" ".join(cell.split()))) for cell in row))
    console.print(table, soft_wrap=False)


def print_trace(console: Console, trace: Trace) -> None:
    from rich.text import Text

    from supercorrect_agent.cli.screen import RIGHT, WRONG, print_critique, print_field, print_solution

    def head(text: str, verdict: Verdict | None = None) -> None:
        console.print(Text(f"{text}: {_mark(verdict)}" if verdict else text, style="bold"))

    head(f"trace {trace.id}")
    print_field(console, "Problem", trace.problem.question)
    solution = trace.solution
    if solution:
        head("student", trace.verdict)
        print_solution(console, solution, wrong=trace.rounds[0].critique.step if trace.rounds else None)
    for number, one in enumerate(trace.rounds, 1):
        print_critique(console, one.critique)
        for alternative in one.alternatives:
            label = alternative.source.replace("_", " ").capitalize()
            print_field(console, label, f"{_words(alternative)}: {_mark(alternative.verdict)}")
        if one.solution:
            after = trace.rounds[number].critique.step if number < len(trace.rounds) else None
            head("student, corrected", one.verdict)
            print_solution(console, one.solution, wrong=after)
    head("result")
    reason = trace.error or trace.chosen.reason
    sure = trace.status in ("accepted", "corrected")
    print_field(console, "Status", f"{trace.status} ({reason})", RIGHT if sure else WRONG)
    final = trace.final_solution
    print_field(console, "Answer", (final and final.answer) or "none")
    if trace.problem.answer is not None:
        print_field(console, "True answer", trace.problem.answer)


def _words(alternative: Alternative) -> str:
    from supercorrect_agent.cli.screen import without_tags

    own = alternative.critique
    if own.step is None:
        return "no error found" if own.readable else "unreadable"
    return f"step {own.step}, {' '.join(without_tags(own.correction).split()) or 'no correction'}"


def _final_verdict(trace: Trace) -> Verdict | None:
    return trace.rounds[trace.chosen.index - 1].verdict if trace.chosen.index else trace.verdict


def _mark(verdict: Verdict | None) -> str:
    return verdict.status if verdict else "-"
