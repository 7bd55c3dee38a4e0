"""``supercorrect solve``: one problem, live."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from supercorrect_agent.cli.endings import EXIT_RUN_FAILED, leaving_at_once
from supercorrect_agent.errors import ConfigError

if TYPE_CHECKING:
    from supercorrect_agent.cli.live import LiveRun
    from supercorrect_agent.graph import CompiledSolveGraph
    from supercorrect_agent.state import CorrectionConfig
    from supercorrect_agent.store import JsonlTraceStore
    from supercorrect_agent.types import Trace

EXAMPLE = (
    'supercorrect solve "Mia has 12 shells. Mia finds 30 more. A friend borrows 5. '
    'How many shells does Mia have now?"'
)
MOST_CHARACTERS = 1_000_000


def solve(
    text: Annotated[str, typer.Argument(help="The problem; - reads it from standard input.")] = "",
    student: Annotated[
        str, typer.Option(help="sandbox, local:FOLDER[+ADAPTER], vllm:NAME@URL or provider:NAME.")
    ] = "sandbox",
    teacher: Annotated[
        str | None,
        typer.Option(
            help="sandbox, none (the student reviews itself) or a chat model.",
            show_default="sandbox for the sandbox student, else none",
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=0, max=8, help="Most corrections.")] = 2,
    samples: Annotated[
        int, typer.Option(min=1, max=32, help="First solutions, of which the majority's answer goes on.")
    ] = 1,
    flagged: Annotated[
        bool, typer.Option("--flagged", help="Ask the teacher only where the student doubts itself.")
    ] = False,
    prompts: Annotated[
        Path | None,
        typer.Option(
            help="TOML file of prompts.", show_default="prompts.toml in the student's folder, if any"
        ),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            min=1, help="Most tokens the student writes in one call.", show_default="the model's own"
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(min=0, max=2, help="The student's; 0 is greedy.", show_default="the model's own"),
    ] = None,
    store: Annotated[
        Path | None, typer.Option(help="Folder or .jsonl file to append the trace to.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Solve a problem, live.

    The student writes, the critic finds the first wrong step, and the student goes on from its correction.
    """
    problem = read_problem(text)
    import asyncio

    from supercorrect_agent.cli.live import LiveRun
    from supercorrect_agent.cli.screen import make_console

    with LiveRun(make_console(), silent=as_json) as live:
        live.wait("loading the student")
        with leaving_at_once():
            from supercorrect_agent.state import CorrectionConfig
            from supercorrect_agent.types import Trace

            bounds = CorrectionConfig(
                max_rounds=rounds,
                max_new_tokens=max_tokens,
                temperature=temperature,
                samples=samples,
                ask_teacher="flagged" if flagged else "always",
            )
            traces = None if store is None else open_writable(store)
            graph = load_graph(student, teacher, prompts, bounds)
        started = time.perf_counter()
        output = asyncio.run(run_live(graph, problem, live))
        output["seconds"] = round(time.perf_counter() - started, 2)
        trace = Trace.model_validate(output.pop("trace"))
        if traces is not None:
            traces.append(trace)
    output |= {"error": trace.error, "trace_id": trace.id, "store": None if store is None else str(store)}
    if as_json:
        typer.echo(json.dumps(output, ensure_ascii=False, indent=2))
    else:
        live.summarize(output, trace.chosen.reason)
    failure = explain_failure(trace)
    if failure:
        typer.echo(f"error: {failure}", err=True)
        raise typer.Exit(EXIT_RUN_FAILED)


def explain_failure(trace: Trace) -> str | None:
    """Why a run counts as failed, with what to do about it; None where it has an answer."""
    if trace.status == "error":
        return trace.error
    if trace.status == "parse_error":
        return f"{trace.chosen.reason}. Raise --max-tokens, or try another --student or --teacher."
    return None


def read_problem(text: str) -> str:
    """The problem as given or, for ``-``, from standard input.

    Raises:
        ConfigError: It is missing, empty, or longer than any model reads.
    """
    if text == "-":
        text = sys.stdin.buffer.read(4 * MOST_CHARACTERS + 1).decode("utf-8", "replace")
    # bytes of the command line that are no UTF-8 arrive as surrogates, which no tokenizer takes
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if not text.strip():
        raise ConfigError(f"There is no problem to solve. Pass its text, for example: {EXAMPLE}")
    if len(text) > MOST_CHARACTERS:
        raise ConfigError(
            f"The problem is longer than {MOST_CHARACTERS:,} characters. Pass the text of one problem."
        )
    return text


def open_writable(path: Path) -> JsonlTraceStore:
    """The store that the trace will go to, tried out before the run.

    Raises:
        StoreError: The path cannot be written.
    """
    from supercorrect_agent.store import open_store

    store = open_store(path)
    store.ensure_writable()
    return store


def load_graph(
    student: str, teacher: str | None, prompts: Path | None, bounds: CorrectionConfig
) -> CompiledSolveGraph:
    """The solving graph with its models loaded.

    Raises:
        SuperCorrectError: A model cannot be loaded or a prompt file cannot be read.
    """
    from supercorrect_agent.graph import create_supercorrect_graph
    from supercorrect_agent.prompts import load_prompts

    words = None if prompts is None else load_prompts(prompts)
    return create_supercorrect_graph(student, choose_teacher(student, teacher), prompts=words, config=bounds)


def choose_teacher(student: str, teacher: str | None) -> str | None:
    """Who looks for the error; None is the student itself."""
    if teacher is None:
        return "sandbox" if student.startswith("sandbox") else None
    return None if teacher == "none" else teacher


async def run_live(graph: CompiledSolveGraph, problem: str, live: LiveRun) -> dict[str, Any]:
    """Runs the graph, showing what happens, and returns its output. Ctrl-C cancels the call under way."""
    live.wait("the student solves")
    output: dict[str, Any] = {}
    mode: str
    data: Any
    async for mode, data in graph.astream({"problem": problem}, stream_mode=["messages", "custom", "values"]):
        if mode == "messages":
            live.on_message(*data)
        elif mode == "custom":
            live.on_event(data)
        else:
            output = data
    return dict(output)
