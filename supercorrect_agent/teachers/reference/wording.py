"""Choosing among phrasings: always the same one for the same text, different ones for different texts."""

from __future__ import annotations

import zlib
from collections.abc import Sequence


def pick(phrasings: Sequence[str], seed: str) -> str:
    """One of the phrasings, by a hash of ``seed``."""
    return phrasings[zlib.crc32(seed.encode("utf-8", "replace")) % len(phrasings)]


def listed(parts: Sequence[str]) -> str:
    """ "a", "a, then b", "a, then b, and at last c"."""
    if len(parts) < 3:
        return ", then ".join(parts)
    return f"{', then '.join(parts[:-1])}, and at last {parts[-1]}"
