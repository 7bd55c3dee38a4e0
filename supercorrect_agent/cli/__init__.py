"""The command line: ``supercorrect solve | collect | demo | traces | doctor``.

Nothing heavy is imported before a command runs, so that ``--help`` answers at once. Exit codes: 0 all went
well, 1 the run failed, 2 the command was misused, 130 Ctrl-C. Whatever goes wrong on purpose
(``SuperCorrectError``) is one sentence on stderr.
"""

from __future__ import annotations

import io
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from supercorrect_agent.cli import collect, demo, doctor, solve, traces
from supercorrect_agent.cli.endings import EXIT_INTERRUPTED, EXIT_MISUSE, INTERRUPTED
from supercorrect_agent.errors import SuperCorrectError


class _Commands(TyperGroup):
    """Ends every command's errors on purpose, and Ctrl-C, with one sentence and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SuperCorrectError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(EXIT_MISUSE) from None
        except KeyboardInterrupt:
            typer.echo(INTERRUPTED, err=True)
            raise typer.Exit(EXIT_INTERRUPTED) from None


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"supercorrect-agent {version('supercorrect-agent')}")
        except PackageNotFoundError:  # the source folder alone, not installed
            typer.echo("supercorrect-agent, not installed")
        raise typer.Exit


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def supercorrect(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """A student solves, a teacher finds the first wrong step, the student corrects and learns from it."""


app.command()(solve.solve)
app.command(context_settings=collect.PASSED_ON)(collect.collect)
app.command()(demo.demo)
app.add_typer(traces.app, name="traces")
app.command()(doctor.doctor)


def main() -> None:
    """The entry point of ``supercorrect`` and of ``python -m supercorrect_agent.cli``."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a mark that the terminal cannot show ends no run
    app(prog_name="supercorrect")
