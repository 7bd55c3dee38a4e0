"""The documentation's own code runs, and names only what exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.integration
def test_the_example_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102
    status, answer = capsys.readouterr().out.splitlines()[0].split()
    assert status in {"accepted", "corrected", "budget", "stalled", "unchanged"}
    assert answer.isdigit()


def test_every_command_of_the_readme_exists() -> None:
    from typer.main import get_command

    from supercorrect_agent.cli import app

    commands = set(get_command(app).commands)  # type: ignore[attr-defined]
    assert set(re.findall(r"`supercorrect (\w+)", README)) <= commands
    for module in re.findall(r"python -m training\.(\w+)", README):
        assert (ROOT / "training" / f"{module}.py").is_file()


def test_links_lead_somewhere() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
