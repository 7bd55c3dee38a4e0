"""What the commands print: styled in a terminal, the same words as plain lines anywhere else.

Model text is never read as markup, and its control characters never reach the terminal.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from supercorrect_agent.types import Critique, Solution, Step

LABEL: Final = "bold cyan"
WRONG: Final = "bold red"
RIGHT: Final = "bold green"
KEY: Final = "yellow"
INDENT: Final = "  "
PIPE_WIDTH: Final = 240  # columns of a table

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_TAG = re.compile(r"<\s{0,2}(/?)\s{0,2}(step|key|generalized|answer)\s{0,2}(\d{0,3})\s{0,2}>", re.IGNORECASE)
_LONGEST_TAG: Final = 26


def make_console() -> Console:
    """Standard output; long lines are left to the terminal, and to the reader of a pipe, to wrap."""
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    return console


def clean(text: str) -> str:
    """The text without control characters other than line feed and tab."""
    return _CONTROL.sub("", text)


def without_tags(text: str) -> str:
    """The text as a reader wants it: keys in brackets, other tags of the template left out."""
    return _TAG.sub(lambda tag: ("]" if tag[1] else "[") if tag[2].lower() == "key" else "", text)


def print_field(console: Console, name: str, text: str, style: str = LABEL) -> None:
    """Prints ``name  text``; later lines of the text are indented below it."""
    body = clean(text).strip().replace("\n", f"\n{INDENT * 2}")
    console.print(Text.assemble(INDENT, (name, style), INDENT, body))


def print_step(console: Console, step: Step, *, wrong: bool = False) -> None:
    """Prints a step, its key in brackets; a wrong one carries a cross."""
    key = f" [{step.key}]" if step.key else ""
    name = f"✗ Step {step.index}" if wrong else f"Step {step.index}"
    print_field(console, name, step.text + key, WRONG if wrong else LABEL)


def print_solution(console: Console, solution: Solution, wrong: int | None = None) -> None:
    """Prints a solution with its wrong step marked; text without readable steps is printed as it is."""
    if not solution.steps:
        print_field(console, "Text", solution.raw)
    for step in solution.steps:
        print_step(console, step, wrong=step.index == wrong)
    if solution.generalized:
        print_field(console, "Generalized", solution.generalized)
    print_field(console, "Answer", solution.answer or "none could be read")


def print_critique(console: Console, critique: Critique, solution: Solution | None = None) -> None:
    """Prints what a critic found; with ``solution``, the wrong step's text too."""
    console.print(Text(clean(critique.author) or "critic", style="bold"))
    if not critique.readable:
        print_field(console, "✗", "the critique could not be read", WRONG)
    elif critique.step is None:
        print_field(console, "✓", "no error found", RIGHT)
    else:
        steps = solution.steps if solution else ()
        if critique.step <= len(steps):
            print_step(console, steps[critique.step - 1], wrong=True)
        else:
            print_field(console, "✗", f"step {critique.step} is wrong", WRONG)
        print_field(console, "Cause", without_tags(critique.cause), WRONG)
        print_field(console, "Correction", without_tags(critique.correction), RIGHT)


class SolutionWriter:
    """Writes a solution while its pieces arrive: tags become labels, keys stand in brackets."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._held = ""  # may be the beginning of a tag
        self._style = ""
        self._line_start = True
        self._after_label = False

    def write(self, piece: str) -> None:
        """Writes as much of the text so far as can no longer turn out to be a tag."""
        text = self._held + clean(piece)
        since = 0
        for tag in _TAG.finditer(text):
            self._put(text[since : tag.start()])
            self._mark(closing=bool(tag[1]), kind=tag[2].lower(), number=tag[3])
            since = tag.end()
        hold = text.rfind("<", max(since, len(text) - _LONGEST_TAG))
        hold = len(text) if hold < 0 else hold
        self._put(text[since:hold])
        self._held = text[hold:]

    def close(self) -> None:
        """Writes what is left and ends the line."""
        self._put(self._held)
        self._held = ""
        self._end_line()

    def _mark(self, *, closing: bool, kind: str, number: str) -> None:
        if kind == "key":
            self._style = "" if closing else KEY
            self._put("]" if closing else "[", KEY)
            return
        self._end_line()
        if not closing:
            self._console.print(
                Text.assemble(INDENT, (f"{kind.title()} {number}".strip(), LABEL), INDENT), end=""
            )
            self._line_start, self._after_label = False, True

    def _put(self, text: str, style: str | None = None) -> None:
        for line in text.splitlines(keepends=True):
            if self._after_label or self._line_start:
                line = line.lstrip()
                if not line:
                    continue
            indent = INDENT if self._line_start else ""
            self._console.print(Text(indent + line, style=self._style if style is None else style), end="")
            self._line_start, self._after_label = line.endswith("\n"), False

    def _end_line(self) -> None:
        if not self._line_start:
            self._console.print()
        self._style, self._line_start, self._after_label = "", True, False
