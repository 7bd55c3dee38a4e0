"""What the student's free reviews are worth: they name their step themselves, and are only measured (B4)."""

from __future__ import annotations

from supercorrect_agent.inspector import REACHES_ANSWER, failed_checks
from supercorrect_agent.types import Trace
from training.critiques import reviewed_attempts
from training.metrics import Review, review_quality


class FreeReviews:
    """How well the free reviews on collected traces find what is wrong, by the teacher's steps.

    An unreadable review finds nothing. Attempts that nobody could score, and critiques that failed a check of
    the inspector, are no measure; nor are traces without a free review.
    """

    def __init__(self) -> None:
        self._correct: list[bool] = []
        self._named: list[int | None] = []
        self._wrong: list[int | None] = []

    def __len__(self) -> int:
        return len(self._correct)

    def add(self, trace: Trace) -> None:
        """Counts the free reviews of one trace."""
        for attempt in reviewed_attempts(trace):
            review, verdict = attempt.round.free_review, attempt.verdict
            failed = [check for check in failed_checks(attempt.round.inspections) if check != REACHES_ANSWER]
            if review is None or verdict is None or verdict.status == "unscored" or failed:
                continue
            self._correct.append(verdict.correct)
            self._named.append(review.step if review.readable else None)
            self._wrong.append(attempt.round.critique.step)

    def quality(self) -> Review:
        """The shares ``flagged`` (of wrong attempts, an error was found), ``located`` (of those whose first
        wrong step is known, just that step was named) and ``false_alarms`` (of right attempts).
        """
        return review_quality(self._correct, self._named, self._wrong)
