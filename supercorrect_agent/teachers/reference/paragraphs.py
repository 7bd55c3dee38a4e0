r"""MATH's references as steps: sentences, never cut inside ``$...$``, a display or an environment."""

from __future__ import annotations

import itertools
import re

from supercorrect_agent.teachers.reference.lines import join_shortest

_DROPPED = re.compile(
    r"\[asy\].*?\[/asy\]|\[asy\].*\Z|\\begin\{(center|figure)\}.*?\\end\{\1\}"
    r"|(?:\A|(?<=\n))[ \t]*%[^\n]*",
    re.DOTALL,
)
_POINTS_AT_DRAWING = re.compile(
    r"(?P<stop>\A|[.?!$\]}]\s+)[^.$\\\n]*\b(?:below|following (?:diagram|figure|graph)|as shown|shown here)"
    r"[^.$\\\n]*(?::|\.)(?=\s*\n\s*\n|\s*\Z)"
)
_OTHER_WAY = re.compile(
    r"(?:^|\n)\s*(?:\\textbf\{)?(?:Alternate |Another )?Solution\s*(?:#\s*)?\d\W{0,3}", re.I
)
_TITLE = re.compile(r"\A\s*(?:\\textbf\{)?Solution\W{1,3}", re.I)
_MATH = re.compile(
    r"\\begin\{(?P<name>[A-Za-z]+\*?)\}.*?\\end\{(?P=name)\}"
    r"|\$\$.*?\$\$|\\\[.*?\\\]|\\\(.*?\\\)|(?<!\\)\$(?:\\.|[^$\\])*\$",
    re.DOTALL,
)
_STOP = re.compile(r"(?<![A-Z.])(?<!\be\.g)(?<!\bi\.e)[.!?][\")']*(?=\s|\Z)|\n\s*\n")
_CLAUSE = re.compile(r"(?<=[,;])\s+(?=(?:so|which|and|thus|hence|therefore|or|then)\b)|\n+")
MAX_STEPS = 8
_SHORT = 40


def split_prose(reference: str) -> list[str]:
    """Splits LaTeX prose into 2 to 8 steps where it can; drawings and further solutions are left out."""
    text = drop_drawings(reference)
    sentences = sentences_of(text)
    if len(sentences) == 1:
        sentences = _cut(sentences[0], _CLAUSE)
    if len(sentences) == 1:
        sentences = _conclude(text)
    steps = join_shortest(sentences, most=MAX_STEPS, least=_SHORT)
    return [unbox(step) for step in steps]


def drop_drawings(text: str) -> str:
    """The text without Asymptote code, and of several solutions only the first that boxes its answer."""
    text = _POINTS_AT_DRAWING.sub(r"\g<stop>", _DROPPED.sub("\n\n", text))
    ways = [way for way in _OTHER_WAY.split(text) if way.strip()]
    text = next((way for way in ways if "\\boxed" in way), text)
    return _TITLE.sub("", text).strip()


def sentences_of(text: str) -> list[str]:
    """The sentences of LaTeX prose; a display that ends with a stop, or before a capital, ends one too."""
    pieces: list[str] = []
    since = position = 0
    for math in [*_MATH.finditer(text), None]:
        upto = math.start() if math else len(text)
        for stop in _STOP.finditer(text, position, upto):
            after = text[stop.end() :].lstrip()
            if not after[:1].islower():
                pieces.append(text[since : stop.end()])
                since = stop.end()
        if math is None:
            break
        position = math.end()
        if _ends_sentence(math[0], text[position:]):
            pieces.append(text[since:position])
            since = position
    pieces.append(text[since:])
    return [" ".join(piece.split()) for piece in pieces if re.search(r"\w", piece)]


def unbox(text: str) -> str:
    r"""Replaces ``\boxed{x}`` by x: the answer has its own place in the template."""
    while (start := re.search(r"\\(?:boxed|fbox)\s*(?=\{)", text)) is not None:
        depth, end = 0, start.end()
        while end < len(text):
            skip = text[end] == "\\"
            depth += 0 if skip else (text[end] == "{") - (text[end] == "}")
            end += 2 if skip else 1
            if depth == 0:
                break
        inner = text[start.end() + 1 : end - 1]
        text = text[: start.start()] + inner + text[end:]
    return text


def _ends_sentence(math: str, after: str) -> bool:
    """Whether a formula closes its sentence: a stop inside it or none at all, and a capital behind it."""
    follows = after.lstrip()
    if not (follows[:1].isupper() or follows[:1] in "$\\" or not follows):
        return False
    body = re.sub(r"(?:\$+|\\\]|\\\)|\\end\{[^}]*\}|[\s}])+\Z", "", math)
    display = not math.startswith(("\\(",)) and (math.startswith(("\\", "$$")))
    if body.endswith((".", ".\\", ".\\\\")):
        return True
    return display and follows[:1].isupper() and not body.endswith(",")


def _cut(text: str, where: re.Pattern[str]) -> list[str]:
    formulas = [math.span() for math in _MATH.finditer(text)]
    cuts = [cut.end() for cut in where.finditer(text) if not any(a < cut.end() < b for a, b in formulas)]
    bounds = [0, *cuts, len(text)]
    pieces = [text[a:b].strip() for a, b in itertools.pairwise(bounds)]
    return [piece for piece in pieces if re.search(r"\w", piece)]


def _conclude(text: str) -> list[str]:
    """One formula is the work; what it comes to is the last step."""
    one = " ".join(text.split())
    box = re.search(r"\\boxed\s*\{", one)
    if box is None:
        return [one]
    boxed = one[box.start() :]
    inner = unbox(boxed[: _closing(boxed)])
    return [one, f"So the result is ${inner}$."] if inner else [one]


def _closing(text: str) -> int:
    depth = 0
    for i, character in enumerate(text):
        escaped = i > 0 and text[i - 1] == "\\"
        depth += 0 if escaped else (character == "{") - (character == "}")
        if character == "}" and not escaped and depth == 0:
            return i + 1
    return len(text)
