"""``supercorrect collect``: problems to traces."""

from __future__ import annotations

import importlib

import typer

from supercorrect_agent.errors import ConfigError

# its flags are those of `python -m training.collect`, which reads them itself: --help and --config too
PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def collect(context: typer.Context) -> None:
    """Collect traces: the student attempts problems, the teacher finds the first wrong step.

    Takes --problems, --student, --teacher, --store, --config FILE and many more; --help lists them all.
    """
    try:
        # by name: the library is importable, and this command listed, without the training packages
        main = importlib.import_module("training.collect").main
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"Collecting needs '{error.name}', which is not installed. "
            "Install it: pip install 'supercorrect-agent[train]'."
        ) from error
    raise typer.Exit(main(context.args, program="supercorrect collect"))
