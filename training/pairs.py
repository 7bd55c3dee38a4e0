"""Traces to stage-2 pairs (eq. 7): at the first wrong step, the teacher's words over the student's own.

Every row shares one prefix between its sides, so that eq. 8 can be evaluated:

=========== ================================= =========================== ==============================
kind        prompt and prefix                 chosen                      rejected
=========== ================================= =========================== ==============================
correction  review prompt, trace up to step k teacher's cause, correction student's, with a wrong value
missed      the same                          the same                    student's verdict "right"
false alarm review prompt, trace up to step j verdict "right"             student's invented error
solve       solve prompt, s_1 ... s_{k-1}     the corrected step k        student's wrong step k
whole       solve prompt, nothing             a verified whole solution   the student's wrong attempt
=========== ================================= =========================== ==============================
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from supercorrect_agent.inspector import speaks_of_reference
from supercorrect_agent.problems import HeldOut
from supercorrect_agent.prompts import DEFAULT_PROMPTS, PromptSet
from supercorrect_agent.types import Problem, Solution, Trace
from supercorrect_agent.verification import Verifier
from training.config import ChosenSource, PairFormat, PairScope
from training.critiques import TRUSTED_AUTHORS, completes_answer, not_criticised, reviewed_attempts
from training.drafts import DraftReader, TraceSource, spool
from training.duplicates import Errors
from training.manifest import Ledger, Manifest, Row
from training.pair_kinds import Outcome, Pair, PairReader, until_difference
from training.rows import Candidates, Draft, Rows, draft_of

_FALSE_ALARM = "false alarm"
_BARE_VERDICTS = ("missed", _FALSE_ALARM)  # one side is short by nature


def build_preference_dataset(
    traces: Iterable[Trace] | TraceSource,
    *,
    prompts: PromptSet = DEFAULT_PROMPTS,
    pair_format: PairFormat = "inline",
    chosen_source: ChosenSource = "teacher",
    pair_scope: PairScope = "unit",
    solve_pairs: bool = False,
    max_length_ratio: float = 4.0,
    near_duplicate: float = 0.9,
    max_per_problem: int | None = None,
    test_share: float = 0.0,
    max_rows: int | None = None,
    trusted_authors: Collection[str] = TRUSTED_AUTHORS,
    held_out: Iterable[str] = (),
    held_out_words: int | None = None,
    verifier: Verifier | None = None,
    seed: int = 0,
) -> tuple[Rows, Manifest]:
    """Builds preference rows for cross-model DPO (paper section 4.2).

    The traces are read once; candidate rows wait in a temporary file, so memory does not grow with them.

    Args:
        traces: What the collecting graph recorded; only problems of split ``train`` give rows.
        prompts: The prompts the student is used with; the ungrounded ones, never those with a reference (B3).
        pair_format: ``inline`` shows the whole wrong solution in the prompt and the re-written steps up to
            the wrong one in the prefix; ``literal_eq8`` shows s_1 ... s_{k-1} only (decision B2).
            ``whole_answer`` is the control without a shared prefix, and without any other kind of pair.
        chosen_source: Whose correction the chosen side holds; the student's own must have reached the answer
            (decision B8). False alarms, solve pairs and whole answers have the teacher's in any case.
        pair_scope: ``difference`` ends both sides at the first word in which they differ, so that what
            follows from the student's error is not rejected with it; ``unit`` keeps them whole (eq. 8).
        solve_pairs: Whether to add step pairs under the solve prompt, which protect and train the single
            pass.
        max_length_ratio: The longer side may have at most this many times the characters of the shorter
            (not asked of pairs in which one side is only a verdict).
        near_duplicate: Similarity of words from which on two wrong steps of one problem with equal numbers
            are one error; at 1 only equal texts are.
        max_per_problem: At most so many distinct errors of a problem give pairs (decision B24).
        test_share: Share of the problems whose rows go to the split ``test``.
        max_rows: Upper bound on rows, of both splits together.
        trusted_authors: Teachers whose corrections are right by construction.
        held_out: Questions of evaluation sets, refused in any spelling of case and punctuation.
        held_out_words: Questions with so many words in a row in common with one of them are refused too.
        verifier: Grades templates and the answers that reviews state; `MathVerifier` by default.
        seed: Seed of the rows' order, and so of the choice wherever a limit cuts.

    Returns:
        The rows, each ``{"prompt", "chosen", "rejected", "prefix", "ends", "kind", "problem_id", "step",
        "trace_id", "split"}``, and the manifest. The sides are messages that begin with ``prefix``; ``ends``
        says whether the chosen side completes the answer.
    """
    ledger, candidates = Ledger(), Candidates(seed, test_share)
    refused = HeldOut(held_out, held_out_words)
    reader = PreferenceReader(
        prompts=prompts, pair_format=pair_format, chosen_source=chosen_source, pair_scope=pair_scope,
        solve_pairs=solve_pairs, max_length_ratio=max_length_ratio, trusted=trusted_authors,
        refused=refused, verifier=verifier,
    )  # fmt: skip
    spool(traces, reader, candidates, ledger)
    kept = _distinct(candidates, near_duplicate, max_per_problem, ledger)
    ledger.drop("max_rows", len(kept) - len(kept[:max_rows]))
    rows = candidates.rows(kept[:max_rows])
    options: dict[str, Any] = {
        "pair_format": pair_format, "chosen_source": chosen_source, "pair_scope": pair_scope,
        "solve_pairs": solve_pairs,
        "max_length_ratio": max_length_ratio, "near_duplicate": near_duplicate,
        "max_per_problem": max_per_problem, "test_share": test_share, "max_rows": max_rows,
        "trusted_authors": sorted(trusted_authors), "held_out": len(refused),
        "held_out_words": held_out_words, "seed": seed,
    }  # fmt: skip
    return rows, ledger.close("preference", rows, prompts=prompts, tokens=0, options=options)


class PreferenceReader(DraftReader):
    """Reads candidate pairs off one trace at a time; see `build_preference_dataset`."""

    kind = "preference"

    def __init__(
        self,
        *,
        prompts: PromptSet = DEFAULT_PROMPTS,
        pair_format: PairFormat = "inline",
        chosen_source: ChosenSource = "teacher",
        pair_scope: PairScope = "unit",
        solve_pairs: bool = False,
        max_length_ratio: float = 4.0,
        trusted: Collection[str] = TRUSTED_AUTHORS,
        refused: HeldOut | None = None,
        verifier: Verifier | None = None,
    ) -> None:
        super().__init__(prompts, refused, verifier)
        self._options = {
            "pair_format": pair_format, "chosen_source": chosen_source, "pair_scope": pair_scope,
            "solve_pairs": solve_pairs, "max_length_ratio": max_length_ratio, "trusted": sorted(trusted),
        }  # fmt: skip
        self._scope, self._most = pair_scope, max_length_ratio
        self._reader = PairReader(prompts, pair_format, chosen_source, solve_pairs, trusted, self.verifier)

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), **self._options}

    def drafts(self, trace: Trace, ledger: Ledger) -> Iterator[Draft]:
        ledger.drop_if(not_criticised(trace))
        for reviewed in reviewed_attempts(trace):
            for pair in self._reader.pairs(trace, reviewed):
                found = self._scoped(trace.problem, pair)
                if isinstance(found, str):
                    ledger.drop(found)
                else:
                    yield self._draft(trace, reviewed.attempt, found)

    def _scoped(self, problem: Problem, pair: Outcome) -> Outcome:
        if isinstance(pair, str):
            return pair
        scoped = until_difference(pair) if self._scope == "difference" else pair
        return _fault(problem, pair, self._most) or scoped or "no different word"

    def _draft(self, trace: Trace, attempt: Solution, pair: Pair) -> Draft:
        ids = {"problem_id": trace.problem.id, "step": pair.step, "trace_id": trace.id}
        row: Row = {
            "prompt": pair.prompt,
            "chosen": _message(pair.prefix + pair.chosen), "rejected": _message(pair.prefix + pair.rejected),
            "prefix": pair.prefix, "ends": completes_answer(pair.chosen), "kind": pair.kind, **ids,
        }  # fmt: skip
        judged = attempt.steps[pair.step - 1] if pair.step <= len(attempt.steps) else None
        text = f"{judged.text} {judged.key or ''}" if judged else pair.rejected
        facts = {"kind": pair.kind, "step": pair.step, "text": text}
        return draft_of(row, facts, question=trace.problem.question)


def _fault(problem: Problem, pair: Pair, max_length_ratio: float) -> str | None:
    """Why a pair is not worth training on, whoever wrote its sides (decision B5)."""
    if not pair.chosen.strip() or not pair.rejected.strip():
        return "empty side"
    if " ".join(pair.chosen.split()) == " ".join(pair.rejected.split()):
        return "texts equal"
    if speaks_of_reference(problem, pair.chosen) or speaks_of_reference(problem, pair.rejected):
        return "leak"
    short, long = sorted((len(pair.chosen), len(pair.rejected)))
    return "length ratio" if pair.kind not in _BARE_VERDICTS and long > short * max_length_ratio else None


def _message(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _distinct(
    candidates: Candidates, near_duplicate: float, max_per_problem: int | None, ledger: Ledger
) -> list[int]:
    """The candidates that stay, in order: the same wrong step teaches once, however often it was sampled."""
    ledger.drop("question in train", candidates.forget_leaks())
    kept: set[int] = set()
    for numbers in candidates.by_problem():
        errors = Errors(near_duplicate, max_per_problem)
        for number in numbers:
            facts = candidates.facts(number)
            kind, step, text = facts["kind"], facts["step"], facts["text"]
            fault = errors.fault(kind, step, text, is_error=kind != _FALSE_ALARM)
            if fault:
                ledger.drop(fault)
            else:
                kept.add(number)
    return [number for number in candidates.ordered() if number in kept]
