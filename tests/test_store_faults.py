"""What can go wrong with a store's disk and processes: nothing stored is lost, and nothing is there twice."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

from supercorrect_agent.errors import ConfigError, StoreError
from supercorrect_agent.store import BrokenLine, JsonlTraceStore, open_store
from supercorrect_agent.store.jsonl import DEFAULT_SYNC
from supercorrect_agent.types import Trace
from tests.conformance.trace_store import make_trace

# --- a disk that fills

FILL = """
import resource, sys
from supercorrect_agent.errors import StoreError
from supercorrect_agent.store import open_store
from tests.conformance.trace_store import make_trace

store, number = open_store(sys.argv[1]), 0
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
try:
    while True:
        store.append(make_trace(number))
        number += 1
except StoreError as error:
    print(error)
print(number, store.file.stat().st_size, store.file.read_bytes().endswith(b"}\\n"))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.append(make_trace(number))
"""


@pytest.mark.parametrize("name", ["folder", "one.jsonl"])
def test_a_full_disk_costs_only_the_trace_that_did_not_fit(tmp_path: Path, name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(tmp_path / name)], capture_output=True, text=True, timeout=100
    )
    assert done.stderr == ""
    message, counts = done.stdout.splitlines()
    assert message.endswith(
        ": File too large. Pass a path that you may write to, or free space and permissions there."
    )
    stored, size, whole = counts.split()
    assert whole == "True"
    assert int(size) <= 10_000 < int(size) + 1000  # a trace is about 500 bytes: the last one did not fit
    store = open_store(tmp_path / name)
    assert [trace.id for trace in store] == [f"trace-{number}" for number in range(int(stored) + 1)]
    assert store.skipped == 0


def test_a_disk_that_is_full_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, write, dice = open_store(tmp_path), os.write, random.Random(0)
    kept = []

    def some(descriptor: int, data: memoryview) -> int:
        if dice.random() < 0.1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[: dice.randint(1, len(data))])

    monkeypatch.setattr(os, "write", some)
    for number in range(100):
        try:
            store.append(make_trace(number))
        except StoreError:
            continue
        kept.append(f"trace-{number}")
    assert 5 < len(kept) < 95
    assert [trace.id for trace in store] == kept
    assert store.skipped == 0


def test_a_line_that_cannot_be_taken_back_is_closed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path)
    store.append(make_trace(1))
    size = store.file.stat().st_size
    with monkeypatch.context() as broken:
        write = os.write

        def half(descriptor: int, data: memoryview) -> int:
            if len(data) < 100:
                raise OSError(errno.EIO, "Input/output error")
            return write(descriptor, data[:-50])

        def refuse(*_: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

        broken.setattr(os, "write", half)
        broken.setattr(os, "ftruncate", refuse)
        with pytest.raises(StoreError, match="Input/output error"):
            store.append(make_trace(2))
    with pytest.warns(UserWarning, match=f"torn line \\(from byte {size}\\); it was closed"):
        store.append(make_trace(3))
    assert [trace.id for trace in store] == ["trace-1", "trace-3"]
    assert store.broken == (BrokenLine(str(store.file), size, torn=False),)


# --- lines that are torn


@pytest.mark.parametrize("cut", [1, 2, 50, 300])
def test_a_shard_truncated_in_the_middle_of_a_line_loses_only_that_line(tmp_path: Path, cut: int) -> None:
    with open_store(tmp_path) as store:
        for number in range(3):
            store.append(make_trace(number))
        shard = store.file
    whole = shard.read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    shard.write_bytes(whole[:-cut])
    lost = cut > 1  # without its newline the line is whole still
    store = open_store(tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert [trace.id for trace in store] == [f"trace-{number}" for number in range(3 - lost)]
    assert len(caught) == lost
    assert store.broken == ((BrokenLine(str(shard), start, torn=True),) if lost else ())
    with pytest.warns(UserWarning, match=f"'{shard}' ended in a torn line \\(from byte {start}\\)"):
        store.append(make_trace(3))
    assert store.file != shard
    assert shard.read_bytes() == whole[:-cut] + b"\n"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is repaired, so nothing is torn any more
        assert len(list(open_store(tmp_path))) == 4 - lost


def test_a_shard_truncated_under_its_writer_loses_only_that_line(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.append(make_trace(1))
    store.append(make_trace(2))
    os.truncate(store.file, store.file.stat().st_size - 20)
    with pytest.warns(UserWarning, match="torn line"):
        store.append(make_trace(3))
    assert [trace.id for trace in store] == ["trace-1", "trace-3"]
    assert store.skipped == 1


def test_a_line_that_another_process_is_writing_is_not_torn(tmp_path: Path) -> None:
    writer = open_store(tmp_path)
    writer.append(make_trace(1))
    with writer.file.open("ab") as file:
        file.write(b'{"schema_version":2,"id":"half')
    reader = open_store(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [trace.id for trace in reader] == ["trace-1"]
        assert reader.skipped == 0
        reader.append(make_trace(2))  # and does not close it
    writer.close()
    with pytest.warns(UserWarning, match="is torn"):
        assert [trace.id for trace in reader] == ["trace-1", "trace-2"]
    assert reader.skipped == 1


# --- processes


WRITE = """
import sys
from supercorrect_agent.store import open_store
from tests.conformance.trace_store import make_trace
store = open_store(sys.argv[1])
for number in range(100_000):
    store.append(make_trace(number))
    print(number, flush=True)
"""


@pytest.mark.parametrize("name", ["folder", "one.jsonl"])
def test_a_killed_writer_loses_nothing_that_it_had_appended(tmp_path: Path, name: str) -> None:
    dice = random.Random(name)
    for attempt in range(5):
        path = tmp_path / str(attempt) / name
        writer = subprocess.Popen([sys.executable, "-c", WRITE, str(path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        for _ in range(dice.randint(1, 400)):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        rest = writer.communicate(timeout=60)[0].splitlines()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = [trace.id for trace in open_store(path)]
        said = int(rest[-1]) if rest and rest[-1].isdigit() else 0
        assert found == [f"trace-{number}" for number in range(len(found))]
        assert len(found) >= said


def test_each_process_and_each_opening_writes_a_shard_of_its_own(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.append(make_trace(1))
    child = multiprocessing.get_context("fork").Process(target=lambda: store.append(make_trace(2)))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    other = open_store(tmp_path)
    other.append(make_trace(3))
    store.append(make_trace(4))
    assert [trace.id for trace in store] == ["trace-1", "trace-4", "trace-2", "trace-3"]
    names = [path.name.split("-") for path in sorted(tmp_path.glob("*.jsonl"))]
    assert [name[-2] for name in names] == [str(os.getpid()), str(child.pid), str(os.getpid())]


def test_a_store_goes_on_when_somebody_removed_its_file(tmp_path: Path) -> None:
    for store in (open_store(tmp_path / "folder"), open_store(tmp_path / "one.jsonl")):
        store.append(make_trace(1))
        store.file.unlink()
        store.append(make_trace(2))
        assert [trace.id for trace in store] == ["trace-2"]


def test_a_store_that_is_forgotten_gives_its_lock_back(tmp_path: Path) -> None:
    store = open_store(tmp_path, sync="never")
    store.append(make_trace(1))
    (name,) = store.place.names()
    assert store.place.is_live(name)
    place = store.place
    del store
    assert not place.is_live(name)


# --- fsync


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are forced onto the disk, as they are."""
    names: list[str] = []
    sync = os.fsync

    def note(descriptor: int) -> None:
        names.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    return names


def test_always_syncs_with_every_append(tmp_path: Path, synced: list[str]) -> None:
    store = open_store(tmp_path, sync="always")
    store.append(make_trace(1))
    shard = store.file.name
    assert synced == [tmp_path.name, shard]  # the new file's name too
    store.append(make_trace(2))
    assert synced == [tmp_path.name, shard, shard]


def test_never_syncs_never(tmp_path: Path, synced: list[str]) -> None:
    with JsonlTraceStore(tmp_path, sync="never") as store:
        store.append(make_trace(1))
    assert synced == []


def test_an_interval_syncs_in_the_background_and_at_the_end(tmp_path: Path, synced: list[str]) -> None:
    store = open_store(tmp_path, sync="interval:3600")
    store.append(make_trace(1))
    shard = store.file.name
    assert synced == [tmp_path.name]
    store.flush()
    assert synced == [tmp_path.name, shard]
    store.close()
    assert synced[2:] == [shard]


def test_the_background_syncs_without_another_append(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done, sync = threading.Event(), os.fsync

    def note(descriptor: int) -> None:
        sync(descriptor)
        if threading.current_thread() is not threading.main_thread():
            done.set()

    monkeypatch.setattr(os, "fsync", note)
    with open_store(tmp_path, sync="interval:0.01") as store:
        store.append(make_trace(1))
        assert done.wait(60)


def test_what_failed_in_the_background_is_raised_by_the_next_append(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path, sync="interval:0.01")
    store.ensure_writable()

    def refuse(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", refuse)
        others = set(threading.enumerate())
        store.append(make_trace(1))
        for waiting in set(threading.enumerate()) - others:
            waiting.join(60)
    with pytest.raises(StoreError, match="Input/output error"):
        store.append(make_trace(2))
    store.append(make_trace(3))
    assert [trace.id for trace in store] == ["trace-1", "trace-3"]


@pytest.mark.parametrize(
    "policy", ["sometimes", "interval:", "interval:-1", "interval:nan", "interval:inf", ""]
)
def test_a_policy_that_is_none(tmp_path: Path, policy: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"`sync='{policy}'` is no policy\. Pass 'always', .* or 'never'\."
    ):
        open_store(tmp_path, sync=policy)


def test_the_default_is_one_second() -> None:
    assert DEFAULT_SYNC == "interval:1"


# --- an address


def test_an_address_gets_a_part_a_flush(tmp_path: Path) -> None:
    store = open_store("memory://faults/parts", sync="never")
    store.append(make_trace(1))
    store.append(make_trace(2))
    assert store.place.names() == []
    store.flush()
    store.flush()
    assert len(store.place.names()) == 1
    with store:
        store.append(make_trace(3))
    assert len(store.place.names()) == 2
    assert [trace.id for trace in open_store("memory://faults/parts")] == ["trace-1", "trace-2", "trace-3"]


def test_an_address_with_always_gets_a_part_a_trace() -> None:
    store = open_store("memory://faults/always", sync="always")
    for number in range(3):
        store.append(make_trace(number))
    assert len(store.place.names()) == 3


def test_a_part_that_cannot_be_written_goes_on_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store("memory://faults/refused")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Forbidden")

    store.append(make_trace(1))
    with monkeypatch.context() as broken:
        broken.setattr(type(store.place.system), "pipe_file", refuse)  # type: ignore[union-attr]
        with pytest.raises(StoreError, match=r"'memory://faults/refused': Forbidden\. Pass"):
            store.flush()
        with pytest.raises(StoreError, match="Forbidden"):
            store.ensure_writable()
    store.close()
    assert [trace.id for trace in open_store("memory://faults/refused")] == ["trace-1"]


def test_a_part_that_was_written_all_the_same_is_there_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that breaks off behind the last byte."""
    store = open_store("memory://faults/late", sync="never")
    write = type(store.place.system).pipe_file  # type: ignore[union-attr]

    def write_and_fail(*arguments: Any) -> None:
        write(*arguments)
        raise TimeoutError("timed out")

    store.append(make_trace(1))
    with monkeypatch.context() as broken:
        broken.setattr(type(store.place.system), "pipe_file", write_and_fail)  # type: ignore[union-attr]
        with pytest.raises(StoreError, match="timed out"):
            store.flush()
    store.append(make_trace(2))
    store.close()
    assert [trace.id for trace in open_store("memory://faults/late")] == ["trace-1", "trace-2"]


def test_a_path_object_may_hold_an_address(tmp_path: Path) -> None:
    open_store("memory://faults/path", sync="always").append(make_trace(1))
    found: list[Trace] = list(open_store(Path("memory://faults/path"), must_exist=True))
    assert len(found) == 1


def test_a_file_address_is_a_local_store(tmp_path: Path) -> None:
    with open_store(f"file://{tmp_path}/traces") as store:
        store.append(make_trace(1))
    assert len(list(open_store(tmp_path / "traces"))) == 1


@pytest.mark.parametrize("address", ["nosuch://bucket/traces", "nosuch://x"])
def test_an_address_that_nobody_knows_is_one_sentence(address: str) -> None:
    with pytest.raises(StoreError, match=rf"^'{address.rstrip('/')}.*' cannot be opened: .*nosuch"):
        open_store(address)
