"""Traces to stage-2 pairs (eq. 7): at the first wrong step, the teacher's words over the student's own.

Every row shares one prefix between its sides, so that eq. 8 can be evaluated:

=========== ================================= =========================== ==============================
kind        prompt and prefix                 chosen                      rejected
=========== ================================= =========================== ==============================
correction  review prompt, trace up to step k teacher's cause, correction student's, with a wrong value
missed      the same                          the same                    student's verdict "right"
false alarm review prompt, trace up to step j verdict "right"             student's invented error
solve       solve prompt, s_1 ... s_{k-1}     the corrected step k        student's wrong step k
=========== ================================= =========================== ==============================
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from supercorrect_agent.prompts import DEFAULT_PROMPTS, PromptSet, review_messages, student_messages
from supercorrect_agent.templates import critique_prefix, splice_correction
from supercorrect_agent.types import Critique, Solution, Trace
from training.config import PairFormat
from training.critiques import (
    TRUSTED_AUTHORS,
    Reviewed,
    critique_fault,
    reviewed_attempts,
    same_value,
    turns,
)
from training.manifest import Ledger, Manifest, Row, fold_question, stable_order, unusable
from training.sft_rows import correction_trace

_UNIT_END = re.compile(r"</\s*(?:Correction|Step\s*\d+)\s*:?\s*>", re.I)


class Pair(NamedTuple):
    """One preference before it is rendered."""

    kind: str
    prompt: list[dict[str, str]]
    prefix: str
    chosen: str
    rejected: str
    step: int


def build_preference_dataset(
    traces: Iterable[Trace],
    *,
    prompts: PromptSet = DEFAULT_PROMPTS,
    pair_format: PairFormat = "inline",
    solve_pairs: bool = False,
    max_length_ratio: float = 4.0,
    max_rows: int | None = None,
    trusted_authors: Collection[str] = TRUSTED_AUTHORS,
    held_out: Iterable[str] = (),
    seed: int = 0,
) -> tuple[list[Row], Manifest]:
    """Builds preference rows for cross-model DPO (paper section 4.2).

    Args:
        traces: What the collecting graph recorded; only problems of split ``train`` give rows.
        prompts: The prompts the student is used with; the ungrounded ones, never those with a reference (B3).
        pair_format: ``inline`` shows the whole wrong solution in the prompt and the re-written steps up to
        the
            wrong one in the prefix; ``literal_eq8`` shows s_1 ... s_{k-1} only (decision B2).
        solve_pairs: Whether to add step pairs under the solve prompt, which protect and train the single
        pass.
        max_length_ratio: The longer side may have at most this many times the characters of the shorter
            (not asked of pairs in which one side is only a verdict).
        max_rows: Upper bound on rows.
        trusted_authors: Teachers whose corrections are right by construction.
        held_out: Questions of evaluation sets, refused.
        seed: Seed of the rows' order, and so of the choice where ``max_rows`` cuts.

    Returns:
        The rows, each ``{"prompt", "prefix", "chosen", "rejected", "ends", "kind", "problem_id", "step",
        "trace_id"}`` where ``ends`` says whether the chosen side completes the answer, and the manifest.
    """
    ledger = Ledger()
    refused = frozenset(map(fold_question, held_out))
    rows: list[Row] = []
    for trace in traces:
        ledger.traces_read += 1
        reason = unusable(trace, refused)
        if reason:
            ledger.drop(reason)
            continue
        for reviewed in reviewed_attempts(trace):
            for pair in _pairs(trace, reviewed, prompts, pair_format, solve_pairs, trusted_authors, ledger):
                rows += _checked(trace, reviewed.attempt, pair, max_length_ratio, ledger)
    rows = stable_order(rows, seed)
    kept = rows if max_rows is None else rows[:max_rows]
    ledger.drop("max_rows", len(rows) - len(kept))
    options = {
        "pair_format": pair_format, "solve_pairs": solve_pairs, "max_length_ratio": max_length_ratio,
        "max_rows": max_rows, "seed": seed,
    }  # fmt: skip
    return kept, ledger.close("preference", kept, prompts=prompts, tokens=0, options=options)


def _pairs(
    trace: Trace,
    reviewed: Reviewed,
    prompts: PromptSet,
    pair_format: PairFormat,
    solve_pairs: bool,
    trusted: Collection[str],
    ledger: Ledger,
) -> Iterator[Pair]:
    fault = critique_fault(trace.problem, reviewed, trusted)
    if fault:
        ledger.drop(fault)
        return
    attempt, critique, review = reviewed.attempt, reviewed.round.critique, reviewed.round.review
    question = trace.problem.question
    make = _literal_pair if pair_format == "literal_eq8" else _inline_pair
    if review is None:
        ledger.drop("no review by the student")
    elif not critique.found_error:
        yield from _false_alarm(prompts, question, attempt, critique, review, ledger)
    elif _is_right(critique, review):
        ledger.drop("student correction is right")
    else:
        yield from make(prompts, question, attempt, critique, review, ledger)
    if solve_pairs and critique.step is not None:
        yield _solve_pair(prompts, question, attempt, critique, critique.step)


def _is_right(critique: Critique, review: Critique) -> bool:
    return review.step == critique.step and same_value(critique.correction, review.correction)


def _inline_pair(
    prompts: PromptSet, question: str, attempt: Solution, critique: Critique, review: Critique, ledger: Ledger
) -> Iterator[Pair]:
    prefix, chosen = critique_prefix(attempt, critique)
    if review.raw.startswith(prefix):
        rejected = _first_unit(review.raw[len(prefix) :])
    else:  # decision B4: a model that cannot continue a message reviewed freely; its words on the same step
        rejected = (_evaluation(review.raw, critique.step or 0) or ("", None))[1]
    if rejected is None or not review.readable:
        ledger.drop("student review unreadable")
        return
    kind = "correction" if review.step == critique.step else "missed"
    prompt = turns(review_messages(prompts, question, attempt.raw))
    yield Pair(kind, prompt, prefix, chosen, rejected, critique.step or 0)


def _literal_pair(
    prompts: PromptSet, question: str, attempt: Solution, critique: Critique, review: Critique, ledger: Ledger
) -> Iterator[Pair]:
    step = critique.step or 0
    if review.step != step or not review.correction:
        ledger.drop("no correction by the student at this step")
        return
    prompt = turns(review_messages(prompts, question, attempt.prefix(step)))
    yield Pair(
        "correction", prompt, f"<Step{step}>", _cause_correction(critique), _cause_correction(review), step
    )


def _cause_correction(critique: Critique) -> str:
    return f"<Cause>{critique.cause}</Cause><Correction>{critique.correction}</Correction>"


def _false_alarm(
    prompts: PromptSet, question: str, attempt: Solution, critique: Critique, review: Critique, ledger: Ledger
) -> Iterator[Pair]:
    """The student found an error in a right attempt: behind its own trace, the teacher's verdict wins."""
    if review.step is None:
        ledger.drop("student review is right")
        return
    mine = _evaluation(review.raw, review.step)
    teachers = _evaluation(correction_trace(attempt, critique), review.step)
    if mine is None or teachers is None:
        ledger.drop("student review unreadable")
        return
    prompt = turns(review_messages(prompts, question, attempt.raw))
    yield Pair("false alarm", prompt, mine[0], teachers[1], mine[1], review.step)


def _solve_pair(prompts: PromptSet, question: str, attempt: Solution, critique: Critique, step: int) -> Pair:
    prefix, wrong = attempt.prefix(step), attempt.steps[step - 1]
    chosen = splice_correction(attempt, critique).removeprefix(prefix).rstrip()
    prompt = turns(student_messages(prompts, question))
    return Pair("solve", prompt, prefix, chosen, attempt.raw[wrong.start : wrong.end].rstrip(), step)


def _first_unit(text: str) -> str | None:
    """A review up to the first ``</Correction>`` or ``</StepN>``: what it says of one step, and no more."""
    end = _UNIT_END.search(text)
    return text[: end.end()] if end else None


def _evaluation(trace: str, step: int) -> tuple[str, str] | None:
    """Splits a correction trace before its evaluation of a step: (text so far, that evaluation)."""
    start = re.search(rf"<Step\s*{step}\b[^>]*>.*?(?=<Evaluate|<Cause)", trace, re.S | re.I)
    unit = _first_unit(trace[start.end() :]) if start else None
    return (trace[: start.end()], unit) if start and unit else None


def _checked(
    trace: Trace, attempt: Solution, pair: Pair, max_length_ratio: float, ledger: Ledger
) -> list[Row]:
    fault = _fault(pair, max_length_ratio)
    if fault:
        ledger.drop(fault)
        return []
    # The same wrong step of the same problem teaches once, however often it was sampled.
    judged = attempt.steps[pair.step - 1].text if pair.step <= len(attempt.steps) else pair.rejected
    if not ledger.is_new(trace.problem.id, pair.kind, str(pair.step), judged):
        return []
    return [
        {
            **pair._asdict(),
            "ends": "</answer>" in pair.chosen.lower(),
            "problem_id": trace.problem.id,
            "trace_id": trace.id,
        }
    ]


def _fault(pair: Pair, max_length_ratio: float) -> str | None:
    if not pair.chosen.strip() or not pair.rejected.strip():
        return "empty side"
    if " ".join(pair.chosen.split()) == " ".join(pair.rejected.split()):
        return "texts equal"
    if pair.kind not in ("correction", "solve"):  # a bare verdict is short by nature
        return None
    short, long = sorted((len(pair.chosen), len(pair.rejected)))
    return "length ratio" if long > short * max_length_ratio else None
