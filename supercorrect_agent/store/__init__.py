"""Where traces are kept: append-only JSON Lines that survive crashes, compacted to Parquet.

`open_store` opens a folder, a ``.jsonl`` file or an address. `Claims` lets several processes on one store
share the work.
"""

from __future__ import annotations

from supercorrect_agent.store.claims import Claims
from supercorrect_agent.store.jsonl import JsonlTraceStore, open_store
from supercorrect_agent.store.memory import MemoryTraceStore
from supercorrect_agent.store.protocol import BrokenLine, TraceKey, TraceStore, trace_key
from supercorrect_agent.store.summary import summarize_traces

__all__ = [
    "BrokenLine",
    "Claims",
    "JsonlTraceStore",
    "MemoryTraceStore",
    "TraceKey",
    "TraceStore",
    "open_store",
    "summarize_traces",
    "trace_key",
]
