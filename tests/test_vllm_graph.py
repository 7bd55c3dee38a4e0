"""The solving graph over HTTP: the sandbox student and an adapter behind a real vLLM server (CPU build)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessageChunk

from supercorrect_agent.graph import create_supercorrect_graph
from supercorrect_agent.sandbox import sandbox_prompts, student_path
from supercorrect_agent.sandbox.world import generate_problems
from supercorrect_agent.state import CorrectionConfig
from supercorrect_agent.student import kept_text
from supercorrect_agent.types import Round, Solution, Trace
from tests.tiny_adapter import build_tiny_adapter
from tests.vllm_server import MODEL_NAME, serve, skip_without_vllm
from training.config import ServeConfig
from training.serve import serve_adapter

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1200)]

PUPIL = "pupil"
CONTEXT = 1024  # the sandbox student's
PROBLEMS = generate_problems("test", 32, seed=0)
GIVEN: list[Any] = [{"problem": problem.question} for problem in PROBLEMS]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small enough that the student still solves problems, large enough that some of its words change."""
    return build_tiny_adapter(student_path(), tmp_path_factory.mktemp("pupil") / "adapter", spread=0.03)


@pytest.fixture(scope="module")
def url(adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with the sandbox student as ``MODEL_NAME`` and, on top of it, the adapter as ``PUPIL``."""
    skip_without_vllm()
    log = tmp_path_factory.mktemp("vllm-graph") / "server.log"
    with serve(student_path(), log, context=CONTEXT) as url:
        assert serve_adapter(adapter, "sandbox", ServeConfig(url=url, name=PUPIL)).loaded
        yield url


@pytest.fixture(scope="module")
def spec(url: str) -> str:
    return f"vllm:{PUPIL}@{url}"


def solver(student: str, teacher: str | None = "sandbox", **bounds: Any) -> Any:
    """The student is asked greedily, in the words that it was trained with."""
    config = CorrectionConfig(max_new_tokens=256, temperature=0.0, **bounds)
    return create_supercorrect_graph(student, teacher, prompts=sandbox_prompts(), config=config)


def solve_at_once(graph: Any) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = asyncio.run(graph.abatch(GIVEN))
    return results


@pytest.fixture(scope="module")
def results(spec: str) -> list[dict[str, Any]]:
    """All problems, solved at once."""
    return solve_at_once(solver(spec))


def first_texts(results: list[dict[str, Any]]) -> list[str]:
    return [result["trace"]["solution"]["raw"] for result in results]


def corrections(results: list[dict[str, Any]]) -> list[tuple[Solution, Round]]:
    """Every round in which something was rewritten, with the solution that it is about."""
    found = []
    for result in results:
        trace = Trace.model_validate(result["trace"])
        assert trace.solution is not None
        solution = trace.solution
        for one in trace.rounds:
            if one.solution is not None:
                found.append((solution, one))
                solution = one.solution
    return found


def test_32_problems_at_once_all_end_and_every_token_is_counted(results: list[dict[str, Any]]) -> None:
    assert len(results) == 32
    assert {result["status"] for result in results} <= {"accepted", "corrected", "budget", "stalled"}
    for result in results:
        assert set(result["usage"]) == {"student", "teacher"}
        for used in result["usage"].values():
            assert used["calls"] > 0
            assert used["input_tokens"] > 0
            assert used["output_tokens"] > 0
    right = [result["answer"] == one.answer for result, one in zip(results, PROBLEMS, strict=True)]
    assert sum(right) > 24  # 31 in this process


def test_one_after_another_they_have_the_same_answers(spec: str, results: list[dict[str, Any]]) -> None:
    graph = solver(spec)
    alone = [graph.invoke(given)["answer"] for given in GIVEN]
    assert alone == [result["answer"] for result in results]


def test_a_correction_goes_on_from_the_verbatim_text_before_the_wrong_step(
    results: list[dict[str, Any]],
) -> None:
    found = corrections(results)
    assert {one.continuation for _, one in found} == {"prefill"}
    assert {one.critique.step for _, one in found} >= {1, 2, 3}
    for before, one in found:
        step, after = one.critique.step, one.solution
        assert step is not None
        assert after is not None
        kept = kept_text(before, one.critique)
        assert kept.startswith(before.prefix(step) + f"<Step{step}>")
        assert after.raw.startswith(kept)
        # a new turn would have begun again with the first step
        assert after.raw.count("<Step1>") == 1
        assert len(after.raw) > len(kept)
        assert after.answer is not None


def test_the_adapters_name_is_the_model_and_its_weights_write(
    url: str, adapter: Path, results: list[dict[str, Any]]
) -> None:
    calls = [call for result in results for call in result["trace"]["calls"] if call["role"] == "student"]
    assert {call["model"] for call in calls} == {PUPIL}
    here = solve_at_once(solver(f"local:{student_path()}+{adapter}", max_rounds=0))
    assert first_texts(here) == first_texts(results)
    base = solve_at_once(solver(f"vllm:{MODEL_NAME}@{url}", max_rounds=0))
    assert first_texts(base) != first_texts(results)


async def test_a_stream_shows_tokens_by_role_and_rounds_and_counts_the_same_tokens(
    spec: str, results: list[dict[str, Any]]
) -> None:
    place = next(place for place, result in enumerate(results) if result["status"] == "corrected")
    tokens: list[tuple[AIMessageChunk, dict[str, Any]]] = []
    events: list[dict[str, Any]] = []
    final: dict[str, Any] = {}
    modes = ["messages", "custom", "values"]
    async for mode, item in solver(spec).astream(GIVEN[place], stream_mode=modes):
        if mode == "messages":
            tokens.append(item)
        elif mode == "custom":
            events.append(item)
        else:
            final = item
    trace = Trace.model_validate(final["trace"])
    first = trace.rounds[0]
    assert trace.solution is not None
    assert first.solution is not None

    def pieces(node: str, number: int) -> list[str]:
        mine = [(str(chunk.text), known) for chunk, known in tokens if known["langgraph_node"] == node]
        assert all("role:student" in known["tags"] for _, known in mine)
        return [text for text, known in mine if known["round"] == number and text]

    draft, rest = pieces("student_solve", 0), pieces("student_correct", 1)
    assert min(len(draft), len(rest)) > 5
    assert "".join(draft) == trace.solution.raw
    assert kept_text(trace.solution, first.critique) + "".join(rest) == first.solution.raw
    assert [event["event"] for event in events[:3]] == ["solution", "critique", "correction"]
    assert (events[-1]["event"], events[-1]["status"]) == ("done", "corrected")
    assert counted(final) == counted(results[place])


def counted(result: dict[str, Any]) -> dict[str, tuple[int, int, int]]:
    keys = ("calls", "input_tokens", "output_tokens")
    return {role: tuple(used[key] for key in keys) for role, used in result["usage"].items()}


async def test_without_a_teacher_the_student_reviews_itself(spec: str) -> None:
    results = await solver(spec, None, max_rounds=1).abatch(GIVEN[:8])
    assert {result["status"] for result in results} & {"error", "parse_error"} == set()
    authors = {one["author"] for result in results for one in result["rounds"]}
    assert authors == {PUPIL}
    assert all(result["usage"]["student"]["calls"] >= 2 for result in results)
