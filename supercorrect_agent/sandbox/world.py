"""The sandbox's world: stories about one changing quantity, with exact truth.

A story starts with a number, then two to four things happen to it, and sometimes a sentence is beside
the point. The same sentence table writes a story and reads it back, so the teacher works from the text alone.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from supercorrect_agent.sandbox.arithmetic import OPERATORS, apply
from supercorrect_agent.types import Problem

Split = Literal["train", "dev", "test", "unseen"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test", "unseen")
LARGEST = 999

NAMES = [
    "Mia",
    "Leo",
    "Ada",
    "Tom",
    "Zoe",
    "Sam",
    "Ivy",
    "Max",
    "Eva",
    "Ben",
    "Lily",
    "Omar",
    "Nina",
    "Hugo",
    "Rosa",
    "Finn",
]
ITEMS = [
    "shells",
    "coins",
    "stamps",
    "cards",
    "beads",
    "stones",
    "books",
    "apples",
    "pens",
    "stickers",
    "marbles",
    "buttons",
]
STARTS = (
    "{name} has {n} {item}.",
    "{name} starts with {n} {item}.",
    "{name} keeps {n} {item} in a box.",
    "There are {n} {item} on the table of {name}.",
)
EVENTS: dict[str, tuple[str, ...]] = {
    "+": (
        "{name} finds {n} more.",
        "{name} buys {n} more.",
        "A friend brings {n} more.",
        "Then {n} are added.",
        "{name} wins {n} in a game.",
    ),
    "-": (
        "{name} loses {n}.",
        "{name} sells {n}.",
        "{name} gives away {n}.",
        "Then {n} of them break.",
        "A friend borrows {n}.",
    ),
    "*": (
        "Then the number becomes {n} times as large.",
        "{name} trades each one for {n} new ones.",
        "Each one is cut into {n} parts.",
    ),
    "/": (
        "{name} shares them equally among {n} people and keeps one share.",
        "They are packed into {n} equal bags and {name} keeps one bag.",
        "Only one of every {n} is kept.",
    ),
}
DISTRACTORS = (
    "{name} is {n} years old.",
    "The bus of {name} has the number {n}.",
    "It is a walk of {n} minutes to the school.",
    "{name} lives on floor {n}.",
)
QUESTIONS = (
    "How many {item} does {name} have now?",
    "How many {item} are there at the end?",
    "What is the final number of {item}?",
)


@dataclass(frozen=True)
class Event:
    """One thing that happens to the quantity: ``operator`` applied with ``number``."""

    operator: str
    number: int


@dataclass(frozen=True)
class Story:
    """What a problem text says: a start and the events in order."""

    start: int
    events: tuple[Event, ...]

    @property
    def shape(self) -> str:
        """The sequence of operations, such as ``+*-``."""
        return "".join(event.operator for event in self.events)

    def values(self) -> list[int]:
        """The quantity at the start and after each event.

        Raises:
            ValueError: An event leads to a fraction or below zero.
        """
        values = [self.start]
        for event in self.events:
            value = apply(values[-1], event.operator, event.number)
            if value is None:
                raise ValueError(f"{values[-1]}{event.operator}{event.number} is not a whole number.")
            values.append(value)
        return values

    @property
    def answer(self) -> int:
        return self.values()[-1]


def _bucket(text: str, buckets: int) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) % buckets


def story_split(story: Story) -> Split:
    """The one split a story belongs to, by hash: its numbers decide, or its shape where that is held out."""
    if len(story.shape) > 2 and _bucket(story.shape, 5) == 0:
        return "unseen"
    numbers = f"{story.start}:{':'.join(f'{e.operator}{e.number}' for e in story.events)}"
    bucket = _bucket(numbers, 20)
    return "test" if bucket == 0 else "dev" if bucket == 1 else "train"


def _draw_event(rng: random.Random, value: int) -> Event | None:
    operator = rng.choice(OPERATORS)
    if operator == "+":
        return Event("+", rng.randint(2, min(LARGEST - value, 499))) if value <= LARGEST - 2 else None
    if operator == "-":
        return Event("-", rng.randint(2, value - 1)) if value > 3 else None
    divides = operator == "/"
    fits = [n for n in range(2, 10) if (value % n == 0 and value > n if divides else value * n <= LARGEST)]
    return Event(operator, rng.choice(fits)) if fits else None


def draw_story(rng: random.Random, *, steps: int | None = None) -> Story:
    """Draws a story of two to four events whose values are whole numbers from 1 to 999."""
    start = value = rng.randint(2, 99) if rng.random() < 0.5 else rng.randint(100, LARGEST)
    events: list[Event] = []
    count = steps or rng.randint(2, 4)
    while len(events) < count:
        event = _draw_event(rng, value)
        if event:
            events.append(event)
            value = apply(value, event.operator, event.number) or 0
    return Story(start, tuple(events))


def tell_story(rng: random.Random, story: Story) -> str:
    """Writes a story as a word problem."""
    name, item = rng.choice(NAMES), rng.choice(ITEMS)

    def fill(template: str, number: int = 0) -> str:
        return template.format(name=name, item=item, n=number)

    sentences = [fill(rng.choice(STARTS), story.start)]
    sentences += [fill(rng.choice(EVENTS[event.operator]), event.number) for event in story.events]
    if rng.random() < 0.15:
        aside = fill(rng.choice(DISTRACTORS), rng.randint(2, 40))
        sentences.insert(rng.randint(1, len(sentences)), aside)
    return " ".join([*sentences, fill(rng.choice(QUESTIONS))])


def stories(split: Split, *, seed: int) -> Iterator[tuple[Story, str]]:
    """Yields the stories of one split with their texts, without end and without repeating a text."""
    if split not in SPLITS:
        raise ValueError(f"`split={split!r}` is not a split of the sandbox. Use one of {', '.join(SPLITS)}.")
    rng, seen = random.Random(f"{split}:{seed}"), set[str]()
    while True:
        story = draw_story(rng)
        if story_split(story) != split:
            continue
        text = tell_story(rng, story)
        if text not in seen:
            seen.add(text)
            yield story, text


def generate_problems(split: Split, n: int, *, seed: int = 0) -> list[Problem]:
    """Generates ``n`` problems of one split; no two share a story, ``unseen`` shares no shape with the rest.

    Raises:
        ValueError: The split is unknown or ``n`` is negative.
    """
    if n < 0:
        raise ValueError(f"`n={n}` is negative. Pass how many problems to generate, 0 or more.")
    source = stories(split, seed=seed)
    return [
        Problem.create(text, answer=str(story.answer), source="sandbox", split=split)
        for story, text in (next(source) for _ in range(n))
    ]


_KINDS = [("start", STARTS), *EVENTS.items(), ("aside", DISTRACTORS), ("question", QUESTIONS)]


def _pattern(template: str) -> re.Pattern[str]:
    slots = {"name": r"[A-Z][a-z]+", "item": r"[a-z]+", "n": r"(?P<n>\d{1,6})"}
    return re.compile(re.sub(r"\\\{(\w+)\\\}", lambda slot: slots[slot[1]], re.escape(template)))


_READERS = [(kind, _pattern(template)) for kind, templates in _KINDS for template in templates]


def read_story(text: str) -> Story:
    """Reads a word problem of this world back into its story.

    Raises:
        ValueError: A sentence is not of this world, or the story has no start or no event.
    """
    start: int | None = None
    events: list[Event] = []
    for sentence in re.split(r"(?<=[.?])\s+", text.strip()):
        match = next(((k, m) for k, p in _READERS if (m := p.fullmatch(sentence))), None)
        if match is None:
            raise ValueError(f"the sandbox cannot read the sentence {sentence[:80]!r}")
        kind, found = match
        if kind == "start":
            start = int(found["n"])
        elif kind in OPERATORS:
            events.append(Event(kind, int(found["n"])))
    if start is None or not events:
        raise ValueError("the text holds no start or nothing that happens")
    return Story(start, tuple(events))
