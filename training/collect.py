"""Collecting traces: the student attempts problems, the teacher names the first wrong step, both correct it.

    python -m training.collect --problems sandbox:train --n 500 --store traces
    python -m training.collect --problems gsm8k.jsonl --student vllm:NAME@URL --teacher openai:NAME
    python -m training.collect --config collect.yaml --dry_run

Each finished trace is appended to the store at once, so a crash loses only what was in flight, and the same
command goes on with the (problem, sample) pairs that are still missing. Ctrl-C and SIGTERM wait for what is
under way; a second one does not. Several processes may work on one store. docs/collecting.md has the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from supercorrect_agent.errors import SuperCorrectError
from supercorrect_agent.graph import create_collecting_graph
from supercorrect_agent.limits import CallLimits, with_limits
from supercorrect_agent.models import load_chat_model
from supercorrect_agent.outcome import PACKAGE_VERSION
from supercorrect_agent.pacing import Pacing
from supercorrect_agent.problems import ProblemReport, decontaminate, load_problems
from supercorrect_agent.state import CollectConfig
from supercorrect_agent.store import Claims, JsonlTraceStore, open_store
from supercorrect_agent.store.places import RemotePlace, find_place
from supercorrect_agent.types import Problem, Trace
from training.collect_checks import check_outputs
from training.collect_estimate import estimate_collection, estimate_lines
from training.collect_runner import Runner, kept_errors
from training.collect_stop import EXIT_TERMINATED
from training.collect_tally import Prices, Tally
from training.collect_work import Work, read_standing, take_part
from training.config import CollectionConfig
from training.flags import run_main
from training.folders import replace_text
from training.progress import Bar, Lines, Say, Show, on_terminal, print_line
from training.ray_engine import RayRun
from training.sources import is_local, resolve_prompts, student_spec
from training.telemetry import telemetry


def run_collect(
    config: CollectionConfig,
    *,
    say: Say = print_line,
    on_trace: Callable[[Trace], None] | None = None,
    show: Show | None = None,
) -> dict[str, Any]:
    """Collects what is missing from the store.

    Args:
        config: The stage's settings.
        say: Takes one progress line every few seconds.
        on_trace: Is shown each new trace after it was stored.
        show: Shows the progress instead of ``say``.

    Returns:
        ``collected``, ``skipped`` (already in the store), ``elsewhere`` (another process made them), ``left``
        and ``stopped`` (why, or None); ``errors``, and by reason ``failed``, ``dropped`` (problems),
        ``set_aside`` (wrong attempts that the teacher was not shown) and ``quarantined``; ``inspector`` (an
        `InspectionReport`); ``attempts``, ``scored``, ``right_first``, ``right_final`` and ``accuracy`` (of
        the scored); by role ``calls``, ``tokens``, ``tokens_in``, ``tokens_out`` and ``cost``; ``seconds``
        and ``rate``. Of a dry run, what `estimate_collection` returns.

    Raises:
        SuperCorrectError: Problems, models or the store are unusable, or no run succeeds at all.
        KeyboardInterrupt: SIGINT stopped the run; everything finished is stored.
        SystemExit: SIGTERM did.
    """
    show = show or Lines(say)
    check_outputs(config)
    report = ProblemReport()
    problems = _read_problems(config, report)
    store = open_store(config.store, sync=config.sync)
    if config.dry_run:
        return _estimate(config, problems, store, report, show)
    store.ensure_writable()
    with store, _claims(config) as claims, telemetry(config.telemetry):
        work = _find_work(config, problems, store, claims)
        tally = Tally(total=work.total, skipped=work.skipped, prices=prices_of(config))
        _count_dropped(tally, report, work)
        runner: Runner | RayRun | None = None
        failure = ""
        try:
            if work.total:
                runner = _make_run(config, work, store, tally, show, on_trace)
                running = runner.run()
                if running is not None:  # Ray has an event loop in each actor, and none here
                    asyncio.run(running)
        except SuperCorrectError as error:
            failure = str(error)
            raise
        finally:
            summary = _end(config, tally, runner, show, failure)
    if runner is not None and runner.stop.signal is not None:
        raise KeyboardInterrupt if runner.stop.signal == signal.SIGINT else SystemExit(EXIT_TERMINATED)
    return summary


class ProblemCollector:
    """Runs the collecting graph on one problem at a time; whatever goes wrong is on the trace.

    Args:
        config: The run's settings: models, prompts, what is collected, and the patience with servers.
    """

    def __init__(self, config: CollectionConfig) -> None:
        self._pacing = Pacing(patience=config.patience, call_timeout=config.call_timeout)
        self._graph = _create_graph(config)
        self._config = with_limits({}, CallLimits(pacing=self._pacing))

    @property
    def lost(self) -> str:
        """Why a server that answered before is given up, or empty."""
        return self._pacing.lost

    @property
    def missing(self) -> bool:
        """Whether a model that was asked has shown no sign of life so far."""
        return self._pacing.missing

    async def collect(self, problem: Problem, sample: int = 0, known_errors: Iterable[str] = ()) -> Trace:
        """Makes one attempt at a problem into a trace; one that fails has status ``error``.

        Args:
            problem: The problem.
            sample: Which of several attempts it is, from 0.
            known_errors: Wrong answers of other attempts at it that are kept already.
        """
        given: dict[str, Any] = {"problem": problem.model_dump(mode="json"), "sample": sample}
        if list(known_errors):
            given["known_errors"] = list(known_errors)
        try:
            state = await self._graph.ainvoke(given, config=self._config)
            return Trace.model_validate(state["trace"])
        except Exception as failure:  # of whatever kind: one bad problem is one failed trace
            return failed_trace(problem, sample, failure)


def failed_trace(problem: Problem, sample: int, failure: BaseException) -> Trace:
    """The trace of an attempt that came to nothing."""
    words = " ".join(str(failure).split())[:500] or "no reason given"
    return Trace(
        id=uuid.uuid4().hex[:16],
        problem=problem,
        status="error",
        error=f"run: {type(failure).__name__}: {words}",
        sample=sample,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={"supercorrect-agent": PACKAGE_VERSION},
    )


def prices_of(config: CollectionConfig) -> Prices:
    """By role, the price of a million tokens, in and out."""
    return {
        "student": config.student_price,
        "teacher": config.teacher_price,
        "inspector": config.inspector_price,
    }


def _read_problems(config: CollectionConfig, report: ProblemReport) -> list[Problem]:
    problems = load_problems(
        config.problems,
        mapping=config.mapping,
        n=config.n,
        seed=config.seed,
        split=config.split,
        holdout=config.holdout,
        max_characters=config.max_characters,
        report=report,
    )
    if config.held_out:
        problems = decontaminate(
            problems,
            against=list(config.held_out),
            words=config.held_out_words,
            on_match=config.on_match,
            report=report,
        )
    return take_part(problems, config.part)


def _find_work(
    config: CollectionConfig, problems: Sequence[Problem], store: JsonlTraceStore, claims: Claims | None
) -> Work:
    done, failures = read_standing(store)
    return Work(
        problems,
        samples=config.samples,
        done=done,
        failures=failures,
        retry_failed=config.retry_failed,
        claims=claims,
        together=_errors_count(config),
    )


def _errors_count(config: CollectionConfig) -> bool:
    """Whether the samples of a problem have to know each other's errors."""
    return config.max_errors is not None and config.samples > 1 and config.attempt


@contextlib.contextmanager
def _claims(config: CollectionConfig) -> Iterator[Claims | None]:
    """Shares the work with other processes on the store; at an address each has to be given a part."""
    if config.engine == "ray" or isinstance(find_place(config.store), RemotePlace):
        yield None
        return
    claims = Claims(config.store)
    try:
        yield claims
    finally:
        claims.close()


def _make_run(
    config: CollectionConfig,
    work: Work,
    store: JsonlTraceStore,
    tally: Tally,
    show: Show,
    on_trace: Callable[[Trace], None] | None,
) -> Runner | RayRun:
    known = kept_errors(store) if _errors_count(config) and work.begun else {}
    if config.engine == "ray":
        return RayRun(
            config, work, store, tally, show, standing=store.done, known_errors=known, on_trace=on_trace
        )
    return Runner(
        config,
        work,
        store,
        ProblemCollector(config),
        tally,
        show,
        standing=partial(read_standing, store),
        known_errors=known,
        on_trace=on_trace,
    )


def _count_dropped(tally: Tally, report: ProblemReport, work: Work) -> None:
    tally.dropped.update(report.dropped)
    if work.given_up:
        tally.dropped["failed too often"] += work.given_up


def _end(
    config: CollectionConfig, tally: Tally, runner: Runner | RayRun | None, show: Show, failure: str
) -> dict[str, Any]:
    """Says and writes the summary; a disk that is full must not hide what ended the run."""
    stopped = runner.stop.reason if runner else ""
    summary = {**tally.summary(), "stopped": stopped or failure or None}
    for line in tally.details():
        show.say(line)
    if stopped:
        show.say(f"collect: stopped ({stopped}) with {summary['left']} left; the same command goes on")
    show.say(tally.line())
    show.close()
    if config.summary is not None:
        try:
            replace_text(config.summary, json.dumps(summary, indent=2) + "\n")
        except OSError as error:
            print(f"warning: the summary was not written: {error}", file=sys.stderr)
    return summary


def _estimate(
    config: CollectionConfig,
    problems: Sequence[Problem],
    store: JsonlTraceStore,
    report: ProblemReport,
    show: Show,
) -> dict[str, Any]:
    work = _find_work(config, problems, store, None)
    prompts = resolve_prompts(config.prompts, config.student)
    found = estimate_collection(config, work.problems, work.total, prompts, prices_of(config))
    dropped: Counter[str] = report.dropped
    for line in [*report.lines(), *estimate_lines(found)]:
        show.say(line)
    if work.skipped:
        show.say(f"dry run: {work.skipped} attempts are in the store already")
    show.close()
    return {**found, "skipped": work.skipped, "dropped": dict(dropped)}


def _create_graph(config: CollectionConfig) -> Any:
    prompts = resolve_prompts(config.prompts, config.student)
    seeded = {"seed": config.seed} if is_local(config.student) else {}
    student = load_chat_model(student_spec(config.student, config.adapter), **seeded)
    settings = CollectConfig(
        max_rounds=config.max_rounds,
        temperature=config.temperature,
        max_new_tokens=config.max_new_tokens,
        teacher_max_new_tokens=config.teacher_max_new_tokens,
        teacher_temperature=config.teacher_temperature,
        write_template=config.write_template,
        attempt=config.attempt,
        review_correct=config.review_correct,
        student_review=config.student_review,
        rewrite=config.rewrite,
        resamples=config.resamples,
        free_review=config.free_review,
        rollouts=config.rollouts,
        revise_unreached=config.revise_unreached,
        max_errors=config.max_errors,
    )
    return create_collecting_graph(
        student, config.teacher, inspector=config.inspector, prompts=prompts, config=settings
    )


def main(arguments: Sequence[str] | None = None, *, program: str = "training.collect") -> int:
    """Runs the command line. ``--json`` prints the summary as JSON, and all else to stderr."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in words
    words = [word for word in words if word != "--json"]

    def run(config: CollectionConfig) -> None:
        show = _show(as_json)
        try:
            summary = run_collect(config, show=show)
        finally:
            show.close()  # an error before the first problem would leave a terminal without its cursor
        if as_json:
            print(json.dumps(summary, indent=2))

    def terminated(*_: object) -> None:
        raise SystemExit(EXIT_TERMINATED)  # before the first problem is drawn, and after the last

    before = signal.signal(signal.SIGTERM, terminated)
    try:
        return run_main(CollectionConfig, run, program=program, arguments=words)
    finally:
        signal.signal(signal.SIGTERM, before)


def _show(as_json: bool) -> Show:
    if as_json:
        return Lines(lambda line: print(line, file=sys.stderr, flush=True))
    return Bar("collect") if on_terminal() else Lines(print_line)


if __name__ == "__main__":
    sys.exit(main())
