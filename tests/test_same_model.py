"""The student's own model as its teacher, with the reference before it (decision B25)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from supercorrect_agent import models
from supercorrect_agent.errors import ConfigError
from supercorrect_agent.graph import create_collecting_graph, create_supercorrect_graph
from supercorrect_agent.models import PREFILL_METADATA
from supercorrect_agent.prompts import DEFAULT_PROMPTS, render_prompt
from supercorrect_agent.state import CollectConfig
from supercorrect_agent.teachers import RevisingTeacher, RevisingWriter, as_teacher
from supercorrect_agent.teachers.llm import LLMTeacher, same_model_grounded
from supercorrect_agent.templates import parse_solution
from supercorrect_agent.types import Problem, Trace
from tests.fakes import ScriptedChatModel
from tests.test_collecting import OWN, PROBLEM, verdict
from tests.test_graph import KEPT, QUESTION, REST, RIGHT, WRONG

ATTEMPT_ONLY = CollectConfig(write_template=False)
GSM8K = Problem.create(QUESTION, answer="396", reference_solution="132*3 = <<132*3=396>>396")
# The correction trace that a student would write of WRONG.
TRACE = (
    "<Step1>Add. 47+85=132<Evaluate>It is.</Evaluate></Step1>\n"
    "<Step2>Triple. 132*3=386<Evaluate>No.</Evaluate>"
    "<Cause>3 times 132 is 396.</Cause><Correction>Triple. 132*3=396</Correction></Step2>"
)
NO_ERROR = (
    "<Step1>Add. 47+85=132<Evaluate>It is.</Evaluate></Step1>\n"
    "<Step2>Triple. 132*3=396<Evaluate>It is.</Evaluate></Step2>\n<Answer>\\boxed{396}</Answer>"
)


def both(*replies: Any, **fields: Any) -> ScriptedChatModel:
    """One model that is student and teacher in turn."""
    return ScriptedChatModel(replies=list(replies), model_name="small", metadata=PREFILL_METADATA, **fields)


def collect(model: Any, config: CollectConfig = ATTEMPT_ONLY, **given: Any) -> Trace:
    graph = create_collecting_graph(model, "same_model_grounded", config=config, **given)
    return Trace.model_validate(graph.invoke({"problem": GSM8K.model_dump()})["trace"])


def test_one_model_plays_both_roles_and_only_the_teacher_sees_the_reference() -> None:
    model = both(WRONG, verdict(cause="132*3 is 396."), OWN, REST)
    trace = collect(model)
    (only,) = trace.rounds
    assert (trace.status, only.critique.author, only.critique.step) == ("corrected", "small+reference", 2)
    assert only.review is not None
    assert only.review.author == "small"
    assert [call.role for call in trace.calls] == ["student", "teacher", "student", "student"]
    assert {call.model for call in trace.calls} == {"small"}
    texts = ["\n".join(message.text for message in messages) for messages in model.prompts]
    assert ["Answer: 396" in text for text in texts] == [False, True, False, False]
    assert "132*3 = 396" in texts[1]  # GSM8K's marks are not shown
    assert "<<" not in texts[1]


def test_it_writes_hierarchical_solutions_too() -> None:
    trace = collect(both(RIGHT), CollectConfig(attempt=False))
    assert trace.template is not None
    assert (trace.status, trace.template.model, trace.template.raw) == ("accepted", "small+reference", RIGHT)


def test_a_leak_goes_back_to_it_as_to_any_teacher() -> None:
    model = both(
        WRONG, verdict(cause="The reference answer is 396."), verdict(cause="3*132 is 396."), OWN, REST
    )
    trace = collect(model)
    assert (trace.status, len(trace.rounds[0].revisions)) == ("corrected", 1)
    trace = collect(both(WRONG, *[verdict(cause="The reference answer is 396.")] * 4))
    assert (trace.status, len(trace.rounds[0].revisions)) == ("quarantined", 3)


def test_a_model_that_writes_no_json_is_asked_for_a_correction_trace() -> None:
    model = both(WRONG, "Step 2 is off.", TRACE, OWN, REST)
    trace = collect(model)
    (only,) = trace.rounds
    assert (trace.status, only.critique.step) == ("corrected", 2)
    assert (only.critique.cause, only.critique.correction) == ("3 times 132 is 396.", "Triple. 132*3=396")
    assert only.critique.raw == TRACE
    assert only.inspections[5].check == "arithmetic"
    (asked,) = model.prompts[2]  # anew: the reply that could not be read is not in the way
    review = render_prompt(DEFAULT_PROMPTS.review, problem=QUESTION, solution=WRONG)
    assert asked.text.startswith(review)
    assert "<reference>\n132*3 = 396\nAnswer: 396\n</reference>" in asked.text
    assert [call.prompt for call in trace.calls[1:3]] == [
        "supercorrect.grounded@1", "supercorrect.review+reference@2",
    ]  # fmt: skip


def test_a_correction_trace_in_place_of_the_json_is_taken_at_once() -> None:
    model = both(WRONG, TRACE, OWN, REST)
    assert collect(model).rounds[0].critique.step == 2
    assert len(model.prompts) == 4
    assert model.prompts[3][1].text == KEPT  # the student goes on from its own steps and the correction


def test_a_trace_that_finds_no_error_in_a_right_attempt() -> None:
    config = CollectConfig(write_template=False, review_correct=True, student_review=False)
    trace = collect(both(RIGHT, NO_ERROR), config)
    (only,) = trace.rounds
    assert (trace.status, only.critique.step, only.critique.answer) == ("accepted", None, "396")
    assert all(one.passed for one in only.inspections)


@pytest.mark.parametrize(
    "reply",
    [
        "The answer is 386.",  # an answer alone judges nothing
        "<Answer>\\boxed{396}</Answer>",
        TRACE.replace("<Correction>Triple. 132*3=396</Correction>", ""),
        "",
    ],
    ids=["prose", "answer", "no-correction", "empty"],
)
def test_what_is_neither_is_unreadable(reply: str) -> None:
    trace = collect(both(WRONG, *[reply] * 8))
    assert trace.status == "parse_error"
    assert trace.chosen.reason == "the critique by 'small+reference' could not be read"


def test_a_model_that_takes_a_schema_is_held_to_it_in_json_only() -> None:
    model = both("Well.", TRACE, profile={"structured_output": True})
    found, calls = same_model_grounded(model).critique(QUESTION, parse_solution(WRONG), reference=PROBLEM)
    assert (found.step, len(calls)) == (2, 2)
    assert "extra_body" in model.options[0]
    assert "extra_body" not in model.options[1]


def test_other_teachers_take_no_traces() -> None:
    model = both(TRACE, TRACE)
    found, _ = LLMTeacher(model).critique(QUESTION, parse_solution(WRONG), reference=PROBLEM)
    assert not found.readable


def test_without_a_reference_it_judges_like_any_model() -> None:
    model = both("Well.", TRACE.replace("Cause", "Why"))
    found, _ = same_model_grounded(model).critique(QUESTION, parse_solution(WRONG))
    assert not found.readable
    assert len(model.prompts[1]) == 3  # asked again, with what was wrong


def test_it_revises_both_kinds_of_text() -> None:
    teacher = same_model_grounded(both())
    assert isinstance(teacher, RevisingTeacher)
    assert isinstance(teacher, RevisingWriter)


def test_the_students_model_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def load(spec: Any, **_: Any) -> Any:
        if isinstance(spec, str):
            loaded.append(spec)
            return both()
        return spec

    monkeypatch.setattr(models, "load_chat_model", load)
    monkeypatch.setattr("supercorrect_agent.collector.load_chat_model", load)
    create_collecting_graph("local:a", "same_model_grounded", inspector="same_model_grounded")
    create_collecting_graph("local:b", "local:b", inspector="local:b")
    create_collecting_graph("local:c", "local:d", inspector="local:d")
    assert loaded == ["local:a", "local:b", "local:c", "local:d"]


def test_it_inspects_itself_where_that_is_wanted() -> None:
    fine = json.dumps({"format_ok": True, "first_error_step": 2})
    model = both(WRONG, verdict(cause="132*3 is 396."), fine, OWN, REST)
    trace = collect(model, inspector="same_model_grounded")
    assert [call.role for call in trace.calls] == ["student", "teacher", "inspector", "student", "student"]
    assert trace.status == "corrected"


def test_where_there_is_no_student_it_is_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match=r"there is none here\. Use it in `create_collecting_graph`"):
        as_teacher("same_model_grounded")
    with pytest.raises(ConfigError, match="pass `teacher=None`"):
        create_supercorrect_graph(both(), "same_model_grounded")
