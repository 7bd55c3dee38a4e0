"""``supercorrect traces``: what a trace store holds."""

from __future__ import annotations

import difflib
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from supercorrect_agent.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from supercorrect_agent.store import JsonlTraceStore
    from supercorrect_agent.types import Alternative, Trace, Verdict

app = typer.Typer(no_args_is_help=True, help="Count or show the traces of a store.")

StorePath = Annotated[
    Path, typer.Argument(metavar="PATH", help="A .jsonl file or the folder of a collection.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]


@app.command()
def stats(path: StorePath, as_json: AsJson = False) -> None:
    """Count traces by ending, right answers before and after correction, rounds and tokens."""
    from supercorrect_agent.store import summarize_traces

    with _reading(path) as traces:
        summary = summarize_traces(traces)
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
    else:
        _print_summary(summary)


@app.command()
def show(
    path: StorePath,
    trace_id: Annotated[
        str | None, typer.Option("--id", help="Show this trace whole; its first digits are enough.")
    ] = None,
    status: Annotated[
        str | None, typer.Option(help="Only traces that ended so, such as corrected.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most traces.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """List traces; or show one whole, its wrong step marked."""
    _check_status(status)
    with _reading(path) as traces:
        wanted = list(islice((trace for trace in traces if _matches(trace, trace_id, status)), limit))
    if trace_id is not None and not wanted:
        raise ConfigError(
            f"`--id {trace_id}` is no trace in '{path}'. `supercorrect traces show {path}` lists them."
        )
    if as_json:
        for trace in wanted:
            typer.echo(json.dumps(trace.model_dump(mode="json"), ensure_ascii=True))
        return
    from supercorrect_agent.cli.screen import make_console

    console = make_console()
    if trace_id is None:
        _print_table(console, wanted)
    for trace in wanted if trace_id is not None else ():
        print_trace(console, trace)


@contextmanager
def _reading(path: Path) -> Iterator[JsonlTraceStore]:
    """The store; afterwards, one line on stderr if some of it could not be read."""
    from supercorrect_agent.store import open_store

    store = open_store(path, must_exist=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the store's warning of a torn line is in the count
        yield store
    if store.skipped:
        lines = "1 broken line was" if store.skipped == 1 else f"{store.skipped} broken lines were"
        typer.echo(f"warning: {lines} skipped in '{path}'.", err=True)


def _check_status(status: str | None) -> None:
    from supercorrect_agent.types import TraceStatus

    known = get_args(TraceStatus)
    if status is not None and status not in known:
        near = difflib.get_close_matches(status, known, n=1, cutoff=0.5)
        remedy = f"Did you mean '{near[0]}'?" if near else f"Use one of: {', '.join(known)}."
        raise ConfigError(f"`--status {status}` is no ending of a trace. {remedy}")


def _matches(trace: Trace, trace_id: str | None, status: str | None) -> bool:
    return trace.id.startswith(trace_id or "") and status in (None, trace.status)


def _print_summary(summary: dict[str, Any]) -> None:
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


def _counts(histogram: dict[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in histogram.items()) or "none"


def _accuracy(counts: dict[str, Any]) -> str:
    if counts["accuracy"] is None:
        return "nothing was scored"
    return f"{counts['correct']} of {counts['scored']} scored ({counts['accuracy']:.1%})"


def _print_table(console: Console, traces: list[Trace]) -> None:
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
