"""The settings of both training stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from training.config.choices import Loss
from training.config.stage import StageConfig


class TrainConfig(StageConfig):
    """What both training stages share."""

    section: ClassVar[str] = ""
    trl_config: ClassVar[str] = ""

    model: str = Field(default="sandbox", description="Hugging Face path or folder, or sandbox")
    adapter: Path | None = Field(default=None, description="LoRA adapter to continue from")
    data: Path = Field(default=Path("runs/data"), description="dataset folder written by training.data")
    output: Path = Field(default=Path("runs/model"), description="folder of the trained adapter or model")
    full: bool = Field(default=False, description="train all weights instead of a LoRA adapter")
    learning_rate: float = Field(
        default=2e-4, gt=0, description="peak; 2e-5 for full fine-tuning (decision B13)"
    )
    lora_r: int = Field(default=16, ge=1, description="LoRA rank")
    lora_alpha: int = Field(default=32, ge=1, description="LoRA alpha")
    lora_dropout: float = Field(default=0.0, ge=0, lt=1, description="LoRA dropout")
    lora_target_modules: str = Field(
        default="all-linear", description="all-linear, or names joined by commas"
    )
    load_in_4bit: bool = Field(
        default=False, description="QLoRA: the frozen base in 4 bits (needs bitsandbytes)"
    )
    num_train_epochs: float = Field(default=1.0, gt=0, description="passes over the data")
    max_steps: int = Field(default=-1, ge=-1, description="optimiser steps; -1 follows the epochs")
    per_device_train_batch_size: int = Field(default=16, ge=1, description="rows per device and step")
    gradient_accumulation_steps: int = Field(default=1, ge=1, description="batches per optimiser step")
    lr_scheduler_type: str = Field(default="cosine", description="learning-rate schedule")
    warmup_ratio: float = Field(default=0.05, ge=0, lt=1, description="share of the steps that warm up")
    max_length: int | None = Field(default=2048, ge=8, description="longer rows are dropped, never cut (B15)")
    save_steps: int | None = Field(
        default=None, ge=1, description="checkpoint every so many steps; none: at the end"
    )
    eval_steps: int | None = Field(
        default=None, ge=1, description="loss on the split `test` every so many steps; none: after each epoch"
    )
    probe: str | None = Field(
        default=None, description="problems to solve during training: JSON Lines file, or sandbox:dev"
    )
    probe_n: int = Field(default=32, ge=1, description="number of probe problems")
    probe_steps: int | None = Field(
        default=None, ge=1, description="probe every so many steps; none: before, after each epoch"
    )
    probe_max_new_tokens: int = Field(default=512, ge=1, description="tokens per probe reply")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="weights; auto: float32 on CPU"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="where to train")
    trl: dict[str, Any] = Field(default_factory=dict, description="further arguments of TRL's configuration")


class SftConfig(TrainConfig):
    """Stage 1, hierarchical-thought supervised fine-tuning (paper 4.1, eq. 5): loss on completions."""

    section: ClassVar[str] = "sft"
    trl_config: ClassVar[str] = "SFTConfig"

    output: Path = Field(default=Path("runs/sft"), description="folder of the trained adapter or model")
    packing: bool = Field(
        default=False, description="several rows in one sequence of max_length tokens; refused where unsafe"
    )


class DpoConfig(TrainConfig):
    """Stage 2, cross-model DPO (paper section 4.2, eq. 8). The reference is the student that stage 1 left."""

    section: ClassVar[str] = "dpo"
    trl_config: ClassVar[str] = "DPOConfig"

    output: Path = Field(default=Path("runs/dpo"), description="folder of the trained adapter or model")
    learning_rate: float = Field(
        default=5e-6, gt=0, description="peak; 1e-6 for full fine-tuning (paper 5.1)"
    )
    beta: float = Field(default=0.4, gt=0, description="strength of the pull to the reference (decision B6)")
    loss_type: tuple[Loss, ...] = Field(
        default=("sigmoid", "sft"), description="TRL losses, added up (decision B8)"
    )
    loss_weights: tuple[float, ...] = Field(default=(1.0, 1.0), description="one weight per loss")
    precompute_ref_log_probs: bool = Field(
        default=True, description="reference log-probabilities once, before"
    )
    replay: Path | None = Field(
        default=None, description="dataset folder of stage 1 whose rows every step goes on learning"
    )
    learn_chosen: Path | None = Field(
        default=None, description="dataset folder of pairs whose chosen sides are learnt in full beside them"
    )
    replay_batch_size: int = Field(default=8, ge=1, description="rows of each per device and batch")
    replay_weight: float = Field(default=1.0, gt=0, description="weight of the mean loss of each")

    alarm_chosen_drop: float = Field(
        default=0.5, gt=0, description="alarm when chosen log-probabilities fall so far, in nats per token"
    )
    alarm_length_ratio: float = Field(
        default=1.5, gt=1, description="alarm when probe replies grow or shrink by this factor"
    )
    alarm_no_end_share: float = Field(
        default=0.1, gt=0, lt=1, description="alarm when so many more probe replies than before do not end"
    )

    @model_validator(mode="before")
    @classmethod
    def _equal_weights(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "loss_type" not in values:
            return values
        losses = values["loss_type"]
        losses = (losses,) if isinstance(losses, str) else losses
        weights = values.get("loss_weights") or (1.0,) * len(losses)
        return {**values, "loss_type": losses, "loss_weights": weights}

    @model_validator(mode="after")
    def _one_weight_per_loss(self) -> DpoConfig:
        if len(self.loss_type) != len(self.loss_weights):
            raise ValueError(
                f"`loss_type` and `loss_weights` have {len(self.loss_type)} losses but "
                f"{len(self.loss_weights)} weights; give `loss_weights` one number for each of `loss_type`"
            )
        return self
