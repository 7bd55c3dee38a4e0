"""Candidate rows of a large store, made by several processes that read records as lines and answer in lines.

Not multiprocessing: its children import the caller's ``__main__`` again, which breaks scripts without a main
guard. The order of the traces is kept, so rows and counts are those of one process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, cast

from supercorrect_agent.errors import DataError, StoreError
from supercorrect_agent.prompts import PromptSet
from supercorrect_agent.store import JsonlTraceStore
from supercorrect_agent.store.reading import Line, Reading
from training.drafts import DraftReader, TraceSource
from training.manifest import Ledger
from training.read_drafts import Answer, json_line, read_chunk, read_json, take, unpack
from training.row_columns import column_of, version_of
from training.rows import Candidates

_CHUNK = 256
_ALONE = 8192
"""So many records are read here; only behind them workers are worth their start."""
_AHEAD = 3
"""Chunks that wait for each worker."""

Lines = list[Line]


class StoredTraces(TraceSource):
    """The traces of a store; of those in Parquet only the wanted ones.

    Args:
        store: The store.
        wanted: Which rows of an Arrow batch; None: all.
        workers: Processes that read them, once there are many; 1: this one does.
    """

    def __init__(self, store: JsonlTraceStore, wanted: Callable[[Any], Any] | None, workers: int) -> None:
        self._store, self._wanted, self._workers = store, wanted, workers

    def spool(self, reader: DraftReader, candidates: Candidates, ledger: Ledger) -> None:
        reading = self._store.reading()
        try:
            ready = self._take_ready(reading, reader, candidates, ledger)
            wanted = self._wanted
            lines = reading.records(ready) if wanted is None else reading.records_where(wanted, ready)
            here = islice(lines, _ALONE) if self._workers > 1 and reader.can_be_shared else lines
            answers = ((chunk, read_chunk(reader, *self._work(chunk))) for chunk in _chunks(here))
            shared = self._shared(reader, lines) if here is not lines else iter(())
            for chunk, (counts, rows) in chain(answers, shared):
                for number in counts["broken"]:
                    reading.note_broken(chunk[number])
                take(counts, rows, candidates, ledger)
        finally:
            self._store.note(reading)

    def _take_ready(
        self, reading: Reading, reader: DraftReader, candidates: Candidates, ledger: Ledger
    ) -> list[str]:
        """Takes what was worked out when traces moved to Parquet, and names the files that had it."""
        if not reader.can_be_shared:
            return []
        column = column_of(reader.kind)
        files = reading.derived(column, version_of(reader))
        for name in files:
            for row in reading.rows(name, (column,), {}):
                counts, rows = unpack(row.columns[column])
                if counts["broken"]:
                    reading.note_broken(Line(name, row.offset, b""))
                take(counts, rows, candidates, ledger)
        return files

    def _shared(self, reader: DraftReader, lines: Iterator[Line]) -> Iterator[tuple[Lines, Answer]]:
        chunks = _chunks(lines)
        first = next(chunks, None)
        if first is None:
            return
        with ExitStack() as stack:
            workers = [stack.enter_context(_Worker(reader)) for _ in range(self._workers)]
            waiting: deque[tuple[Lines, Future[Answer]]] = deque()
            for number, chunk in enumerate(chain([first], chunks)):
                if len(waiting) == _AHEAD * len(workers):
                    done, future = waiting.popleft()
                    yield done, future.result()
                worker = workers[number % len(workers)]
                waiting.append((chunk, worker.send(*self._work(chunk))))
            for done, future in waiting:
                yield done, future.result()

    def _work(self, chunk: Lines) -> tuple[list[bytes], str]:
        return [line.text for line in chunk], self._store.place.where(chunk[0].file)


def _chunks(lines: Iterator[Line]) -> Iterator[Lines]:
    """Lines in order, some hundred at a time, none of two files together."""
    chunk: Lines = []
    for line in lines:
        if chunk and (len(chunk) == _CHUNK or chunk[0].file != line.file):
            yield chunk
            chunk = []
        chunk.append(line)
    if chunk:
        yield chunk


class _Worker:
    """A process that reads chunks in turn. A thread writes to it and waits for its answers."""

    def __init__(self, reader: DraftReader) -> None:
        root = str(Path(__file__).parents[1])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "training.row_workers"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
        self._input, self._output = (
            cast(IO[bytes], self._process.stdin),
            cast(IO[bytes], self._process.stdout),
        )
        self._thread = ThreadPoolExecutor(1)
        self._thread.submit(self._tell, [json_line(reader.settings())])

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._thread.shutdown(cancel_futures=True)
        self._process.wait()
        self._output.close()

    def send(self, texts: list[bytes], where: str) -> Future[Answer]:
        return self._thread.submit(self._ask, texts, where)

    def _ask(self, texts: list[bytes], where: str) -> Answer:
        lines = (text.strip().replace(b"\n", b" ") + b"\n" for text in texts)  # JSON has none in its strings
        self._tell([json_line({"count": len(texts), "where": where}), *lines])
        header = self._output.readline()
        if not header:
            raise DataError("A process that makes rows has ended. Free memory, or pass fewer `workers`.")
        counts = read_json(header)
        if "error" in counts:
            raise StoreError(counts["error"])
        return counts, [self._output.readline() for _ in range(2 * len(counts["keys"]))]

    def _tell(self, lines: list[bytes]) -> None:
        try:
            self._input.write(b"".join(lines))
            self._input.flush()
        except BrokenPipeError:  # its answer will be missing
            pass


def main() -> None:
    """Answers chunks from standard input until it ends."""
    source, answers = sys.stdin.buffer, sys.stdout.buffer
    reader = _reader(json.loads(source.readline()))
    for header in source:
        asked = json.loads(header)
        texts = [source.readline() for _ in range(asked["count"])]
        try:
            counts, rows = read_chunk(reader, texts, asked["where"])
        except StoreError as error:
            counts, rows = {"error": str(error)}, []
        answers.write(b"".join([json_line(counts), *rows]))
        answers.flush()


def _reader(settings: dict[str, Any]) -> DraftReader:
    from training.pairs import PreferenceReader
    from training.sft_rows import SolutionReader

    made = {"sft": SolutionReader, "preference": PreferenceReader}[settings.pop("kind")]
    return cast(DraftReader, made(**{**settings, "prompts": PromptSet.model_validate(settings["prompts"])}))


if __name__ == "__main__":
    main()
