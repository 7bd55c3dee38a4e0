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


def misread_events(rng: random.Random, story: Story) -> list[Event]:
    """The events as a careless reader takes them: one is left out or done twice, or has another's number."""
    events = list(story.events)
    place = rng.randrange(len(events))
    kind = rng.choice(("left out", "twice", "another's number", "another's number"))
    if kind == "left out" and len(events) > 2:
        del events[place]
    elif kind == "twice" and len(events) < 4:
        events.insert(place, events[place])
    else:
        other = rng.choice([event for event in events if event is not events[place]])
        fits = events[place].operator in "+-" or other.number < 10
        events[place] = Event(events[place].operator, other.number) if fits else other
    return events


def flawed_works(
    rng: random.Random, story: Story, slip_rate: float, *, misreading: float = 0.0
) -> list[Work]:
    """Works a story through with about ``slip_rate`` slips a step, and a misread story now and then."""
    value, done = story.start, list[Work]()
    for event in misread_events(rng, story) if rng.random() < misreading else story.events:
        done.append(flawed_work(rng, value, event, slip_rate))
        value = int(done[-1].result)
    return done


def flawed_solution(
    rng: random.Random, story: Story, slip_rate: float, *, misreading: float = 0.0, show_work: bool = True
) -> str:
    """The story's solution in the hierarchical template, with the slips of `flawed_works`."""
    done = flawed_works(rng, story, slip_rate, misreading=misreading)
    answer = int(done[-1].result)
    if rng.random() < slip_rate / 12:
        answer = misread(rng, answer)
    steps = write_steps([write_step(each, show_work=show_work) for each in done])
    summary = f"<Generalized>{write_generalized(story.events)}</Generalized>\n"
    return steps + summary + write_answer(str(answer))
