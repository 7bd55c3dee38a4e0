"""The tag grammar of the hierarchical template: text to tokens to elements, in linear time.

Models write a dozen dialects of the paper's tags (arXiv 2410.09008, appendices B and C), with maths
full of ``<`` and ``&`` between them, so this is no XML parser: it scans for a closed set of tag names
and forgives the rest. Every repetition in the patterns is bounded or cannot be matched in two ways.
"""

# ruff: noqa: RUF001 - full-width punctuation is what some models write

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple, cast

_NAMES: Final = {
    "step": r"step|步骤",
    "key": r"key",
    "generalized": r"generali[sz](?:ed|ation)",
    "answer": r"(?:final[ _-]?)?answer|答案",
    "evaluate": r"evaluat(?:e|ion)",
    "cause": r"(?:error[ _]?)?cause",
    "correction": r"correction",
}
_BLOCKS: Final = frozenset({"step", "generalized", "answer"})

_NAME = "|".join(f"(?P<{kind}>{name})" for kind, name in _NAMES.items())
_TAG = re.compile(
    r"(?:(?m:^)\#{1,6}[ \t]{0,3})?(?P<mark>\*\*|`)?"  # markdown around the tag belongs to the tag
    r"(?P<escape>\\)?(?:<|&lt;|＜)\s{0,3}(?P<slash>[/\\]?)\s{0,3}"
    rf"(?:{_NAME})(?![a-z])"
    r"(?:(?(step)[ \t_\#:：-]{0,3})(?P<number>\d{1,3})(?!\d))?"
    r"(?:"
    r"[ \t]{0,3}(?:[:：](?P<title>[^<>＜＞\n]{0,80}?))?(?:\\?>|&gt;|＞|(?=\n|\Z|<))"
    r"|[^<>＜＞\n:：]{1,80}?(?:>|&gt;|＞)"  # attributes and other noise
    r")(?(escape)(?<=\\>))(?(mark)(?P=mark))",
    re.IGNORECASE,
)
_PLAIN_TAG = re.compile(
    r"</?(?:Step[1-9]\d{0,2}|Key|Generalized|Answer|Evaluate|Cause|Correction)>", re.ASCII
)
_NOT_PLAIN = re.compile(r"[&＜#`]|\*\*|\\<")  # with one of these a tag may be more, or begin otherwise
_HEADING = re.compile(
    r"^[ \t>]{0,6}(?:[*+-][ \t]{1,3})?(?:\#{1,6}[ \t]{0,3})?(?P<bold>\*\*|__)?[\[【]?"
    r"(?:step[ \t]{0,3}\#?(?P<number>\d{1,3})|步骤[ \t]{0,3}[\d一二三四五六七八九十]{1,3}"
    r"|第[ \t]{0,3}[\d一二三四五六七八九十]{1,3}[ \t]{0,3}步)"
    r"(?=[ \t]{0,3}(?:[:：.、,，)\]】*_–—-]|$))[\]】]?[ \t]{0,3}[:：.、,，)–—-]?"
    r"(?(bold)(?:(?P<title>[^\n]{0,120}?)(?P=bold)[:：]?)?)",
    re.IGNORECASE | re.MULTILINE,
)
_NUMBERED = re.compile(r"^[ \t]{0,6}(?:\*\*)?\(?(?P<number>\d{1,2})[.)、．][ \t]{1,3}(?=\S)", re.MULTILINE)
_LINE = re.compile(r"\S[^\n]*")
_FENCE = re.compile(r"(?:```|~~~)[^`\n]{0,40}\Z")
_LABEL = re.compile(
    r"^[ \t>]{0,6}(?:[*+-][ \t]{1,3})?(?:\#{1,6}[ \t]{0,3})?[*_]{0,3}"
    rf"(?:(?:the[ \t])?(?:{_NAME.replace(_NAMES['step'], '(?!)')})"
    r"[ \t]{0,3}[*_]{0,3}[ \t]{0,3}[:：][ \t]{0,3}[*_]{0,3}"
    r"|(?P<gsm>\#{4}(?=[ \t]{0,3}[-$\d])))",
    re.IGNORECASE | re.MULTILINE,
)
_THOUGHT_END = re.compile(r"</\s{0,3}think(?:ing)?\s{0,3}>", re.IGNORECASE)
_THOUGHT_START = re.compile(r"\s*<\s{0,3}think(?:ing)?\s{0,3}>", re.IGNORECASE)
_BRACE = re.compile(
    r"(?P<box>\\boxed[ \t]{0,3}\{|\\fbox[ \t]{0,3}\{)|\\boxed[ \t]{1,3}(?P<bare>[^\s{}$\\.,;]+)|\\.|[{}]",
    re.S,
)
_MARKS_LIMIT = 9  # headings, numbers and labels in front of one line
_BOX = re.compile(r"\\(?=boxed|fbox)")
_OPENING = re.compile(r"<|&lt;|＜")
_MATHS_MARK = re.compile(r"\\[()\[\]]|\$")
_STATED = re.compile(
    r"\banswer(?:[ \t]is|[ \t]{0,2}[:=])[ \t]{0,3}[:=]?[ \t]{0,3}(?!not\b)"
    r"(?P<value>[^\s.;][^\n]{0,80}?)(?=[.,;!?。，；！]?(?:\s*\Z|[ \t]*\n)|[.,;!?。，；！][ \t]"
    r"|[ \t](?:because|since)\b)",
    re.IGNORECASE,
)
_NUMBER = re.compile(
    r"(?:(?<![\w.,^{}])\d{1,9})?\\[dt]?frac\{-?\d{1,9}\}\{\d{1,9}\}"
    r"|(?:(?<![\w)\]}])[-−])?\d+(?:,\d{3})*"
    r"(?:[ \t]\d{1,9}/\d{1,9}(?![\d/])|(?:\.\d+)?(?:/\d+)?)(?:\\?%)?"  # "1 1/2" is one number
)


class Token(NamedTuple):
    """A tag, or a line that stands for one. Offsets are in characters."""

    kind: str
    start: int
    end: int
    closing: bool = False
    number: int | None = None
    title: str = ""
    label: bool = False


@dataclass(slots=True)
class Element:
    """A read element: ``start..end`` with its tags, ``body..body_end`` without.

    ``notes`` are a step's Key, Evaluate, Cause and Correction; one that stands after a step is that
    step's too. ``label`` marks a labelled line in place of a tag, ``wrapped`` a correction that holds
    step tags of its own.
    """

    kind: str
    start: int
    body: int
    number: int | None = None
    title: str = ""
    label: bool = False
    wrapped: bool = False
    body_end: int = 0
    end: int = 0
    closed: bool = False
    notes: list[Element] = field(default_factory=list)

    def of(self, kind: str) -> list[Element]:
        return [note for note in self.notes if note.kind == kind]


def read_tags(text: str, begin: int = 0) -> list[Token]:
    """Every tag of the closed set in ``text``, in order."""
    tags = None if _NOT_PLAIN.search(text, begin) else list(_PLAIN_TAG.finditer(text, begin))
    if tags is not None and len(tags) == text.count("<", begin):  # the strict form, ten times faster
        return [_plain_token(match) for match in tags]
    return [_token(match, closing=bool(match["slash"])) for match in _TAG.finditer(text, begin)]


def _plain_token(match: re.Match[str]) -> Token:
    kind, closing, number = _plain(match[0])
    return Token(kind, match.start(), match.end(), closing, number)


@lru_cache(maxsize=4096)
def _plain(tag: str) -> tuple[str, bool, int | None]:
    """Kind of a strict tag, whether it closes, and its number."""
    match = cast(re.Match[str], _TAG.fullmatch(tag))
    return _token(match).kind, bool(match["slash"]), _token(match).number


def read_elements(text: str, *, critique: bool = False) -> tuple[list[Element], bool]:
    """Reads the elements of a text in any dialect.

    Args:
        text: What a model wrote; a leading ``<think>`` part is skipped.
        critique: The text is a correction trace, not a solution. In a solution without steps, neither
            as tags nor as headings, numbered lines or else lines are its steps; a correction trace may
            have its Cause and Correction as labelled lines between tags.

    Returns:
        The top-level elements in order (notes that stand before any step are among them), and
        whether the text has tags at all.
    """
    begin = answer_start(text)
    tags = read_tags(text, begin)
    tokens = list(tags)
    if not any(tag.kind == "step" for tag in tags):
        stop = next((tag.start for tag in tags if tag.kind in ("generalized", "answer")), len(text))
        prose = not critique and (not tags or tags[0].start >= stop)
        tokens += _step_lines(text, begin, stop, prose=prose)
    tokens += _labels(text, begin, tags, critique=critique)
    return _Assembler(text, _in_order(tokens), begin).run(), bool(tags)


def answer_start(text: str) -> int:
    """Where the reply begins: after ``</think>``, unless nothing follows it."""
    last = _last_match(_THOUGHT_END, text)
    if last and text[last.end() :].strip():
        return last.end()
    opening = _THOUGHT_START.match(text)
    return opening.end() if opening else 0


def is_unfinished_thought(text: str) -> bool:
    """Whether a text begins with a ``<think>`` that is never closed."""
    return _THOUGHT_START.match(text) is not None and _THOUGHT_END.search(text) is None


def last_boxed(text: str) -> str | None:
    r"""The content of the last ``\boxed{...}``; an unclosed one counts up to the end of its line."""
    best_start, best = -1, ""
    stack: list[int] = []  # where a box's content starts, or -1 for a plain brace
    for match in _BRACE.finditer(text):
        start, content = match.start(), match["bare"] or ""
        if match["box"] or match[0] == "{":
            stack.append(match.end() if match["box"] else -1)
        elif match[0] == "}" and stack and (start := stack.pop()) >= 0:
            content = text[start : match.start()].strip() if start > best_start else ""
        if content:
            best_start, best = start, content
    opened = [start for start in stack if start >= 0]
    if not best and opened:
        best = text[opened[-1] :].split("\n", 1)[0].rstrip("$ ")
    return best or None


def without_boxes(text: str) -> str:
    r"""The text with the content of every ``\boxed{...}`` in the box's place."""
    if "box" not in text:
        return text
    pieces, at, boxed = [], 0, []  # for each open brace, whether it is a box's
    for match in _BRACE.finditer(text):
        start, end = match.span()
        if match["bare"]:
            end = match.start("bare")
        elif match["box"] or match[0] == "{":
            boxed.append(bool(match["box"]))
            if not match["box"]:
                continue
        elif match[0] != "}" or not boxed or not boxed.pop():
            continue
        pieces.append(text[at:start])
        at = end
    bare = "".join([*pieces, text[at:]])
    return _BOX.sub("", bare) if last_boxed(bare) else bare  # a box was hidden inside another


def last_number(text: str) -> str | None:
    """The last number as it is written: ``1,234``, ``3/4``, ``1 1/2``, ``-2.5`` or ``12%``."""
    last = _last_match(_NUMBER, text)
    return last[0] if last else None


def stated_answer(text: str) -> str | None:
    """What the last "the answer is ..." of some closing words says, else their last number."""
    stated = [_MATHS_MARK.sub("", match["value"]).strip("*_ ") for match in _STATED.finditer(text)]
    if stated and any(letter.isdigit() for letter in stated[-1]):
        return stated[-1]
    return last_number(text)


def closing_words(text: str) -> str:
    """What stands behind the last element of a text with tags; "" where that element was not closed."""
    tags = read_tags(text, answer_start(text))
    if not tags or not tags[-1].closing:
        return ""
    blocks = any(tag.kind in _BLOCKS for tag in tags)
    return "" if blocks and tags[-1].kind not in _BLOCKS else text[tags[-1].end :]


def has_step_tags(text: str) -> bool:
    """Whether a text has its steps, or some of them, in tags."""
    return any(match["step"] for match in _TAG.finditer(text, answer_start(text)))


def step_mark(text: str) -> str:
    """How a step without tags begins, ``Step 2:`` or ``2.``, without its title; "" for a mere line."""
    heading = _HEADING.match(text)
    if heading is None:
        numbered = _NUMBERED.match(text)
        return numbered[0].replace("*", "").rstrip() if numbered else ""
    mark = heading[0].rstrip()
    if heading["title"]:
        mark = text[: heading.start("title")].rstrip() + heading["bold"]
    return f"{mark}:" if mark[-1].isalnum() else mark


def as_line(text: str) -> str:
    """A text as one line that is no more than a step's words: no tag, heading, number or label is left."""
    tags = read_tags(text) if _OPENING.search(text) else []
    bare = " ".join(_cut(text, tags).split())
    if _OPENING.search(bare) and read_tags(bare):  # a tag was hidden inside another
        bare = " ".join(_OPENING.sub(" ", bare).split())
    for _ in range(_MARKS_LIMIT):
        mark = _HEADING.match(bare) or _NUMBERED.match(bare) or _LABEL.match(bare)
        if mark is None:
            return bare
        bare = " ".join(filter(None, (mark.groupdict().get("title"), bare[mark.end() :].strip())))
    return ""


def _cut(text: str, tags: list[Token]) -> str:
    ends = [0, *(tag.end for tag in tags)]
    starts = [*(tag.start for tag in tags), len(text)]
    return "".join(text[end:start] for end, start in zip(ends, starts, strict=True))


def _last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    found = deque(pattern.finditer(text), maxlen=1)
    return found[0] if found else None


def _token(match: re.Match[str], *, closing: bool = False, label: bool = False) -> Token:
    known, kind = match.re.groupindex, "step"  # what a heading or a numbered line stands for
    if "answer" in known:
        kind = next((kind for kind, name in zip(_NAMES, match.group(*_NAMES), strict=True) if name), "answer")
    number, title = (match[name] if name in known else None for name in ("number", "title"))
    return Token(
        kind,
        match.start(),
        match.end(),
        closing,
        int(number) if number and kind == "step" else None,
        (title or "").strip(),
        label,
    )


def _step_lines(text: str, begin: int, stop: int, *, prose: bool) -> list[Token]:
    headings = [_token(match) for match in _HEADING.finditer(text, begin, stop)]
    if headings or not prose:
        return headings
    numbered: list[Token] = []
    for match in _NUMBERED.finditer(text, begin, stop):
        if int(match["number"]) == len(numbered) + 1:
            numbered.append(_token(match))
    return numbered if len(numbered) > 1 else list(_lines(text, begin, stop))


def _lines(text: str, begin: int, stop: int) -> Iterator[Token]:
    for match in _LINE.finditer(text, begin, stop):
        fence = bool(_FENCE.match(match[0]))
        yield Token("step", match.start(), match.end() if fence else match.start(), closing=fence)


def _labels(text: str, begin: int, tags: list[Token], *, critique: bool) -> list[Token]:
    """Lines such as ``**Answer:** 5`` that stand for a tag; next to tags only where no tag says it."""
    labels = [_token(match, label=True) for match in _LABEL.finditer(text, begin)]
    if not tags:
        return labels
    tagged = {tag.kind for tag in tags}
    tail = tags[-1].end if tags[-1].closing else len(text)
    allowed = (
        {"cause", "correction"} if critique and not tagged & {"evaluate", "cause", "correction"} else set()
    )
    return [
        label
        for label in labels
        if label.kind in allowed
        or (label.kind == "answer" and "answer" not in tagged and label.start >= tail)
    ]


def _in_order(tokens: list[Token]) -> list[Token]:
    """Sorts tokens; where a line is both a step and a label, it is the label."""
    ordered = sorted(tokens, key=lambda token: (token.start, -token.end))
    kept: list[Token] = []
    for token in ordered:
        if not kept or token.start >= kept[-1].end:
            kept.append(token)
    return kept


class _Assembler:
    """Turns tokens into elements: at most one block and one note in it are open."""

    def __init__(self, text: str, tokens: list[Token], begin: int) -> None:
        self.text = text
        self.tokens = tokens
        self.begin = begin
        self.top: list[Element] = []
        self.block: Element | None = None
        self.note: Element | None = None
        self.seen: set[tuple[str, int | None]] = set()

    def run(self) -> list[Element]:
        for position, token in enumerate(self.tokens):
            if not self._belongs_to_note(token):
                if token.kind in _BLOCKS:
                    self._take_block(position, token)
                else:
                    self._take_note(position, token)
        self._end_note(len(self.text))
        self._end_block(len(self.text))
        # An opening tag with nothing after it is where the text was cut, or a doubled tag.
        return [
            e for e in self.top if e.closed or e.notes or e.title or self.text[e.body : e.body_end].strip()
        ]

    def _belongs_to_note(self, token: Token) -> bool:
        """Key notes inside a cause or correction stay there; so do a correction's own step tags."""
        note = self.note
        if note is None or note.kind not in ("cause", "correction"):
            return False
        if token.kind == "key":
            return True
        if token.kind != "step" or note.kind != "correction":
            return False
        if not token.closing and not self.text[note.body : token.start].strip():
            note.body, note.wrapped = token.end, True  # <Correction><Step2> ... </Step2></Correction>
            return True
        if token.closing and note.wrapped:
            self._end_note(token.start, token.end, closed=True)
            return True
        return False

    def _take_block(self, position: int, token: Token) -> None:
        block = self.block
        if token.closing and block is None:
            self._end_note(token.start)
            self._open_late(position, token)
            return
        if token.closing or (block and self._repeats_to_close(position, token, block)):
            self._end_note(token.start)
            self._end_block(token.start, token.end, closed=True)
            return
        self._end_note(token.start)
        self._end_block(token.start)
        self.block = _open(token)
        self.seen.add((token.kind, token.number))

    def _open_late(self, position: int, token: Token) -> None:
        """A closing tag whose opening tag is missing closes the text since the tag before it."""
        start = self.tokens[position - 1].end if position else self.begin
        body = self.text[start : token.start]
        if body.strip() and (token.kind, token.number) not in self.seen:
            start += len(body) - len(body.lstrip())
            self.block = Element(token.kind, start, start, token.number)
            self._end_block(token.start, token.end, closed=True)
            self.seen.add((token.kind, token.number))

    def _repeats_to_close(self, position: int, token: Token, block: Element) -> bool:
        """Whether an opening tag is used as closing tag: the same tag again with nothing behind it."""
        if (
            (token.kind, token.number) != (block.kind, block.number)
            or token.title
            or token.end == token.start
        ):
            return False
        after = self.tokens[position + 1].start if position + 1 < len(self.tokens) else len(self.text)
        return not self.text[token.end : after].strip()

    def _take_note(self, position: int, token: Token) -> None:
        if self.block and self.block.kind != "step":
            if token.kind in ("key", "evaluate"):
                return
            self._end_block(token.start)
        note = self.note
        if token.closing or (
            note and note.kind == token.kind and not self._closes_later(position, token.kind)
        ):
            self._end_note(token.start, token.end, closed=True)
            return
        self._end_note(token.start)
        self.note = _open(token)

    def _closes_later(self, position: int, kind: str) -> bool:
        """Whether the next tag of this kind in the same step is a proper closing tag."""
        for token in self.tokens[position + 1 : position + 9]:
            if token.kind == kind:
                return token.closing
            if token.kind in _BLOCKS:
                return False
        return False

    def _end_note(self, body_end: int, end: int = -1, *, closed: bool = False) -> None:
        note, self.note = self.note, None
        if note is None:
            return
        if note.kind == "key" and not closed:
            line = _LINE.search(self.text, note.body, body_end)  # an unclosed Key is taken to be one line
            body_end = line.end() if line else body_end
        _end(note, body_end, end, closed)
        last = self.block or next((e for e in reversed(self.top[-3:]) if e.kind == "step"), None)
        (last.notes if last else self.top).append(note)

    def _end_block(self, body_end: int, end: int = -1, *, closed: bool = False) -> None:
        block, self.block = self.block, None
        if block:
            _end(block, body_end, end, closed)
            self.top.append(block)


def _open(token: Token) -> Element:
    return Element(token.kind, token.start, token.end, token.number, token.title, token.label)


def _end(element: Element, body_end: int, end: int, closed: bool) -> None:
    element.body_end = body_end
    element.end = end if end >= 0 else body_end
    element.closed = closed
