"""SuperCorrect as a LangGraph plugin.

A student solves, a teacher names the first wrong step, the student corrects it, and the traces train a better
student. The names below are loaded when they are first used: importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from supercorrect_agent.errors import SuperCorrectError
    from supercorrect_agent.graph import (
        build_supercorrect_graph,
        create_collecting_graph,
        create_supercorrect_graph,
    )
    from supercorrect_agent.models import load_chat_model
    from supercorrect_agent.plugin import SelfCorrectionMiddleware, create_solver_tool, with_self_correction
    from supercorrect_agent.problems import load_problems
    from supercorrect_agent.state import CollectConfig, CorrectionConfig
    from supercorrect_agent.store import open_store
    from supercorrect_agent.teachers.llm import LLMTeacher
    from supercorrect_agent.templates import parse_critique, parse_solution
    from supercorrect_agent.types import Critique, Problem, Solution, Trace
    from supercorrect_agent.verification import MathVerifier

__all__ = [
    "CollectConfig",
    "CorrectionConfig",
    "Critique",
    "LLMTeacher",
    "MathVerifier",
    "Problem",
    "SelfCorrectionMiddleware",
    "Solution",
    "SuperCorrectError",
    "Trace",
    "build_supercorrect_graph",
    "create_collecting_graph",
    "create_solver_tool",
    "create_supercorrect_graph",
    "load_chat_model",
    "load_problems",
    "open_store",
    "parse_critique",
    "parse_solution",
    "with_self_correction",
]

_HOMES = {
    "CollectConfig": "state",
    "CorrectionConfig": "state",
    "Critique": "types",
    "LLMTeacher": "teachers.llm",
    "MathVerifier": "verification",
    "Problem": "types",
    "SelfCorrectionMiddleware": "plugin",
    "Solution": "types",
    "SuperCorrectError": "errors",
    "Trace": "types",
    "build_supercorrect_graph": "graph",
    "create_collecting_graph": "graph",
    "create_solver_tool": "plugin",
    "create_supercorrect_graph": "graph",
    "load_chat_model": "models",
    "load_problems": "problems",
    "open_store": "store",
    "parse_critique": "templates",
    "parse_solution": "templates",
    "with_self_correction": "plugin",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
