"""``supercorrect traces``: what a trace store holds, and how to get it out."""

from __future__ import annotations

import difflib
import importlib
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from supercorrect_agent.errors import ConfigError

if TYPE_CHECKING:
    from supercorrect_agent.store import JsonlTraceStore
    from supercorrect_agent.store.summary import Price
    from supercorrect_agent.types import Trace

app = typer.Typer(no_args_is_help=True, help="List, show, count, compact or export the traces of a store.")

Format = Literal["jsonl", "parquet", "sft", "preference", "sts"]
Kind = Literal["sft", "preference"]

StorePath = Annotated[
    str,
    typer.Argument(
        metavar="PATH",
        help="A .jsonl file, the folder of a collection, or an address such as s3://bucket/traces.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
Status = Annotated[
    str | None, typer.Option(help="Only traces that ended so, such as corrected.", show_default=False)
]
ProblemId = Annotated[
    str | None, typer.Option("--problem", help="Only traces of the problem with this id.", show_default=False)
]


@app.command("ls")
def list_store(path: StorePath, as_json: AsJson = False) -> None:
    """List the files of a store: their traces, sizes and schema versions, and what in them is broken."""
    from supercorrect_agent.cli.screen import make_console
    from supercorrect_agent.cli.trace_views import print_files
    from supercorrect_agent.store import open_store
    from supercorrect_agent.store.listing import list_files

    files = list_files(open_store(path, must_exist=True))
    if as_json:
        typer.echo(json.dumps([file.model_dump(mode="json") for file in files], indent=2))
    else:
        print_files(make_console(), files)


@app.command()
def stats(
    path: StorePath,
    as_json: AsJson = False,
    price: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROLE=IN/OUT",
            help="What a million tokens cost, such as teacher=2.5/10; may be given for each role.",
        ),
    ] = None,
    rows: Annotated[
        Kind | None, typer.Option(help="Also build these training rows and count why others were dropped.")
    ] = None,
) -> None:
    """Count traces by ending, right answers before and after correction, rounds, checks and tokens."""
    from supercorrect_agent.store.summary import summarize_traces

    prices = _prices(price or [])
    with _reading(path) as traces:
        summary = summarize_traces(traces, prices=prices, errors=True)
        if rows is not None:
            manifest = _training("row_files").count_rows(traces, rows)
            summary["rows"] = {"kind": rows, "kept": manifest.kept, "dropped": manifest.dropped}
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
        return
    from supercorrect_agent.cli.trace_views import print_summary

    print_summary(summary)


@app.command()
def show(
    path: StorePath,
    trace_id: Annotated[
        str | None, typer.Option("--id", help="Show this trace whole; its first digits are enough.")
    ] = None,
    status: Status = None,
    problem: ProblemId = None,
    limit: Annotated[int, typer.Option(min=1, help="Most traces.")] = 20,
    skip: Annotated[int, typer.Option(min=0, help="Leave so many out, to turn the page.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """List traces; or show one whole, its wrong step marked."""
    _check_status(status)
    with _reading(path) as traces:
        found = _matching(traces, trace_id, status, problem)
        wanted = list(islice(found, skip, skip + limit))
    if trace_id is not None and not wanted:
        raise ConfigError(
            f"`--id {trace_id}` is no trace in '{path}'. `supercorrect traces show {path}` lists them."
        )
    if as_json:
        for trace in wanted:
            typer.echo(json.dumps(trace.model_dump(mode="json"), ensure_ascii=True))
        return
    from supercorrect_agent.cli.screen import make_console
    from supercorrect_agent.cli.trace_views import print_table, print_trace

    console = make_console()
    if trace_id is None:
        print_table(console, wanted)
    for trace in wanted if trace_id is not None else ():
        print_trace(console, trace)


@app.command()
def compact(
    path: StorePath,
    rows: Annotated[
        bool, typer.Option(help="Work out candidates of training rows too, so that exports need not.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Move the traces of finished shards into Parquet files. Readers see no difference."""
    from supercorrect_agent.store.compaction import compact_store

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # broken lines are counted
        done = compact_store(path, derive=None if rows else ())
    if as_json:
        typer.echo(json.dumps(done.model_dump(mode="json"), indent=2))
        return
    from supercorrect_agent.cli.trace_views import print_compaction

    print_compaction(done)


@app.command()
def export(
    path: StorePath,
    output: Annotated[
        str, typer.Option(help="File to write; a folder for sts (and for rows with manifest and card).")
    ],
    file_format: Annotated[
        Format, typer.Option("--format", help="Traces as they are, rows for TRL, or sessions for the Hub.")
    ] = "jsonl",
    status: Status = None,
    problem: ProblemId = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Most traces.", show_default=False)] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes that make training rows of a large store; by default one a core.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an output that is there already.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write traces, training rows (TRL's formats), or sessions (the Hub's trace viewer) to a file."""
    from supercorrect_agent.store.export import check_output

    _check_status(status)
    check_output(path, output, force=force)
    with _reading(path) as traces:
        filtered = status is not None or problem is not None or limit is not None
        wanted = islice(_matching(traces, None, status, problem), limit) if filtered else traces
        report = _export(wanted, output, file_format, workers)
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        dropped = ", ".join(f"{count} {reason}" for reason, count in report.get("dropped", {}).items())
        typer.echo(f"{report['written']} {report['what']} in {output}{dropped and f'; dropped: {dropped}'}")


def _export(traces: Any, output: str, file_format: Format, workers: int | None) -> dict[str, Any]:
    if file_format in get_args(Kind):
        manifest = _training("row_files").export_rows(traces, output, file_format, workers=workers)
        return {"what": "rows", "written": manifest.kept, "dropped": manifest.dropped, "output": output}
    from supercorrect_agent.store import export

    write = {"jsonl": export.export_jsonl, "parquet": export.export_parquet, "sts": export.export_sessions}
    return {"what": "traces", "written": write[file_format](traces, output), "output": output}


def _training(name: str) -> Any:
    """A module of the training code: by name, so that this command needs it only when it is used."""
    try:
        return importlib.import_module(f"training.{name}")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"Training rows need '{error.name}', which is not installed. "
            "Install it: pip install 'supercorrect-agent[data]'."
        ) from error


@contextmanager
def _reading(path: str) -> Iterator[JsonlTraceStore]:
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


def _matching(
    traces: JsonlTraceStore, trace_id: str | None, status: str | None, problem: str | None
) -> Iterator[Trace]:
    for trace in traces:
        if (
            trace.id.startswith(trace_id or "")
            and status in (None, trace.status)
            and problem in (None, trace.problem.id)
        ):
            yield trace


def _prices(texts: list[str]) -> dict[str, Price]:
    from supercorrect_agent.store.summary import Price
    from supercorrect_agent.types import Role

    found = {}
    for text in texts:
        role, _, both = text.partition("=")
        numbers = both.split("/")
        try:
            price = Price(*map(float, numbers))
        except (TypeError, ValueError):
            price = Price(-1, -1)
        if role not in get_args(Role) or not min(price) >= 0:
            raise ConfigError(
                f"`--price {text}` is no price. Write ROLE=IN/OUT with a role of {', '.join(get_args(Role))} "
                "and the price of a million tokens read and written, such as teacher=2.5/10."
            )
        found[role] = price
    return found
