"""Records of older schema versions, brought up to this one: a pure function a version, applied in a chain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from supercorrect_agent.errors import StoreError
from supercorrect_agent.types import SCHEMA_VERSION

Json = dict[str, Any]


def migrate(record: Json, *, where: str) -> Json:
    """A record as this version writes it; the one that is given stays as it is.

    Args:
        record: The JSON object of a trace. One without a version is of version 1.
        where: The file it comes from, for messages.

    Raises:
        StoreError: A newer version of this package wrote the record.
    """
    version = record.get("schema_version", 1)
    if not isinstance(version, int) or version == SCHEMA_VERSION:
        return record
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"'{where}' holds traces of schema version {version}; this supercorrect-agent reads up "
            f"to {SCHEMA_VERSION}. Upgrade it."
        )
    for step in range(max(version, 1), SCHEMA_VERSION):
        record = {**_MIGRATIONS[step](record), "schema_version": step + 1}
    return record


def _from_1(record: Json) -> Json:
    """Version 2 knows what the inspector sent back (``revisions``) and a review that names its own step."""
    rounds = record.get("rounds")
    if not isinstance(rounds, list):
        return record
    return {**record, "rounds": [_round_from_1(one) for one in rounds]}


def _round_from_1(one: Any) -> Any:
    return {"revisions": [], "free_review": None, **one} if isinstance(one, dict) else one


_MIGRATIONS: dict[int, Callable[[Json], Json]] = {1: _from_1}
"""By the version that a function reads; it returns the next one."""
