"""The two texts of the method as records: hierarchical solutions and correction traces.

``parse_*`` reads every dialect that models write and never raises; ``format_*`` writes one strict form,
so that ``parse_*`` of ``format_*`` gives the same record back. Paper: arXiv 2410.09008, section 4.1
(the template), appendix A (the correction trace) and appendix C (what models make of it).
"""

# ruff: noqa: RUF001 - full-width punctuation is what some models write

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from supercorrect_agent.errors import DataError
from supercorrect_agent.grammar import (
    Element,
    answer_start,
    as_line,
    closing_words,
    has_step_tags,
    is_unfinished_thought,
    last_boxed,
    last_number,
    read_elements,
    read_tags,
    stated_answer,
    step_mark,
)
from supercorrect_agent.types import Critique, Solution, Step

_RIGHT: Final = "<Evaluate>This step is correct.</Evaluate>"
_WRONG: Final = "<Evaluate>This step is wrong.</Evaluate>"

_SURROGATE = re.compile("[\ud800-\udfff]")
_CUT_TAG = re.compile(r"</[A-Za-z]{0,11}\d{0,3}\s*\Z")
_SAYS_WRONG = re.compile(
    r"\b(?:incorrect|wrong|mistaken|not (?:correct|right|valid))\b|错误|不正确|有误|❌", re.I
)
_SAYS_NOT_WRONG = re.compile(
    r"\b(?:no|not|nothing|never|isn't)(?:[ \t]\w{1,12}){0,2}[ \t](?:incorrect|wrong|mistaken)\b"
    r"|\A\W{0,4}(?:this step is |this is )?(?:correct|right|ok)\b|没有错误|无错误",
    re.I,
)
_SAYS_NOTHING = re.compile(
    r"(?:there (?:is|are) )?(?:none|no (?:error|mistake|cause|correction|change)s?"
    r"(?: (?:is |was |were )?(?:found|needed|required|here))?|n/?a|null|nothing|not needed|correct"
    r"|(?:this|the) step is correct|无|没有错误|-)?[.!。]?",
    re.I,
)
_NAMES_STEP = re.compile(r"\W{0,4}(?:(?:in|at) )?(?:the )?step[ \t]{0,3}#?(\d{1,3})(?!\d)", re.I)
_STRICT_LAYOUT = re.compile(r"(?:S(?:Kk)*s)+(?:Gg)?Aa")
_STRICT_TAGS: Final = {
    "<Key>": "K",
    "</Key>": "k",
    "<Generalized>": "G",
    "</Generalized>": "g",
    "<Answer>": "A",
    "</Answer>": "a",
}


def parse_solution(text: str, *, model: str = "") -> Solution:
    """Reads a solution in any dialect of the template; never raises, and takes time linear in the text.

    Text without any tag is read as a plain chain of thought: its headed, numbered or else non-empty
    lines are the steps. Steps are numbered 1..n in order of appearance, whatever they call themselves.

    Args:
        text: What the model wrote. Lone surrogates, which no file can hold, become U+FFFD in ``raw``.
        model: Who wrote it.

    Returns:
        The solution, with offsets into ``raw``. ``answer`` is the one ``extract_answer`` reads.
    """
    raw = _storable(text)
    elements, tagged = read_elements(raw)
    steps = [element for element in elements if element.kind == "step"]
    summaries = [_content(raw, element) for element in elements if element.kind == "generalized"]
    return Solution(
        steps=tuple(_step(raw, index, element) for index, element in enumerate(steps, 1)),
        generalized=next((summary for summary in reversed(summaries) if summary), None),
        answer=_answer(raw, elements, tagged)[0],
        raw=raw,
        model=model,
    )


def extract_answer(text: str) -> tuple[str | None, str]:
    r"""Reads the answer of a solution text, and says where it stood.

    The content of the last non-empty ``<Answer>`` (of a ``\boxed{x}`` in it: x; a sentence is kept as it
    is), else the last ``\boxed{}``, else the last number: of the whole text where it has no tags at all, of
    the words behind its last closed tag where it has, unless they say what "the answer is". A thought that
    is never closed has no answer but an ``<Answer>``.

    Returns:
        The answer or None, and "answer_tag", "boxed", "last_number" or "none".
    """
    raw = _storable(text)
    return _answer(raw, *read_elements(raw))


def format_solution(solution: Solution) -> str:
    """Writes a solution in the strict form, one element a line, the Key last in its step."""
    parts = [_write("Step", _join(step.text, step.key), step.index) for step in solution.steps]
    if solution.generalized is not None:
        parts.append(_write("Generalized", solution.generalized))
    if solution.answer is not None:
        parts.append(_write_answer(solution.answer))
    return "\n".join(parts)


def is_strict(text: str) -> bool:
    """Whether a text is well-formed in the strict form: the format validity that training reports.

    Steps counted from 1 without a gap, then at most one Generalized, then one Answer; every tag spelt
    exactly and closed, Keys only inside steps, no empty element, nothing but white space in between.
    """
    layout, since, count = [""], 0, 0
    for token in read_tags(text):
        written = text[token.start : token.end]
        if written == f"<Step{count + 1}>":
            letter, count = "S", count + 1
        else:
            letter = "s" if count and written == f"</Step{count}>" else _STRICT_TAGS.get(written, "?")
        blank = not text[since : token.start].strip()
        if blank != (letter in "SGA") and letter + layout[-1] not in ("KS", "Kk", "sk"):
            return False
        layout.append(letter)
        since = token.end
    return _STRICT_LAYOUT.fullmatch("".join(layout)) is not None and not text[since:].strip()


def parse_critique(text: str, *, author: str = "") -> Critique:
    """Reads a correction trace in any dialect; never raises, and takes time linear in the text.

    The first wrong step is the one that the first cause (or correction) stands in or right after; a cause
    after the steps that begins with "Step k" names its step itself. A correction in a later step is
    kept, with where it stood, and ``step`` stays the step of the cause.

    Args:
        text: What the critic wrote.
        author: Who wrote it.

    Returns:
        The critique. ``readable`` is False where the text neither marks a step wrong nor judges any step
        or gives an answer, so that silence is not taken for "no error".
    """
    raw = _storable(text)
    elements, tagged = read_elements(raw, critique=True)
    trace = _Trace.read(raw, elements)
    finding = trace.first_finding()
    answer = _answer(raw, elements, tagged)[0] if any(e.kind == "answer" for e in elements) else None
    if finding is None:
        return Critique(author=author, raw=raw, answer=answer, readable=trace.judged or answer is not None)
    return Critique(
        step=finding.step,
        cause=finding.cause or "",
        correction=finding.correction or "",
        author=author,
        raw=raw,
        answer=answer,
        cause_step=finding.step if finding.cause is not None else None,
        correction_step=finding.correction_step,
        readable=finding.step is not None,
    )


def format_critique(solution: Solution, critique: Critique) -> str:
    """Writes the canonical correction trace of a critique of ``solution`` (paper appendix A).

    The steps are re-written verbatim up to the wrong one, whose cause and corrected body end the trace;
    where no error was found, all steps are judged correct and the answer is repeated.

    Raises:
        ValueError: ``critique.step`` is not one of the solution's steps.
    """
    if critique.step is None:
        parts = [_write("Step", _body(solution, step) + _RIGHT, step.index) for step in solution.steps]
        answer = critique.answer if critique.answer is not None else solution.answer
        return "\n".join([*parts, _write_answer(answer)] if answer is not None else parts)
    prefix, completion = _split_canonical(solution, critique, critique.step)
    return f"{prefix}{completion}</Step{critique.step}>"


def critique_prefix(solution: Solution, critique: Critique) -> tuple[str, str]:
    """Splits the correction trace of a critique where its verdict on the wrong step begins.

    Args:
        solution: The criticised solution.
        critique: A critique that found an error. Where its ``raw`` holds a trace with strict tags whose
            wrong step is ``critique.step``, that text is split verbatim, else ``format_critique``'s.

    Returns:
        (prefix, completion). The prefix ends with the re-written text of the wrong step, the completion
        starts with its ``<Evaluate>`` (or ``<Cause>``) and ends with ``</Correction>``.

    Raises:
        DataError: ``critique.step`` is None.
        ValueError: ``critique.step`` is not one of the solution's steps.
    """
    step = _wrong_step(critique, "critique_prefix")
    return _split_verbatim(critique, step) or _split_canonical(solution, critique, step)


def splice_correction(solution: Solution, critique: Critique) -> str:
    """The kept prefix and the corrected step: the text from which the student goes on.

    Where the solution has no step tags, the corrected step is a line with the number or heading of the step
    it replaces: a single tag would make that the only step, and what follows it no longer an answer.

    Raises:
        DataError: ``critique.step`` is None.
        ValueError: ``critique.step`` is not one of the solution's steps.
    """
    step = _wrong_step(critique, "splice_correction")
    kept = solution.prefix(step)
    if has_step_tags(solution.raw):
        return kept + _write("Step", critique.correction, step) + "\n"
    wrong = solution.steps[step - 1]
    mark = step_mark(solution.raw[wrong.start : wrong.end])
    return kept + f"{mark} {as_line(critique.correction)}".lstrip() + "\n"


@dataclass(slots=True)
class _Finding:
    """A step marked wrong: where its cause stands and, perhaps elsewhere, its correction."""

    step: int | None
    said_wrong: bool
    cause: str | None = None
    cause_at: Element | None = None
    correction: str | None = None
    correction_step: int | None = None
    correction_at: Element | None = None

    def empty(self) -> bool:
        """Whether a model filled the slots of a right step, as in ``<Cause>None</Cause>``."""
        return not self.said_wrong and _says_nothing(self.cause) and _says_nothing(self.correction)


@dataclass(frozen=True, slots=True)
class _Trace:
    """A read correction trace: its notes in order, each with the number of its step and its place in it."""

    raw: str
    notes: tuple[tuple[int | None, bool, Element], ...]
    doubted: dict[int | None, str]
    judged: bool

    @classmethod
    def read(cls, raw: str, elements: list[Element]) -> _Trace:
        notes: list[tuple[int | None, bool, Element]] = []
        number = 0
        for element in elements:
            if element.kind == "step":
                # The critic's own number, unless it does not go up.
                number = element.number if element.number and element.number > number else number + 1
                notes += ((number, note.start < element.body_end, note) for note in element.notes)
            else:
                notes.append((None, False, element))
        judgements = [(step, _content(raw, note)) for step, _, note in notes if note.kind == "evaluate"]
        doubted: dict[int | None, str] = {}
        for step, text in judgements:
            if _says_wrong(text):
                doubted.setdefault(step, text)
        return cls(raw, tuple(notes), doubted, judged=bool(judgements))

    def first_finding(self) -> _Finding | None:
        """The first step that is marked wrong, by a cause or correction, else by its ``<Evaluate>``."""
        finding = next((finding for finding in self._findings() if not finding.empty()), None)
        if finding is None and self.doubted:
            step, text = next(iter(self.doubted.items()))
            return _Finding(step, said_wrong=True, cause=text)
        return finding

    def _findings(self) -> list[_Finding]:
        findings: list[_Finding] = []
        for step, inside, note in self.notes:
            last = findings[-1] if findings else None
            text = _content(self.raw, note)
            if note.kind == "cause":
                named = _NAMES_STEP.match(text) if not inside else None
                step = int(named[1]) if named else step
                if last is None or last.cause is not None or last.step != step:
                    last = _Finding(step, step in self.doubted)
                    findings.append(last)
                last.cause, last.cause_at = text, note
            elif note.kind == "correction":
                if last is None or (last.step != step and (last.empty() or last.correction is not None)):
                    last = _Finding(step, step in self.doubted)
                    findings.append(last)
                if last.correction is None:
                    last.correction, last.correction_at, last.correction_step = (
                        text,
                        note,
                        step if inside else last.step,
                    )
        return findings


def _storable(text: str) -> str:
    return _SURROGATE.sub("\ufffd", text)


def _says_wrong(text: str) -> bool:
    return bool(_SAYS_WRONG.search(text)) and not _SAYS_NOT_WRONG.search(text)


def _says_nothing(text: str | None) -> bool:
    return not text or _SAYS_NOTHING.fullmatch(text) is not None


def _wrong_step(critique: Critique, caller: str) -> int:
    if critique.step is None:
        need = f"{caller} needs a critique that names a wrong step"
        raise DataError(f"`critique.step=None`: {need}. Check `critique.found_error` first.")
    return critique.step


def _content(raw: str, element: Element, skip: Iterable[Element] = ()) -> str:
    """The text of an element: a title from its tag, then its body without the notes in ``skip``."""
    pieces, position = [element.title], element.body
    for note in skip:
        if note.start < element.body_end:
            pieces.append(raw[position : note.start])
            position = note.end
    rest = raw[position : element.body_end]
    if not element.closed:
        rest = _CUT_TAG.sub("", rest)
        if rest.count("```") % 2 and rest.rstrip().endswith("```"):
            rest = rest.rstrip()[:-3]
    return " ".join(piece for piece in map(str.strip, [*pieces, rest]) if piece)


def _step(raw: str, index: int, element: Element) -> Step:
    keys = [text for note in element.of("key") if (text := _content(raw, note))]
    text = _content(raw, element, element.notes)
    return Step(index=index, text=text, key="\n".join(keys) or None, start=element.start, end=element.end)


def _answer(raw: str, elements: list[Element], tagged: bool) -> tuple[str | None, str]:
    for element in reversed(elements):
        if element.kind == "answer" and (answer := _answer_value(raw, element)):
            return answer, "answer_tag"
    if is_unfinished_thought(raw):
        return None, "none"
    reply = raw[answer_start(raw) :]
    if boxed := last_boxed(reply):
        return boxed, "boxed"
    number = stated_answer(closing_words(raw)) if tagged else last_number(reply)
    return number, "last_number" if number else "none"


def _answer_value(raw: str, element: Element) -> str:
    content = _content(raw, element)
    if element.label:
        content = content.split("\n", 1)[0].strip("*_ ")
    elif not element.closed:
        content = content.split("\n\n", 1)[0].strip()
    return last_boxed(content) or content


def _write(tag: str, content: str, number: int | None = None) -> str:
    name = tag if number is None else f"{tag}{number}"
    return f"<{name}>{content}</{name}>"


def _write_answer(answer: str) -> str:
    """Boxes a value; a sentence, or text whose braces do not balance, stands as it is."""
    boxed = f"\\boxed{{{answer}}}"
    is_sentence = "\n" in answer or answer.endswith((".", "。", "!", "！"))
    return _write("Answer", answer if is_sentence or last_boxed(boxed) != answer else boxed)


def _join(text: str, key: str | None) -> str:
    return text if key is None else f"{text} {_write('Key', key)}".strip()


def _body(solution: Solution, step: Step) -> str:
    """The step as it was written, where that was in strict tags."""
    written = solution.raw[step.start : step.end]
    opening, closing = f"<Step{step.index}>", f"</Step{step.index}>"
    if written.startswith(opening) and written.endswith(closing):
        return written[len(opening) : -len(closing)].strip()
    return _join(step.text, step.key)


def _split_canonical(solution: Solution, critique: Critique, step: int) -> tuple[str, str]:
    solution.prefix(step)  # raises where there is no such step
    before = (_write("Step", _body(solution, s) + _RIGHT, s.index) + "\n" for s in solution.steps[: step - 1])
    prefix = "".join(before) + f"<Step{step}>{_body(solution, solution.steps[step - 1])}"
    verdict = _WRONG + _write("Cause", critique.cause) + _write("Correction", critique.correction)
    return prefix, verdict


def _split_verbatim(critique: Critique, step: int) -> tuple[str, str] | None:
    elements, _ = read_elements(critique.raw, critique=True)
    steps = [element for element in elements if element.kind == "step"]
    trace = _Trace.read(critique.raw, elements)
    finding = trace.first_finding()
    if finding is None or not steps or (finding.step, finding.correction_step) != (step, step):
        return None
    cause, correction = finding.cause_at, finding.correction_at
    if cause is None or correction is None or correction.start < cause.start:
        return None
    judged = (note.start for number, _, note in trace.notes if number == step and note.kind == "evaluate")
    split = min([*judged, cause.start])
    completion = critique.raw[split : correction.end]
    if not correction.closed:
        completion = completion.rstrip() + "</Correction>"
    if not completion.endswith("</Correction>"):
        return None
    return critique.raw[steps[0].start : split], completion
