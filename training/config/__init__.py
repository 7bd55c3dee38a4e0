"""The settings of every stage, in one place: names, bounds, defaults and what they mean.

Where a value has a name in TRL or PEFT, it has that name here. ``python -m training.NAME --config FILE``
reads a YAML mapping of these names; flags override the file. Any further argument of TRL's ``SFTConfig`` or
``DPOConfig`` may stand beside them and is passed on.
"""

from __future__ import annotations

from training.config.choices import Arm, ChosenSource, Loss, PairFormat, PairScope, Style
from training.config.collecting import CollectionConfig, EstimateConfig
from training.config.evaluation import EvaluationConfig, GateConfig, ServeConfig
from training.config.loop import LoopConfig
from training.config.rows import DatasetConfig
from training.config.stage import StageConfig
from training.config.training import DpoConfig, SftConfig, TrainConfig

__all__ = [
    "Arm",
    "ChosenSource",
    "CollectionConfig",
    "DatasetConfig",
    "DpoConfig",
    "EstimateConfig",
    "EvaluationConfig",
    "GateConfig",
    "LoopConfig",
    "Loss",
    "PairFormat",
    "PairScope",
    "ServeConfig",
    "SftConfig",
    "StageConfig",
    "Style",
    "TrainConfig",
]
