"""Pure functions over a run's state: what the nodes read of it, and what they write into it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.retrievers import BaseRetriever
from langgraph.types import Overwrite
from pydantic import SecretStr

from supercorrect_agent.calls import storable
from supercorrect_agent.errors import ConfigError, SuperCorrectError
from supercorrect_agent.models import explain_model_error
from supercorrect_agent.reducers import fill_in, fill_in_by_number
from supercorrect_agent.state import Progress
from supercorrect_agent.student import Student
from supercorrect_agent.types import Call, Critique, Record, Role, TraceStatus, Verdict

REASON_LENGTH = 1000  # characters
_UNSET: dict[str, Any] = {
    **{"answer": None, "solution": None, "status": "", "reason": "", "usage": {}, "trace": {}},
    **{"votes": [], "agreement": None, "samples": [], "overlap": 0.0, "examples": []},
    **{"template": None, "template_inspections": [], "template_revisions": []},
    **{"notes": "", "revisions": 0},
}
_REDUCERS: dict[str, Callable[[Any, Any], Any]] = {
    "first": fill_in,
    "rounds": fill_in_by_number,
    "calls": fill_in_by_number,
}
_TOLD = {"step": None, "cause": "", "correction": "", "author": ""}  # what a caller reads of a critique


def dump(record: Record) -> dict[str, Any]:
    """A record as it is kept in the state: JSON-native, without the fields that have their default."""
    fields: dict[str, Any] = _all_storable(record.model_dump(mode="json", exclude_defaults=True))
    return fields


def _all_storable(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, list):
        return [_all_storable(one) for one in value]
    return {key: _all_storable(one) for key, one in value.items()} if isinstance(value, dict) else value


def ended(status: TraceStatus, reason: str, *, left: str = "") -> dict[str, str]:
    """The ``ending`` of a decided run, its reason in one line; ``left`` says what a failure left undone."""
    line = storable(" ".join(reason.split()))[:REASON_LENGTH]
    return {"status": status, "reason": line, **({"left": left} if left else {})}


def failure_text(who: str, failure: Exception, model: BaseChatModel | BaseRetriever | None = None) -> str:
    """One line that says who failed and how, with the remedy where a model server is the cause."""
    of_openai = any(kind.__module__.startswith("openai") for kind in type(failure).__mro__)
    if isinstance(model, BaseChatModel) and of_openai:
        failure = explain_model_error(failure, model)
    kind = "" if isinstance(failure, SuperCorrectError) else f"{type(failure).__name__}: "
    words = storable(" ".join(_without_keys(str(failure), model).split())[:500])
    return f"{who}: {kind}{words}"


def _without_keys(text: str, model: object) -> str:
    """A server's words without the model's API keys, which some servers repeat in an error."""
    for secret in filter(None, _secrets(model)):
        text = text.replace(secret, "***")
    return text


def _secrets(holder: object, depth: int = 3) -> Iterator[str]:
    """The keys that an object has, or what it is made of: a retriever's vector store has embeddings."""
    if isinstance(holder, SecretStr):
        yield holder.get_secret_value()
    elif depth and hasattr(holder, "__dict__"):
        for value in list(vars(holder).values()):
            yield from _secrets(value, depth - 1)


def begin_run(state: Mapping[str, Any], calls: Sequence[dict[str, Any]] = (), **first: Any) -> dict[str, Any]:
    """What a run's first node writes: nothing of an earlier run of the thread is left.

    Args:
        state: The state before.
        calls: The node's calls.
        first: What is known of the first solution (``solution``, ``verdict``).
    """
    given = {"solution": None, **first}
    made = fill_in_by_number([], [list(calls)])
    if not any(state.get(key) for key in _REDUCERS):  # a new thread: its updates are plain values
        return {**unset(state, *_UNSET), "first": given, "calls": made, "ending": {}}
    return {
        **unset(state, *_UNSET),
        "first": Overwrite(given),
        "rounds": Overwrite([]),
        "calls": Overwrite(made),
        "ending": {},
    }


def unset(state: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """The update that empties keys. An empty one is not written: a key costs room in every checkpoint."""
    return {key: _UNSET[key] for key in keys if state.get(key)}


def after(state: Any, update: Mapping[str, Any]) -> Any:
    """The state as it will be after an update that begins no run."""
    new = {key: reduce(state[key], [update[key]]) for key, reduce in _REDUCERS.items() if key in update}
    return {**state, **update, **new}


def in_round(state: Progress, **fields: Any) -> dict[str, Any]:
    """The update that fills in the open round, or opens the next one."""
    opened = {} if open_round(state) else {**_TOLD, "solution": None, "answer": None, "continuation": ""}
    return {"rounds": [{"number": round_number(state), **opened, **fields}]}


def told(critique: Critique) -> dict[str, Any]:
    """A critique as fields of its round; ``details`` are those that most callers do not read."""
    fields = {**_TOLD, **dump(critique)}
    return {**{key: fields.pop(key) for key in _TOLD}, "details": fields}


def revised(student: Student, text: str, how: str) -> dict[str, Any]:
    """A revised solution as fields of its round, which it closes."""
    return {"solution": text, "answer": student.read(text).answer, "continuation": how}


def open_round(state: Progress) -> dict[str, Any]:
    """The round that has no revised solution yet, or {}; a decided run may leave one open."""
    last = state["rounds"][-1] if state["rounds"] else {}
    return {} if last.get("solution") is not None else last


def critique_of(state: Progress) -> Critique:
    """The open critique."""
    return read_critique(open_round(state))


def read_critique(entry: Mapping[str, Any]) -> Critique:
    """The critique of a round."""
    return Critique(**{key: entry[key] for key in _TOLD}, **entry.get("details", {}))


def solutions(state: Progress) -> list[dict[str, Any]]:
    """The entries that have a solution: the first one and the rounds that were closed.

    Raises:
        ConfigError: The thread is in the middle of a run whose beginning is not in its state.
    """
    if not state["first"]:
        raise ConfigError(
            "This thread is in the middle of a run and its solutions are missing: another version of "
            "supercorrect-agent began it, or its checkpoints were pruned. Pass the problem to begin again."
        )
    return [entry for entry in (state["first"], *state["rounds"]) if entry.get("solution") is not None]


def corrections(state: Progress) -> int:
    """How many revised solutions there are so far."""
    return sum(entry.get("solution") is not None for entry in state["rounds"])


def round_number(state: Progress) -> int:
    """The number, from 1, of the round that is open or comes next."""
    return corrections(state) + 1


def current_text(state: Progress) -> str:
    """The solution that is being worked on: the last revision, else the first solution."""
    found = solutions(state)
    return str(found[-1]["solution"]) if found else ""


def current_verdict(state: Progress) -> Verdict:
    """The verdict on the last solution that has one."""
    judged = [entry["verdict"] for entry in solutions(state) if entry.get("verdict")]
    return Verdict.model_validate(judged[-1])


def with_verdict(state: Progress, verdict: Verdict) -> dict[str, Any]:
    """The update that records the verdict on the solution that is being worked on."""
    done = corrections(state)
    judged = {"verdict": dump(verdict)}
    return {"rounds": [{"number": done, **judged}]} if done else {"first": judged}


def last_answers(state: Progress, student: Student, count: int) -> list[str | None]:
    """The answers of the last ``count`` solutions, in order; none where there are fewer solutions."""
    texts = [entry["solution"] for entry in solutions(state)]
    return [student.read(text).answer for text in texts[-count:]] if len(texts) >= count else []


def last_step(state: Progress) -> int | None:
    """The step that was corrected last."""
    done = corrections(state)
    step: int | None = state["rounds"][done - 1]["step"] if done else None
    return step


def summarize_usage(calls: Iterable[Call], roles: Iterable[Role] = ()) -> dict[str, dict[str, Any]]:
    """Input tokens, output tokens, calls and seconds by role; ``roles`` are there without a call, too."""
    none = {"input_tokens": 0, "output_tokens": 0, "calls": 0, "seconds": 0.0}
    usage: dict[str, dict[str, Any]] = {role: dict(none) for role in roles}
    for call in calls:
        total = usage.setdefault(call.role, dict(none))
        total["input_tokens"] += call.input_tokens
        total["output_tokens"] += call.output_tokens
        total["calls"] += 1
        total["seconds"] = round(total["seconds"] + call.seconds, 4)
    return usage
