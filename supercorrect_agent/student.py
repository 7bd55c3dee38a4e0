"""What the student is asked, by whichever graph: to solve, to review, and to go on from a corrected step."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig

from supercorrect_agent.calls import Effect, Flow, Reply, ask, model_name
from supercorrect_agent.errors import ModelError
from supercorrect_agent.grammar import (
    answer_start,
    as_line,
    closing_words,
    has_step_tags,
    is_unfinished_thought,
    last_boxed,
    without_boxes,
)
from supercorrect_agent.models import can_prefill, continue_message_kwargs
from supercorrect_agent.prompts import (
    Prompt,
    PromptSet,
    fence,
    prompts_in,
    render_prompt,
    review_messages,
    student_messages,
)
from supercorrect_agent.teachers.verdict import as_critique, read_verdict, without_tags
from supercorrect_agent.templates import (
    critique_prefix,
    extract_answer,
    format_solution,
    parse_critique,
    parse_solution,
    splice_correction,
)
from supercorrect_agent.types import Call, Critique, Solution

Continuation = Literal["prefill", "splice", ""]
REVIEW_STOP = "</Correction>"
_CORRECTION_TAG = re.compile(r"<\s*(/?)\s*correction\b[^<>]{0,20}>", re.IGNORECASE)
_CORRECTION_OPENS = re.compile(r".*?<\s*correction\b[^<>]{0,20}>", re.IGNORECASE | re.DOTALL)
_STEP_TAG = re.compile(r"<\s*(/?)\s*step\s{0,3}(\d{1,3})[^<>\d]{0,20}>", re.IGNORECASE)
_LINE = re.compile(r"\S[^\n]*")
_NO_ANSWER = "\n<Answer></Answer>"
_FRACTION = re.compile(r"\\[dt]?frac\{(\d{1,9})\}\{(\d{1,9})\}")
_THOUSANDS = re.compile(r"(?<=\d)(?:,|\{,\})(?=\d{3}(?!\d))")
_NUMBER = re.compile(r"(?:(?<![\w)}])[-\u2212])?\d{1,15}(?:\.\d{1,15}|/0*[1-9]\d{0,8})?")
_DRESS = re.compile(r"\\[,;!: ()\[\]]|\\(?:text|left|right)\b|[\s$*]|\.\Z")
# Every node reads the run's texts again. A record is frozen, so the same one may be handed out each time.
_parse_once = lru_cache(maxsize=512)(parse_solution)
_parse_long_once = lru_cache(maxsize=4)(parse_solution)
REMEMBERED_LENGTH = 8_000  # characters; of what is longer only a few are remembered, for their room


@dataclass(frozen=True)
class Turn:
    """The circumstances of one call: the node's config, the sampling arguments and the round."""

    config: RunnableConfig
    sampling: dict[str, Any] = field(default_factory=dict)
    round: int = 0


@dataclass(frozen=True)
class Student:
    """A chat model and the prompts it was trained with (or is to be asked with)."""

    model: BaseChatModel
    prompts: PromptSet

    @property
    def name(self) -> str:
        return model_name(self.model)

    def read(self, raw: str) -> Solution:
        """The solution in a text that this student wrote."""
        parse = _parse_once if len(raw) <= REMEMBERED_LENGTH else _parse_long_once
        return parse(raw, model=self.name)

    def solve(self, question: str, turn: Turn, examples: Sequence[str] = ()) -> Effect[Reply]:
        """Asks for a solution of the problem.

        Args:
            question: The problem's text.
            turn: The circumstances.
            examples: Solutions of similar problems to learn from. Their number goes into the prompt's
                version on the trace, for the request has more words than the prompt then.
        """
        prompt = self.prompts.solve
        if examples:
            prompt = prompt.model_copy(update={"version": f"{prompt.version}+examples:{len(examples)}"})
        messages = student_messages(self.prompts, question, examples=examples)
        return self._ask("student_solve", prompt, messages, turn)

    def review(
        self, question: str, solution: Solution, turn: Turn, forced: Critique | None = None
    ) -> Flow[tuple[Critique, Call]]:
        """Asks for the student's own critique of a solution, without any reference (decision B3).

        Args:
            question: The problem's text.
            solution: The solution under review.
            turn: The circumstances.
            forced: A critique to whose step the review is forced (decision B4). A model that cannot
                continue a message reviews freely instead, and may name another step.
        """
        prefix = critique_prefix(solution, forced)[0] if forced and can_prefill(self.model) else None
        found, call = yield from self._review("student_review", question, solution, turn, prefix)
        return (found if found.readable or forced else judged(solution, found)), call

    def rewrite(
        self, question: str, solution: Solution, critique: Critique, turn: Turn
    ) -> Flow[tuple[Critique, Call]]:
        """Asks for the student's own correction behind the cause of a critique (decision B8).

        Args:
            question: The problem's text.
            solution: The solution that is criticised.
            critique: Whose step and cause the student takes over.
            turn: The circumstances.

        Raises:
            ModelError: The model cannot continue a message.
        """
        if not can_prefill(self.model):
            raise ModelError(f"'{self.name}' cannot continue a message, which a rewrite needs. Turn it off.")
        prefix = correction_prefix(solution, critique)
        return (yield from self._review("student_rewrite", question, solution, turn, prefix))

    def correct(
        self, question: str, solution: Solution, critique: Critique, turn: Turn, *, keep_prefix: bool = True
    ) -> Flow[tuple[str, Continuation, Call]]:
        """Asks for the rest of a solution from the corrected step on.

        Args:
            question: The problem's text.
            solution: The solution to correct.
            critique: Where and how it is wrong.
            turn: The circumstances.
            keep_prefix: Off: everything is written anew.

        Returns:
            The whole revised text, how it came about (``prefill``: the model went on from the partial
            message; ``splice``: it was asked for the rest, which was put behind the kept text; "": written
            anew, because no prefix could or should be kept), and the call.
        """
        kept = kept_text(solution, critique) if keep_prefix else ""
        if not kept:
            messages = [*student_messages(self.prompts, question), AIMessage(solution.raw)]
            messages.append(HumanMessage(_again_words(critique)))
            reply: Reply = yield self._ask("student_correct", self.prompts.solve, messages, turn)
            return reply.text, "", reply.call
        if can_prefill(self.model):
            messages = student_messages(self.prompts, question, partial=kept)
            reply = yield self._ask("student_correct", self.prompts.solve, messages, turn)
            return joined(kept, reply.text, reply.text), "prefill", reply.call
        messages = [HumanMessage(render_prompt(self.prompts.continue_, problem=question, prefix=kept))]
        reply = yield self._ask("student_correct", self.prompts.continue_, messages, turn)
        said = without_thought(reply.text)
        rest = after_step(said, critique.step or 0, kept)
        if has_step_tags(rest) and not has_step_tags(kept):  # the request's layout, in place of its own
            kept = format_solution(parse_solution(kept).model_copy(update={"answer": None})) + "\n"
        return joined(kept, rest, said), "splice", reply.call

    def _review(
        self, name: str, question: str, solution: Solution, turn: Turn, prefix: str | None
    ) -> Flow[tuple[Critique, Call]]:
        messages = review_messages(self.prompts, question, solution.raw, prefix=prefix)
        stopping = Turn(turn.config, {**turn.sampling, "stop": [REVIEW_STOP]}, turn.round)
        reply: Reply = yield self._ask(name, self.prompts.review, messages, stopping)
        text = close_correction((prefix or "") + reply.text, truncated=reply.truncated)
        return parse_critique(text, author=self.name), reply.call

    def _ask(self, name: str, prompt: Prompt, messages: list[BaseMessage], turn: Turn) -> Effect[Reply]:
        prefilled = isinstance(messages[-1], AIMessage)
        return ask(
            self.model,
            messages,
            role="student",
            name=name,
            prompt=f"{prompt.id}@{prompt.version}",
            config=turn.config,
            round=turn.round,
            sampling=turn.sampling,
            extra=continue_message_kwargs(self.model) if prefilled else None,
        )


def prompts_beside(model: BaseChatModel) -> PromptSet:
    """The prompts a local checkpoint was trained with; the default ones of any other model."""
    return prompts_in(getattr(model, "model_path", None))


def kept_text(solution: Solution, critique: Critique) -> str:
    """The steps before the wrong one and its correction; "" where there is no step to correct.

    The correction is a step and no more: tags that would end it are taken out, and a box gives up its
    content, for the answer is the student's to give.
    """
    step, correction = critique.step, without_boxes(without_tags(critique.correction))
    if step is None or not 1 <= step <= len(solution.steps) or not as_line(correction):
        return ""
    return splice_correction(solution, critique.model_copy(update={"correction": correction}))


def joined(kept: str, rest: str, reply: str) -> str:
    """The revised text: what is kept and the rest of it.

    Where the student writes without step tags and its reply has no answer, an empty ``<Answer>`` says so: the
    last number would be the correction's.
    """
    answered = has_step_tags(kept) or extract_answer(reply)[0] is not None
    return kept + rest if answered else kept + rest.rstrip() + _NO_ANSWER


def judged(solution: Solution, found: Critique) -> Critique:
    """A review that is no correction trace, as the JSON verdict that a judge writes, where it is one."""
    try:
        verdict = read_verdict(found.raw, steps=max(1, len(solution.steps)))
    except ValueError:
        return found
    return as_critique(verdict, author=found.author, raw=found.raw)


def contradicts(solution: Solution, found: Critique) -> bool:
    """Whether a review finds no error and yet comes to another answer than the solution that it reviews.

    The review's answer is its ``<Answer>``, else a box behind its last step. Spellings are compared, no
    algebra is done: an answer with one number in it by that number, others by their text.
    """
    own, answer = found.answer or last_boxed(closing_words(found.raw)), solution.answer
    if not found.readable or found.found_error or own is None or answer is None:
        return False
    numbers = _numbers(own), _numbers(answer)
    if all(numbers) and min(map(len, numbers)) == 1:
        return not numbers[0] & numbers[1]  # 12 and "12, because 3*4=12" agree
    return _undressed(own) != _undressed(answer)


def unless_contradicted(solution: Solution, found: Critique) -> Critique:
    """The review, but not readable where it ``contradicts`` the solution."""
    return found.model_copy(update={"readable": False}) if contradicts(solution, found) else found


def correction_prefix(solution: Solution, critique: Critique) -> str:
    """The correction trace of a critique up to and with the tag behind which its correction begins."""
    prefix, verdict = critique_prefix(solution, critique)
    opening = _CORRECTION_OPENS.match(verdict)
    if opening is None:  # the critic labels its correction in place of a tag
        opening = _CORRECTION_OPENS.match(
            critique_prefix(solution, critique.model_copy(update={"raw": ""}))[1]
        )
    return prefix + (opening[0] if opening else "")


def is_whole(critique: Critique) -> bool:
    """Whether a critique's correction was written to its end, not cut by the token limit."""
    tags = _CORRECTION_TAG.findall(critique.raw)
    return bool(tags) and tags[-1] == "/"


def without_thought(text: str) -> str:
    """A reply without the ``<think>`` part before it; "" where that is never closed."""
    return "" if is_unfinished_thought(text) else text[answer_start(text) :]


def after_step(text: str, step: int, kept: str = "") -> str:
    """The part of a reply behind step ``step``: models asked for the rest often repeat what is there.

    Args:
        text: The reply.
        step: The corrected step.
        kept: The text to go on from, by whose lines a reply without step tags is recognised that begins
            again.
    """
    tags = [(int(tag[2]), tag) for tag in _STEP_TAG.finditer(text)]
    if not tags:
        return _after_lines(text, [line for line in map(_folded, kept.splitlines()) if line])
    later = next((tag.start() for number, tag in tags if number > step and not tag[1]), None)
    if later is not None:
        return text[later:]
    return text[max((tag.end() for _, tag in tags if tag[1]), default=0) :]


def _after_lines(text: str, kept: list[str]) -> str:
    """What follows the kept lines in a reply that repeats the first of them, or the last: the corrected step.

    A line of chatter may stand before them, and the corrected step may be there in other words.
    """
    found = ((_folded(line[0]), line.end()) for line in _LINE.finditer(text))
    said = [(line, end) for line, end in found if line]
    lines = [line for line, _ in said]
    start = next((i for i, line in enumerate(lines[:2]) if kept and line in (kept[0], kept[-1])), None)
    if start is None:
        return text
    if kept[-1] in lines[start:]:
        return text[said[lines.index(kept[-1], start)][1] :].lstrip("\n")
    repeated = start + len(kept) - 1
    return text[said[repeated if repeated < len(said) - 1 else start][1] :].lstrip("\n")


def _folded(line: str) -> str:
    return "".join(as_line(without_boxes(line)).split()).casefold().strip("*_$.,;:•-")


def _undressed(answer: str) -> str:
    return _DRESS.sub("", _FRACTION.sub(r"\1/\2", answer)).casefold()


def _numbers(answer: str) -> set[Fraction]:
    written = _NUMBER.findall(_THOUSANDS.sub("", _FRACTION.sub(r"\1/\2", answer)))
    return {Fraction(number.replace("\u2212", "-")) for number in written}


def close_correction(text: str, *, truncated: bool) -> str:
    """Adds the closing tag that the stop string swallowed; a correction cut by the token limit stays open."""
    tags = _CORRECTION_TAG.findall(text)
    return text + REVIEW_STOP if tags and tags[-1] == "" and not truncated else text


def _again_words(critique: Critique) -> str:
    if critique.step is None:
        return "No final answer can be read from this. Write the whole solution again, in the same layout."
    why = f"Step {critique.step} is wrong:\n{fence(critique.cause, 'cause')}\n"
    correction = fence(critique.correction, "correction") if critique.correction.strip() else ""
    should = f"It should be:\n{correction}\n" if correction else ""
    return f"{why}{should}Write the whole solution again, in the same layout."
