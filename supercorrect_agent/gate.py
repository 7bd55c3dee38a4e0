"""When a run of the solving graph ends, and how: pure decisions over its state.

Each returns the ending, or {} where the run goes on. The solution that is returned is chosen elsewhere, by
what speaks for it (``outcome.choose``): an ending only names why there is no further call.
"""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.language_models import BaseChatModel

from supercorrect_agent.limits import OutOfTime
from supercorrect_agent.progress import corrections, current_verdict, ended, failure_text, last_step
from supercorrect_agent.state import CorrectionConfig, SolveState
from supercorrect_agent.types import Critique, Inspection, Solution, Verdict

# How the reason of a run begins that ends as accepted though nobody looked at its answer.
UNCHECKED = "max_rounds=0: nobody checked the answer"
# Node runs from a decision to go on to the record: a correction and its verdict, or a critique and its
# inspection. A person between critic and student takes one more.
STEPS_AHEAD = 3

Ending = dict[str, str]
Answers = Sequence[str | None]


def after_verdict(
    state: SolveState, verdict: Verdict, answers: Answers, settings: CorrectionConfig
) -> Ending:
    """Whether the run ends with the newest solution; {} where a critic is to look at it.

    Args:
        state: The state, in which the newest solution's verdict is.
        verdict: That verdict.
        answers: The answers of the last three solutions, in order; none where there are fewer.
        settings: The bounds of the run.
    """
    done = corrections(state)
    if verdict.correct:
        return ended("corrected" if done else "accepted", "the verifier accepted the answer")
    if not done and verdict.status == "unscored" and _agreed(state, settings):
        least = f"accept_agreement={settings.accept_agreement}"
        return ended(
            "accepted", f"{state['agreement']:.0%} of the samples agree ({least}); no critic was asked"
        )
    if settings.max_rounds == 0:
        if verdict.status == "unreadable":
            return ended("parse_error", verdict.reason)
        if verdict.status == "unscored":
            return ended("accepted", UNCHECKED)
        return ended("budget", "max_rounds=0: no critic was asked")
    if goes_round(answers):
        return ended("stalled", f"the answers go round: {answers[-3]}, {answers[-2]}, {answers[-1]}")
    if done >= settings.max_rounds:
        return ended(
            "budget", f"max_rounds={settings.max_rounds} corrections were made; no critic looked at the last"
        )
    return overspent(state, settings)


def _agreed(state: SolveState, settings: CorrectionConfig) -> bool:
    agreement = state.get("agreement")
    return (
        agreement is not None
        and settings.accept_agreement is not None
        and agreement >= settings.accept_agreement
    )


def goes_round(answers: Answers) -> bool:
    """Whether the newest revision came back to the answer before the last (386, 396, 386)."""
    if len(answers) < 3 or answers[-1] is None:
        return False
    return answers[-3] == answers[-1] != answers[-2]


def overspent(state: SolveState, settings: CorrectionConfig) -> Ending:
    """Whether the tokens or seconds of the run are used up, or the node runs of a graph around this one."""
    tokens, seconds = spent(state)
    if settings.max_total_tokens is not None and tokens >= settings.max_total_tokens:
        return ended("budget", f"{tokens} tokens used of max_total_tokens={settings.max_total_tokens}")
    if settings.max_seconds is not None and seconds >= settings.max_seconds:
        return ended("budget", f"{seconds:.1f} s used of max_seconds={settings.max_seconds:g}")
    left = state.get("remaining_steps")
    if left is not None and left - 1 < STEPS_AHEAD + settings.human_review:  # LangGraph needs one to end
        return ended("budget", "recursion_limit leaves too few node runs to go on; run with a higher one")
    return {}


def spent(state: SolveState) -> tuple[int, float]:
    """Tokens (in and out) of all calls so far, and the seconds during which at least one was under way."""
    calls = state["calls"]
    tokens = sum(call.get("input_tokens", 0) + call.get("output_tokens", 0) for call in calls)
    return tokens, sum(call.get("seconds", 0.0) for call in calls) - state.get("overlap", 0.0)


def after_review(
    state: SolveState, solution: Solution, found: Critique, settings: CorrectionConfig
) -> Ending:
    """How the student's own review ends the run; {} where the teacher is to be asked."""
    doubted = found.found_error or not found.readable or solution.answer is None
    if doubted or current_verdict(state).status == "incorrect":
        return overspent(state, settings)
    reason = "the student's own review finds no error, and the teacher was not asked"
    return ended("corrected" if corrections(state) else "accepted", reason)


def after_critique(
    state: SolveState, solution: Solution, found: Critique, answers: Answers, settings: CorrectionConfig
) -> Ending:
    """How a critique ends the run; {} where there is something to correct.

    Args:
        state: The state before the critique's round is closed.
        solution: The solution that is criticised.
        found: The critique.
        answers: The answers of the last two solutions, in order; none where there is only one.
        settings: The bounds of the run.
    """
    if not found.readable:
        return ended("parse_error", f"the critique by '{found.author}' could not be read")
    readable, steps = solution.answer is not None, len(solution.steps)
    if found.step is None:
        return _no_error_found(state) if readable else overspent(state, settings)
    if steps and found.step > steps:
        return ended("parse_error", f"the critique names step {found.step} of a solution with {steps} steps")
    if readable and found.confidence is not None and found.confidence < settings.min_confidence:
        doubt = f"step {found.step} is doubted with a confidence of {found.confidence:g}"
        return ended("unchanged", f"{doubt}, below min_confidence={settings.min_confidence:g}")
    if answers and answers[-2] == answers[-1] is not None and found.step == last_step(state):
        return ended("stalled", f"step {found.step} was corrected and the answer is still {answers[-1]}")
    return overspent(state, settings)


def _no_error_found(state: SolveState) -> Ending:
    done = corrections(state)
    if current_verdict(state).status == "incorrect":  # only a user's verifier says so
        return ended(
            "stalled" if done else "unchanged", "the critic finds no error in what the verifier rejects"
        )
    return ended("corrected" if done else "accepted", "the critic finds no error")


def after_failure(who: str, failure: Exception, model: BaseChatModel | None, left: str) -> Ending:
    """How a run ends whose role failed: as ``budget`` where it ran out of the run's seconds.

    Args:
        who: The role.
        failure: What its call raised.
        model: Its model, if it has one.
        left: What the failure leaves undone.
    """
    if isinstance(failure, OutOfTime):
        return ended("budget", f"{failure}; the {who} had not answered", left=left)
    return ended("error", failure_text(who, failure, model), left=left)


def after_inspection(found: Critique, checks: Sequence[Inspection]) -> Ending:
    """How a critique that failed the inspector's checks ends the run: it is not followed."""
    if not found.readable:
        return ended("parse_error", f"the critique by '{found.author}' could not be read")
    failed = [one for one in checks if not one.passed]
    names = ", ".join(one.check for one in failed)
    notes = " ".join(one.note for one in failed if one.note)
    return ended("unchanged", f"the critique was not followed: it failed the inspection ({names}): {notes}")
