"""The demo's table over several seeds: every student, every way to use it, and the paired differences.

    python benchmarks/closed_loop.py --out runs/closed_loop --seeds 0 1 2

Each seed draws other problems, samples and batches anew, and trains from the packaged student. The outcomes
of all seeds are pooled, so an interval covers problems and seeds together. Writes ``closed_loop.json`` and
``table.md``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from training.demo import markdown_table, read_reports, reading, run_demo
from training.metrics import accuracy, self_correction

Report = dict[str, Any]


def pool(reports: list[Report]) -> Report:
    """One report out of several about the same student: problems together, shares recomputed."""
    problems = [
        {**row, "id": f"{seed}:{row['id']}"}
        for seed, report in enumerate(reports)
        for row in report["problems"]
    ]
    arms: dict[str, Any] = {}
    for arm in reports[0]["arms"]:
        right = [bool(row[arm]["correct"]) for row in problems]
        arms[arm] = {"accuracy": accuracy(right)}
        if arm != "single":
            first = [bool(row["single"]["correct"]) for row in problems]
            arms[arm]["self_correction"] = self_correction(first, right)
    if "review" in arms:
        for name, wanted in (("flagged", False), ("false_alarms", True)):
            judged = [row["review"]["step"] for row in problems if bool(row["single"]["correct"]) is wanted]
            arms["review"][name] = accuracy([step is not None for step in judged])
    return {"n": len(problems), "arms": arms, "problems": problems}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/closed_loop"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--quick", action="store_true", help="a twentieth of the problems, to see it run")
    given = parser.parse_args()
    runs = [read_reports(run_demo(given.out / f"seed{s}", given.quick, 10_000 * s)) for s in given.seeds]
    pooled = {name: pool([run[name] for run in runs]) for name in runs[0]}
    lines = [markdown_table(pooled), *(f"- {line}" for line in reading(pooled))]
    (given.out / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    arms = {name: report["arms"] for name, report in pooled.items()}
    (given.out / "closed_loop.json").write_text(
        json.dumps({"seeds": given.seeds, "arms": arms}, indent=2) + "\n"
    )
    print("\n".join(lines))


if __name__ == "__main__":
    main()
