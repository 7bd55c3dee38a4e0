"""Collecting traces: the student attempts problems, the teacher names the first wrong step, both correct it.

    python -m training.collect --problems sandbox:train --n 500 --store traces
    python -m training.collect --problems gsm8k.jsonl --student vllm:NAME@URL --teacher openai:NAME

Each finished trace is appended to the store at once, so Ctrl-C or a crash loses only what was in flight, and
the same command goes on with the (problem, sample) pairs that are still missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

from supercorrect_agent.errors import ModelError
from supercorrect_agent.graph import create_collecting_graph
from supercorrect_agent.models import load_chat_model
from supercorrect_agent.problems import load_problems
from supercorrect_agent.state import CollectConfig
from supercorrect_agent.store import JsonlTraceStore, open_store
from supercorrect_agent.types import Problem, Trace, content_id
from training.config import CollectionConfig
from training.flags import run_main
from training.pool import run_bounded
from training.progress import Pace, Say, print_line
from training.sources import is_local, resolve_prompts, student_spec

_GIVE_UP_AFTER = 8


def run_collect(
    config: CollectionConfig, *, say: Say = print_line, on_trace: Callable[[Trace], None] | None = None
) -> dict[str, Any]:
    """Collects what is missing from the store.

    Args:
        config: The stage's settings.
        say: Takes one progress line every few seconds.
        on_trace: Is shown each new trace after it was stored.

    Returns:
        ``collected``, ``skipped`` (already in the store), ``errors``, ``attempts``, ``right_first``,
        ``right_final``, ``calls`` and ``tokens`` (by role) and ``seconds``.

    Raises:
        SuperCorrectError: Problems, models or the store are unusable, or no run succeeds at all.
    """
    problems = load_problems(config.problems, n=config.n, seed=config.seed, split=config.split)
    store = open_store(config.store)
    store.ensure_writable()
    # A run that failed is tried again.
    known = {_key(trace.problem, trace.sample) for trace in store if trace.status != "error"}
    wanted = {
        _key(problem, sample): (problem, sample) for problem in problems for sample in range(config.samples)
    }
    missing = [item for key, item in wanted.items() if key not in known]
    tally = Tally(total=len(missing), skipped=len(wanted) - len(missing))
    if missing:
        asyncio.run(_collect(config, missing, store, tally, say, on_trace))
    say(tally.line())
    return tally.summary()


def _key(problem: Problem, sample: int) -> tuple[str, str, int]:
    return problem.id, content_id(problem.question), sample  # of two files, other problems may have one id


class Tally:
    """Counts traces as they come in."""

    def __init__(self, *, total: int, skipped: int) -> None:
        self.total, self.skipped = total, skipped
        self.done = self.errors = self.attempts = self.right_first = self.right_final = 0
        self.calls: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()
        self.pace = Pace()

    def add(self, trace: Trace) -> None:
        self.done += 1
        self.errors += trace.status == "error"
        for call in trace.calls:
            self.calls[call.role] += 1
            self.tokens[call.role] += call.input_tokens + call.output_tokens
        if trace.solution is not None and trace.verdict is not None:
            verdicts = [trace.verdict, *(round_.verdict for round_ in trace.rounds if round_.verdict)]
            self.attempts += 1
            self.right_first += trace.verdict.correct
            self.right_final += verdicts[-1].correct

    def line(self) -> str:
        rate = self.done / self.pace.elapsed
        parts = [f"collect: {self.done}/{self.total} traces", f"{rate:.1f}/s"]
        if self.attempts:
            parts.append(f"right at first {self.right_first / self.attempts:.1%}")
        parts.append(f"{sum(self.tokens.values())} tokens")
        if self.skipped:
            parts.append(f"{self.skipped} were there already")
        if self.errors:
            parts.append(f"{self.errors} failed")
        return ", ".join(parts)

    def summary(self) -> dict[str, Any]:
        return {
            "collected": self.done, "skipped": self.skipped, "errors": self.errors, "attempts": self.attempts,
            "right_first": self.right_first, "right_final": self.right_final, "calls": dict(self.calls),
            "tokens": dict(self.tokens), "seconds": round(self.pace.elapsed, 2),
        }  # fmt: skip


async def _collect(
    config: CollectionConfig,
    missing: list[tuple[Problem, int]],
    store: JsonlTraceStore,
    tally: Tally,
    say: Say,
    on_trace: Callable[[Trace], None] | None,
) -> None:
    graph = _create_graph(config)

    async def run(item: tuple[Problem, int]) -> Trace:
        problem, sample = item
        state = await graph.ainvoke({"problem": problem.model_dump(mode="json"), "sample": sample})
        return Trace.model_validate(state["trace"])

    failed: list[Trace] = []
    async with contextlib.aclosing(run_bounded(missing, run, config.concurrency)) as results:
        async for _, trace in results:
            tally.add(trace)
            if tally.errors == tally.done:
                failed.append(trace)
                _give_up_if_hopeless(failed, len(missing))
                continue
            for each in [*failed, trace]:
                store.append(each)
                if on_trace is not None:
                    on_trace(each)
            failed.clear()
            if tally.pace.due():
                say(tally.line())


def _give_up_if_hopeless(failed: list[Trace], total: int) -> None:
    """A first failure may be the problem's; when nothing at all succeeds, a model is not there."""
    if len(failed) >= min(_GIVE_UP_AFTER, total):
        reason = (failed[0].error or "no reason given").strip().rstrip(".")
        raise ModelError(
            f"The first {len(failed)} problems all failed: {reason}. Check `--student` and `--teacher`, "
            "and that their servers run; nothing was stored."
        )


def _create_graph(config: CollectionConfig) -> Any:
    prompts = resolve_prompts(config.prompts, config.student)
    seeded = {"seed": config.seed} if is_local(config.student) else {}
    student = load_chat_model(student_spec(config.student, config.adapter), **seeded)
    settings = CollectConfig(
        max_rounds=config.max_rounds,
        temperature=config.temperature,
        max_new_tokens=config.max_new_tokens,
        write_template=config.write_template,
        attempt=config.attempt,
        review_correct=config.review_correct,
        student_review=config.student_review,
        rewrite=config.rewrite,
        resamples=config.resamples,
    )
    return create_collecting_graph(student, config.teacher, prompts=prompts, config=settings)


def main() -> int:
    return run_main(CollectionConfig, run_collect, program="training.collect")


if __name__ == "__main__":
    sys.exit(main())
