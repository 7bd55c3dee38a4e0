"""Self-correction for agents made with ``create_agent``: a critic reads the final answer before the caller.

The critic works in ``after_agent``. There every other middleware has had its ``after_model``, so that each
model call is counted; a jump from ``after_model`` would pass over the hooks of whoever stands before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, NotRequired

from langchain.agents.middleware import (
    AgentMiddleware,
    AgentState,
    ExtendedModelResponse,
    ModelRequest,
    ModelResponse,
    hook_config,
)
from langchain.agents.middleware.types import ContextT, OmitFromInput, PrivateStateAttr, ResponseT
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.config import get_config
from langgraph.constants import TAG_NOSTREAM
from langgraph.runtime import Runtime
from langgraph.types import Command

from supercorrect_agent.calls import Effect, Flow, adrive, call_config, drive
from supercorrect_agent.errors import ConfigError
from supercorrect_agent.events import report_critique
from supercorrect_agent.plugin.messages import (
    SOURCE,
    feedback_message,
    final_answer,
    last_question,
    read_answer,
    sent_back,
)
from supercorrect_agent.progress import dump, failure_text, summarize_usage
from supercorrect_agent.running import model_of
from supercorrect_agent.state import MAX_ROUNDS
from supercorrect_agent.teachers import Teacher, as_teacher
from supercorrect_agent.types import Critique, Solution

Update = dict[str, Any]
Ending = tuple[str, str]


class SelfCorrectionState(AgentState[ResponseT]):
    """The agent's state with the report, which is returned, and what the middleware remembers, which is not.

    ``self_correction_answer`` is the last answer that the model itself wrote: its message ``id`` and, where
    the agent's own model is the critic, its review (``critique`` and ``usage``, or ``error``).
    """

    self_correction: NotRequired[Annotated[dict[str, Any], OmitFromInput]]
    self_correction_count: NotRequired[Annotated[int, PrivateStateAttr]]
    self_correction_answer: NotRequired[Annotated[dict[str, Any], PrivateStateAttr]]


class SelfCorrectionMiddleware(AgentMiddleware[SelfCorrectionState[ResponseT], ContextT, ResponseT]):
    """Has a critic look for the first wrong step of the agent's final answer, and the agent correct it.

    The critic sees the question and the final answer, nothing else of the conversation. Where it names a
    step, the model is asked again with a message that says which step is wrong, why, and how it should read.
    An answer without readable steps is judged as one step; one without words (a structured response by tool
    call, or a message that another middleware put in the model's place) is not reviewed.

    The result has a key ``self_correction`` with ``status``, ``reason`` and ``critiques`` (each with
    ``step``, ``cause``, ``correction``, ``author``, the ``answer`` it is about, and the ``usage`` of the
    critic's calls per role, which no message of the agent carries). The status is

    - ``accepted``: no error was found in the first answer;
    - ``corrected``: an error was found, and none in the answer after it;
    - ``budget``: the last answer still has an error and no correction is left, or the agent was stopped
      before it could answer again (then its last answer is put at the end once more);
    - ``stalled``: the same answer came back to the same critique;
    - ``parse_error``: the critique could not be read;
    - ``error``: the critic failed, and the answer stands;
    - ``unreviewed``: the run did not end with words of the model.

    Args:
        teacher: The critic: a chat model, a Teacher or a string for ``as_teacher``. None: the agent's own
            model, asked once more inside its ``model`` node.
        max_corrections: How often one run may be sent back to the model, from 0 (report only) to 8. The
            critic is asked at most once more than that.
        question: Finds the problem in the agent's messages; by default the last message a person wrote.

    Raises:
        ConfigError: An argument is of the wrong kind or out of bounds.
        ModelError: A named model cannot be loaded.
    """

    state_schema = SelfCorrectionState  # type: ignore[assignment]

    def __init__(
        self,
        teacher: str | BaseChatModel | Teacher | None = None,
        *,
        max_corrections: int = 1,
        question: Callable[[Sequence[BaseMessage]], str] = last_question,
    ) -> None:
        super().__init__()
        if not isinstance(max_corrections, int) or not 0 <= max_corrections <= MAX_ROUNDS:
            raise ConfigError(
                f"`max_corrections={max_corrections!r}` is no number of corrections. "
                f"Pass a whole number from 0 to {MAX_ROUNDS}."
            )
        self.teacher = None if teacher is None else as_teacher(teacher)
        self.max_corrections = max_corrections
        self.question = question

    def before_agent(self, state: SelfCorrectionState[ResponseT], runtime: Runtime[ContextT]) -> Update:
        """Forgets the last run of the thread."""
        return {"self_correction": {}, "self_correction_count": 0, "self_correction_answer": {}}

    def wrap_model_call(
        self,
        request: ModelRequest[ContextT],
        handler: Callable[[ModelRequest[ContextT]], ModelResponse[ResponseT]],
    ) -> ExtendedModelResponse[ResponseT]:
        """Notes what the model itself wrote; has it review that if there is no other critic."""
        response = handler(request)
        return _noted(response, drive(self._note(request, response)))

    async def awrap_model_call(
        self,
        request: ModelRequest[ContextT],
        handler: Callable[[ModelRequest[ContextT]], Awaitable[ModelResponse[ResponseT]]],
    ) -> ExtendedModelResponse[ResponseT]:
        """As ``wrap_model_call``."""
        response = await handler(request)
        return _noted(response, await adrive(self._note(request, response)))

    @hook_config(can_jump_to=["model"])
    def after_agent(self, state: SelfCorrectionState[ResponseT], runtime: Runtime[ContextT]) -> Update:
        """Has the answer reviewed, and either lets it pass or sends it back with the critique."""
        return drive(self._review(state))

    @hook_config(can_jump_to=["model"])
    async def aafter_agent(self, state: SelfCorrectionState[ResponseT], runtime: Runtime[ContextT]) -> Update:
        """As ``after_agent``."""
        return await adrive(self._review(state))

    def _note(self, request: ModelRequest[ContextT], response: ModelResponse[ResponseT]) -> Flow[Update]:
        answer = final_answer(response.result)
        if answer is None or answer.id is None:  # what has no id was put in the model's place
            return {}
        note: Update = {"id": answer.id}
        if self.teacher is None:
            state: Update = {**request.state}
            question, number = self.question(state["messages"]), state.get("self_correction_count", 0) + 1
            note |= yield from _ask(as_teacher(request.model), question, read_answer(answer), number)
        return {"self_correction_answer": note}

    def _review(self, state: SelfCorrectionState[ResponseT]) -> Flow[Update]:
        messages, count = state["messages"], state.get("self_correction_count", 0)
        note = state.get("self_correction_answer") or {}
        answer = final_answer(messages)
        if answer is None or answer.id != note.get("id"):
            return _stopped(state)
        solution = read_answer(answer)
        if self.teacher is not None:
            note = yield from _ask(self.teacher, self.question(messages), solution, count + 1)
        earlier = state["self_correction"]["critiques"] if count else []
        if "error" in note:
            return _ended(("error", note["error"]), earlier)
        found = Critique.model_validate(note["critique"])
        report_critique(found, count + 1)
        critiques = [*earlier, _entry(found, solution, note["usage"])]
        ending = self._ending(found, solution, earlier, count)
        if ending:
            return _ended(ending, critiques)
        # what is true if the run is stopped now; the next review says otherwise
        unanswered = f"step {found.step} is wrong, and the agent was stopped before it answered again"
        return {
            **_ended(("budget", unanswered), critiques),
            "jump_to": "model",
            "self_correction_count": count + 1,
            "messages": [feedback_message(solution, found)],
        }

    def _ending(
        self, found: Critique, solution: Solution, earlier: list[Update], count: int
    ) -> Ending | None:
        """How a critique ends the run after ``count`` corrections; None where there is one more to make."""
        step, steps = found.step, len(solution.steps)
        if not found.readable:
            return "parse_error", f"the critique by '{found.author}' could not be read"
        if step is None:
            return "corrected" if count else "accepted", "the critic finds no error"
        if step > steps:
            return "parse_error", f"the critique names step {step} of an answer with {steps} steps"
        same = earlier and (earlier[-1]["step"], earlier[-1]["answer"]) == (step, solution.answer)
        if same and solution.answer is not None:
            return "stalled", f"step {step} was corrected and the answer is still {solution.answer}"
        if count >= self.max_corrections:
            return "budget", f"step {step} is wrong, and max_corrections={self.max_corrections} were made"
        return None


def _ask(teacher: Teacher, question: str, solution: Solution, number: int) -> Flow[Update]:
    """One critique as the state keeps it: ``critique`` and ``usage``, or ``error`` in words."""
    config = _critic_config(number)
    try:
        found, calls = yield Effect(
            lambda: teacher.critique(question, solution, config=config),
            lambda: teacher.acritique(question, solution, config=config),
        )
    except Exception as failure:
        return {"error": failure_text("teacher", failure, model_of(teacher))}
    return {"critique": dump(found), "usage": summarize_usage(calls)}


def _critic_config(number: int) -> RunnableConfig:
    """The run's config for a critic, whose tokens are no part of the agent's answer and so not streamed."""
    config = call_config(get_config(), role="teacher", name="teacher_critique", round=number)
    return {**config, "tags": [*config["tags"], TAG_NOSTREAM]}


def _noted(response: ModelResponse[ResponseT], update: Update) -> ExtendedModelResponse[ResponseT]:
    return ExtendedModelResponse(response, Command(update=update) if update else None)


def _ended(ending: Ending, critiques: list[Update]) -> Update:
    status, reason = ending
    return {"self_correction": {"status": status, "reason": reason, "critiques": critiques}}


def _stopped(state: SelfCorrectionState[ResponseT]) -> Update:
    """The run did not end with words of the model; an answer that was sent back is put at the end again.

    Unless a tool's result or a structured response stands there: that is what the agent made of the critique.
    """
    answer = sent_back(state["messages"])
    if answer is None or isinstance(state["messages"][-1], ToolMessage):
        critiques = state["self_correction"]["critiques"] if answer else []
        return _ended(("unreviewed", "the agent gave no answer in words"), critiques)
    again = AIMessage(answer.content, name=answer.name, additional_kwargs=dict(SOURCE))
    return {"messages": [again]}


def _entry(found: Critique, solution: Solution, usage: Update) -> Update:
    kept = found.model_dump(include={"step", "cause", "correction", "author"})
    return {**kept, "answer": solution.answer, "usage": usage}
