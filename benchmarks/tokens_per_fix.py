"""The student's completion tokens for each answer it puts right: prefix kept, against written anew.

    python -m benchmarks.tokens_per_fix [--n 200] [--seed 0] [--max-rounds 2] [--output FILE]
                                        [--problems sandbox:dev] [--student sandbox] [--teacher sandbox]

The same student, teacher and problems; first solutions are decoded once (greedily) and shared. Three ways to
go on from those in which an error was found:

- ``prefix kept``: the solving graph as it is, at most ``--max-rounds`` corrections;
- ``written anew``: the same with ``CorrectionConfig(keep_prefix=False)``: the student sees its solution and
  the critique, and writes everything again;
- ``sampled anew``: the control for a student that was never taught to do so, such as the sandbox's. It solves
  the wrong ones again from nothing, at temperature 0.7, as often, until one is right: it is told which are
  wrong and when to stop, as only a perfect teacher could, and breaks nothing.

Counted are the completion tokens that the model reports for the student's calls behind the first solution,
whatever they led to: answers put right, answers still wrong, right answers tampered with. Not counted are
first solutions, prompts, kept text, and what the teacher writes. An answer is *fixed* if it is wrong in the
first solution and right in the end (compared with the true one afterwards). Tokens per fixed answer is the
one sum over the other.

Ratios have a 95 % interval by the delta method on their logarithm, over problems, which are paired. The ratio
is the product of two others that stand beside it: tokens of one correction, and corrections for one fixed
answer. Where a way fixes nothing there is no ratio. ``same text written whole`` is what would be left if
writing anew fixed exactly as much: the tokens of the kept way over those of its revised solutions as a whole,
by the tokenizer of a student in this process.
"""

from __future__ import annotations

import argparse
import asyncio
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from langchain_core.caches import InMemoryCache
from langchain_core.language_models import BaseChatModel

from benchmarks.closed_loop_measures import Rate, rate
from benchmarks.ratios import Target, publish
from supercorrect_agent.errors import ModelError
from supercorrect_agent.graph import create_supercorrect_graph
from supercorrect_agent.models import load_chat_model
from supercorrect_agent.problems import load_problems
from supercorrect_agent.state import CorrectionConfig
from supercorrect_agent.types import Problem, Solution, Trace
from supercorrect_agent.verification import MathVerifier
from training.metrics import Z95, accuracy, paired_difference
from training.pool import run_bounded
from training.provenance import provenance
from training.sources import is_local, model_path
from training.student import load_tokenizer

TARGET = Target(0.6)
KEPT, ANEW, SAMPLED = "prefix kept", "written anew", "sampled anew"
AT_ONCE = 64
CountTokens = Callable[[str], int]


class Run(NamedTuple):
    """One run of the graph, and whether its first and its last answer are right."""

    trace: Trace
    first: bool
    final: bool


class Outcome(NamedTuple):
    """One problem solved in one way.

    ``tokens`` and ``calls`` are the student's behind the first solution; ``whole`` are the tokens of the
    revised solutions with the text that was kept, 0 where they were not counted.
    """

    first: bool
    final: bool
    tokens: int = 0
    calls: int = 0
    whole: int = 0

    @property
    def fixed(self) -> bool:
        """Whether a wrong first answer was put right."""
        return self.final and not self.first


def corrected(run: Run, count: CountTokens | None = None) -> Outcome:
    """What the corrections of a run cost."""
    calls = [call for call in run.trace.calls if call.role == "student" and call.round > 0]
    tokens = sum(call.output_tokens for call in calls)
    whole = sum(count(one.solution.raw) for one in run.trace.rounds if one.solution) if count else 0
    return Outcome(run.first, run.final, tokens, len(calls), whole)


def sampled(attempt: Outcome, run: Run) -> Outcome:
    """An outcome after one more solution from nothing."""
    tokens = sum(call.output_tokens for call in run.trace.calls if call.role == "student")
    return Outcome(attempt.first, run.final, attempt.tokens + tokens, attempt.calls + 1)


async def run_graph(
    student: BaseChatModel, teacher: str, problems: Sequence[Problem], config: CorrectionConfig
) -> list[Run]:
    """Runs every problem and compares the answers with the true ones afterwards.

    Raises:
        ModelError: A run failed: without its corrections, it would look cheap.
    """
    graph, verifier = create_supercorrect_graph(student, teacher, config=config), MathVerifier()

    async def right(problem: Problem, solution: Solution | None) -> bool:
        answer = solution.answer if solution else None
        return (await verifier.averify(answer=answer, target=problem.answer)).correct

    async def solve(problem: Problem) -> Run:
        state = await graph.ainvoke({"problem": problem.question})
        trace = Trace.model_validate(state["trace"])
        if trace.error:
            raise ModelError(trace.error)
        return Run(trace, await right(problem, trace.solution), await right(problem, trace.final_solution))

    found = {problem.id: one async for problem, one in run_bounded(problems, solve, AT_ONCE)}
    return [found[problem.id] for problem in problems]


async def sample_anew(
    student: BaseChatModel, teacher: str, problems: Sequence[Problem], firsts: Sequence[bool], rounds: int
) -> list[Outcome]:
    """Solves those whose first answer is wrong again, until one is right or the rounds are over."""
    config = CorrectionConfig(max_rounds=0, temperature=CorrectionConfig().sample_temperature)
    outcomes = [Outcome(first, first) for first in firsts]
    for _ in range(rounds):
        wrong = [index for index, outcome in enumerate(outcomes) if not outcome.final]
        runs = await run_graph(student, teacher, [problems[index] for index in wrong], config)
        for index, run in zip(wrong, runs, strict=True):
            outcomes[index] = sampled(outcomes[index], run)
    return outcomes


def rate_ratio(
    first: tuple[Sequence[int], Sequence[int]], second: tuple[Sequence[int], Sequence[int]]
) -> Rate | None:
    """The ratio of two ratios of sums, first over second, over the same problems in the same order.

    The 95 % interval is that of its logarithm, log T1 - log F1 - log T2 + log F2, linearised: a problem moves
    it by its part in each of the four means.

    Args:
        first: Costs and gains.
        second: The same of the other way.

    Returns:
        None where one of the four sums is 0.
    """
    sides = (*first, *second)
    means = [sum(side) / len(side) for side in sides]
    if not all(means):
        return None
    value = means[0] * means[3] / (means[1] * means[2])
    shifts = [
        cost / means[0] - gain / means[1] - other / means[2] + won / means[3]
        for cost, gain, other, won in zip(*sides, strict=True)
    ]
    half = Z95 * math.sqrt(sum(shift * shift for shift in shifts)) / len(shifts)
    return {"value": value, "low": value * math.exp(-half), "high": value * math.exp(half)}


def summarize(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """One way to go on."""
    return {
        "corrections": sum(one.calls for one in outcomes),
        "completion_tokens": sum(one.tokens for one in outcomes),
        "fixed": sum(one.fixed for one in outcomes),
        "broken": sum(one.first and not one.final for one in outcomes),
        "tokens_per_fixed": rate([one.tokens for one in outcomes], [one.fixed for one in outcomes]),
        "accuracy_first": accuracy([one.first for one in outcomes]),
        "accuracy_after": accuracy([one.final for one in outcomes]),
    }


def compare(kept: Sequence[Outcome], other: Sequence[Outcome]) -> dict[str, Any]:
    """The kept way against another: the ratio, its two factors, and the difference in accuracy."""
    arms = [
        ([o.tokens for o in arm], [o.calls for o in arm], [o.fixed for o in arm]) for arm in (kept, other)
    ]
    (tokens, calls, fixed), (others, again, won) = arms
    return {
        "tokens_per_fixed": rate_ratio((tokens, fixed), (others, won)),
        "tokens_per_correction": rate_ratio((tokens, calls), (others, again)),
        "corrections_per_fixed": rate_ratio((calls, fixed), (again, won)),
        "accuracy_after": paired_difference([one.final for one in other], [one.final for one in kept]),
    }


async def measure(given: argparse.Namespace) -> dict[str, Any]:
    """All ways on the same problems."""
    problems = load_problems(given.problems, n=given.n, seed=given.seed)
    local = is_local(given.student)
    options: dict[str, Any] = {"seed": given.seed} if local else {}
    student = load_chat_model(given.student, cache=InMemoryCache(), **options)
    count = _counter(given.student) if local else None
    arms: dict[str, list[Outcome]] = {}
    for name, keeps in ((KEPT, True), (ANEW, False)):
        config = CorrectionConfig(max_rounds=given.max_rounds, keep_prefix=keeps, temperature=0.0)
        arms[name] = [
            corrected(run, count) for run in await run_graph(student, given.teacher, problems, config)
        ]
    student.cache = None  # or every further sample would be the first
    firsts = [outcome.first for outcome in arms[KEPT]]
    arms[SAMPLED] = await sample_anew(student, given.teacher, problems, firsts, given.max_rounds)
    kept = arms[KEPT]
    tokens, whole = [one.tokens for one in kept], [one.whole for one in kept]
    fixed = [one.fixed for one in kept]
    return {
        "arms": {name: summarize(outcomes) for name, outcomes in arms.items()},
        "prefix kept against": {name: compare(kept, arms[name]) for name in (ANEW, SAMPLED)},
        "same text written whole": rate_ratio((tokens, fixed), (whole, fixed)),
    }


def _counter(student: str) -> CountTokens:
    tokenizer = load_tokenizer(model_path(student))
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])


def sentences(found: dict[str, Any]) -> list[str]:
    """The figures in words."""
    lines = []
    for name, arm in found["arms"].items():
        share = arm["accuracy_after"]
        lines.append(
            f"{name}: {_written(arm['tokens_per_fixed'])} tokens per fixed answer; {arm['fixed']} fixed, "
            f"{arm['broken']} broken, {arm['corrections']} corrections, {arm['completion_tokens']} tokens; "
            f"accuracy {share['value']:.1%} [{share['low']:.1%}, {share['high']:.1%}]"
        )
    for name, ratios in found["prefix kept against"].items():
        total = ratios["tokens_per_fixed"]
        verdict = "no answer" if total is None else "met" if TARGET.met(total["value"]) else "missed"
        factors = "; ".join(
            f"{key.replace('_', ' ')} {_written(ratios[key])}"
            for key in ("tokens_per_correction", "corrections_per_fixed")
        )
        lines.append(f"{KEPT} / {name}: {_written(total)}; target {TARGET}: {verdict} ({factors})")
    lines.append(f"{KEPT} / same text written whole: {_written(found['same text written whole'])}")
    return lines


def _written(found: Rate | None) -> str:
    return "none" if found is None else f"{found['value']:.3g} [{found['low']:.3g}, {found['high']:.3g}]"


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=200, help="problems (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="of problems and samples (default: 0)")
    parser.add_argument("--max-rounds", type=int, default=2, help="corrections of an answer (default: 2)")
    parser.add_argument("--problems", default="sandbox:dev", help="source (default: sandbox:dev)")
    parser.add_argument("--student", default="sandbox", help="chat model (default: sandbox)")
    parser.add_argument("--teacher", default="sandbox", help="teacher or chat model (default: sandbox)")
    parser.add_argument("--output", type=Path, help="also write the report as JSON")
    given = parser.parse_args(arguments)
    asked = {name: value for name, value in vars(given).items() if name != "output"}
    found = {**asked, **asyncio.run(measure(given)), **provenance()}
    publish(found, sentences(found), given.output)


if __name__ == "__main__":
    main()
