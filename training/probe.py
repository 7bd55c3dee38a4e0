"""The generation probe: the model in training solves problems greedily, as it would be asked in use.

A loss does not show whether replies still end, keep the layout and reach the answer. The probe does: batched
greedy decoding on the very weights that are being trained, with the model's own prompts, graded as in an
evaluation. Training goes on exactly as it would have without it: the random numbers, the mode of every module
and the generation settings are put back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from supercorrect_agent.errors import DataError
from supercorrect_agent.models.local import as_chat
from supercorrect_agent.problems import load_problems
from supercorrect_agent.prompts import PromptSet, student_messages
from supercorrect_agent.templates import is_strict, parse_solution
from supercorrect_agent.types import Problem, Record
from supercorrect_agent.verification import MathVerifier
from training.config import TrainConfig
from training.sources import resolve_prompts

MAX_BATCH = 128


class ProbeResult(Record):
    """What one probe found.

    Attributes:
        accuracy: Share of right final answers.
        format_valid: Share of replies in the strict form (`supercorrect_agent.templates.is_strict`).
        tokens: Mean tokens per reply, the end of turn included.
        unfinished: Share of replies without an end of turn: they ran into the limit.
    """

    accuracy: float
    format_valid: float
    tokens: float
    unfinished: float

    def __str__(self) -> str:
        return (
            f"accuracy {self.accuracy:.1%}, format {self.format_valid:.1%}, "
            f"{self.tokens:.0f} tokens a reply, {self.unfinished:.1%} without an end"
        )


class Probe:
    """A fixed set of problems and the way they are asked.

    Args:
        source: The problems: any source of `load_problems`.
        config: The stage's settings. The same ``seed`` gives the same problems.
        tokenizer: The student's tokenizer.

    Raises:
        DataError: The problems cannot be read, or one has no answer to compare with.
    """

    def __init__(self, source: str, config: TrainConfig, tokenizer: Any) -> None:
        self.problems = load_problems(source, n=config.probe_n, seed=config.seed, split="dev")
        unanswered = sum(problem.answer is None for problem in self.problems)
        if unanswered:
            raise DataError(
                f"{unanswered} of {len(self.problems)} problems of `probe={source}` have no `answer`. "
                "Leave them out, or give each one an answer."
            )
        self._prompts: PromptSet = resolve_prompts("auto", config.model)
        self._tokenizer, self._limit = tokenizer, config.probe_max_new_tokens

    def __call__(self, model: Any) -> ProbeResult:
        """Lets the model solve the problems.

        Args:
            model: The model in training, whole on this process; PEFT's active adapter takes part.

        Raises:
            ModelError: A problem leaves no room for a reply in the model's context.
        """
        from supercorrect_agent.models.engine import Engine, Request

        requests = [
            Request(self._messages(problem), max_tokens=self._limit, temperature=0.0, top_p=1.0)
            for problem in self.problems
        ]
        with (
            undisturbed(model, self._tokenizer) as student,
            closing(Engine(student, self._tokenizer, max_batch=MAX_BATCH, seed=None)) as engine,
        ):
            replies = [future.result() for future in [engine.submit(request) for request in requests]]
        return ProbeResult(
            accuracy=_share([self._right(p, r.text) for p, r in zip(self.problems, replies, strict=True)]),
            format_valid=_share([is_strict(reply.text) for reply in replies]),
            tokens=sum(reply.output_tokens for reply in replies) / len(replies),
            unfinished=_share([reply.finish_reason == "length" for reply in replies]),
        )

    def _messages(self, problem: Problem) -> list[dict[str, str]]:
        return [as_chat(message) for message in student_messages(self._prompts, problem.question)]

    @staticmethod
    def _right(problem: Problem, text: str) -> bool:
        return MathVerifier().verify(answer=parse_solution(text).answer, target=problem.answer).correct


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Puts a model into evaluation mode, and afterwards each of its modules back into its own."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def undisturbed(model: Any, tokenizer: Any) -> Iterator[Any]:
    """Lends the model in training for generation: in evaluation mode, with plain greedy settings.

    Yields:
        The model of transformers inside a PEFT model, its adapters in place, or the model itself.
    """
    import torch

    from supercorrect_agent.models.folder import keep_only_end_tokens

    student = model.get_base_model() if hasattr(model, "get_base_model") else model
    settings, cached = student.generation_config, student.config.use_cache
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices), evaluating(model):
        try:
            keep_only_end_tokens(student, tokenizer)
            student.config.use_cache = True  # gradient checkpointing has turned it off
            yield student
        finally:
            student.generation_config, student.config.use_cache = settings, cached


def _share(outcomes: Sequence[bool]) -> float:
    return sum(outcomes) / len(outcomes)
