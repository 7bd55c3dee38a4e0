"""Where a stage writes is tried before it works."""

from __future__ import annotations

from pathlib import Path

import pytest

from supercorrect_agent.errors import ConfigError
from training.folders import make_folder


def test_a_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    made = make_folder(tmp_path / "a" / "b", argument="output")
    assert list(made.iterdir()) == []


def test_a_folder_that_cannot_be_is_named_with_its_argument(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"`--out=.*file/x` cannot be written \(Not a directory\)\. Choose"):
        make_folder(tmp_path / "file" / "x", argument="--out")
