"""The code of docs/plugin.md runs, offline, and prints what the page says it prints."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import supercorrect_agent

PAGE = (Path(__file__).parent.parent / "docs" / "plugin.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.S)


@pytest.mark.integration
def test_the_code_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    for code, output in BLOCK.findall(PAGE):
        line = PAGE[: PAGE.index(code)].count("\n")
        exec(compile("\n" * line + code, "docs/plugin.md", "exec"), names)  # noqa: S102
        printed = capsys.readouterr().out
        assert printed.strip(), f"the code at line {line + 1} prints nothing"
        if output:
            assert printed == output
    assert names["asked"]["status"] == "corrected"
    assert names["result"]["self_correction"]["status"] == "corrected"
    assert names["shown"][0] == "solution"
    assert names["shown"][-1] == "done"
    assert names["messages"][2].artifact["status"] in names["messages"][2].content
    assert names["message"].response_metadata["answer"].isdigit()


def test_every_surface_has_its_place_on_the_page() -> None:
    imported = set(re.findall(r"^from supercorrect_agent import (\w+)$", PAGE, re.M))
    assert imported == {
        "CorrectionConfig",
        "SelfCorrectionMiddleware",
        "create_solver_tool",
        "create_supercorrect_graph",
        "with_self_correction",
    }
    assert imported <= set(supercorrect_agent.__all__)
    words = ("invoke", "ainvoke", "batch", "abatch", "stream", "astream", "astream_events", "get_state")
    for word in (*(f".{word}(" for word in words), "subgraphs=True", "human_review=True"):
        assert word in "".join(code for code, _ in BLOCK.findall(PAGE)), word
    for mode in ("values", "updates", "custom", "messages"):
        assert f'stream_mode="{mode}"' in PAGE
