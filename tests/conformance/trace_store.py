"""What every trace store must do. Subclass it and give a ``store`` fixture with an empty store.

    class TestMine(TraceStoreConformance):
        @pytest.fixture
        def store(self) -> TraceStore:
            return MyStore()

A store that something happens to between writing and reading (it is closed, compacted, opened anew) overrides
``reopened``.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from supercorrect_agent.store import TraceStore, trace_key
from supercorrect_agent.types import (
    Alternative,
    Call,
    Chosen,
    Critique,
    Inspection,
    Problem,
    Revision,
    Round,
    Solution,
    Step,
    TemplateRevision,
    Trace,
    Verdict,
    Vote,
)


def make_trace(number: int = 0, **changes: object) -> Trace:
    fields: dict[str, object] = {
        "id": f"trace-{number}",
        "problem": Problem(id=f"problem-{number}", question="What is 2+2?", answer="4"),
        "solution": Solution(steps=(Step(index=1, text="2+2=5"),), answer="5", raw="<Step1>2+2=5</Step1>"),
        "status": "accepted",
    }
    return Trace.model_validate(fields | changes)


def full_trace() -> Trace:
    """A trace in which no field has its default."""
    critique = Critique(
        step=1, cause="not 5", correction="2+2=4", author="teacher", raw="<Cause>", answer="4",
        confidence=0.5, cause_step=1, correction_step=2, readable=True,
    )  # fmt: skip
    failed = Inspection(check="correction", passed=False, note="changes nothing")
    right = Verdict(status="correct", reason="equal")
    solution = Solution(
        steps=(Step(index=1, text="2+2=4", key="add", start=0, end=20),), generalized="Add.", answer="4",
        raw="<Step1>2+2=4</Step1>", model="m",
    )  # fmt: skip
    round_ = Round(
        critique=critique, revisions=(Revision(critique=Critique(step=2), inspections=(failed,)),),
        review=Critique(readable=False), free_review=Critique(step=3), solution=solution, verdict=right,
        inspections=(Inspection(check="leak", passed=True),),
        alternatives=(Alternative(source="student_rewrite", critique=critique, verdict=right),),
        continuation="prefill",
    )  # fmt: skip
    sampling = {"stop": ["</Answer>"], "top_p": 0.9, "seed": 7, "extra": {"min_p": 0.1}, "echo": None}
    call = Call(
        role="teacher", model="t", prompt="p@1", sampling=sampling, input_tokens=10, output_tokens=20,
        seconds=1.5, round=1,
    )  # fmt: skip
    return make_trace(
        template=solution, template_inspections=(failed,),
        template_revisions=(TemplateRevision(solution=solution, inspections=(failed,)),),
        solution=solution.model_copy(update={"answer": "5"}),
        verdict=Verdict(status="incorrect", reason="5"), rounds=(round_,),
        chosen=Chosen(index=1, reason="verified"), status="corrected", calls=(call,), error="none",
        sample=2, votes=(Vote(answer="4", count=3),), agreement=0.75, created="2026-11-30T12:00:00Z",
        versions={"prompts": "1"},
    )  # fmt: skip


class TraceStoreConformance:
    """The tests. Each begins with an empty store."""

    def reopened(self, store: TraceStore) -> TraceStore:
        """The store as its next reader finds it."""
        return store

    def test_is_a_trace_store(self, store: TraceStore) -> None:
        assert isinstance(store, TraceStore)

    def test_starts_empty(self, store: TraceStore) -> None:
        assert list(store) == []
        assert store.keys() == set()
        assert store.done() == set()
        assert store.skipped == 0

    def test_returns_equal_traces_in_order_and_again(self, store: TraceStore) -> None:
        traces = [make_trace(2), make_trace(1), make_trace(2, sample=1)]
        for trace in traces:
            store.append(trace)
        assert list(store) == traces
        found = self.reopened(store)
        assert list(found) == traces
        assert list(found) == traces
        assert found.keys() == {("problem-2", 0), ("problem-1", 0), ("problem-2", 1)}

    def test_keeps_a_trace_that_it_has_already(self, store: TraceStore) -> None:
        store.append(make_trace(1))
        store.append(make_trace(1))
        assert list(self.reopened(store)) == [make_trace(1), make_trace(1)]

    @pytest.mark.parametrize(
        "text",
        [
            "\ud800 alone",
            "NUL \0 inside",
            "line\nbreaks\r\n\u2028\x85",
            "∪ 😀 \\frac{1}{2}",
            'quotes " and \\',
            pytest.param("x" * 10**6, id="a million letters"),
        ],
    )
    def test_keeps_any_text(self, store: TraceStore, text: str) -> None:
        problem = Problem(id=text[:50], question=text, answer=text)
        trace = make_trace(problem=problem, solution=Solution(raw=text), error=text)
        store.append(trace)
        found = self.reopened(store)
        assert list(found) == [trace]
        assert found.done() == {trace_key(problem, 0)}

    def test_keeps_every_field(self, store: TraceStore) -> None:
        trace = full_trace()
        assert {name for name, value in trace if value == type(trace).model_fields[name].default} == {
            "schema_version"
        }
        store.append(trace)
        assert list(self.reopened(store)) == [trace]

    @pytest.mark.parametrize("value", [2**70, -(2**64), float("inf"), 1e-320])
    def test_keeps_any_number(self, store: TraceStore, value: float) -> None:
        call = Call(role="student", model="m", sampling={"seed": value, "more": {"of": [value]}}, seconds=1)
        trace = make_trace(calls=(call,))
        store.append(trace)
        assert list(self.reopened(store)) == [trace]

    def test_done_are_all_but_those_that_failed(self, store: TraceStore) -> None:
        store.append(make_trace(1))
        store.append(make_trace(2, status="error", error="no server"))
        store.append(make_trace(3, status="quarantined"))
        store.append(make_trace(4, status="error"))
        store.append(make_trace(4, sample=1))
        found = self.reopened(store)
        wanted = {(1, 0), (3, 0), (4, 1)}
        assert found.done() == {trace_key(make_trace(number).problem, sample) for number, sample in wanted}
        assert found.keys() == {(f"problem-{n}", s) for n, s in wanted | {(2, 0), (4, 0)}}

    def test_done_tells_questions_of_one_id_apart(self, store: TraceStore) -> None:
        problem = make_trace(1).problem
        store.append(make_trace(1))
        found = self.reopened(store).done()
        assert trace_key(problem.model_copy(update={"question": " What is\n2+2? "}), 0) in found
        assert trace_key(problem.model_copy(update={"question": "What is 3+3?"}), 0) not in found

    def test_threads_append_at_once(self, store: TraceStore) -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(store.append, map(make_trace, range(40))))
        assert self.reopened(store).keys() == {(f"problem-{number}", 0) for number in range(40)}

    def test_goes_on_after_it_was_flushed_and_closed(self, store: TraceStore) -> None:
        with store as entered:
            assert entered is store
            store.append(make_trace(1))
            store.flush()
            store.append(make_trace(2))
        store.close()
        store.append(make_trace(3))
        store.flush()
        assert [trace.id for trace in self.reopened(store)] == ["trace-1", "trace-2", "trace-3"]
