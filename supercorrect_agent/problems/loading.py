"""Problems by name: read, checked, made unique, divided and drawn."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from operator import itemgetter
from pathlib import Path

from supercorrect_agent.errors import ConfigError, DataError
from supercorrect_agent.problems.files import canonical_split
from supercorrect_agent.problems.mapping import Fields
from supercorrect_agent.problems.report import Fault, Found, ProblemReport
from supercorrect_agent.problems.seen import Seen
from supercorrect_agent.problems.sources import read_source
from supercorrect_agent.types import Problem, content_id

MAX_CHARACTERS = 20_000
"""Of a question, an answer or a reference solution."""

_RENAMED = "under its content's id, for its own is another question's"


def load_problems(
    source: str | Path,
    *,
    mapping: str | Mapping[str, str | None] = "auto",
    split: str = "train",
    n: int | None = None,
    seed: int = 0,
    holdout: int | None = None,
    max_characters: int | None = MAX_CHARACTERS,
    report: ProblemReport | None = None,
    argument: str = "problems",
) -> list[Problem]:
    """Problems of a file, a folder, a data set, a sample or the sandbox, as a list.

    Args:
        source: ``sandbox:SPLIT``; ``sample:gsm8k`` or ``sample:math``; ``hf:NAME[:CONFIG][:SPLIT]``; a folder
            of ``save_to_disk``; or a file, a folder or a pattern of files, on disk or at any fsspec address:
            JSON Lines (``.jsonl``), a JSON array (``.json``), ``.csv``, ``.tsv`` or ``.parquet``, also
            compressed (``.gz``, ``.bz2``, ``.xz``, ``.zst``).
        mapping: ``gsm8k``, ``math``, ``auto`` (both ways of writing an answer are known by their looks), or
            the columns of ``question``, ``answer``, ``solution``, ``id`` and ``split``, as a dict or as
            ``question=COLUMN,answer=COLUMN``. Fields left out are looked for under their usual names; None
            switches one off. ``a.b`` is field ``b`` of field ``a``.
        split: The split of rows that name none, and the one that is taken from a data set or folder that
            has several. Where the mapping names a column for it, only rows of this split are taken.
        n: How many: a choice by ``seed`` and each id, so that a larger ``n`` only adds problems. None: all.
        seed: Seed of the choice, or of the sandbox's generator.
        holdout: So many rows at the end are ``dev``; ``split`` says whether these or all others are taken.
        max_characters: Length of a question, an answer or a solution, each; None: any.
        report: Counts unusable rows, which are dropped. None: the first one is an error.
        argument: What the user calls the source, for messages.

    Returns:
        The problems in the order of their rows, each id once.

    Raises:
        DataError: The source cannot be read, a row is unusable (without ``report``), or nothing is left.
        ConfigError: An option is wrong.
    """
    report_ = ProblemReport() if report is None else report
    before = report_.dropped.copy()
    problems = list(
        iter_problems(
            source, mapping=mapping, split=split, n=n, seed=seed, holdout=holdout,
            max_characters=max_characters, report=report, argument=argument,
        )
    )  # fmt: skip
    if not problems:
        raise DataError(_nothing(source, report_.dropped - before, holdout))
    return problems


def iter_problems(
    source: str | Path,
    *,
    mapping: str | Mapping[str, str | None] = "auto",
    split: str = "train",
    n: int | None = None,
    seed: int = 0,
    holdout: int | None = None,
    max_characters: int | None = MAX_CHARACTERS,
    report: ProblemReport | None = None,
    argument: str = "problems",
) -> Iterator[Problem]:
    """As `load_problems`, one problem after the other.

    Memory holds the rows at hand, the last ``holdout`` rows and the ``n`` that are chosen; ids are compared
    in a temporary file (on the disk of ``TMPDIR``). With ``n``, the first problem comes after the last row
    was read. A source without problems gives none.

    Raises:
        DataError: As `load_problems`, when the row is reached.
        ConfigError: An option is wrong; at once.
    """
    name = str(source)
    fields = Fields.of(mapping)
    _check(name, split=split, n=n, holdout=holdout, max_characters=max_characters)
    if name.startswith("sandbox:"):
        return _counted(_sandbox(name.removeprefix("sandbox:"), n, seed), report)
    rows = read_source(name, fields, split=split, max_characters=max_characters, argument=argument)
    problems = _usable(rows, fields, name, split, holdout, report)
    return _counted(problems if n is None else _drawn(problems, n, seed), report)


def _check(name: str, *, split: str, n: int | None, holdout: int | None, max_characters: int | None) -> None:
    for option, value in (("n", n), ("holdout", holdout), ("max_characters", max_characters)):
        if value is not None and value < 1:
            raise ConfigError(f"`{option}={value}` is less than 1. Pass a number from 1 on, or leave it out.")
    if holdout is None:
        if name.startswith("sample:") and canonical_split(split) == "test":
            raise ConfigError(
                f"`split={split}` would call the problems of `{name}` test problems, but all are training "
                "problems. Leave `split` out, or pass `holdout` and `split=dev`."
            )
        return
    if split not in ("train", "dev"):
        raise ConfigError(
            f"`holdout={holdout}` divides rows into train and dev, but `split={split}`. Pass one of the two."
        )
    if name.startswith("sandbox:"):
        raise ConfigError(f"`holdout={holdout}` divides a file, but `{name}` has no end. Pass sandbox:dev.")


def _usable(
    rows: Iterator[Found | Fault],
    fields: Fields,
    source: str,
    split: str,
    holdout: int | None,
    report: ProblemReport | None,
) -> Iterator[Problem]:
    """The problems among the rows, each id once; the other rows are counted, or the first is an error."""
    items = _unique(rows)
    if holdout is not None:
        items = _divided(items, holdout, split)
    if "split" in fields.chosen:
        items = (_selected(item, split) for item in items)
    for item in items:
        if isinstance(item, Found):
            if item.note and report is not None:
                report.note(item.note, item.where)
            yield item.problem
        elif report is not None:
            report.drop(item.reason, item.where)
        elif not item.harmless:
            raise DataError(item.message)
    fields.check_seen(source)


def _unique(rows: Iterator[Found | Fault]) -> Iterator[Found | Fault]:
    with closing(Seen()) as seen:
        for row in rows:
            yield row if isinstance(row, Fault) else _once(row, seen)


def _once(found: Found, seen: Seen) -> Found | Fault:
    """A problem whose id is new; another question under a known id gets its content's."""
    where, problem, _ = found
    known = seen.add(problem)
    if known == "other question":
        problem = problem.model_copy(update={"id": content_id(problem.question)})
        known = seen.add(problem)
        found = Found(where, problem, _RENAMED)
    if known == "new":
        return found
    if known == "other answer":
        message = (
            f"{where} asks the question of an earlier row, id '{problem.id}', but has another answer. "
            "Leave one of the two out."
        )
        return Fault("other answer", where, message)
    return Fault("duplicate", where, f"{where} is there already.", harmless=True)


def _divided(items: Iterator[Found | Fault], holdout: int, split: str) -> Iterator[Found | Fault]:
    """All rows but the last ones (train), or these (dev). Unusable rows are rows too."""
    last: deque[Found | Fault] = deque()
    for item in items:
        last.append(item)
        if len(last) > holdout:
            early = last.popleft()
            if split == "train":
                yield early
    if split == "dev":
        for item in last:
            yield item if isinstance(item, Fault) else _as_dev(item)


def _as_dev(found: Found) -> Found:
    return found._replace(problem=found.problem.model_copy(update={"split": "dev"}))


def _selected(item: Found | Fault, split: str) -> Found | Fault:
    if isinstance(item, Fault) or canonical_split(item.problem.split) == canonical_split(split):
        return item
    return Fault(f"of split {item.problem.split}", item.where, f"{item.where} is skipped.", harmless=True)


def _drawn(problems: Iterable[Problem], n: int, seed: int) -> Iterator[Problem]:
    """The ``n`` problems whose ids have the smallest hashes with the seed, in the order they came."""
    numbered = ((_rank(problem, seed), place, problem) for place, problem in enumerate(problems))
    chosen = heapq.nsmallest(n, numbered, key=itemgetter(0, 1))
    return (problem for _, _, problem in sorted(chosen, key=itemgetter(1)))


def _rank(problem: Problem, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}:{problem.id}".encode("utf-8", "replace"), digest_size=8).digest()


def _counted(problems: Iterable[Problem], report: ProblemReport | None) -> Iterator[Problem]:
    for problem in problems:
        if report is not None:
            report.kept += 1
        yield problem


def _sandbox(split: str, n: int | None, seed: int) -> list[Problem]:
    from supercorrect_agent.sandbox.world import SPLITS, generate_problems

    known = next((name for name in SPLITS if name == split), None)
    if known is None:
        raise DataError(
            f"`sandbox:{split}` is not a split of the sandbox. Choose one of {', '.join(SPLITS)}."
        )
    if n is None:
        raise DataError(f"`sandbox:{split}` has no end. Pass the number of problems, such as `--n 500`.")
    return generate_problems(known, n, seed=seed)


def _nothing(source: str | Path, dropped: Counter[str], holdout: int | None) -> str:
    why = ", ".join(f"{count} {reason}" for reason, count in dropped.most_common())
    part = f" outside of `holdout={holdout}`" if holdout is not None else ""
    return (
        f"`{source}` holds no problems{part}{f' (dropped: {why})' if why else ''}. "
        "Write one JSON object with `question` and `answer` a line."
    )
