"""Several samples of the student, side by side, and the vote on their answers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

from langchain_core.globals import get_llm_cache
from langchain_core.runnables import RunnableConfig
from langgraph.types import Send

from supercorrect_agent.calls import Effect, Flow, Reply, storable
from supercorrect_agent.events import report, report_solution
from supercorrect_agent.limits import OutOfTime
from supercorrect_agent.progress import begin_run, dump, ended, failure_text
from supercorrect_agent.running import Update
from supercorrect_agent.solver import Solver, check_run
from supercorrect_agent.state import SolveState
from supercorrect_agent.student import Student, Turn
from supercorrect_agent.types import TraceStatus
from supercorrect_agent.verification import MathVerifier, Verifier

COMPARE_SECONDS = 1.0  # of algebra for one pair of answers: there may be many pairs
VOTE_SECONDS = 20.0  # after which answers are equal only if their texts are


def first_nodes(solver: Solver, state: SolveState) -> str | list[Send]:
    """Where a run begins: with one solution, or with as many samples as are wanted."""
    wanted = solver.settings().samples
    if wanted == 1:
        return "student_solve"
    # The node of a Send sees nothing but this, so that a saver stores the examples with each sample: at most
    # MAX_SAMPLES times MAX_EXAMPLES times EXAMPLE_LIMIT characters, 2 MB.
    given = {"problem": storable(state["problem"]), "examples": state.get("examples", []), "run": uuid4().hex}
    return [Send("student_sample", {**given, "index": index}) for index in range(wanted)]


def student_sample(solver: Solver, state: dict[str, Any], config: RunnableConfig) -> Flow[Update]:
    """Asks the student for one of several solutions. One that fails is left to the vote."""
    settings = solver.settings()
    check_run(state["problem"], settings, config)
    turn = _warm(solver.turn(config), settings.sample_temperature)
    sample: Update = {"run": state["run"], "index": state["index"], "started": time.time()}
    try:
        student, examples = _uncached(solver.student), state.get("examples", ())
        reply: Reply = yield student.solve(state["problem"], turn, examples)
        sample |= {"text": reply.text, "call": dump(reply.call)}
    except Exception as failure:
        sample |= {"failure": failure_text("student", failure, solver.student.model)}
        sample |= {"late": True} if isinstance(failure, OutOfTime) else {}
    return {"samples": [{**sample, "ended": time.time()}]}


def _warm(turn: Turn, temperature: float | None) -> Turn:
    sampling = {**turn.sampling, "temperature": temperature}
    return replace(turn, sampling={key: value for key, value in sampling.items() if value is not None})


def _uncached(student: Student) -> Student:
    """The student without LangChain's cache, from which all samples would be the same."""
    if student.model.cache is False or (student.model.cache is None and get_llm_cache() is None):
        return student
    return replace(student, model=student.model.model_copy(update={"cache": False}))


def student_vote(solver: Solver, state: SolveState, config: RunnableConfig) -> Flow[Update]:
    """Takes the vote: the first sample of the majority goes on, and any earlier run is forgotten."""
    samples = state["samples"]
    given = [one for one in samples if "failure" not in one]
    if not given:
        reason = f"all {len(samples)} samples failed: {samples[0]['failure']}"
        status: TraceStatus = "budget" if all(one.get("late") for one in samples) else "error"
        return {**begin_run(state), "ending": ended(status, reason, left="there is no answer")}
    answers = [solver.student.read(one["text"]).answer for one in given]
    parties = yield from vote(answers, MathVerifier(seconds=COMPARE_SECONDS))
    text = given[parties[0][0] if parties else 0]["text"]
    votes = [{"answer": answers[party[0]], "count": len(party)} for party in parties]
    agreement = len(parties[0]) / len(samples) if parties else 0.0
    report("vote", 0, votes=votes, agreement=agreement)
    report_solution(solver.student, text)
    begun = begin_run(state, [one["call"] for one in given], solution=text)
    return {**begun, "votes": votes, "agreement": agreement, "overlap": overlap(samples)}


def vote(
    answers: Sequence[str | None], verifier: Verifier, seconds: float = VOTE_SECONDS
) -> Flow[list[list[int]]]:
    """Groups the samples whose answers are equal to the verifier.

    Args:
        answers: The samples' answers; None does not vote.
        verifier: Compares an answer with the first one of a group.
        seconds: How long it is asked, in all: 32 answers make 496 pairs. After that, texts are compared.

    Returns:
        The places of each group's samples in ``answers``, the largest group first; between equal groups
        the one that was first comes first.
    """
    parties: list[list[int]] = []
    late = time.monotonic() + seconds
    for place, answer in enumerate(answers):
        if answer is None:
            continue
        for party in parties:
            if (yield from _equal(verifier, answers[party[0]], answer, late)):
                party.append(place)
                break
        else:
            parties.append([place])
    return sorted(parties, key=len, reverse=True)


def _equal(verifier: Verifier, target: str | None, answer: str, late: float) -> Flow[bool]:
    if target is not None and " ".join(target.split()) == " ".join(answer.split()):
        return True
    if time.monotonic() >= late:
        return False
    verdict = yield Effect(
        lambda: verifier.verify(answer=answer, target=target),
        lambda: verifier.averify(answer=answer, target=target),
    )
    return bool(verdict.correct)


def overlap(samples: Sequence[Mapping[str, Any]]) -> float:
    """By how many seconds the samples' calls together are longer than the time in which they were made."""
    total, last = 0.0, float("-inf")
    for start, end in sorted((one["started"], one["ended"]) for one in samples):
        total += max(0.0, end - max(start, last))
        last = max(last, end)
    in_calls: float = sum(one["call"].get("seconds", 0.0) for one in samples if "call" in one)
    return in_calls - total
