"""What a collection would take: problems, calls, tokens, money and hours, without a model call.

Lengths come from the prompts as they would be sent; what only a run can tell (how many attempts are right,
how long replies are) is taken from the section ``estimate`` and printed with the result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from supercorrect_agent.prompts import PromptSet, student_messages
from supercorrect_agent.teachers.llm import reference_text
from supercorrect_agent.types import Problem
from training.collect_tally import MILLION, Prices
from training.config import CollectionConfig
from training.sources import is_local, model_path

SAMPLED = 1000  # problems whose prompts are rendered; the others count as their mean
MODELESS = ("sandbox", "reference")
Tokens = Callable[[str], int]


def estimate_collection(
    config: CollectionConfig, problems: Sequence[Problem], runs: int, prompts: PromptSet, prices: Prices
) -> dict[str, Any]:
    """The calls, tokens, money and seconds of ``runs`` attempts.

    Args:
        config: The run's settings.
        problems: The problems that attempts are missing of.
        runs: How many attempts are missing.
        prompts: What would be asked.
        prices: By role, of a million tokens, in and out.

    Returns:
        ``problems``, ``runs``; by role ``calls``, ``tokens_in``, ``tokens_out`` and ``cost``; ``seconds``
        (None without a rate); and ``assumptions``, one sentence each.
    """
    sample = problems[:: max(1, -(-len(problems) // SAMPLED))]  # from the beginning to the end
    count = _counter(config)
    calls: Counter[str] = Counter()
    tokens_in: Counter[str] = Counter()
    tokens_out: Counter[str] = Counter()
    for problem in sample:
        for role, times, read, written in _calls(config, problem, prompts, count):
            weight = times * runs / len(sample)
            calls[role] += weight  # type: ignore[assignment]
            tokens_in[role] += weight * read  # type: ignore[assignment]
            tokens_out[role] += weight * written  # type: ignore[assignment]
    roles = [role for role in ("student", "teacher", "inspector") if calls[role]]
    cost = {
        role: (tokens_in[role] * prices[role][0] + tokens_out[role] * prices[role][1]) / MILLION
        for role in roles
    }
    rate, written = config.estimate.tokens_per_second, tokens_out.total()
    return {
        "problems": len(problems), "runs": runs,
        **{
            name: {role: round(counts[role]) for role in roles}
            for name, counts in (("calls", calls), ("tokens_in", tokens_in), ("tokens_out", tokens_out))
        },
        "cost": {role: round(cost[role], 4) for role in roles},
        "seconds": None if rate is None else round(written / rate, 1),
        "assumptions": _assumptions(config),
    }  # fmt: skip


def estimate_lines(found: dict[str, Any]) -> list[str]:
    """The estimate for a reader."""
    lines = [f"dry run: {found['runs']} attempts at {found['problems']} problems"]
    for role, calls in found["calls"].items():
        read, written = found["tokens_in"][role], found["tokens_out"][role]
        lines.append(
            f"dry run: {role}: {calls} calls, {read} tokens in, {written} tokens out, cost "
            f"{found['cost'][role]:.2f}"
        )
    lines.append(f"dry run: cost {sum(found['cost'].values()):.2f} in all")
    seconds = found["seconds"]
    lines.append(
        "dry run: time unknown; pass --estimate.tokens_per_second"
        if seconds is None
        else f"dry run: {seconds / 3600:.2f} hours"
    )
    return [*lines, *(f"dry run: assumed: {each}" for each in found["assumptions"])]


def _calls(
    config: CollectionConfig, problem: Problem, prompts: PromptSet, count: Tokens
) -> list[tuple[str, float, float, float]]:
    """Each kind of call for one attempt: its role, how often it is made, tokens in and tokens out."""
    assumed = config.estimate
    question, reference = count(problem.question), count(reference_text(problem))
    length = max(reference, 1) if problem.reference_solution else assumed.solution_tokens
    solution = min(config.max_new_tokens, length)
    review = min(config.max_new_tokens, assumed.review_tokens)
    ask = count("\n".join(str(message.text) for message in student_messages(prompts, problem.question)))
    judge = count(prompts.grounded.text) + question + reference + solution
    student_judge = count(prompts.review.text) + question + solution
    wrong = 1 - assumed.accuracy
    rounds = wrong * config.max_rounds
    teacher_asked = rounds + (assumed.accuracy if config.review_correct else 0.0)
    found: list[tuple[str, float, float, float]] = []
    if config.attempt:
        found.append(("student", 1.0, ask, solution))
        if config.student_review:
            found.append(("student", teacher_asked, student_judge, review))
        extra = rounds * (config.rewrite + config.resamples)
        found.append(("student", 2 * extra, student_judge, review))
        found.append(("student", rounds, ask + solution / 2, solution / 2))
        if config.free_review:
            found.append(("student", rounds, student_judge, review))
        if config.inspector not in (None, "rules"):
            inspected = judge + assumed.review_tokens
            found.append(("inspector", teacher_asked, inspected, assumed.review_tokens))
    if config.teacher not in MODELESS:
        if config.write_template:
            template = count(prompts.template.text) + question + reference
            found.append(("teacher", 1.0, template, max(solution, reference)))
        if config.attempt:
            found.append(("teacher", teacher_asked, judge, assumed.review_tokens))
    return [each for each in found if each[1] > 0]


def _counter(config: CollectionConfig) -> Tokens:
    """Counts with the student's own tokenizer where that lies here, else by characters."""
    file = _tokenizer_file(config)
    if file is not None:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(file))
        return lambda text: len(tokenizer.encode(text).ids)
    per_token = config.estimate.chars_per_token
    return lambda text: round(len(text) / per_token)


def _tokenizer_file(config: CollectionConfig) -> Path | None:
    if not is_local(config.student) or find_spec("tokenizers") is None:
        return None
    file = Path(model_path(config.student)) / "tokenizer.json"
    return file if file.is_file() else None


def _assumptions(config: CollectionConfig) -> list[str]:
    assumed = config.estimate
    found = [
        "tokens of prompts are counted with the student's tokenizer"
        if _tokenizer_file(config)
        else f"{assumed.chars_per_token:g} characters per token (estimate.chars_per_token)",
        f"{assumed.accuracy:.0%} of the attempts are right (estimate.accuracy)",
        "a solution is as long as its reference solution, or has "
        f"{assumed.solution_tokens} tokens (estimate.solution_tokens)",
        f"a critique or review has {assumed.review_tokens} tokens (estimate.review_tokens)",
        "no call is made again and no critique is revised",
    ]
    if config.teacher in MODELESS:
        found.append(f"the teacher '{config.teacher}' is no model and costs nothing")
    return found
