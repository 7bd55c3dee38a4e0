"""The settings of every stage, in one place: names, bounds, defaults and what they mean.

Where a value has a name in TRL or PEFT, it has that name here. ``python -m training.NAME --config FILE``
reads a YAML mapping of these names; flags override the file. Any further argument of TRL's ``SFTConfig`` or
``DPOConfig`` may stand beside them and is passed on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal, get_origin

from pydantic import Field, ValidationInfo, field_validator, model_validator

from supercorrect_agent.types import Record

Arm = Literal["single", "review", "teacher", "asked", "retry"]
PairFormat = Literal["inline", "literal_eq8", "whole_answer"]
ChosenSource = Literal["teacher", "student_rewrite", "student_resample"]
PairScope = Literal["unit", "difference"]
Loss = Literal[
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot",
    "aot_unpaired", "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
]  # fmt: skip
Style = Literal["hierarchical", "plain"]


class StageConfig(Record):
    """What all stages share. A value of ``none`` means no value, and one text is a list of one."""

    seed: int = Field(default=0, ge=0, description="seed of sampling, shuffling and weights")

    @field_validator("*", mode="before")
    @classmethod
    def _none_is_no_value(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, str) and value.lower() in {"none", "null"}:
            return None
        takes_list = get_origin(cls.model_fields[str(info.field_name)].annotation) is tuple
        return (value,) if takes_list and isinstance(value, str | Path) else value


class EstimateConfig(Record):
    """What a dry run cannot know and takes for granted."""

    accuracy: float = Field(default=0.5, ge=0, le=1, description="share of right attempts")
    chars_per_token: float = Field(default=3.5, gt=0, description="characters per token, without a tokenizer")
    solution_tokens: int = Field(
        default=300, ge=1, description="tokens of a solution where no reference solution tells its length"
    )
    review_tokens: int = Field(default=200, ge=1, description="tokens of a critique or review")
    tokens_per_second: float | None = Field(
        default=None, gt=0, description="tokens written a second, all calls together; none: no time is told"
    )


class CollectionConfig(StageConfig):
    """Collects traces: the student solves, the teacher finds the first wrong step, both review it."""

    section: ClassVar[str] = "collect"

    problems: str = Field(
        default="sandbox:train",
        description="JSON Lines, CSV or Parquet file, hf:NAME, sample:gsm8k, sample:math, or sandbox:SPLIT",
    )
    mapping: str = Field(default="auto", description="columns of the problems: auto, gsm8k or math")
    n: int | None = Field(default=None, ge=1, description="number of problems; none takes a whole file")
    split: str = Field(default="train", description="split of a file's problems without one of their own")
    holdout: int | None = Field(
        default=None, ge=1, description="so many rows at the end of a file are its split `dev`"
    )
    part: str = Field(
        default="1/1",
        pattern=r"^[1-9]\d*/[1-9]\d*$",
        description="I/N: of N disjoint parts of the problems, the I-th",
    )
    max_characters: int = Field(
        default=20_000, ge=1, description="longer questions, answers and solutions are dropped"
    )
    held_out: tuple[str, ...] = Field(default=(), description="problem files whose questions are refused")
    held_out_words: int = Field(
        default=13, ge=1, description="so many words in a row in common with one are a match (decision B7)"
    )
    on_match: Literal["drop", "refuse"] = Field(
        default="drop", description="a match with --held_out is dropped and counted, or ends the run"
    )
    student: str = Field(
        default="sandbox", description="model: sandbox, local:PATH, vllm:NAME@URL, openai:NAME"
    )
    adapter: Path | None = Field(default=None, description="LoRA adapter folder on top of a local student")
    teacher: str = Field(
        default="auto",
        description="sandbox, reference (rules over the reference solution), same_model_grounded (the "
        "student's model, which sees the reference), or a model as for --student; auto: sandbox for its own "
        "problems, else reference",
    )
    inspector: str | None = Field(
        default=None, description="model that inspects the teacher's work after the rules; none: rules alone"
    )
    prompts: str = Field(default="auto", description="auto (the student's own), default, or a TOML file")
    store: Path | str = Field(
        default=Path("traces"), description="trace store: a folder, a .jsonl file, or an address (s3://...)"
    )
    sync: str = Field(
        default="interval:1",
        description="when the disk is to have what was stored: always, interval:SECONDS, or never",
    )
    samples: int = Field(default=1, ge=1, description="attempts per problem (decision B24: 4 to 8 at T 0.7)")
    temperature: float = Field(default=0.0, ge=0, le=2, description="sampling temperature of the student")
    max_rounds: int = Field(default=1, ge=0, le=8, description="corrections per attempt")
    max_new_tokens: int = Field(default=512, ge=1, description="tokens per reply of the student")
    teacher_max_new_tokens: int | None = Field(
        default=None,
        ge=1,
        description="tokens per reply of teacher and inspector; none: 1024 of vllm: and local:, or their own",
    )
    teacher_temperature: float | None = Field(
        default=None, ge=0, le=2, description="their temperature; none: 0 of vllm: and local:, or their own"
    )
    write_template: bool = Field(
        default=True, description="the teacher writes a hierarchical solution (eq. 4)"
    )
    attempt: bool = Field(default=True, description="the student attempts the problem")
    review_correct: bool = Field(
        default=True, description="also collect `no error` reviews of right attempts"
    )
    student_review: bool = Field(
        default=True, description="the student's own review at the teacher's step (eq. 7)"
    )
    rewrite: bool = Field(
        default=False, description="the student also writes the correction behind the teacher's cause (B8)"
    )
    resamples: int = Field(
        default=0, ge=0, le=32, description="further corrections the student samples at that step (B8)"
    )
    free_review: bool = Field(
        default=False, description="also a review that names its step itself, for metrics only (B4)"
    )
    rollouts: int = Field(
        default=1, ge=1, le=32, description="corrections until one reaches the answer, at most (B5)"
    )
    revise_unreached: bool = Field(
        default=False, description="a correction that does not lead to the answer goes back to the teacher"
    )
    max_errors: int | None = Field(
        default=2, ge=1, description="distinct wrong answers of one problem that are kept; none: all (B24)"
    )
    concurrency: int = Field(default=64, ge=1, description="problems in flight at once")
    engine: Literal["asyncio", "ray"] = Field(
        default="asyncio", description="this process, or actors on a Ray cluster (docs/scale.md)"
    )
    actors: int = Field(default=1, ge=1, description="actors of --engine ray, which share --concurrency")
    ray_address: str | None = Field(
        default=None, description="Ray cluster, auto for the one of this machine; none: start one here"
    )
    telemetry: Literal["otel"] | None = Field(
        default=None, description="otel: spans to OTEL_EXPORTER_OTLP_ENDPOINT (docs/scale.md); none"
    )
    call_timeout: float | None = Field(
        default=300.0, gt=0, description="seconds for one attempt at a call of a served model"
    )
    patience: float = Field(
        default=600.0, ge=0, description="seconds for which a server may answer nobody before calls fail"
    )
    retry_failed: int = Field(
        default=2, ge=0, description="how many later runs try a failed problem again; 0 none"
    )
    max_total_tokens: int | None = Field(
        default=None, ge=1, description="no further problem once this run used so many tokens"
    )
    max_cost: float | None = Field(
        default=None, gt=0, description="no further problem once this run cost so much (needs prices)"
    )
    max_seconds: float | None = Field(
        default=None, gt=0, description="no further problem after so many seconds"
    )
    student_price: tuple[float, float] = Field(
        default=(0.0, 0.0), description="price of a million tokens of the student, in and out"
    )
    teacher_price: tuple[float, float] = Field(default=(0.0, 0.0), description="the same, of the teacher")
    inspector_price: tuple[float, float] = Field(default=(0.0, 0.0), description="the same, of the inspector")
    summary: Path | None = Field(default=None, description="file for the summary, as JSON")
    dry_run: bool = Field(
        default=False, description="count problems, calls, tokens and cost; call no model, write nothing"
    )
    estimate: EstimateConfig = EstimateConfig()

    @field_validator("store", mode="wrap")  # a Path would fold `file:///x`
    @classmethod
    def _a_path_unless_an_address(cls, value: Any, check: Callable[[Any], Path | str]) -> Path | str:
        return value if isinstance(value, str) and "://" in value else Path(check(value))

    @model_validator(mode="before")
    @classmethod
    def _fitting_teacher(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("teacher", "auto") != "auto":
            return values
        source = str(values.get("problems", "sandbox:train"))
        return {**values, "teacher": "sandbox" if source.startswith("sandbox:") else "reference"}

    @model_validator(mode="after")
    def _limits_make_sense(self) -> CollectionConfig:
        index, parts = (int(number) for number in self.part.split("/"))
        if index > parts:
            raise ValueError(
                f"`part={self.part}`: there is no part {index} of {parts}; pass 1/{parts} to {parts}/{parts}"
            )
        prices = (*self.student_price, *self.teacher_price, *self.inspector_price)
        if min(prices) < 0:
            named = (f"{role}_price" for role in ("student", "teacher", "inspector"))
            wrong = " and ".join(
                f"`{name}={getattr(self, name)}`" for name in named if min(getattr(self, name)) < 0
            )
            raise ValueError(f"{wrong} is negative; pass the price of a million tokens, in and out")
        if self.max_cost is not None and not any(prices):
            raise ValueError(
                f"`max_cost={self.max_cost:g}` needs prices; pass `student_price`, `teacher_price` or "
                "`inspector_price`, each a million tokens in and out"
            )
        return self


class DatasetConfig(StageConfig):
    """Builds training rows from trace stores: hierarchical-thought rows or preference pairs."""

    section: ClassVar[str] = "rows"

    kind: Literal["sft", "preference"] = Field(default="sft", description="which rows")
    store: tuple[Path, ...] = Field(default=(Path("traces"),), description="trace stores")
    output: Path = Field(default=Path("runs/data"), description="dataset folder to write")
    prompts: str = Field(default="auto", description="auto (those of --tokenizer), default, or a TOML file")
    tokenizer: str = Field(default="sandbox", description="model whose tokenizer counts tokens")
    style: Style = Field(
        default="hierarchical", description="plain: the control without template and reviews"
    )
    reviews: bool = Field(default=True, description="add correction-trace rows")
    review_share: float | None = Field(
        default=None, ge=0, lt=1, description="share of reviews; none keeps all"
    )
    no_error_share: float = Field(
        default=0.2, ge=0, lt=1, description="share of `no error` rows among reviews"
    )
    own_solutions: bool = Field(default=False, description="add the student's own verified solutions")
    pair_format: PairFormat = Field(
        default="inline", description="decision B2; whole_answer: the control without a shared prefix"
    )
    chosen_source: ChosenSource = Field(
        default="teacher", description="whose words the chosen side holds (decision B8)"
    )
    pair_scope: PairScope = Field(
        default="unit", description="how far both sides go: a whole unit, or the first word that differs"
    )
    solve_pairs: bool = Field(default=False, description="add step pairs under the solve prompt")
    max_length_ratio: float = Field(
        default=4.0, gt=1, description="longer / shorter side of a pair, in characters"
    )
    near_duplicate: float = Field(
        default=0.9,
        gt=0,
        le=1,
        description="from this similarity on, wrong steps of one problem with equal numbers count once",
    )
    max_per_problem: int | None = Field(
        default=None, ge=1, description="at most so many distinct errors of one problem (decision B24: 2)"
    )
    test_share: float = Field(
        default=0.0, ge=0, lt=1, description="share of the problems whose rows go to the split `test`"
    )
    max_rows: int | None = Field(default=None, ge=1, description="at most so many rows")
    max_tokens: int | None = Field(
        default=None, ge=1, description="at most so many tokens in all rows together"
    )
    trusted_authors: tuple[str, ...] = Field(
        default=("sandbox",), description="teachers whose corrections are right by construction"
    )
    held_out: tuple[str, ...] = Field(default=(), description="problem files whose questions are refused")
    held_out_words: int | None = Field(
        default=None,
        ge=1,
        description="refuse also what has so many words in a row in common with one (decision B7: 13)",
    )


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


class EvaluationConfig(StageConfig):
    """Measures a student on problems it has never seen; the graph never sees the answers."""

    section: ClassVar[str] = "evaluate"

    student: str = Field(
        default="sandbox", description="model: sandbox, local:PATH, vllm:NAME@URL, openai:NAME"
    )
    adapter: Path | None = Field(default=None, description="LoRA adapter folder on top of a local student")
    teacher: str = Field(default="sandbox", description="teacher of the arms `teacher` and `asked`")
    prompts: str = Field(default="auto", description="auto (the student's own), default, or a TOML file")
    style: Style = Field(default="hierarchical", description="plain solves with the plain prompt")
    problems: str = Field(
        default="sandbox:test", description="a file, a data set, sample:NAME or sandbox:SPLIT"
    )
    holdout: int | None = Field(
        default=None, ge=1, description="only so many rows at the end of the file, its split `dev`"
    )
    n: int | None = Field(default=200, ge=1, description="number of problems; none takes a whole file")
    arms: tuple[Arm, ...] = Field(
        default=("single", "review", "teacher", "retry"),
        description="single pass; its own review; with the teacher; wrong ones re-sampled without a "
        "critique; asked: the teacher only where its own review finds an error",
    )
    max_rounds: int = Field(default=1, ge=1, le=8, description="corrections, and re-samplings, per problem")
    max_new_tokens: int = Field(default=512, ge=1, description="tokens per reply")
    retry_temperature: float = Field(default=0.7, gt=0, le=2, description="temperature of the retry control")
    concurrency: int = Field(default=128, ge=1, description="problems in flight at once")
    output: Path = Field(default=Path("runs/evaluation.json"), description="JSON file with every outcome")


class GateConfig(StageConfig):
    """Whether a trained student may replace the present one: paired tests on the development split."""

    problems: str = Field(default="sandbox:dev", description="JSON Lines file, or sandbox:dev")
    n: int | None = Field(default=300, ge=1, description="number of problems; none takes a whole file")
    arm: Arm = Field(default="review", description="the way of use whose accuracy counts")
    alpha: float = Field(default=0.05, gt=0, lt=1, description="level of both paired tests")


class ServeConfig(StageConfig):
    """Where a promoted student is served."""

    url: str | None = Field(
        default=None, description="running vLLM server that loads the adapter; none: write the command"
    )
    name: str = Field(
        default="supercorrect", pattern="^[^-]", description="name under which the student is served"
    )
    timeout: float = Field(default=120.0, gt=0, description="seconds the server may take to load it")


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
