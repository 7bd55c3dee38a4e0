"""Where in a model's reply the answer stands: an <Answer> element, else a box, else the last number."""

from __future__ import annotations

import re
from collections import deque

_ANSWER = re.compile(r"<\s*answer\s*>", re.IGNORECASE)
_ANSWER_END = re.compile(r"<\s*/\s*answer\s*>", re.IGNORECASE)
_BOX = re.compile(r"\\f?boxed\b\s*")
_NUMBER = re.compile(
    r"-?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:/\d+)?"
    r"|-?\.\d+"
    r"|-?\\[dt]?frac\{\d+\}\{\d+\}"
)
_BOX_LIMIT = 4000  # characters; keeps a megabyte of unclosed boxes linear


def extract_answer(text: str) -> tuple[str | None, str]:
    """Finds the final answer in a model's reply, in linear time.

    Returns:
        The answer as written and where it was read: ``"answer_tag"`` (a box inside the element wins over
        the words around it), ``"boxed"``, ``"last_number"``, or ``(None, "none")``.
    """
    element = _answer_element(text)
    if element:
        return _last_box(element) or element, "answer_tag"
    if box := _last_box(text):
        return box, "boxed"
    last = deque(_NUMBER.finditer(text), maxlen=1)
    return (last[0].group(), "last_number") if last else (None, "none")


def _answer_element(text: str) -> str:
    """The text of the last <Answer>; an element that was never closed reaches to the end."""
    starts = deque(_ANSWER.finditer(text), maxlen=1)
    if not starts:
        return ""
    start = starts[0].end()
    end = _ANSWER_END.search(text, start)
    return text[start : end.start() if end else len(text)].strip()


def _last_box(text: str) -> str:
    starts = [match.end() for match in _BOX.finditer(text)][-3:]
    for start in reversed(starts):
        if content := _box_content(text[start : start + _BOX_LIMIT]).strip():
            return content
    return ""


def _box_content(text: str) -> str:
    if not text.startswith("{"):
        return text.split(maxsplit=1)[0].strip("$.,") if text.strip() else ""
    depth = 0
    for position, char in enumerate(text):
        if char in "{}" and not text[:position].endswith("\\"):
            depth += 1 if char == "{" else -1
            if depth == 0:
                return text[1:position]
    return text[1:].split("\n", 1)[0]
