"""Solutions with slips, for pre-training and tests: what an unpractised student might write.

A slip is followed through: later steps go on from the wrong value, as a student's would.
"""

from __future__ import annotations

import random
from dataclasses import replace

from supercorrect_agent.sandbox.arithmetic import OPERATORS, Work, work
from supercorrect_agent.sandbox.world import Event, Story
from supercorrect_agent.sandbox.writing import write_answer, write_generalized, write_step, write_steps


def flawed_work(rng: random.Random, left: int, event: Event, slip_rate: float) -> Work:
    """Works out one event, with probability ``slip_rate`` of a slip: in a column, reading off or copying."""
    operator, number = event.operator, event.number
    slip = None
    kind = (
        rng.choice(("column", "column", "column", "read", "read", "copy", "operator"))
        if rng.random() < slip_rate
        else ""
    )
    if kind == "copy":
        if rng.random() < 0.5 or operator in "*/":
            left = misread(rng, left)
        else:
            number = misread(rng, number)
    elif kind == "operator":
        operator = rng.choice("+-" if number > 9 else OPERATORS)
    elif kind == "column":
        slip = (rng.randrange(len(str(left))), rng.choice((-2, -1, -1, 1, 1, 2)))
    done = work(left, operator, number, slip=slip)
    value = _plain_value(done)
    if kind == "read":
        value = misread(rng, value)
    return replace(done, result=str(value))


def _plain_value(done: Work) -> int:
    """The number a careless student reads off: no remainder, no sign."""
    if done.result == "-":
        return int("".join(column.split("=")[1] for column in reversed(done.columns)))
    return int(done.result.split("r")[0])


def misread(rng: random.Random, value: int) -> int:
    """Changes one digit, swaps two neighbours, or drops one; never returns ``value`` itself."""
    digits = list(str(value))
    kind = rng.random()
    place = rng.randrange(len(digits))
    if kind < 0.2 and len(digits) > 1:
        del digits[place]
    elif kind < 0.4 and len(digits) > 1:
        other = max(1, place)
        digits[other - 1], digits[other] = digits[other], digits[other - 1]
    else:
        digits[place] = str((int(digits[place]) + rng.choice((1, 1, 2, 3, 5, 7, 8, 9, 9))) % 10)
    wrong = int("".join(digits))
    return wrong if wrong != value else value + 1


def _flawed_events(rng: random.Random, story: Story, slip_rate: float) -> list[Event]:
    """The events as a careless reader takes them: now and then one is skipped or one is done twice."""
    events = list(story.events)
    if len(events) > 2 and rng.random() < slip_rate / 8:
        del events[rng.randrange(len(events))]
    elif len(events) < 4 and rng.random() < slip_rate / 12:
        events.append(rng.choice(events))
    return events


def flawed_works(rng: random.Random, story: Story, slip_rate: float) -> list[Work]:
    """Works a story through with about ``slip_rate`` slips a step."""
    value, done = story.start, list[Work]()
    for event in _flawed_events(rng, story, slip_rate):
        done.append(flawed_work(rng, value, event, slip_rate))
        value = int(done[-1].result)
    return done


def flawed_solution(rng: random.Random, story: Story, slip_rate: float, *, show_work: bool = True) -> str:
    """The story's solution in the hierarchical template, with about ``slip_rate`` slips a step."""
    done = flawed_works(rng, story, slip_rate)
    answer = int(done[-1].result)
    if rng.random() < slip_rate / 12:
        answer = misread(rng, answer)
    steps = write_steps([write_step(each, show_work=show_work) for each in done])
    summary = f"<Generalized>{write_generalized(story.events)}</Generalized>\n"
    return steps + summary + write_answer(str(answer))
