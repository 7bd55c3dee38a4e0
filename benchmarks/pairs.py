"""Traces to a folder of preference pairs: seconds and peak memory, each size in a process of its own.

    python -m benchmarks.pairs [SIZES]

SIZES are numbers of pairs, by default ``10000,30000,100000``; of three wrong attempts at a problem, one
repeats another's error, so there are half as many traces again. Linear time is an equal number of CPU
milliseconds a row. Writes ``benchmarks/pairs.json``.
"""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from supercorrect_agent.store import JsonlTraceStore
from supercorrect_agent.templates import parse_critique, parse_solution
from supercorrect_agent.types import Problem, Round, Trace, Verdict
from training.config import DatasetConfig
from training.data import load_manifest, run_data
from training.provenance import provenance

STEPS = 6
REPORT = Path(__file__).with_suffix(".json")


def make_traces(pairs: int) -> Iterator[Trace]:
    """Three attempts at each of ``pairs / 2`` problems, with two distinct errors between them."""
    dice = random.Random(0)
    for number in range(pairs // 2):
        values = [dice.randint(100, 999) for _ in range(STEPS + 1)]
        question = (
            f"Shop {number} sells {values[0]} parts, then, day by day, {values[1:]} more. How many in all?"
        )
        problem = Problem.create(question, answer=str(sum(values)))
        wrong = dice.randrange(2, STEPS)
        for sample, shift in enumerate((1, 2, 1)):
            yield make_trace(problem, values, wrong, shift, sample)


def make_trace(problem: Problem, values: list[int], wrong: int, shift: int, sample: int) -> Trace:
    """An attempt whose step ``wrong`` is too high by ``shift``; the student's correction is so by 7."""
    sums = [sum(values[: step + 1]) for step in range(STEPS + 1)]
    lines = [f"Add what day {i} brought: {sums[i - 1]}+{values[i]}={sums[i]}" for i in range(1, STEPS + 1)]
    said = [*lines]
    said[wrong - 1] = lines[wrong - 1].replace(f"={sums[wrong]}", f"={sums[wrong] + shift}")
    judged = "".join(
        f"<Step{i}>{line}<Evaluate>This step is correct.</Evaluate></Step{i}>\n"
        for i, line in enumerate(said[: wrong - 1], 1)
    )
    prefix = f"{judged}<Step{wrong}>{said[wrong - 1]}<Evaluate>This step is wrong.</Evaluate>"
    cause = "<Cause>The digits were added without the carry.</Cause>"
    teacher = f"{prefix}{cause}<Correction>{lines[wrong - 1]}</Correction>"
    own = f"{prefix}{cause}<Correction>The sum is {sums[wrong] + 7}</Correction>"
    round_ = Round(
        critique=parse_critique(teacher, author="teacher"),
        review=parse_critique(own, author="student"),
        solution=parse_solution(_solution(lines, sums[-1])),
        verdict=Verdict(status="correct"),
    )
    return Trace(
        id=f"{problem.id}-{sample}",
        problem=problem,
        solution=parse_solution(_solution(said, sums[-1] + shift)),
        verdict=Verdict(status="incorrect"),
        rounds=(round_,),
        status="corrected",
        sample=sample,
    )


def _solution(lines: list[str], answer: int) -> str:
    steps = "\n".join(f"<Step{i}>{line}</Step{i}>" for i, line in enumerate(lines, 1))
    return f"{steps}\n<Answer>\\boxed{{{answer}}}</Answer>"


def build(store: Path, output: Path) -> dict[str, Any]:
    """Builds the pairs of a store and says what that took."""
    started, worked = time.monotonic(), time.process_time()
    config = DatasetConfig(
        kind="preference", store=(store,), output=output, prompts="default",
        solve_pairs=False, max_per_problem=2, test_share=0.05,
    )  # fmt: skip
    manifest = load_manifest(run_data(config, say=lambda _: None))
    seconds, worked = time.monotonic() - started, time.process_time() - worked
    rows = manifest.kept + manifest.kept_test
    return {
        "rows": rows,
        "traces": manifest.traces_read,
        "dropped": manifest.dropped,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(worked, 1),
        "cpu_milliseconds_per_row": round(1000 * worked / rows, 3),
        "peak_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "parquet_mib": round(sum(f.stat().st_size for f in output.glob("*.parquet")) / 2**20, 1),
    }


def measure(pairs: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        store = JsonlTraceStore(Path(folder) / "traces", sync=False)
        for trace in make_traces(pairs):
            store.append(trace)
        size = store.file.stat().st_size
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.pairs", "--build", store.path, Path(folder) / "pairs"],
            cwd=Path(__file__).parent.parent,
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    return {**json.loads(done.stdout), "traces_mib": round(size / 2**20, 1)}


def main(sizes: list[int]) -> None:
    found = []
    for size in sizes:
        found.append(measure(size))
        print(json.dumps(found[-1]), flush=True)
    per_row = [each["cpu_milliseconds_per_row"] for each in found]
    report = {
        "sizes": found,
        "cpu_time_per_row_largest_over_smallest": round(per_row[-1] / per_row[0], 2),
        "cpu_count": os.cpu_count(),
        **provenance(),
    }
    REPORT.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--build"]:
        print(json.dumps(build(Path(sys.argv[2]), Path(sys.argv[3]))))
    else:
        main([int(size) for size in (sys.argv[1:] or ["10000,30000,100000"])[0].split(",")])
