"""Processor time of importing the package and of the command line's help, against their libraries alone.

    python -m benchmarks.imports [--repeats 9] [--output FILE]

Each command runs in a process of its own, in turn with the others, with compiled files in place; measured is
the process's user and system time (``wait4``), which a busy machine disturbs less than the clock. The targets
are on whole processes, ``python -c "import supercorrect_agent"`` against ``python -c "import pydantic"`` and
``supercorrect --help`` against ``python -c "import typer, rich"``. Starting Python is in all of them, so the
ratios without it (less ``python -c pass`` of the same repeat) stand beside.

The package loads what it exports on first use. What a program pays that uses it is the last row: making the
graph's factory available, against LangGraph and LangChain's chat models alone.

For a target that is missed, the packages with the most time of their own are printed (``python -X
importtime``, which goes by the clock).
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import sysconfig
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.ratios import Target, in_turn, publish, ratio, sentence, spread
from training.provenance import provenance

ROOT = Path(__file__).parent.parent
NOTHING = "pass"
_IMPORT = re.compile(r"^import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)$", re.M)


class Comparison(NamedTuple):
    """Two commands and the most that the first may cost, as a multiple of the second."""

    ours: str
    theirs: str
    target: Target | None = None


COMPARISONS = (
    Comparison("import supercorrect_agent", "import pydantic", Target(1.5)),
    Comparison("supercorrect --help", "import typer, rich", Target(2.0, inclusive=False)),
    Comparison(
        "from supercorrect_agent import create_supercorrect_graph",
        "from langgraph.graph import StateGraph; from langchain_core.language_models import BaseChatModel",
    ),
)


def command(name: str, *options: str) -> list[str]:
    """The command line of a row: the installed program, or a line of Python.

    Args:
        name: The row.
        options: Of the interpreter.
    """
    if not name.startswith("supercorrect "):
        return [sys.executable, *options, "-c", name]
    program, argument = name.split()
    installed = Path(sysconfig.get_path("scripts")) / program
    runs = [str(installed)] if installed.exists() else ["-m", "supercorrect_agent.cli"]
    return [sys.executable, *options, *runs, argument]


def cpu_seconds(name: str) -> float:
    """User and system seconds of one process."""
    process = subprocess.Popen(command(name), stdout=subprocess.DEVNULL, cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)  # it is reaped: nobody may wait for it again
    if process.returncode:
        raise SystemExit(f"`{name}` ended with exit code {process.returncode}.")
    return usage.ru_utime + usage.ru_stime


def heaviest(importtime: str, count: int = 8) -> dict[str, float]:
    """The packages with the most import time of their own.

    Args:
        importtime: What ``python -X importtime`` writes.
        count: How many.

    Returns:
        Milliseconds, summed over each package's modules, by top-level package.
    """
    own: Counter[str] = Counter()
    for microseconds, module in _IMPORT.findall(importtime):
        own[module.partition(".")[0]] += int(microseconds)
    return {package: round(spent / 1000, 1) for package, spent in own.most_common(count)}


def read_importtime(name: str) -> str:
    """What ``python -X importtime`` writes about a row."""
    done = subprocess.run(
        command(name, "-X", "importtime"), capture_output=True, text=True, check=True, cwd=ROOT
    )
    return done.stderr


def compare(seconds: dict[str, list[float]], comparison: Comparison) -> dict[str, Any]:
    """Both ratios of a comparison: of whole processes, and of what is left without starting Python."""
    ours, theirs, start = (seconds[name] for name in (comparison.ours, comparison.theirs, NOTHING))
    return {
        "ours": comparison.ours,
        "theirs": comparison.theirs,
        "ratio": ratio(ours, theirs),
        "ratio_without_start": ratio(_less(ours, start), _less(theirs, start)),
    }


def _less(seconds: Sequence[float], start: Sequence[float]) -> list[float]:
    return [one - other for one, other in zip(seconds, start, strict=True)]


def measure(repeats: int) -> dict[str, Any]:
    """Every command ``repeats`` times, after an uncounted run that leaves compiled files."""
    names = list(dict.fromkeys([NOTHING, *(name for one in COMPARISONS for name in (one.ours, one.theirs))]))
    for name in names:
        cpu_seconds(name)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for repeat in range(repeats):
        for name in in_turn(names, repeat):
            seconds[name].append(cpu_seconds(name))
    found = [compare(seconds, one) for one in COMPARISONS]
    for one, row in zip(COMPARISONS, found, strict=True):
        if one.target and not one.target.met(row["ratio"]["median"]):
            row["heaviest_ms"] = heaviest(read_importtime(one.ours))
    return {
        "repeats": repeats,
        "cpu_ms": {name: spread([1000 * each for each in spent]) for name, spent in seconds.items()},
        "comparisons": found,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=9, help="of each command (default: 9)")
    parser.add_argument("--output", type=Path, help="also write the report as JSON")
    given = parser.parse_args(arguments)
    found = {**measure(given.repeats), **provenance()}
    lines: list[str] = []
    for one, row in zip(COMPARISONS, found["comparisons"], strict=True):
        lines.append(sentence(f"`{one.ours}` / `{one.theirs}`", row["ratio"], one.target))
        lines.append(sentence("  without starting Python", row["ratio_without_start"]))
    publish(found, lines, given.output)


if __name__ == "__main__":
    main()
