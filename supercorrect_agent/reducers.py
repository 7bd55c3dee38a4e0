"""How the state's keys that hold texts take in what the nodes write: only what is new, each text once.

Each reducer gets the writes of one step or, when a thread is read again, of many in their order, and makes
the same of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from supercorrect_agent.calls import storable
from supercorrect_agent.errors import ConfigError

Record = dict[str, Any]


def keep_storable(kept: str, given: Sequence[str]) -> str:
    """The last problem given, as any saver can hold it.

    Raises:
        ConfigError: It is no text.
    """
    if not given:
        return kept
    if not isinstance(given[-1], str):
        raise ConfigError(f"`problem` is a {type(given[-1]).__name__}. Pass the text of a problem.")
    return storable(given[-1])


def fill_in(kept: Record, given: Sequence[Record]) -> Record:
    """The record with what became known of it since."""
    return dict(chain.from_iterable(one.items() for one in (kept, *given)))


def fill_in_by_number(kept: list[Record], given: Sequence[list[Record]]) -> list[Record]:
    """The records, in which one is filled in under its ``number`` (from 1), and any other is a new one."""
    records = list(kept)
    for one in chain.from_iterable(given):
        place = one.get("number", 0) - 1
        if 0 <= place < len(records):
            records[place] = {**records[place], **one}
        else:
            number = {"number": len(records) + 1}
            records.append({**number, **one, **number})
    return records
