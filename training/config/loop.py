"""The settings of the whole loop."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from training.config.collecting import CollectionConfig
from training.config.evaluation import EvaluationConfig, GateConfig, ServeConfig
from training.config.rows import DatasetConfig
from training.config.stage import StageConfig
from training.config.training import DpoConfig, SftConfig


class LoopConfig(StageConfig):
    """Rounds of collect, build, SFT, collect, build, DPO, evaluate in one folder; what is done is skipped.

    The nested sections are the stages' own settings; the loop fills in the folders and the models.
    """

    folder: Path = Field(default=Path("runs/loop"), description="run folder")
    rounds: int = Field(default=1, ge=1, description="how often around, at most")
    patience: int = Field(
        default=0, ge=0, description="rounds in a row whose gain may be inside the noise before the loop ends"
    )
    accelerate: str | None = Field(
        default=None, description="train under this profile: ddp, fsdp2, zero2, zero3, or a file"
    )
    num_processes: int | None = Field(
        default=None, ge=1, description="processes of that profile; none: one a GPU"
    )
    model: str = Field(default="sandbox", description="base model: sandbox, or a Hugging Face path or folder")
    teacher: str = Field(default="sandbox", description="sandbox, or a chat model")
    control: bool = Field(
        default=False, description="also train and measure the plain control, token for token"
    )
    collect: CollectionConfig = CollectionConfig()
    collect_again: CollectionConfig | None = Field(
        default=None,
        description="second collection, by the student of stage 1, which is then trained anew on both",
    )
    collect_pairs: CollectionConfig = CollectionConfig(write_template=False)
    rows: DatasetConfig = DatasetConfig()
    pairs: DatasetConfig = DatasetConfig(kind="preference")
    sft: SftConfig = SftConfig()
    dpo: DpoConfig = DpoConfig()
    replay: bool = Field(default=False, description="stage 2 replays the rows of its round's stage 1")
    learn_chosen: bool = Field(
        default=False, description="stage 2 also learns the whole units of its pairs' chosen sides (SFT)"
    )
    gate: GateConfig | None = Field(default=None, description="none promotes every round's student")
    serve: ServeConfig | None = Field(default=None, description="none serves nothing")
    evaluate: EvaluationConfig = EvaluationConfig()
    evaluate_stage1: bool = Field(
        default=True, description="put the test problems to the students of stage 1, too"
    )
