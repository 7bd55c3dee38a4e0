"""Values that more than one stage may have."""

from __future__ import annotations

from typing import Literal

Arm = Literal["single", "review", "teacher", "asked", "retry"]
PairFormat = Literal["inline", "literal_eq8", "whole_answer"]
ChosenSource = Literal["teacher", "student_rewrite", "student_resample"]
PairScope = Literal["unit", "difference"]
Loss = Literal[
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot",
    "aot_unpaired", "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
]  # fmt: skip
Style = Literal["hierarchical", "plain"]
