"""The README's section on Studio shows the graph as it is drawn, and answers that a waiting run accepts."""

from __future__ import annotations

import json
import re
from ast import literal_eval
from pathlib import Path

from supercorrect_agent import CorrectionConfig, create_supercorrect_graph
from supercorrect_agent.human import read_decision
from supercorrect_agent.templates import parse_solution
from tests.fakes import ScriptedTeacher, prefilling
from tests.test_graph import FOUND, WRONG

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTION = README.split("\n## In Studio\n")[1].split("\n## ")[0]


def test_the_picture_is_the_drawn_graph() -> None:
    (shown,) = re.findall(r"```mermaid\n(.*?)```", SECTION, re.S)
    graph = create_supercorrect_graph(prefilling(), ScriptedTeacher())
    assert shown == graph.get_graph().draw_mermaid()


def test_every_graph_is_named_and_no_other() -> None:
    graphs = json.loads((ROOT / "langgraph.json").read_text(encoding="utf-8"))["graphs"]
    assert set(re.findall(r"`(supercorrect(?:_\w+)?)`", SECTION)) == set(graphs)


def test_the_context_in_it_is_valid() -> None:
    shown = re.findall(r"context=(\{.*?\})", SECTION)
    assert shown
    for context in shown:
        CorrectionConfig.model_validate(literal_eval(context))


def test_the_answers_in_it_are_decisions_a_run_accepts() -> None:
    answers = [json.loads(line) for line in SECTION.splitlines() if line.startswith('    {"decisions"')]
    decisions = [read_decision(one, parse_solution(WRONG), FOUND) for one in answers]
    assert [one.kind for one in decisions] == ["approve", "edit", "reject"]
