"""The method inside other people's programs: as a tool, as an agent's middleware, and as a chat model.

The names are loaded when they are first used: only the middleware needs LangChain's agents.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from supercorrect_agent.plugin.middleware import SelfCorrectionMiddleware
    from supercorrect_agent.plugin.runnable import with_self_correction
    from supercorrect_agent.plugin.tool import create_solver_tool

__all__ = ["SelfCorrectionMiddleware", "create_solver_tool", "with_self_correction"]

_HOMES = {
    "SelfCorrectionMiddleware": "middleware",
    "create_solver_tool": "tool",
    "with_self_correction": "runnable",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
