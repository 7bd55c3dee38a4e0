"""Traces to stage-1 rows: hierarchical solutions (eq. 4, 5) and correction traces, or their plain control."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, NamedTuple

from supercorrect_agent.inspector import failed_checks, speaks_of_reference
from supercorrect_agent.problems import HeldOut
from supercorrect_agent.prompts import (
    DEFAULT_PROMPTS,
    PromptSet,
    render_prompt,
    review_messages,
    student_messages,
)
from supercorrect_agent.templates import (
    critique_prefix,
    format_critique,
    format_solution,
    is_strict,
    parse_critique,
)
from supercorrect_agent.types import Critique, Solution, Trace
from supercorrect_agent.verification import Verifier
from training.config import Style
from training.critiques import (
    TRUSTED_AUTHORS,
    Reviewed,
    critique_fault,
    fold,
    not_criticised,
    reviewed_attempts,
    turns,
)
from training.drafts import DraftReader, TraceSource, spool
from training.manifest import Ledger, Manifest, Row
from training.rows import Candidates, Draft, Rows, draft_of


def build_sft_dataset(
    traces: Iterable[Trace] | TraceSource,
    *,
    prompts: PromptSet = DEFAULT_PROMPTS,
    style: Style = "hierarchical",
    reviews: bool = True,
    review_share: float | None = None,
    no_error_share: float = 0.2,
    own_solutions: bool = False,
    test_share: float = 0.0,
    max_rows: int | None = None,
    max_tokens: int | None = None,
    count_tokens: Callable[[str], int] | None = None,
    trusted_authors: Collection[str] = TRUSTED_AUTHORS,
    held_out: Iterable[str] = (),
    held_out_words: int | None = None,
    verifier: Verifier | None = None,
    seed: int = 0,
) -> tuple[Rows, Manifest]:
    """Builds prompt/completion rows for supervised fine-tuning.

    A row of kind ``solve`` asks for a solution and holds the teacher's (verified against the problem's
    answer); one of kind ``review`` shows the student's attempt and holds the teacher's correction trace,
    which ends at ``</Correction>`` or, where nothing is wrong, at ``</Answer>`` (decision B20). The traces
    are read once; candidate rows wait in a temporary file, so memory does not grow with them.

    Args:
        traces: What the collecting graph recorded; only problems of split ``train`` give rows.
        prompts: The prompts the student is used with.
        style: ``plain`` writes the same solutions as plain steps under the plain prompt: the control.
        reviews: Whether to add correction traces (never in the plain style).
        review_share: At most this share of all rows are reviews; None keeps all.
        no_error_share: At most this share of the reviews says that nothing is wrong.
        own_solutions: Whether to add the student's own verified, well-formed solutions.
        test_share: Share of the problems whose rows go to the split ``test``.
        max_rows: Upper bound on rows, of both splits together.
        max_tokens: Upper bound on tokens of both splits together, prompts included, as ``count_tokens``
            counts them.
        count_tokens: Tokens of a text; needed for ``max_tokens`` and for the manifest's count.
        trusted_authors: Teachers whose corrections are right by construction; another teacher's correction is
            kept only if a continuation from it reached the answer.
        held_out: Questions of evaluation sets, refused in any spelling of case and punctuation.
        held_out_words: Questions with so many words in a row in common with one of them are refused too.
        verifier: Grades the teacher's solutions; `MathVerifier` by default.
        seed: Seed of the deterministic choice of rows.

    Returns:
        The rows, each ``{"prompt", "completion", "kind", "problem_id", "trace_id", "split"}``, and the
        manifest.

    Raises:
        ValueError: ``max_tokens`` without ``count_tokens``.
    """
    if max_tokens is not None and count_tokens is None:
        raise ValueError(
            f"`max_tokens={max_tokens}` needs `count_tokens`. Pass a function that counts tokens."
        )
    ledger, candidates = Ledger(), Candidates(seed, test_share)
    refused = HeldOut(held_out, held_out_words)
    source = SolutionReader(
        prompts=prompts, style=style, reviews=reviews, own_solutions=own_solutions,
        trusted=trusted_authors, refused=refused, verifier=verifier,
    )  # fmt: skip
    spool(traces, source, candidates, ledger)
    numbers = _balance(_distinct(candidates, ledger), review_share, no_error_share, ledger)
    ledger.drop("max_rows", len(numbers) - len(numbers[:max_rows]))
    rows, tokens = _within(candidates.rows(numbers[:max_rows]), max_tokens, count_tokens, ledger)
    options = {
        "style": style, "reviews": source.reviews,
        "review_share": review_share, "no_error_share": no_error_share,
        "own_solutions": own_solutions, "test_share": test_share,
        "max_rows": max_rows, "max_tokens": max_tokens,
        "trusted_authors": sorted(trusted_authors), "held_out": len(refused),
        "held_out_words": held_out_words, "seed": seed,
    }  # fmt: skip
    return rows, ledger.close("sft", rows, prompts=prompts, tokens=tokens, options=options)


def plain_solution(solution: Solution) -> str:
    """A solution's steps as plain text: no template, no Key, the boxed answer last."""
    answer = solution.answer or ""
    boxed = answer if "\\boxed" in answer else f"\\boxed{{{answer}}}"
    return "\n".join([*(step.text for step in solution.steps), f"Answer: {boxed}"])


class SolutionReader(DraftReader):
    """Reads candidate rows off one trace at a time; see `build_sft_dataset`."""

    kind = "sft"

    def __init__(
        self,
        *,
        prompts: PromptSet = DEFAULT_PROMPTS,
        style: Style = "hierarchical",
        reviews: bool = True,
        own_solutions: bool = False,
        trusted: Collection[str] = TRUSTED_AUTHORS,
        refused: HeldOut | None = None,
        verifier: Verifier | None = None,
    ) -> None:
        super().__init__(prompts, refused, verifier)
        self.style, self.reviews = style, reviews and style != "plain"
        self.own_solutions, self.trusted = own_solutions, trusted

    def settings(self) -> dict[str, Any]:
        return {
            **super().settings(), "style": self.style, "reviews": self.reviews,
            "own_solutions": self.own_solutions, "trusted": sorted(self.trusted),
        }  # fmt: skip

    def drafts(self, trace: Trace, ledger: Ledger) -> Iterator[Draft]:
        for row, no_error in self.rows(trace, ledger):
            facts = {"kind": row["kind"], "no_error": no_error, "text": _text_key(row)}
            yield draft_of(row, facts, question=trace.problem.question)

    def rows(self, trace: Trace, ledger: Ledger) -> Iterator[tuple[Row, bool]]:
        """The rows of one trace, each with whether it says that nothing is wrong."""
        for row, no_error in self._rows(trace, ledger):
            if speaks_of_reference(trace.problem, row["completion"][0]["content"]):
                ledger.drop("leak")
            else:
                yield row, no_error

    def _rows(self, trace: Trace, ledger: Ledger) -> Iterator[tuple[Row, bool]]:
        failed = failed_checks(trace.template_inspections)
        if failed:
            ledger.drop(f"template inspection: {failed[0]}")
        elif trace.template is not None:
            yield from self._solve_row(trace, trace.template, ledger)
        if self.own_solutions and trace.solution and trace.verdict and trace.verdict.correct:
            yield from self._solve_row(trace, trace.solution, ledger)
        if self.reviews:
            ledger.drop_if(not_criticised(trace))
            for reviewed in reviewed_attempts(trace):
                yield from self._review_row(trace, reviewed, ledger)

    def _solve_row(self, trace: Trace, solution: Solution, ledger: Ledger) -> Iterator[tuple[Row, bool]]:
        text = solution.raw if is_strict(solution.raw) else format_solution(solution)
        if "<step" not in solution.raw.lower() or not is_strict(
            text
        ):  # prose with numbers reads as steps too
            ledger.drop("unreadable")
            return
        verdict = self.verifier.verify(answer=solution.answer, target=trace.problem.answer)
        if not verdict.correct:
            ledger.drop("unscored" if verdict.status == "unscored" else "wrong answer")
            return
        question = trace.problem.question
        if self.style == "plain":
            prompt = [{"role": "user", "content": render_prompt(self.prompts.plain, problem=question)}]
            text = plain_solution(solution)
        else:
            prompt = turns(student_messages(self.prompts, question))
        yield _row(trace, "solve", prompt, text), False

    def _review_row(self, trace: Trace, reviewed: Reviewed, ledger: Ledger) -> Iterator[tuple[Row, bool]]:
        attempt, critique = reviewed.attempt, reviewed.round.critique
        fault = critique_fault(trace.problem, reviewed, self.trusted)
        if fault:
            ledger.drop(fault)
            return
        prompt = turns(review_messages(self.prompts, trace.problem.question, attempt.raw))
        text = correction_trace(attempt, critique)
        yield _row(trace, "review", prompt, text), not critique.found_error


def correction_trace(attempt: Solution, critique: Critique) -> str:
    """The correction trace of an attempt: the teacher's words where it wrote one, else the canonical form."""
    if critique.found_error:
        return "".join(critique_prefix(attempt, critique))
    own = parse_critique(critique.raw)
    is_trace = (
        own.readable and not own.found_error and "<Step" in critique.raw and "<Evaluate" in critique.raw
    )
    return critique.raw.strip() if is_trace else format_critique(attempt, critique)


def _row(trace: Trace, kind: str, prompt: list[dict[str, str]], text: str) -> Row:
    completion = [{"role": "assistant", "content": text}]
    ids = {"problem_id": trace.problem.id, "trace_id": trace.id}
    return {"prompt": prompt, "completion": completion, "kind": kind, **ids}


def _text(row: Row) -> str:
    return "\n".join(message["content"] for message in [*row["prompt"], *row["completion"]])


def _text_key(row: Row) -> str:
    return hashlib.sha256(fold(_text(row)).encode("utf-8", "replace")).hexdigest()


class Choice(NamedTuple):
    """The number of a candidate, and what its choice depends on."""

    number: int
    split: str
    kind: str
    no_error: bool


def _distinct(candidates: Candidates, ledger: Ledger) -> list[Choice]:
    """The candidates in order, each text once."""
    ledger.drop("question in train", candidates.forget_leaks())
    texts: set[bytes] = set()
    chosen: list[Choice] = []
    for number in candidates.ordered():
        facts = candidates.facts(number)
        text = bytes.fromhex(facts["text"])
        if text in texts:
            ledger.drop("duplicate")
        else:
            texts.add(text)
            kind = "review" if facts["kind"] == "review" else "solve"  # one string for a million rows
            chosen.append(Choice(number, candidates.split(number), kind, facts["no_error"]))
    return chosen


def _balance(
    chosen: list[Choice], review_share: float | None, no_error_share: float, ledger: Ledger
) -> list[int]:
    """Drops "no error" reviews, then reviews, above their share of what stays of their split.

    The order decides which.
    """
    kept: set[int] = set()
    for split in ("train", "test"):
        part = [one for one in chosen if one.split == split]
        found = sum(one.kind == "review" and not one.no_error for one in part)
        part = _cap(part, lambda one: one.no_error, _most(found, no_error_share), ledger)
        if review_share is not None:
            solves = sum(one.kind == "solve" for one in part)
            part = _cap(part, lambda one: one.kind == "review", _most(solves, review_share), ledger)
        kept.update(one.number for one in part)
    return [one.number for one in chosen if one.number in kept]


def _most(others: int, share: float) -> int:
    """How many rows may stand beside the others so that they are at most this share of all."""
    return int(others * share / (1 - share) + 1e-9)  # an even share may come out a hair below


def _cap(chosen: list[Choice], belongs: Callable[[Choice], bool], most: int, ledger: Ledger) -> list[Choice]:
    kept: list[Choice] = []
    count = 0
    for one in chosen:
        count += belongs(one)
        if belongs(one) and count > most:
            ledger.drop("above its share")
        else:
            kept.append(one)
    return kept


def _within(
    rows: Rows, max_tokens: int | None, count_tokens: Callable[[str], int] | None, ledger: Ledger
) -> tuple[Rows, int]:
    """The rows up to the first that would pass the budget, and the tokens of those of the split ``train``."""
    if count_tokens is None:
        return rows, 0
    total = trained = 0
    for place, row in enumerate(rows):
        tokens = count_tokens(_text(row))
        if max_tokens is not None and total + tokens > max_tokens:
            ledger.drop("max_tokens", len(rows) - place)
            return rows.take(range(place)), trained
        total += tokens
        trained += tokens if row["split"] == "train" else 0
    return rows, trained
