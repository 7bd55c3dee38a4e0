"""The front door and the import direction: what is exported, what loads when, and who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import supercorrect_agent
from supercorrect_agent import plugin

ROOT = Path(__file__).parent.parent
HEAVY = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "datasets",
    "accelerate",
    "ray",
    "inspect_ai",
    "openinference",
    "yaml",
    "matplotlib",
    "pyarrow",
    "duckdb",
    "fsspec",
)
# Loaded by `LocalChatModel` when its model is made, not before.
LOCAL = {"models/decoding.py", "models/engine.py", "models/folder.py"}

# A module may import those on lines above its own, and its own package.
LAYERS = (
    ("types", "errors"),
    ("grammar",),
    ("templates", "problems"),
    ("verification",),
    ("prompts", "store"),
    ("models",),
    ("pacing",),
    ("limits",),
    ("calls",),
    ("teachers",),
    ("inspector",),
    ("sandbox",),
    ("reducers",),
    ("state",),
    ("student",),
    ("progress", "alternatives"),
    ("gate", "events", "outcome", "running"),
    ("solver",),
    ("memory",),
    ("nodes", "voting", "human"),
    ("collector",),
    ("collecting", "written"),
    ("graph",),
    ("plugin",),
    ("telemetry",),
    ("cli",),
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}


def modules() -> list[Path]:
    return sorted((ROOT / "supercorrect_agent").rglob("*.py"))


def inside(path: Path) -> str:
    return path.relative_to(ROOT / "supercorrect_agent").as_posix()


def part(path: Path) -> str:
    """The first name of a module below the package: ``teachers`` for ``teachers/llm.py``."""
    return inside(path).removesuffix(".py").split("/")[0]


def imports(node: ast.AST) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names] if node.module else []
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


def at_import_time(tree: ast.Module) -> list[str]:
    """What a module imports when it is imported: not inside functions, not for type checkers."""
    found: list[str] = []
    stack: list[ast.AST] = list(tree.body)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        found += imports(node)
        stack += ast.iter_child_nodes(node)
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    own = part(path)
    if own == "__init__":
        return  # the front door reaches everywhere, lazily
    assert own in RANK, f"give '{own}' its place in LAYERS"
    for name in at_import_time(ast.parse(path.read_text())):
        package, _, rest = name.partition(".")
        assert inside(path) in LOCAL or package not in HEAVY, f"{path} imports {name} at import time"
        assert package not in ("graphs", "training", "tests")
        if package == "supercorrect_agent":
            other = rest.split(".")[0]
            assert other == own or RANK[other] < RANK[own] or (own, other) == ("types", "errors")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_imports_the_entry_points_and_nothing_reads_the_environment(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        assert not any(name.split(".")[0] in ("graphs", "training") for name in imports(node))
        if part(path) != "cli" and isinstance(node, ast.Attribute):
            assert node.attr not in ("environ", "getenv")


def test_the_front_door_is_pinned() -> None:
    assert supercorrect_agent.__all__ == [
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
    for name in supercorrect_agent.__all__:
        home = import_module(getattr(supercorrect_agent, name).__module__)
        assert getattr(supercorrect_agent, name) is getattr(home, name)
    assert set(supercorrect_agent.__all__) <= set(dir(supercorrect_agent))
    with pytest.raises(AttributeError, match="no attribute 'create_graph'"):
        _ = supercorrect_agent.create_graph


def modules_after(code: str) -> set[str]:
    code += "; import sys; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def loaded_after(code: str) -> set[str]:
    return {name.split(".")[0] for name in modules_after(code)}


def test_importing_the_package_loads_nothing_else() -> None:
    assert not {"langgraph", "langchain_core", "pydantic", *HEAVY} & loaded_after("import supercorrect_agent")


def test_using_the_graph_loads_no_training_code() -> None:
    loaded = loaded_after(
        "from supercorrect_agent import create_supercorrect_graph, MathVerifier, open_store"
    )
    assert "langgraph" in loaded
    # langchain_core itself imports yaml, and langsmith opentelemetry where that is installed
    assert not (set(HEAVY) - {"yaml", "opentelemetry"}) & loaded


def test_only_the_middleware_loads_langchains_agents() -> None:
    for package in ("supercorrect_agent", "supercorrect_agent.plugin"):
        loaded = modules_after(f"from {package} import create_solver_tool, with_self_correction")
        assert "supercorrect_agent.plugin.tool" in loaded
        assert not {"langchain.agents", "supercorrect_agent.plugin.middleware"} & loaded
    assert "langchain.agents" in modules_after(f"from {package} import SelfCorrectionMiddleware")


def test_the_plugins_door_is_pinned() -> None:
    assert plugin.__all__ == ["SelfCorrectionMiddleware", "create_solver_tool", "with_self_correction"]
    for name in plugin.__all__:
        assert getattr(plugin, name) is getattr(supercorrect_agent, name)
    assert set(plugin.__all__) <= set(dir(plugin))
    with pytest.raises(AttributeError, match="no attribute 'create_tool'"):
        _ = plugin.create_tool


def test_entry_points_are_short() -> None:
    for path in (ROOT / "graphs").glob("*.py"):
        assert len(path.read_text().splitlines()) < 30, path
