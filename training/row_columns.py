"""Candidate rows of a trace as columns of a store, worked out when the trace moves to Parquet.

They serve an export with the builders' own options, whatever its seed, split or limits; one with others reads
the records. A column's version covers all code that makes rows, so what an older one made is never used.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import supercorrect_agent
from supercorrect_agent.store.lines import parse_line
from training.drafts import DraftReader
from training.pairs import PreferenceReader
from training.read_drafts import pack, read_traces
from training.sft_rows import SolutionReader

_READ_BY = ("math-verify", "sympy", "pydantic")
"""Packages on which a row may depend."""


class RowColumns:
    """The candidates that both builders find in a trace; see `supercorrect_agent.store.derived`."""

    def __init__(self) -> None:
        self._readers: list[DraftReader] = [SolutionReader(), PreferenceReader()]

    @property
    def versions(self) -> Mapping[str, str]:
        """Each column, and by what its values were made."""
        return {column_of(reader.kind): version_of(reader) for reader in self._readers}

    def columns(self, record: str) -> Mapping[str, bytes]:
        """The candidates of one trace.

        Args:
            record: Its JSON.
        """
        trace = parse_line(record.encode(), where="the store")
        return {column_of(reader.kind): pack(read_traces(reader, [trace])) for reader in self._readers}


def column_of(kind: str) -> str:
    """The column of candidates of one kind."""
    return f"rows_{kind}"


def version_of(reader: DraftReader) -> str:
    """Names all that a reader's candidates depend on besides the trace."""
    settings = json.dumps(reader.settings(), sort_keys=True)
    return hashlib.sha256(f"{_code_version()} {settings}".encode()).hexdigest()


@lru_cache(maxsize=1)
def _code_version() -> str:
    digest = hashlib.sha256(json.dumps([sys.version_info[:2], *map(version, _READ_BY)]).encode())
    for package in (Path(supercorrect_agent.__file__).parent, Path(__file__).parent):
        for path in sorted(package.rglob("*.py")):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
