"""The settings of training rows."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from training.config.choices import ChosenSource, PairFormat, PairScope, Style
from training.config.stage import StageConfig


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
