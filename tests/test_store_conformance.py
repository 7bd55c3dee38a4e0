"""Every trace store of this package through the conformance suite."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from supercorrect_agent.store import JsonlTraceStore, MemoryTraceStore, TraceStore, open_store
from supercorrect_agent.store.compaction import compact_store
from tests.conformance.trace_store import TraceStoreConformance


class TestMemory(TraceStoreConformance):
    @pytest.fixture
    def store(self) -> TraceStore:
        return MemoryTraceStore()


class TestJsonlFolder(TraceStoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> TraceStore:
        return open_store(tmp_path / "new" / "folder")


class TestJsonlFile(TraceStoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> TraceStore:
        return JsonlTraceStore(tmp_path / "new" / "mine.jsonl", sync="never")


class TestSyncedAlways(TraceStoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> TraceStore:
        return open_store(tmp_path, sync="always")


class TestAddress(TraceStoreConformance):
    @pytest.fixture
    def store(self) -> TraceStore:
        return open_store(f"memory://{uuid.uuid4().hex}/traces")


class TestCompacted(TraceStoreConformance):
    """A local store, whose shards lie in Parquet when it is read."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> TraceStore:
        return open_store(tmp_path)

    def reopened(self, store: TraceStore) -> TraceStore:
        assert isinstance(store, JsonlTraceStore)
        return compacted(store)


class TestCompactedAddress(TestCompacted):
    """The same at an address."""

    @pytest.fixture
    def store(self) -> TraceStore:
        return open_store(f"memory://{uuid.uuid4().hex}/traces")


def compacted(store: JsonlTraceStore) -> TraceStore:
    store.close()
    compact_store(store.path)
    assert {name.rpartition(".")[2] for name in store.place.names()} == {"parquet"}
    return open_store(store.path, must_exist=True)
