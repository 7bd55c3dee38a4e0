"""Measuring a student on problems it has never seen.

    python -m training.evaluate --student sandbox --adapter runs/sft --n 500 --output runs/sft.json

The graph gets the problem's text only; answers are compared afterwards. Up to five arms answer the same
problems:

- ``single``: the first solution, shared by the other arms (greedy decoding, asked once);
- ``review``: the student reviews itself and corrects what it finds;
- ``teacher``: the teacher, who sees no reference either, names the first wrong step;
- ``asked``: the same, but only where the student's own review (the one of ``review``) finds an error or
  cannot be read;
- ``retry``: the control. The first solutions that were wrong are sampled anew, without any critique, up to
  ``max_rounds`` times until one is right. It is told which are wrong, as only a perfect teacher could.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from langchain_core.caches import InMemoryCache

from supercorrect_agent.errors import ConfigError, ModelError
from supercorrect_agent.graph import create_supercorrect_graph
from supercorrect_agent.models import load_chat_model
from supercorrect_agent.problems import load_problems
from supercorrect_agent.prompts import PromptSet
from supercorrect_agent.state import CorrectionConfig
from supercorrect_agent.teachers import Teacher, as_teacher
from supercorrect_agent.templates import is_strict
from supercorrect_agent.types import Problem, Solution, Trace
from supercorrect_agent.verification import MathVerifier
from training.config import Arm, EvaluationConfig
from training.flags import run_main
from training.folders import make_folder, replace_text
from training.metrics import Difference, accuracy, paired_difference, review_quality, self_correction
from training.pool import run_bounded
from training.progress import Pace, Say, print_line
from training.provenance import provenance
from training.sources import is_local, resolve_prompts, student_spec

Outcome = dict[str, Any]
Outcomes = dict[str, Outcome]

_TAUGHT: dict[Arm, str] = {"teacher": "always", "asked": "flagged"}


def run_evaluate(config: EvaluationConfig, *, say: Say = print_line) -> dict[str, Any]:
    """Evaluates a student and writes ``config.output``.

    Returns:
        ``arms`` (each with ``accuracy`` and its Wilson interval, ``format_valid``, ``output_tokens`` by role
        and ``errors``; those with a second pass ``self_correction``; the review also ``flagged``,
        ``false_alarms`` and, beside a teacher, ``located``; ``teacher`` and ``asked`` the teacher's
        ``cost``: calls and tokens, read and written, in all and for each correct answer), ``problems`` (every
        outcome), ``n``, ``seconds``, ``config`` and where it was run.

    Raises:
        SuperCorrectError: Problems or models are unusable, or no run succeeds at all.
    """
    make_folder(config.output.parent, argument="output")
    problems = load_problems(
        config.problems,
        n=config.n,
        seed=config.seed,
        split="dev" if config.holdout else "train" if config.problems.startswith("sample:") else "test",
        holdout=config.holdout,
    )
    pace = Pace()
    arms = asyncio.run(_run_arms(config, problems, say))
    report: dict[str, Any] = {
        "arms": {name: _summarize(outcomes) for name, outcomes in arms.items()},
        "n": len(problems),
        "seconds": round(pace.elapsed, 2),
        "config": config.model_dump(mode="json"),
        **provenance(),
        "problems": [_problem_row(problem, arms) for problem in problems],
    }
    _add_self_correction(report["arms"], arms)
    _write(config.output, report)
    for name, arm in report["arms"].items():
        share = arm["accuracy"]
        bounds = f"[{share['low']:.1%}, {share['high']:.1%}]"
        say(f"evaluate: {name} {share['value']:.1%} {bounds} of {share['total']}")
    return report


def compare_evaluations(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Difference]:
    """The paired difference, second minus first, of every arm that two reports share.

    Raises:
        ConfigError: The reports are about different problems.
    """
    rows = [{row["id"]: row for row in report["problems"]} for report in (first, second)]
    if set(rows[0]) != set(rows[1]):
        raise ConfigError(
            "The two evaluations are about different problems. Use the same `problems`, `n` and `seed`."
        )
    shared = [name for name in first["arms"] if name in second["arms"]]
    return {
        name: paired_difference(
            *([bool(by_id[key][name]["correct"]) for key in sorted(rows[0])] for by_id in rows)
        )
        for name in shared
    }


async def _run_arms(config: EvaluationConfig, problems: Sequence[Problem], say: Say) -> dict[str, Outcomes]:
    prompts = resolve_prompts(config.prompts, config.student)
    if config.style == "plain":
        prompts = prompts.model_copy(update={"solve": prompts.plain})
    options: dict[str, Any] = {"seed": config.seed} if is_local(config.student) else {}
    # First solutions and reviews are decoded greedily: arms share them through the cache and pay once.
    student = load_chat_model(student_spec(config.student, config.adapter), cache=InMemoryCache(), **options)
    scorer = _Scorer(config, say)
    arms: dict[str, Outcomes] = {}
    wanted: list[Arm] = [arm for arm in _TAUGHT if arm in config.arms]
    teacher = as_teacher(config.teacher, prompts) if wanted else None
    if "review" in config.arms:
        graph = _graph(student, None, prompts, config, max_rounds=config.max_rounds)
        arms["review"] = await scorer.run("review", graph, problems)
    for arm in wanted:
        settings = {"max_rounds": config.max_rounds, "ask_teacher": _TAUGHT[arm]}
        graph = _graph(student, teacher, prompts, config, **settings)
        arms[arm] = await scorer.run(arm, graph, problems)
    if not arms:
        graph = _graph(student, None, prompts, config, max_rounds=0)
        arms["single"] = await scorer.run("single", graph, problems)
    firsts = {key: _first(outcome) for key, outcome in next(iter(arms.values())).items()}
    arms = {"single": firsts, **arms}
    if "retry" in config.arms:
        student.cache = None
        graph = _graph(student, None, prompts, config, max_rounds=0, temperature=config.retry_temperature)
        arms["retry"] = await _retry(config, scorer, graph, problems, firsts)
    return {name: arms[name] for name in ("single", *config.arms) if name in arms}


def _graph(
    student: Any, critic: Teacher | None, prompts: PromptSet, config: EvaluationConfig, **settings: Any
) -> Any:
    greedy = {"max_new_tokens": config.max_new_tokens, "temperature": 0.0}
    bounds = CorrectionConfig(**{**greedy, **settings})
    return create_supercorrect_graph(student, critic, prompts=prompts, config=bounds)


async def _retry(
    config: EvaluationConfig, scorer: _Scorer, graph: Any, problems: Sequence[Problem], firsts: Outcomes
) -> Outcomes:
    outcomes = dict(firsts)
    for _ in range(config.max_rounds):
        wrong = [problem for problem in problems if not outcomes[problem.id]["correct"]]
        for key, again in (await scorer.run("retry", graph, wrong)).items():
            spent = outcomes[key]["tokens"]["student"] + again["tokens"].get("student", 0)
            outcomes[key] = {**again, "tokens": {"student": spent}}
    return outcomes


class _Scorer:
    """Runs a graph over problems and compares what comes back with the answers it never saw."""

    def __init__(self, config: EvaluationConfig, say: Say) -> None:
        self._limit, self._say, self._verifier = config.concurrency, say, MathVerifier()

    async def run(self, arm: str, graph: Any, problems: Sequence[Problem]) -> Outcomes:
        async def solve(problem: Problem) -> Outcome:
            state = await graph.ainvoke({"problem": problem.question})
            return await self._score(problem, Trace.model_validate(state["trace"]))

        outcomes: Outcomes = {}
        pace, errors = Pace(), list[str]()
        async for problem, outcome in run_bounded(problems, solve, self._limit):
            outcomes[problem.id] = outcome
            errors += [outcome["error"]] if outcome["error"] else []
            if pace.due(force=len(outcomes) == len(problems)):
                right = sum(bool(each["correct"]) for each in outcomes.values())
                self._say(
                    f"evaluate: {arm} {len(outcomes)}/{len(problems)}, {right} right, {pace.elapsed:.0f} s"
                )
        if problems and len(errors) == len(problems):
            raise ModelError(
                f"All {len(problems)} problems failed: {errors[0].strip().rstrip('.')}. "
                "Check `--student` and `--teacher`, and that their servers run."
            )
        return outcomes

    async def _score(self, problem: Problem, trace: Trace) -> Outcome:
        first, final = trace.solution, trace.final_solution
        critique = trace.rounds[0].critique if trace.rounds else None
        tokens: dict[str, int] = {}
        for call in trace.calls:
            tokens[call.role] = tokens.get(call.role, 0) + call.output_tokens
        taught = [call for call in trace.calls if call.role == "teacher"]
        return {
            "answer": final.answer if final else None,
            "correct": await self._correct(problem, final),
            "first_answer": first.answer if first else None,
            "first_correct": await self._correct(problem, first),
            "strict": bool(first and is_strict(first.raw)),
            "first_tokens": sum(call.output_tokens for call in trace.calls[:1]),
            "step": critique.step if critique else None,
            "status": trace.status,
            "tokens": tokens,
            "teacher_calls": len(taught),
            "teacher_tokens": sum(call.input_tokens + call.output_tokens for call in taught),
            "error": trace.error,
        }

    async def _correct(self, problem: Problem, solution: Solution | None) -> bool:
        if solution is None:
            return False
        return (await self._verifier.averify(answer=solution.answer, target=problem.answer)).correct


def _first(outcome: Outcome) -> Outcome:
    """The single pass, as another arm's run began."""
    return {
        **outcome, "answer": outcome["first_answer"], "correct": outcome["first_correct"], "step": None,
        "tokens": {"student": outcome["first_tokens"]}, "teacher_calls": 0, "teacher_tokens": 0,
    }  # fmt: skip


def _summarize(outcomes: Outcomes) -> dict[str, Any]:
    tokens: dict[str, int] = {}
    for outcome in outcomes.values():
        for role, count in outcome["tokens"].items():
            tokens[role] = tokens.get(role, 0) + count
    return {
        "accuracy": accuracy([outcome["correct"] for outcome in outcomes.values()]),
        "format_valid": accuracy([outcome["strict"] for outcome in outcomes.values()]),
        "output_tokens": tokens,
        "errors": sum(outcome["error"] is not None for outcome in outcomes.values()),
    }


def _add_self_correction(report: dict[str, Any], arms: Mapping[str, Outcomes]) -> None:
    """Before and after, for the arms with a critic; how well the student's own review finds what is wrong."""
    first = arms["single"]
    for name, outcomes in arms.items():
        if name == "single":
            continue
        before = [outcome["correct"] for outcome in first.values()]
        report[name]["self_correction"] = self_correction(before, [outcomes[key]["correct"] for key in first])
    for name in _TAUGHT:
        if name in arms:
            report[name]["cost"] = _teacher_cost(list(arms[name].values()))
    review, teacher = arms.get("review"), arms.get("teacher")
    if review is None:
        return
    correct = [bool(outcome["correct"]) for outcome in first.values()]
    named = [review[key]["step"] for key in first]
    wrong = None if teacher is None else [teacher[key]["step"] for key in first]
    report["review"] |= review_quality(correct, named, wrong)


def _teacher_cost(outcomes: Sequence[Outcome]) -> dict[str, float | None]:
    """What the teacher was asked, and how much of it one correct answer took (None where none is correct)."""
    right = sum(bool(outcome["correct"]) for outcome in outcomes)
    cost: dict[str, float | None] = {}
    for name in ("calls", "tokens"):
        total = sum(outcome[f"teacher_{name}"] for outcome in outcomes)
        cost |= {name: total, f"{name}_per_correct": total / right if right else None}
    return cost


_SHOWN = ("answer", "correct", "step", "status", "error", "teacher_calls", "teacher_tokens")


def _problem_row(problem: Problem, arms: Mapping[str, Outcomes]) -> dict[str, Any]:
    shown = {name: {key: outcomes[problem.id][key] for key in _SHOWN} for name, outcomes in arms.items()}
    return {"id": problem.id, "question": problem.question, "target": problem.answer, **shown}


def _write(path: Path, report: Mapping[str, Any]) -> None:
    try:
        replace_text(path, json.dumps(report, indent=2) + "\n")
    except OSError as error:
        raise ConfigError(
            f"`output={path}` cannot be written ({error.strerror}). Choose another file."
        ) from error


def main() -> int:
    return run_main(EvaluationConfig, run_evaluate, program="training.evaluate")


if __name__ == "__main__":
    sys.exit(main())
