"""The inspector in the collecting graph: rules, then a model; revisions, quarantine, what is trained on."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda

from supercorrect_agent.errors import ConfigError, TeacherError
from supercorrect_agent.graph import create_collecting_graph
from supercorrect_agent.inspector import inspect_critique
from supercorrect_agent.inspector.llm import LLMInspector
from supercorrect_agent.inspector.report import InspectionReport, inspection_report
from supercorrect_agent.models import PREFILL_METADATA
from supercorrect_agent.state import CollectConfig
from supercorrect_agent.teachers.llm import LLMTeacher
from supercorrect_agent.types import Critique, Inspection, Problem, Solution, Trace
from tests.fakes import ScriptedChatModel, ScriptedTeacher, prefilling
from tests.test_collecting import ATTEMPT_ONLY, OWN, PROBLEM, verdict
from tests.test_graph import FOUND, REST, RIGHT, WRONG
from training.pairs import build_preference_dataset
from training.sft_rows import build_sft_dataset

TEMPLATE_ONLY = CollectConfig(attempt=False)


def collect(
    student: Any, teacher: Any, inspector: Any = None, config: CollectConfig = ATTEMPT_ONLY, **given: Any
) -> Trace:
    graph = create_collecting_graph(student, teacher, inspector=inspector, config=config)
    result = graph.invoke({"problem": given.pop("problem", PROBLEM).model_dump(), **given})
    json.dumps(result)
    return Trace.model_validate(result["trace"])


def finds(step: int | None = 2, **flags: Any) -> str:
    """The verdict of a model inspector on a critique."""
    fine = {"format_ok": True, "cause_ok": True, "correction_ok": True, "answer_ok": True, "problems": []}
    return json.dumps({**fine, "first_error_step": step, **flags})


def judge(*replies: Any) -> ScriptedChatModel:
    return ScriptedChatModel(replies=list(replies), model_name="judge")


def inspector(*replies: Any) -> ScriptedChatModel:
    return ScriptedChatModel(replies=list(replies), model_name="inspector")


def failed(checks: tuple[Inspection, ...]) -> list[str]:
    return [one.check for one in checks if not one.passed]


def dropped(trace: Trace) -> tuple[dict[str, int], dict[str, int]]:
    """What became of a trace for stage 1 and stage 2: no row, and these reasons."""
    first, second = build_sft_dataset([trace]), build_preference_dataset([trace])
    assert (first[1].kept, second[1].kept) == (0, 0)
    return first[1].dropped, second[1].dropped


class TestModelInspector:
    def test_it_sees_the_reference_and_agrees(self) -> None:
        looking = inspector(finds())
        trace = collect(prefilling(WRONG, OWN, REST), ScriptedTeacher(FOUND), looking)
        text = looking.prompts[0][0].text
        assert "47+85=132, 132*3=396\nAnswer: 396" in text
        assert f"Corrected step 2: {FOUND.correction}" in text
        (only,) = trace.rounds
        assert (trace.status, failed(only.inspections)) == ("corrected", [])
        assert [one.check for one in only.inspections] == [
            "readable", "leak", "step_in_range", "cause", "correction", "arithmetic", "agrees_with_answer",
            "inspector", "inspector_format", "inspector_step", "inspector_cause", "inspector_correction",
            "inspector_answer", "reaches_answer",
        ]  # fmt: skip
        (call,) = [call for call in trace.calls if call.role == "inspector"]
        assert (call.model, call.prompt, call.round) == ("inspector", "supercorrect.inspect@1", 1)

    def test_another_step_goes_back_to_the_teacher_with_its_notes(self) -> None:
        model = judge(verdict(first_wrong_step=1, correction="Add. 47+85=132, so"), verdict())
        complaint = [{"step": 1, "field": "cause", "note": "Step 1 is right."}]
        looking = inspector(finds(problems=complaint), finds())
        trace = collect(prefilling(WRONG, OWN, REST), LLMTeacher(model), looking)
        asked = model.prompts[1][0].text
        assert "- The inspector finds step 2 wrong first." in asked
        assert "- Step 1 is right." in asked
        (only,) = trace.rounds
        assert (only.critique.step, failed(only.inspections), trace.status) == (2, [], "corrected")
        (earlier,) = only.revisions
        assert (earlier.critique.step, failed(earlier.inspections)) == (
            1,
            ["inspector_step", "inspector_cause"],
        )

    def test_it_is_not_asked_about_what_fails_a_rule(self) -> None:
        looking = inspector(finds())
        model = judge(verdict(cause="See the answer key."), verdict())
        collect(prefilling(WRONG, OWN, REST), LLMTeacher(model), looking)
        assert len(looking.prompts) == 1

    def test_a_teacher_that_cannot_revise_is_quarantined(self) -> None:
        trace = collect(prefilling(WRONG), ScriptedTeacher(FOUND), inspector(finds(1)))
        assert trace.status == "quarantined"
        assert trace.chosen.reason == (
            "the critique by 't' failed the checks inspector_step: The inspector finds step 1 wrong first."
        )
        assert dropped(trace) == ({"inspection: inspector_step": 1}, {"inspection: inspector_step": 1})

    def test_one_without_a_verdict_lets_nothing_through_and_the_teacher_is_not_asked_again(self) -> None:
        model = judge(verdict())
        trace = collect(prefilling(WRONG), LLMTeacher(model), inspector("Well.", "Well, well."))
        assert (trace.status, failed(trace.rounds[0].inspections)) == ("quarantined", ["inspector"])
        assert len(model.prompts) == 1

    def test_one_that_fails_is_a_failed_run_that_was_paid_for(self) -> None:
        trace = collect(prefilling(WRONG), ScriptedTeacher(FOUND), inspector("Well.", OSError("down")))
        assert (trace.status, trace.error) == ("error", "inspector: OSError: down")
        assert [call.role for call in trace.calls] == ["student", "teacher", "inspector"]

    def test_a_run_may_do_without_it(self) -> None:
        graph = create_collecting_graph(
            prefilling(WRONG, OWN, REST), ScriptedTeacher(FOUND), inspector=inspector(), config=ATTEMPT_ONLY
        )
        result = graph.invoke({"problem": PROBLEM.model_dump()}, context=CollectConfig(inspector=False))
        assert result["trace"]["status"] == "corrected"

    @pytest.mark.parametrize("kind", ["callable", "runnable", "inspector"])
    def test_any_kind_of_inspector_sees_the_reference(self, kind: str) -> None:
        seen: list[Problem] = []

        def look(problem: Problem, solution: Solution, critique: Critique) -> list[Inspection]:
            seen.append(problem)
            return [Inspection(check="mine", passed=False, note="No.")]

        def by_keys(given: dict[str, Any]) -> list[Inspection]:
            return look(given["problem"], given["solution"], given["critique"])

        looking: Any = {"callable": look, "runnable": RunnableLambda(by_keys)}.get(
            kind, LLMInspector(inspector(finds(1)))
        )
        trace = collect(prefilling(WRONG), ScriptedTeacher(FOUND), looking)
        assert trace.status == "quarantined"
        assert kind == "inspector" or (seen, failed(trace.rounds[0].inspections)) == ([PROBLEM], ["mine"])

    @pytest.mark.parametrize("spec", [None, "rules"])
    def test_the_rules_alone(self, spec: str | None) -> None:
        trace = collect(prefilling(WRONG, OWN, REST), ScriptedTeacher(FOUND), spec)
        assert trace.status == "corrected"

    def test_the_solving_graphs_rules_may_be_named_as_a_callable(self) -> None:
        assert collect(prefilling(WRONG, OWN, REST), ScriptedTeacher(FOUND), inspect_critique).status == (
            "corrected"
        )

    def test_misuse_is_named(self) -> None:
        with pytest.raises(ConfigError, match=r"`inspector` is a int\. Pass a callable that takes a Problem"):
            create_collecting_graph(prefilling(), ScriptedTeacher(), inspector=5)  # type: ignore[arg-type]


def written(*replies: str, about: Any = None, config: CollectConfig = TEMPLATE_ONLY) -> Trace:
    """The trace of a run whose teacher writes these solutions."""
    student = prefilling(RIGHT) if config.attempt else prefilling()
    return collect(student, LLMTeacher(judge(*replies)), about, config)


FINE = '{"format_ok": true, "first_error_step": null, "answer_ok": true, "problems": []}'
LEAKING = RIGHT.replace("Triple.", "As the given solution says, triple.")


class TestTemplates:
    def test_one_that_passes(self) -> None:
        trace = written(RIGHT)
        assert (trace.status, trace.template_revisions) == ("accepted", ())
        assert [(one.check, one.passed) for one in trace.template_inspections] == [
            ("readable", True), ("layout", True), ("leak", True), ("arithmetic", True), ("answer", True),
        ]  # fmt: skip
        assert build_sft_dataset([trace])[1].kept == 1

    def test_one_that_fails_is_written_again_with_the_notes(self) -> None:
        model = judge(LEAKING, RIGHT)
        trace = collect(prefilling(), LLMTeacher(model), config=TEMPLATE_ONLY)
        asked = model.prompts[1][0].text
        assert "- It speaks of a reference that the student never sees." in asked
        assert f"<draft>\n{LEAKING}\n</draft>" in asked
        (earlier,) = trace.template_revisions
        assert earlier.solution is not None
        assert (earlier.solution.raw, failed(earlier.inspections)) == (LEAKING, ["leak"])
        assert trace.template is not None
        assert (trace.template.raw, trace.status) == (RIGHT, "accepted")
        assert len(trace.calls) == 2

    def test_one_that_fails_to_the_last_is_quarantined_and_never_a_row(self) -> None:
        trace = written(*[WRONG] * 4)
        assert (trace.status, len(trace.template_revisions)) == ("quarantined", 3)
        assert trace.chosen.reason.startswith(
            "the teacher's solution failed the checks arithmetic, answer after 3 revisions: "
        )
        assert dropped(trace) == ({"template inspection: arithmetic": 1}, {})

    def test_one_that_fails_does_not_end_a_run_with_an_attempt_and_is_no_row_for_all_that(self) -> None:
        trace = written(*[LEAKING] * 4, config=CollectConfig())
        assert (trace.status, failed(trace.template_inspections)) == ("accepted", ["leak"])
        assert dropped(trace)[0] == {"template inspection: leak": 1}
        whole = build_preference_dataset([trace], pair_format="whole_answer")
        assert whole[1].kept == 0

    def test_garbage_and_empty_replies_end_as_a_named_failure(self) -> None:
        trace = written("I would rather not.", "", " ", "<Step1>")
        assert (trace.status, trace.template) == ("parse_error", None)
        assert [failed(one.inspections) for one in trace.template_revisions] == [["readable"]] * 3
        assert all(one.solution is None for one in trace.template_revisions)
        assert dropped(trace)[0] == {"template inspection: readable": 1}

    def test_a_model_compares_it_with_the_reference(self) -> None:
        complaint = FINE.replace("null", "2").replace(
            "[]", '[{"step": 2, "field": "step", "note": "Say why."}]'
        )
        looking = inspector(complaint, FINE)
        model = judge(RIGHT, RIGHT)
        trace = collect(prefilling(), LLMTeacher(model), looking, TEMPLATE_ONLY)
        assert "47+85=132, 132*3=396\nAnswer: 396" in looking.prompts[0][0].text
        assert "- The inspector finds step 2 wrong first. Say why." in model.prompts[1][0].text
        assert failed(trace.template_revisions[0].inspections) == ["inspector_step"]
        assert (trace.status, failed(trace.template_inspections)) == ("accepted", [])
        assert [(call.role, call.prompt) for call in trace.calls[1::2]] == [
            ("inspector", "supercorrect.inspect_template@1")
        ] * 2

    def test_a_wrong_answer_is_not_shown_to_a_model(self) -> None:
        looking = inspector()
        collect(prefilling(), ScriptedTeacher(template=None), looking, TEMPLATE_ONLY)
        assert looking.prompts == []

    def test_an_inspector_of_critiques_only_is_not_asked(self) -> None:
        trace = written(RIGHT, about=inspect_critique)
        assert trace.status == "accepted"

    def test_an_inspector_that_fails(self) -> None:
        trace = written(RIGHT, about=inspector(OSError("down")))
        assert (trace.status, trace.error) == ("error", "inspector: OSError: down")

    def test_a_problem_that_the_teacher_cannot_solve(self) -> None:
        class Beyond(ScriptedTeacher):
            def write_solution(self, problem: Problem, config: Any = None) -> Any:
                raise TeacherError("no equations")

        trace = collect(prefilling(), Beyond(), config=TEMPLATE_ONLY)
        assert (trace.status, trace.chosen.reason) == (
            "unchanged",
            "the teacher cannot judge it: teacher: no equations",
        )
        assert dropped(trace)[0] == {"template inspection: judgeable": 1}
        trace = collect(prefilling(RIGHT), Beyond(), config=CollectConfig())  # the attempt is of use without
        assert (trace.status, failed(trace.template_inspections)) == ("accepted", ["judgeable"])

    def test_an_unscored_answer_is_not_called_wrong(self) -> None:
        problem = PROBLEM.model_copy(update={"answer": None})
        trace = collect(prefilling(), LLMTeacher(judge(RIGHT)), config=TEMPLATE_ONLY, problem=problem)
        assert trace.status == "accepted"
        assert "answer" not in [one.check for one in trace.template_inspections]

    async def test_async_and_sync_agree(self) -> None:
        def graph() -> Any:
            teacher = LLMTeacher(judge(LEAKING, RIGHT))
            return create_collecting_graph(
                prefilling(), teacher, inspector=inspector(FINE), config=TEMPLATE_ONLY
            )

        given = {"problem": PROBLEM.model_dump()}
        sync = await asyncio.to_thread(graph().invoke, given)
        there = await graph().ainvoke(given)
        for key in ("template", "template_inspections", "template_revisions", "status"):
            assert sync["trace"][key] == there["trace"][key]
        assert sync["trace"]["template_revisions"]


class TestNeverTrainedOn:
    def test_a_quarantined_round_is_dropped_even_if_no_check_of_it_is_on_the_trace(self) -> None:
        trace = collect(prefilling(WRONG, OWN, REST), ScriptedTeacher(FOUND))
        assert build_preference_dataset([trace])[1].kept == 1
        bare = trace.rounds[0].model_copy(update={"inspections": ()})
        trace = trace.model_copy(update={"status": "quarantined", "rounds": (bare,)})
        assert dropped(trace) == ({"quarantined": 1}, {"quarantined": 1})

    def test_an_earlier_round_of_a_quarantined_run_is_of_use(self) -> None:
        second = Critique(step=2, cause="the answer key", correction="Triple. 396", author="t")
        student = prefilling(WRONG, OWN, "<Step3>Add. 396+1=397</Step3><Answer>397</Answer>")
        config = CollectConfig(write_template=False, max_rounds=2)
        trace = collect(student, ScriptedTeacher(FOUND, second), config=config)
        assert (trace.status, len(trace.rounds)) == ("quarantined", 2)
        _, manifest = build_preference_dataset([trace], trusted_authors=("t",))
        assert (manifest.kept, manifest.dropped) == (1, {"inspection: leak": 1})

    def test_a_false_correction_in_an_older_trace_is_found_when_rows_are_built(self) -> None:
        trace = collect(prefilling(WRONG, OWN, REST), ScriptedTeacher(FOUND))
        round_ = trace.rounds[0]
        false = round_.critique.model_copy(update={"correction": "Triple. 132*3=395"})
        trace = trace.model_copy(update={"rounds": (round_.model_copy(update={"critique": false}),)})
        assert dropped(trace)[1] == {"inspection: arithmetic": 1}

    def test_a_correction_that_misses_the_answer_is_marked_and_dropped_unless_its_teacher_is_trusted(
        self,
    ) -> None:
        trace = collect(prefilling(WRONG, OWN, "<Answer>5</Answer>"), ScriptedTeacher(FOUND))
        assert (trace.status, failed(trace.rounds[0].inspections)) == ("budget", ["reaches_answer"])
        assert dropped(trace) == ({"correction not verified": 1}, {"correction not verified": 1})
        assert build_preference_dataset([trace], trusted_authors=("t",))[1].kept == 1


class TestReport:
    def test_by_hand(self) -> None:
        """Three critiques: one mended of a leak, one quarantined for two checks, one that no check touched.

        And two templates: one mended, one not.
        """
        mended = collect(
            prefilling(WRONG, OWN, REST), LLMTeacher(judge(verdict(cause="the answer key"), verdict()))
        )
        bad = FOUND.model_copy(update={"cause": "the answer key", "correction": "132*3=397"})
        caught = collect(prefilling(WRONG), ScriptedTeacher(bad))
        fine = collect(prefilling(WRONG, OWN, "<Answer>5</Answer>"), ScriptedTeacher(FOUND))
        traces = [mended, caught, fine, written(LEAKING, RIGHT), written(*[LEAKING] * 4)]
        table = inspection_report(traces)
        row = {
            name: (one["seen"], one["failed"], one["mended"], one["quarantined"])
            for name, one in table.items()
        }
        assert row["all critiques"] == (3, 2, 1, 1)
        assert row["leak"] == (3, 2, 1, 1)
        assert row["arithmetic"] == (3, 1, 0, 1)
        assert row["cause"] == (3, 0, 0, 0)
        assert row["reaches_answer"] == (2, 1, 0, 0)
        assert row["all templates"] == row["template leak"] == (2, 2, 1, 1)
        assert row["template answer"] == (2, 0, 0, 0)
        report = InspectionReport()
        for trace in reversed(traces):
            report.add(trace)
        assert report.table() == table

    def test_a_run_that_broke_off_does_not_count(self) -> None:
        broken = collect(prefilling(WRONG, OSError("down")), ScriptedTeacher(FOUND))
        assert broken.rounds[0].inspections
        assert inspection_report([broken]) == inspection_report([]) == {}


class TestRightAttempts:
    """Reviews that find no error in right solutions (decision B20) are inspected like any critique."""

    SETTINGS = CollectConfig(write_template=False, review_correct=True, student_review=False)
    NOTHING = json.dumps({"first_wrong_step": None, "cause": "", "correction": "", "confidence": 1})

    def test_one_that_finds_nothing_becomes_a_review_row(self) -> None:
        looking = inspector(finds(None))
        trace = collect(prefilling(RIGHT), LLMTeacher(judge(self.NOTHING)), looking, self.SETTINGS)
        assert (trace.status, failed(trace.rounds[0].inspections)) == ("accepted", [])
        assert "Every step is right." in looking.prompts[0][0].text
        rows, manifest = build_sft_dataset([trace], no_error_share=0.9)
        assert manifest.dropped == {"above its share": 1}  # no review of a wrong attempt stands beside it
        found = collect(prefilling(WRONG, OWN, REST), ScriptedTeacher(FOUND))
        rows, manifest = build_sft_dataset([trace, found], no_error_share=0.5)
        assert sorted(row["completion"][0]["content"][-9:] for row in rows) == ["</Answer>", "rrection>"]

    def test_one_that_calls_a_step_wrong_is_revised(self) -> None:
        model = judge(verdict(correction="Triple. 132*3=396, of course"), self.NOTHING)
        trace = collect(prefilling(RIGHT), LLMTeacher(model), config=self.SETTINGS)
        assert "- The answer is right, but a step is called wrong." in model.prompts[1][0].text
        assert (trace.status, trace.rounds[0].critique.step) == ("accepted", None)
        assert failed(trace.rounds[0].revisions[0].inspections) == ["agrees_with_answer"]

    def test_one_that_insists_is_quarantined(self) -> None:
        alarm = Critique(step=2, cause="c", correction="Triple. 3*132=396", author="t")
        trace = collect(prefilling(RIGHT), ScriptedTeacher(alarm), config=self.SETTINGS)
        assert trace.status == "quarantined"
        assert trace.verdict is not None
        assert trace.verdict.correct  # of the attempt, which counts as right all the same
        assert dropped(trace)[0] == {"inspection: agrees_with_answer": 1}

    def test_one_that_names_a_false_equation_is_kept_and_not_trained_on(self) -> None:
        """The answer is right by luck: 132*3 is not 386, whatever is boxed."""
        lucky = WRONG.replace("boxed{386}", "boxed{396}")
        student = prefilling(lucky)
        trace = collect(student, ScriptedTeacher(FOUND), config=self.SETTINGS)
        assert (trace.status, failed(trace.rounds[0].inspections)) == ("accepted", [])
        assert trace.chosen.reason == "the answer is the true one, though step 2 says what is false"
        assert (trace.rounds[0].critique.step, len(student.prompts)) == (2, 1)
        reason = {"right attempt criticised": 1}
        assert dropped(trace) == (reason, reason)

    def test_a_step_beside_the_false_equation_is_no_error(self) -> None:
        lucky = WRONG.replace("boxed{386}", "boxed{396}")
        alarm = Critique(step=1, cause="c", correction="Then 47+85=132 in all", author="t")
        trace = collect(prefilling(lucky), ScriptedTeacher(alarm), config=self.SETTINGS)
        assert (trace.status, failed(trace.rounds[0].inspections)) == ("quarantined", ["agrees_with_answer"])

    def test_a_model_that_finds_an_error_in_it_is_heard(self) -> None:
        """Right by luck: the answer is right, a step is not."""
        trace = collect(
            prefilling(RIGHT), ScriptedTeacher(Critique(author="t")), inspector(finds(1)), self.SETTINGS
        )
        assert (trace.status, failed(trace.rounds[0].inspections)) == ("quarantined", ["inspector_step"])


class TestSampling:
    """How chat models that are teacher and inspector sample; the student goes by settings of its own."""

    def asked(self, **settings: Any) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
        """What the three were asked with (the same in every call), and what the trace says of each call."""
        student, teacher = prefilling(WRONG, OWN, REST), judge(RIGHT, verdict())
        looking = inspector(FINE, finds())
        config = CollectConfig(temperature=0.3, max_new_tokens=77, **settings)
        trace = collect(student, LLMTeacher(teacher), looking, config)
        sent = {}
        for role, model in (("student", student), ("teacher", teacher), ("inspector", looking)):
            assert len(model.options) >= 2
            of_calls = [
                {key: each.get(key) for key in ("max_tokens", "temperature")} for each in model.options
            ]
            assert of_calls == of_calls[:1] * len(of_calls)
            sent[role] = of_calls[0]
        return sent, [call.sampling for call in trace.calls if call.role != "student"]

    def test_what_nobody_said_is_left_to_a_model_of_another_provider(self) -> None:
        sent, recorded = self.asked()
        assert sent["student"] == {"max_tokens": 77, "temperature": 0.3}
        assert sent["teacher"] == sent["inspector"] == {"max_tokens": None, "temperature": None}
        assert recorded == [{}] * 4

    def test_a_served_model_is_greedy_and_may_write_1024_tokens(self) -> None:
        model = judge(verdict())
        model.metadata = PREFILL_METADATA
        collect(prefilling(WRONG, OWN, REST), LLMTeacher(model))
        assert [(each["max_tokens"], each["temperature"]) for each in model.options] == [(1024, 0.0)]

    def test_what_is_null_is_left_to_the_model(self) -> None:
        sent, recorded = self.asked(teacher_temperature=None, teacher_max_new_tokens=9)
        assert sent["teacher"] == sent["inspector"] == {"max_tokens": 9, "temperature": None}
        assert recorded == [{"max_tokens": 9}] * 4
        sent, recorded = self.asked(teacher_max_new_tokens=None, teacher_temperature=1.0)
        assert sent["teacher"] == {"max_tokens": None, "temperature": 1.0}

    def test_in_a_revision_too(self) -> None:
        model = judge(verdict(cause="the answer key"), verdict())
        settings = ATTEMPT_ONLY.model_copy(update={"teacher_max_new_tokens": 9})
        collect(prefilling(WRONG, OWN, REST), LLMTeacher(model), config=settings)
        assert [each["max_tokens"] for each in model.options] == [9, 9]
