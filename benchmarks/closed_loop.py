"""Whether stage 2 teaches self-correction: several seeds, controls of every stage, pooled and paired.

    python -m benchmarks.closed_loop --folder runs/closed_loop [--seeds 0 1 2] [--workers 2] [--n 1000]
    python -m benchmarks.closed_loop --folder runs/closed_loop --report     # only writes the report
    python -m benchmarks.closed_loop --quick [--folder runs/demo] [--seed 0]

Every seed draws other problems, samples and batches anew, and trains from the packaged student: once around
the loop with the controls of stage 2 (chain ``main``), and three rounds (chain ``rounds``). What is finished
is skipped when the same command runs again. Writes ``closed_loop.json``, ``closed_loop.md`` and plots into
the folder. ``--quick`` is the demo: one seed, no controls of stage 2.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.closed_loop_layout import seed_folder
from benchmarks.closed_loop_report import write_report
from benchmarks.closed_loop_results import SESSIONS
from supercorrect_agent.errors import ConfigError, SuperCorrectError
from training.flags import EXIT_INTERRUPTED, EXIT_MISUSE
from training.folders import make_folder
from training.progress import print_line
from training.provenance import provenance

CHAINS = ("main", "rounds")


class Task(NamedTuple):
    """One process's work: a chain of one seed."""

    seed: int
    chain: str

    def say(self, line: str) -> None:
        """Prints a line that shows whose it is."""
        print_line(f"[seed {self.seed}, {self.chain}] {line}")


def work(task: Task, folder: Path, n: int, threads: int) -> None:
    """Runs a chain in a process of its own, which ends with a code."""
    try:
        import torch

        from benchmarks.closed_loop_runs import run_main_chain, run_rounds_chain

        torch.set_num_threads(threads)
        chain = {"main": run_main_chain, "rounds": run_rounds_chain}[task.chain]
        chain(seed_folder(folder, task.seed), task.seed, n, task.say)
    except SuperCorrectError as error:
        task.say(f"error: {error}")
        sys.exit(EXIT_MISUSE)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except Exception:
        task.say(traceback.format_exc())
        sys.exit(1)


def run_tasks(
    tasks: Sequence[Task], target: Callable[..., None], arguments: tuple[Any, ...], workers: int
) -> list[Task]:
    """Runs each task in a process of its own, so many at once.

    Args:
        tasks: What to run.
        target: Called in the process with the task and ``arguments``.
        arguments: The same for all.
        workers: How many processes at once.

    Returns:
        The tasks that failed; the others have run to their end.
    """
    spawn = multiprocessing.get_context("spawn")

    def run(task: Task) -> int | None:
        process = spawn.Process(target=target, args=(task, *arguments))
        process.start()
        process.join()
        return process.exitcode

    with ThreadPoolExecutor(workers) as pool:
        codes = list(pool.map(run, tasks))
    failed = [task for task, code in zip(tasks, codes, strict=True) if code]
    for task in failed:
        task.say("failed; the same command goes on from what is finished")
    return failed


def run_experiment(
    folder: Path, seeds: Sequence[int], n: int, workers: int, chains: Sequence[str]
) -> list[Task]:
    """Runs the chains of all seeds, and notes the session; returns what failed."""
    make_folder(folder, argument="--folder")
    cores = os.cpu_count() or 1
    threads = max(1, cores // workers)
    started, clock = datetime.now(UTC), time.monotonic()
    tasks = [Task(seed, chain) for chain in chains for seed in seeds]
    try:
        return run_tasks(tasks, work, (folder, n, threads), workers)
    finally:
        session = {
            "command": " ".join(["python -m benchmarks.closed_loop", *sys.argv[1:]]),
            "started": started.isoformat(timespec="seconds"),
            "minutes": round((time.monotonic() - clock) / 60, 2),
            "workers": workers,
            "threads": threads,
            **provenance(),
        }
        with (folder / SESSIONS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(session) + "\n")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="runs/closed_loop, or runs/demo with --quick")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=2, help="processes at once; they share the cores")
    parser.add_argument("--n", type=int, default=1000, help="test problems for each seed")
    parser.add_argument("--only", choices=CHAINS, help="one of the two chains")
    parser.add_argument("--report", action="store_true", help="only write the report of what is there")
    parser.add_argument(
        "--quick", action="store_true", help="the demo: one seed, without controls of stage 2"
    )
    parser.add_argument("--seed", type=int, default=0, help="of --quick")
    given = parser.parse_args(arguments)
    if given.workers < 1 or given.n < 1 or min(given.seeds) < 0 or given.seed < 0:
        parser.error("--workers and --n are 1 or more, seeds 0 or more")
    given.folder = given.folder or Path("runs", "demo" if given.quick else "closed_loop")
    return given


def run(given: argparse.Namespace) -> int:
    """Runs what the command line asks for; the exit code is 1 where a task failed."""
    if given.quick:
        from training.demo import run_demo

        run_demo(given.folder, seed=given.seed)
        return 0
    if given.report and not given.folder.is_dir():
        raise ConfigError(f"`--folder {given.folder}` is not there. Name the folder of an experiment.")
    chains = (given.only,) if given.only else CHAINS
    failed = [] if given.report else run_experiment(given.folder, given.seeds, given.n, given.workers, chains)
    results = write_report(given.folder, given.seeds)
    targets, spent = results["targets"], results["time"]
    print_line(f"{sum(each['met'] for each in targets)} of {len(targets)} targets met.")
    print_line(
        f"{spent['session_minutes']:.1f} minutes in all sessions. Report: {given.folder / 'closed_loop.md'}"
    )
    return 1 if failed else 0


def main() -> int:
    """Command line."""
    try:
        return run(parse())
    except SuperCorrectError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_MISUSE
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from what is finished.", file=sys.stderr)
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
