"""More columns of a trace, worked out once when it moves to Parquet, which spare a later reader that work.

Whoever has such columns names a class in the entry point group ``supercorrect_agent.columns``. The footer of
a file says by which version of what a column was worked out. A reader that needs another version reads the
records instead, so a derived column is never more than a short way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from typing import Protocol

GROUP = "supercorrect_agent.columns"


class Derives(Protocol):
    """Works columns out."""

    @property
    def versions(self) -> Mapping[str, str]:
        """Each column, and what its values depend on besides the record."""
        ...

    def columns(self, record: str) -> Mapping[str, bytes]:
        """The values of all columns of one trace.

        Args:
            record: Its JSON, of this version's schema.
        """
        ...


def installed() -> Sequence[Derives]:
    """Those of the installed packages whose requirements are installed too."""
    found: list[Derives] = []
    for point in entry_points(group=GROUP):
        try:
            found.append(point.load()())
        except ImportError:
            continue
    return found
