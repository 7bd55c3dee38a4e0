"""The closed-loop experiment on paper: who takes part, what sets the controls apart, which file is where."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BASE, PLAIN, HSFT, FINAL = "base", "plain SFT", "HSFT", "HSFT + DPO"
REPLAY, CHOSEN, WHOLE = "replay only", "SFT on chosen", "whole-answer DPO"
ALONE, LITERAL = "DPO without SFT", "DPO, literal pairs"
ROUNDS = 3


@dataclass(frozen=True)
class Control:
    """One control of stage 2: what it changes in the pairs and in the run of `HSFT + DPO`, nothing else."""

    name: str
    pairs: Mapping[str, Any] = field(default_factory=dict)
    dpo: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Its place below the seed's folder."""
        return Path("controls") / re.sub(r"\W+", "-", self.name.lower())


NO_PREFERENCE = {"loss_type": ("sft",), "loss_weights": (0.0,)}
NO_SFT = {"learn_chosen": None}
PREFERENCE = {"loss_weights": (1.0,), **NO_SFT}
CONTROLS = (
    Control(REPLAY, dpo={**NO_PREFERENCE, **NO_SFT}),
    Control(CHOSEN, dpo=NO_PREFERENCE),
    # Whole answers have far larger log-ratios than single words: the beta of the sweeps on whole sides.
    Control(
        WHOLE, pairs={"pair_format": "whole_answer", "pair_scope": "unit"}, dpo={"beta": 0.1, **PREFERENCE}
    ),
    Control(ALONE, dpo=PREFERENCE),
    Control(LITERAL, pairs={"pair_format": "literal_eq8"}),
)
"""The main run prefers at the first different word of inline pairs, and learns their chosen sides in full."""

STUDENTS = (BASE, PLAIN, HSFT, *(control.name for control in CONTROLS), FINAL)
COMPARED = {HSFT: "hsft", FINAL: "dpo"}
"""The students of the smaller parts, unseen shapes and critique against retry, and their files there."""


def seed_folder(folder: Path, seed: int) -> Path:
    return folder / f"seed{seed}"


def round_student(number: int) -> str:
    """The student that a round ends with; 0 is the base."""
    return f"{FINAL} (round {number})" if number else BASE


ROUND_STUDENTS = tuple(round_student(number) for number in range(ROUNDS + 1))


def evaluations(folder: Path, part: str) -> dict[str, Path] | None:
    """The evaluations of one part of a seed by the student's name.

    Args:
        folder: The seed's folder.
        part: ``students``, ``unseen``, ``critique`` or ``rounds``.

    Returns:
        None where the part is not finished.
    """
    if part == "students":
        found = _loop_files(folder / "main")
        if found:
            found |= {control.name: folder / control.folder / "evaluation.json" for control in CONTROLS}
    elif part == "rounds":
        found = _loop_files(folder / "rounds")
    else:
        found = {name: folder / part / f"{stem}.json" for name, stem in COMPARED.items()}
    return found if found and all(path.is_file() for path in found.values()) else None


def runs(folder: Path) -> dict[str, Path]:
    """The training runs of a seed by the student's name: the folders that hold ``run.json``."""
    first = folder / "main" / "round1"
    controls = {control.name: folder / control.folder / "dpo" for control in CONTROLS}
    return {PLAIN: first / "plain_sft", HSFT: first / "sft", **controls, FINAL: first / "dpo"}


def _loop_files(folder: Path) -> dict[str, Path] | None:
    """The evaluations of a loop that has ended."""
    path = folder / "report.json"
    if not path.is_file():
        return None
    report = json.loads(path.read_text(encoding="utf-8"))
    return {name: folder / file for name, file in report["files"].items()} if report["ended"] else None
