"""How the sandbox writes: steps in the hierarchical template, plain steps, and the check of a claim."""

from __future__ import annotations

from collections.abc import Sequence

from supercorrect_agent.sandbox.arithmetic import INVERSE, Work, compare_digits, work
from supercorrect_agent.sandbox.world import Event, Story

_PLAN = {"+": "Add {n} more.", "-": "Take away {n}.", "*": "Multiply by {n}.", "/": "Divide by {n}."}
_VERB = {"+": "add", "-": "take away", "*": "multiply", "/": "divide"}


def write_step(done: Work, *, show_work: bool = True) -> str:
    """The body of a step: what to do, the columns as a Key where they are worth it, the equation."""
    plan = write_plan(done)
    key = "" if done.easy or not show_work else f"<Key>{done.key}</Key> "
    return f"{plan} {key}{done.expression}={done.result}"


def write_plan(done: Work) -> str:
    return _PLAN[done.operator].format(n=done.right)


def write_generalized(events: Sequence[Event]) -> str:
    return f"Follow the story: {', '.join(_VERB[event.operator] for event in events)}."


def write_answer(value: str) -> str:
    return f"<Answer>\\boxed{{{value}}}</Answer>"


def write_steps(bodies: Sequence[str], *, first: int = 1) -> str:
    return "".join(f"<Step{i}>{body}</Step{i}>\n" for i, body in enumerate(bodies, first))


def work_through(story: Story) -> list[Work]:
    """Every operation of a story, worked out in order."""
    values = story.values()
    return [
        work(value, event.operator, event.number) for value, event in zip(values, story.events, strict=False)
    ]


def write_solution(story: Story) -> str:
    """The story's solution in the hierarchical thought template (paper section 4.1)."""
    steps = write_steps([write_step(done) for done in work_through(story)])
    summary = f"<Generalized>{write_generalized(story.events)}</Generalized>\n"
    return steps + summary + write_answer(str(story.answer))


def write_check(need: Work, claimed: str, claim: Work, value: str) -> tuple[str, bool]:
    """Checks the claim ``claim = value`` against what the story needs at this step.

    What the story needs is said in words first: next to the claim, its digits are too easily copied. The
    arithmetic is checked by the inverse operation, so that the slip that made a claim is not
    simply made again.

    Args:
        need: The operation the story asks for here.
        claimed: The expression the solution wrote, such as ``47+58``.
        claim: The same as an operation.
        value: The result the solution wrote.

    Returns:
        The text of the ``<Evaluate>`` element, and whether the claim holds.
    """
    head = f"{write_plan(need)} need {need.expression} have {claimed}"
    if need.expression != claimed:
        return f"{head} differ wrong", False
    back = work(int(value), INVERSE[claim.operator], claim.right)
    line, same = compare_digits(back.result, str(claim.left))
    verdict = "ok" if same else "wrong"
    compared = f" {line}" if line else ""
    return f"{head} same {back.expression}:{back.key} {back.result}{compared} {verdict}", same
