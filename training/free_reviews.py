"""What the student's free reviews are worth: they name their step themselves, and are only measured (B4)."""

from __future__ import annotations

from collections.abc import Iterable

from supercorrect_agent.inspector import REACHES_ANSWER, failed_checks
from supercorrect_agent.types import Trace
from training.critiques import reviewed_attempts
from training.metrics import Review, review_quality


def free_review_quality(traces: Iterable[Trace]) -> Review:
    """How well the free reviews on collected traces find what is wrong, by the teacher's steps.

    An unreadable review finds nothing. Attempts that nobody could score, and critiques that failed a check of
    the inspector, are no measure.

    Args:
        traces: Collected with ``free_review``; those without a free review do not count.

    Returns:
        The shares ``flagged`` (of wrong attempts, an error was found), ``located`` (of those whose first
        wrong step is known, just that step was named) and ``false_alarms`` (of right attempts).
    """
    correct: list[bool] = []
    named: list[int | None] = []
    wrong: list[int | None] = []
    for trace in traces:
        for attempt in reviewed_attempts(trace):
            review, verdict = attempt.round.free_review, attempt.verdict
            failed = [check for check in failed_checks(attempt.round.inspections) if check != REACHES_ANSWER]
            if review is None or verdict is None or verdict.status == "unscored" or failed:
                continue
            correct.append(verdict.correct)
            named.append(review.step if review.readable else None)
            wrong.append(attempt.round.critique.step)
    return review_quality(correct, named, wrong)
