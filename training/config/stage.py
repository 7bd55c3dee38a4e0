"""What the settings of all stages share."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_origin

from pydantic import Field, ValidationInfo, field_validator

from supercorrect_agent.types import Record


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
