"""``supercorrect demo``: the whole loop, from traces to a better student."""

from __future__ import annotations

import importlib
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from supercorrect_agent.cli.endings import EXIT_INTERRUPTED
from supercorrect_agent.errors import ConfigError


def demo(
    out: Annotated[
        Path | None,
        typer.Option(help="The run's folder.", show_default="runs/demo-DATE-TIME"),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick/--full", help="A few problems to see it run, or enough to see the gain.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the problems and of the training.")] = 0,
) -> None:
    """Run the whole loop offline.

    Collects traces, trains the student on them, and measures it on problems it has never seen.
    """
    folder = out or Path("runs") / f"demo-{datetime.now():%Y%m%d-%H%M%S}"
    try:
        # by name: the library is importable, and this command listed, without the training packages
        run_demo = importlib.import_module("training.demo").run_demo
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"The demo needs '{error.name}', which is not installed. "
            "Install it: pip install 'supercorrect-agent[train]'."
        ) from error
    try:
        run_demo(folder, quick, seed)
    except KeyboardInterrupt:
        typer.echo(f"interrupted: what was finished stays in '{folder}'.", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
