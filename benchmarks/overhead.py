"""What our graph costs a problem, with models that answer at once, and how long it holds up the event loop.

    python -m benchmarks.overhead [--problems 100] [--repeats 7] [--at-once 256] [--loop-repeats 3]
                                  [--wait 0.1] [--output FILE]

Overhead: processor time of this process, all threads, for ``--problems`` problems one after another under
``ainvoke``. In turn with it: a minimal LangGraph graph wired by hand, with the same node sequence, model
calls and messages; the same with our parsers; the same with a coroutine as router; and the calls in a plain
loop (``overhead_contestants``). They take turns of five problems, in an order drawn anew each time, so that
what disturbs one disturbs all. A repeat gives one ratio to each; printed are the median and the range. The
target is on the first: ours with all that it does (verdicts, usage, progress events, retries, trace, hostile
text) against a graph that fills prompts by ``str.replace`` and reads with ``json.loads``. What was imported
is kept from the garbage collector meanwhile (``gc.freeze``): going through it takes as long as several
problems, and would be put down to whoever is measured just then.

Event loop: ``--at-once`` problems under one ``asyncio.gather``. The loop is blocked while a single task holds
it, from one ``await`` that has to wait to the next. The target is on the longest such *step*, in processor
time of the loop's thread, which other processes do not lengthen. It is measured as it comes, and less the
garbage collection that fell into it. A full collection stops the thread for as long as it takes to go through
everything alive, that is all runs and, unless they are frozen, all modules; so the same is measured with
these frozen, and each time the graph wired by hand beside ours.

No step says how long a task waits for its turn, as one of many. For that a task beats every millisecond, and
a beat that comes late was held up; by the clock, other processes lengthen that as well, and ``cpu`` is what
the loop's own thread worked in the same gap. Models that answer at once leave every problem ready all the
time: a beat then waits for all the others. Beside it are models that wait ``--wait`` seconds, give or take
half.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.heartbeat import beats_during, frozen, steps_during, summarize_beats, summarize_steps
from benchmarks.overhead_contestants import Contestant, contestants, make_student, make_teacher
from benchmarks.ratios import Target, in_turn, publish, ratio, sentence, spread
from training.provenance import provenance

T = TypeVar("T")
Field = dict[str, Contestant]
Watch = Callable[[Sequence[Awaitable[Any]]], Awaitable[list[T]]]
TURN = 5  # problems
OVERHEAD = Target(1.5)
BLOCKED = Target(50.0)  # milliseconds
GRAPHS = ("ours", "langgraph")


async def cpu_seconds(field: Field, problems: int) -> dict[str, float]:
    """Processor seconds a problem of each contestant."""
    gc.collect()
    seconds = dict.fromkeys(field, 0.0)
    for done in range(0, problems, TURN):
        for name in random.sample(list(field), len(field)):
            started = time.process_time()
            for _ in range(min(TURN, problems - done)):
                await field[name]()
            seconds[name] += time.process_time() - started
    return {name: spent / problems for name, spent in seconds.items()}


async def measure_overhead(field: Field, problems: int, repeats: int) -> dict[str, Any]:
    """Milliseconds a problem of every contestant, and our ratio to each other one."""
    found = [await cpu_seconds(field, problems) for _ in range(repeats)]
    seconds = {name: [one[name] for one in found] for name in field}
    return {
        "cpu_ms_per_problem": {
            name: spread([1000 * each for each in spent]) for name, spent in seconds.items()
        },
        "ratios": {name: ratio(seconds["ours"], seconds[name]) for name in field if name != "ours"},
    }


async def observe(field: Field, at_once: int, repeats: int, watch: Watch[T]) -> dict[str, list[list[T]]]:
    """What is seen of ``at_once`` problems, repeat by repeat, for our graph and the one wired by hand."""
    seen: dict[str, list[list[T]]] = {name: [] for name in GRAPHS}
    for repeat in range(repeats):
        for name in in_turn(GRAPHS, repeat):
            gc.collect()
            seen[name].append(await watch([field[name]() for _ in range(at_once)]))
    return seen


async def measure_steps(field: Field, at_once: int, repeats: int) -> dict[str, Any]:
    """The longest step of both graphs."""
    seen = await observe(field, at_once, repeats, steps_during)
    return {name: summarize_steps(found) for name, found in seen.items()}


async def measure_beats(field: Field, at_once: int, repeats: int) -> dict[str, Any]:
    """How late the beats come, for both graphs."""
    seen = await observe(field, at_once, repeats, beats_during)
    return {name: summarize_beats(found) for name, found in seen.items()}


async def measure(
    problems: int, repeats: int, at_once: int, loop_repeats: int, wait: float
) -> dict[str, Any]:
    """Everything; the first, uncounted problem of each contestant warms it up."""
    field = contestants(make_student(), make_teacher())
    for solve in field.values():
        await solve()
    waiting = contestants(make_student(wait), make_teacher(wait))
    with frozen():
        overhead = await measure_overhead(field, problems, repeats)
        steps_frozen = await measure_steps(field, at_once, loop_repeats)
    return {
        "problems": problems,
        "repeats": repeats,
        "overhead": overhead,
        "at_once": at_once,
        "loop_repeats": loop_repeats,
        "steps": await measure_steps(field, at_once, loop_repeats),
        "steps_frozen": steps_frozen,
        "beats": await measure_beats(field, at_once, loop_repeats),
        "wait_seconds": wait,
        "beats_waiting": await measure_beats(waiting, at_once, loop_repeats),
    }


def sentences(found: dict[str, Any]) -> list[str]:
    """The figures in words."""
    lines = [
        sentence(f"processor time a problem, ours / {name}", one, OVERHEAD if name == "langgraph" else None)
        for name, one in found["overhead"]["ratios"].items()
    ]
    for name in GRAPHS:
        many, target = f"{name}, {found['at_once']} at once", BLOCKED if name == "ours" else None
        step, fewer = found["steps"][name], found["steps_frozen"][name]
        lines += [
            sentence(f"{many}: longest step of the event loop, ms", step["longest_ms"], target),
            sentence("  without collecting garbage", step["without_gc_ms"], target),
            sentence("  with the modules frozen", fewer["longest_ms"]),
        ]
        for key, models in (
            ("beats", "answer at once"),
            ("beats_waiting", f"wait {found['wait_seconds']:g} s"),
        ):
            beats = found[key][name]
            lines.append(sentence(f"  latest beat, models that {models}, ms", beats["longest_wall_ms"]))
            lines.append(sentence("    by its own thread's processor time", beats["longest_cpu_ms"]))
    return lines


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", type=int, default=100, help="a contestant and repeat (default: 100)")
    parser.add_argument("--repeats", type=int, default=7, help="of the overhead (default: 7)")
    parser.add_argument("--at-once", type=int, default=256, help="on the event loop (default: 256)")
    parser.add_argument("--loop-repeats", type=int, default=3, help="of the event loop (default: 3)")
    parser.add_argument("--wait", type=float, default=0.1, help="seconds a model waits (default: 0.1)")
    parser.add_argument("--output", type=Path, help="also write the report as JSON")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    given = parse(arguments)
    found = asyncio.run(measure(given.problems, given.repeats, given.at_once, given.loop_repeats, given.wait))
    found |= {"langgraph": version("langgraph"), "langchain-core": version("langchain-core"), **provenance()}
    publish(found, sentences(found), given.output)


if __name__ == "__main__":
    main()
