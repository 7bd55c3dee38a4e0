"""The trace store: how fast it appends, compacts, exports and resumes, against bare orjson and bare pyarrow.

    python -m benchmarks.store [--traces 10000,100000,1000000] [--repeats 3] [--output benchmarks/store.json]

Traces are synthetic but true to the schema (`benchmarks.store_traces`). Appending is measured in turn, a
thousand traces at a time: the store, and records that are mappings already, written by ``orjson.dumps`` as
lines of a file. Exports and bare readings run in turn too, each in a process of its own, whose peak memory is
taken. Bare reading is measured in two ways: Arrow batches alone, and rows as Python objects with the record
parsed (``to_pylist`` and ``orjson.loads``), which is the least that any builder of rows in Python needs. A
bare reading is one process, an export with its default workers one a core: CPU seconds count all processes,
as peak memory does. Where others use the machine too, CPU seconds tell more than seconds. A
million traces take 12 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from pyarrow.parquet import ParquetFile

from benchmarks.ratios import in_turn, publish, spread
from benchmarks.store_traces import make_records
from supercorrect_agent.store import open_store
from supercorrect_agent.store.columns import COLUMNS
from supercorrect_agent.store.compaction import compact_store
from supercorrect_agent.types import Trace
from training import row_files
from training.provenance import provenance

CHUNK = 1000
APPEND_TARGET, EXPORT_TARGET, MEMORY_TARGET_MIB = 0.5, 0.3, 1024


def measure_append(folder: Path, count: int) -> dict[str, Any]:
    """Appends traces to a store and records to a file, in turn; the file is removed."""
    bare = folder.with_name("bare.jsonl")
    ours: list[float] = []
    theirs: list[float] = []
    with open_store(folder) as store, bare.open("wb") as file:
        for start in range(0, count, CHUNK):
            records = list(make_records(min(CHUNK, count - start), start=start))
            traces = [Trace.model_validate(record) for record in records]

            def append(traces: list[Trace] = traces) -> None:
                for trace in traces:
                    store.append(trace)

            def write(records: list[dict[str, Any]] = records) -> None:
                for record in records:
                    file.write(orjson.dumps(record))
                    file.write(b"\n")

            seconds = {
                name: _seconds(act)
                for name, act in in_turn([("ours", append), ("bare", write)], start // CHUNK)
            }
            ours.append(seconds["ours"])
            theirs.append(seconds["bare"])
        size = sum(path.stat().st_size for path in folder.iterdir())
    bare.unlink()
    return {
        "bytes_per_trace": round(size / count),
        "traces_per_second": round(count / sum(ours)),
        "bare_lines_per_second": round(count / sum(theirs)),
        "rate_over_bare": spread([bare / own for own, bare in zip(ours, theirs, strict=True)]),
        "rate_over_bare_in_all": round(sum(theirs) / sum(ours), 3),
        "milliseconds_per_trace": round(1000 * sum(ours) / count, 4),
    }


def _seconds(act: Callable[[], None]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


# --- what runs in a process of its own


def export_sft(folder: Path) -> int:
    return _export(folder, "sft")


def export_preference(folder: Path) -> int:
    return _export(folder, "preference")


def _export(folder: Path, kind: Any) -> int:
    output = folder.with_name(f"{kind}.parquet")
    manifest = row_files.export_rows(open_store(folder), output, kind)
    output.unlink()
    return manifest.kept


def read_arrow(folder: Path) -> int:
    return sum(
        batch.num_rows
        for path in sorted(folder.glob("*.parquet"))
        for batch in ParquetFile(path).iter_batches(1024, columns=list(COLUMNS))
    )


def read_rows(folder: Path) -> int:
    count = 0
    for path in sorted(folder.glob("*.parquet")):
        for batch in ParquetFile(path).iter_batches(1024, columns=list(COLUMNS)):
            for row in batch.to_pylist():
                orjson.loads(row["record"])
                count += 1
    return count


def read_traces(folder: Path) -> int:
    return sum(1 for _ in open_store(folder))


def read_done(folder: Path) -> int:
    return len(open_store(folder).done())


TASKS: dict[str, Callable[[Path], int]] = {
    act.__name__: act
    for act in (read_arrow, read_rows, read_traces, read_done, export_sft, export_preference)
}


EXPORTS = ("export_sft", "export_preference")


def run_task(name: str, folder: Path) -> None:
    """Prints what a task found, took and needed, as JSON."""
    started, worked = time.perf_counter(), _cpu_seconds()
    found = TASKS[name](folder)
    seconds, worked = time.perf_counter() - started, _cpu_seconds() - worked
    peak = _peak_mib() + (_workers_mib() if name in EXPORTS else 0)
    report = {"found": found, "seconds": seconds, "cpu_seconds": worked, "peak_mib": peak}
    print(json.dumps(report))


def _cpu_seconds() -> float:
    """Of this process and of those that it started, once they have ended."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def _peak_mib() -> int:
    """The most memory that was resident at a time; `getrusage` would count the parent's at the fork too."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    return round(int(line.split()[1]) / 1024)


def _workers_mib() -> int:
    """At most what the workers of an export had resident: the largest of them, times their number."""
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return round(largest / 1024) * (os.cpu_count() or 1)


def in_child(name: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.store", "--task", name, "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure(count: int, repeats: int) -> dict[str, Any]:
    """Everything about one number of traces."""
    with tempfile.TemporaryDirectory(prefix="store-") as scratch:
        folder = Path(scratch) / "traces"
        found: dict[str, Any] = {"traces": count, "append": measure_append(folder, count)}
        _say(count, "appended", found["append"])
        found["done_of_shards"] = _per_trace(in_child("read_done", folder), count)
        started = time.perf_counter()
        compacted = compact_store(folder)
        found["compaction"] = {
            "milliseconds_per_trace": round(1000 * (time.perf_counter() - started) / count, 4),
            "gib_before": round(compacted.bytes_before / 2**30, 3),
            "gib_after": round(compacted.bytes_after / 2**30, 3),
            "files": len(compacted.files),
        }
        _say(count, "compacted", found["compaction"])
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in TASKS}
        for repeat in range(repeats):
            for name in in_turn(list(TASKS), repeat):
                runs[name].append(in_child(name, folder))
                _say(count, name, runs[name][-1])
    found["tasks"] = {name: _summary(done, count) for name, done in runs.items()}
    found["export_over_bare"] = {
        f"{export} over {read}, {unit}": spread(
            [bare[unit] / own[unit] for own, bare in zip(runs[export], runs[read], strict=True)]
        )
        for export in ("export_sft", "export_preference")
        for read in ("read_arrow", "read_rows")
        for unit in ("seconds", "cpu_seconds")
    }
    return found


def _per_trace(run: dict[str, Any], count: int) -> dict[str, Any]:
    return {
        "milliseconds_per_trace": round(1000 * run["seconds"] / count, 4),
        "cpu_milliseconds_per_trace": round(1000 * run["cpu_seconds"] / count, 4),
        "peak_mib": run["peak_mib"],
        "found": run["found"],
    }


def _summary(runs: list[dict[str, Any]], count: int) -> dict[str, Any]:
    best = min(runs, key=lambda run: run["seconds"])
    return {**_per_trace(best, count), "peak_mib": max(run["peak_mib"] for run in runs)}


def _say(count: int, what: str, found: dict[str, Any]) -> None:
    print(f"{count} {what}: {json.dumps(found)}", file=sys.stderr, flush=True)


def verdicts(sizes: list[dict[str, Any]]) -> list[str]:
    """What holds of the targets, in words, at the largest size; growth from the smallest to it."""
    small, large = sizes[0], sizes[-1]

    def verdict(value: float, target: float, *, most: bool = False) -> str:
        return f"{value:.2f}; target {'under' if most else 'at least'} {target:g}: " + (
            "met" if (value < target if most else value >= target) else "missed"
        )

    lines = [
        f"append over bare orjson lines: {verdict(large['append']['rate_over_bare_in_all'], APPEND_TARGET)}",
    ]
    for name, ratio in large["export_over_bare"].items():
        lines.append(f"{name}: {verdict(ratio['median'], EXPORT_TARGET)}")
    for name in ("export_sft", "export_preference"):
        lines.append(
            f"{name}, MiB: {verdict(large['tasks'][name]['peak_mib'], MEMORY_TARGET_MIB, most=True)}"
        )
    for name, pick in {
        "append": lambda one: one["append"]["milliseconds_per_trace"],
        "compaction": lambda one: one["compaction"]["milliseconds_per_trace"],
        "export_sft": lambda one: one["tasks"]["export_sft"]["cpu_milliseconds_per_trace"],
        "export_preference": lambda one: one["tasks"]["export_preference"]["cpu_milliseconds_per_trace"],
    }.items():
        lines.append(
            f"time a trace, {large['traces']} over {small['traces']}, {name}: {pick(large) / pick(small):.2f}"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--traces", default="10000", help="numbers of traces, such as 10000,100000")
    parser.add_argument("--repeats", default="3", help="of exports and readings; one number, or one a size")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--task", choices=list(TASKS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        run_task(options.task, options.folder)
        return
    counts = [int(count) for count in options.traces.split(",")]
    needed, free = 13_000 * max(counts), shutil.disk_usage(tempfile.gettempdir()).free
    if needed > free:
        sys.exit(f"{max(counts)} traces need {needed / 1e9:.0f} GB in '{tempfile.gettempdir()}'. Set TMPDIR.")
    repeats = [int(times) for times in options.repeats.split(",")]
    if len(repeats) not in (1, len(counts)):
        sys.exit(f"`--repeats {options.repeats}`: pass one number, or {len(counts)}.")
    each = repeats * len(counts) if len(repeats) == 1 else repeats
    sizes = [measure(count, times) for count, times in zip(counts, each, strict=True)]
    found = {"sizes": sizes, "repeats": each, "cpu_count": os.cpu_count(), **provenance()}
    publish(found, verdicts(sizes), options.output)


if __name__ == "__main__":
    main()
