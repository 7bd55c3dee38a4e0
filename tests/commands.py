"""What the tests of the command line share."""

from __future__ import annotations

import signal
from typing import Any

from typer.testing import CliRunner

from supercorrect_agent.cli import app

QUESTION = "Mia has 12 shells. Mia finds 30 more. A friend borrows 5. How many shells does Mia have now?"
# 12+30=42 and 42-5=37: the second step is wrong.
WRONG = "<Step1>12+30=42</Step1>\n<Step2>42-5=36</Step2>\n<Answer>\\boxed{36}</Answer>"
RIGHT = "<Step1>12+30=42</Step1>\n<Step2>42-5=37</Step2>\n<Answer>\\boxed{37}</Answer>"


def heed_ctrl_c() -> None:
    """For ``preexec_fn``: the children of a background job, of this suite perhaps, are deaf to Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run_cli(*words: str, stdin: str | bytes | None = None) -> Any:
    return CliRunner().invoke(app, list(words), input=stdin)


def assert_one_sentence(result: Any, code: int, *parts: str) -> None:
    """One line on stderr that names the thing and the remedy; no traceback anywhere."""
    assert result.exit_code == code, result.output
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert result.stderr.startswith("error: ")
    for part in parts:
        assert part in result.stderr
    assert "Traceback" not in result.output
