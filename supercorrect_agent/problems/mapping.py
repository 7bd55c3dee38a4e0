r"""Which fields of a row are question, answer and solution, and how GSM8K and MATH write their answers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from supercorrect_agent.errors import ConfigError, DataError
from supercorrect_agent.grammar import last_boxed
from supercorrect_agent.problems.report import Fault
from supercorrect_agent.types import Problem

FORMS = ("auto", "gsm8k", "math")
_USUAL: dict[str, tuple[str, ...]] = {
    "question": ("question", "problem"),
    "answer": ("answer",),
    "solution": ("solution", "reference_solution"),
    "id": ("id",),
    "split": ("split",),
}
_ID_LENGTH = 256  # characters; a longer id gives way to the content's hash
_MARK = re.compile(r"<<[^<>=]*=[^<>]*>>")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


class Number(str):
    """A number of a JSON file, as it is written there: an answer of 1.50 stays 1.50."""


class _NoTextError(Exception):
    """A field holds something that is no text; says what."""


def without_calculator_marks(text: str) -> str:
    """The text without GSM8K's calculator marks: ``48/2 = <<48/2=24>>24`` becomes ``48/2 = 24``."""
    return _MARK.sub("", text) if "<<" in text else text


@dataclass(frozen=True)
class Fields:
    """Where a row has what a problem is made of.

    Attributes:
        names: The columns to look for by field, the first one that a row has is taken.
        form: ``gsm8k`` or ``math`` for that data set's way of writing answers, else ``auto``.
        chosen: Fields whose column the user named.
        seen: Fields that some row had.
    """

    names: dict[str, tuple[str, ...]]
    form: str = "auto"
    chosen: frozenset[str] = frozenset()
    seen: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, mapping: str | Mapping[str, str | None]) -> Fields:
        """Reads a mapping: a name, ``question=COLUMN,answer=COLUMN``, or a dict of the same.

        Raises:
            ConfigError: The name or a field is unknown.
        """
        if isinstance(mapping, str) and mapping in FORMS:
            return cls(_USUAL, mapping)
        wanted = _pairs(mapping) if isinstance(mapping, str) else dict(mapping)
        unknown = sorted(set(wanted) - set(_USUAL))
        if unknown:
            raise ConfigError(f"`mapping` names the field '{unknown[0]}'. Choose among {', '.join(_USUAL)}.")
        names = {name: ((wanted[name],) if wanted[name] else ()) for name in wanted}
        if names.get("question") == ():
            raise ConfigError("`mapping` has no column for the question. Name one: question=COLUMN.")
        chosen = frozenset(name for name in names if names[name])
        return cls({**_USUAL, **names}, "auto", chosen)  # type: ignore[dict-item]

    def check_columns(self, columns: Iterable[str], where: str) -> list[str]:
        """The columns of a table that are needed.

        Raises:
            DataError: The table has no question, or not a column that the user named.
        """
        columns = list(columns)
        for name in ("question", *sorted(self.chosen)):
            if not any(_column_of(wanted, columns) for wanted in self.names[name]):
                raise DataError(
                    f"{where} has no `{self.names[name][0]}`, only {', '.join(columns) or 'no columns'}. "
                    f"Name the one with the {name}: `mapping={{'{name}': COLUMN}}`."
                )
        needed = {_column_of(wanted, columns) for names in self.names.values() for wanted in names}
        return [column for column in columns if column in needed]

    def check_seen(self, source: str) -> None:
        """Refuses a mapping that named a column which no row had.

        Raises:
            DataError: There is one.
        """
        for name in sorted(self.chosen - self.seen) if self.seen else ():
            raise DataError(
                f"`mapping` names `{self.names[name][0]}` for the {name}, but no row of `{source}` has it. "
                "Name a field that the rows have."
            )

    def problem(
        self, row: Any, where: str, *, source: str, split: str, max_characters: int | None
    ) -> Problem | Fault:
        """Makes a problem of a row.

        Args:
            row: What was read there, any JSON value.
            where: Its place, for messages.
            source: Name of the file or data set.
            split: Split of a row that names none.
            max_characters: Length that question, answer and solution may have each; None: any.
        """
        try:
            found = {name: self._text(row, name) for name in ("question", "answer", "solution")}
        except _NoTextError as error:
            return Fault(
                "unusable field",
                where,
                f"{where} has a field that is no text: {error}. Write a text or a number.",
            )
        question = found["question"]
        if not question or not question.strip():
            return self._no_question(row, where)
        for name, text in found.items():
            if text is not None and max_characters is not None and len(text) > max_characters:
                return Fault("too long", where, _too_long(where, name, len(text), max_characters))
        if not all(_is_writable(text) for text in found.values() if text):
            return Fault("not UTF-8", where, f"{where} holds half a character. Save the file as UTF-8.")
        answer, solution = _answer(self.form, found["answer"], found["solution"])
        made = Problem.create(
            question,
            answer=answer,
            reference_solution=solution,
            source=source,
            split=self._label(row, "split") or split,
        )
        own = self._label(row, "id")
        return made.model_copy(update={"id": own}) if own else made

    def _no_question(self, row: Any, where: str) -> Fault:
        wanted = self.names["question"][0]
        kind = f"It is {_kind(row)}. " if not isinstance(row, Mapping) else ""
        fields = ", ".join(f"`{str(name)[:40]}`" for name in list(row)[:12]) if not kind else ""
        return Fault(
            "no question",
            where,
            f"{where} has no `{wanted}`. {kind}{f'Its fields are {fields}. ' if fields else ''}"
            "Write one JSON object with `question` and `answer` a line, or name the fields in `mapping`.",
        )

    def _value(self, row: Any, name: str) -> Any:
        for wanted in self.names[name] if isinstance(row, Mapping) else ():
            value = row.get(wanted)
            if value is None and wanted not in row:
                value = _inside(row, wanted) if "." in wanted else _ABSENT
                if value is _ABSENT:
                    continue
            self.seen.add(name)
            if value is not None and value != "":
                return value
        return None

    def _text(self, row: Any, name: str) -> str | None:
        value = self._value(row, name)
        if name == "question" and isinstance(value, Number | bool | int | float):
            return None
        try:
            return as_text(value)
        except _NoTextError as error:
            raise _NoTextError(f"`{name}` is {error}") from None

    def _label(self, row: Any, name: str) -> str | None:
        try:
            text = (as_text(self._value(row, name)) or "").strip()
        except _NoTextError:
            return None
        return text if len(text) <= _ID_LENGTH and _is_writable(text) else None


_ABSENT = object()


def as_text(value: Any) -> str | None:
    """A field as text: numbers as they are written, the only member of a list, None for nothing at all."""
    while isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    if value is None or value == [] or value == ():
        return None
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    if isinstance(value, bytes | bytearray):
        value = bytes(value).decode("utf-8", "surrogateescape")
    if isinstance(value, list | tuple | Mapping | set):
        raise _NoTextError(_kind(value))
    return str(value).replace("\0", "")  # a database and a file name take no NUL


def _pairs(text: str) -> dict[str, str | None]:
    pairs = [part.partition("=") for part in text.split(",")]
    if any(not mark for _, mark, _ in pairs):
        raise ConfigError(
            f"`mapping={text}` is not known. Choose one of {', '.join(FORMS)}, or name the columns: "
            "question=COLUMN,answer=COLUMN,solution=COLUMN."
        )
    return {name.strip(): column.strip() or None for name, _, column in pairs}


def _column_of(wanted: str, columns: list[str]) -> str | None:
    top = wanted.partition(".")[0]
    return wanted if wanted in columns else top if top != wanted and top in columns else None


def _inside(row: Mapping[str, Any], path: str) -> Any:
    """What ``a.b`` names in a row without such a field: ``b`` of ``a``."""
    value: Any = row
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return _ABSENT
        value = value[part]
    return value


def _answer(form: str, answer: str | None, solution: str | None) -> tuple[str | None, str | None]:
    """The answer and the reference solution, out of the way in which the data set writes them."""
    if form == "math":
        return (last_boxed(solution) if solution else None) or answer, solution
    if answer and "####" in answer:
        worked, answer = _split_gsm8k(answer)
        return answer, solution or worked
    if form == "gsm8k" and answer:
        return _THOUSANDS.sub("", answer.strip()), solution
    if answer is None and solution:
        if "####" in solution:
            worked, answer = _split_gsm8k(solution)
            return answer, worked
        return last_boxed(solution), solution
    return answer, solution


def _split_gsm8k(text: str) -> tuple[str | None, str | None]:
    worked, _, answer = text.rpartition("####")
    return worked.strip() or None, _THOUSANDS.sub("", answer.strip()) or None


def _is_writable(text: str) -> bool:
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def _too_long(where: str, name: str, length: int, limit: int) -> str:
    return (
        f"{where} has a {name} of {length} characters, more than `max_characters={limit}`. "
        "Shorten it, leave the row out, or raise the limit."
    )


def _kind(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    names = {Mapping: "an object", str: "a text", bool: "true or false", type(None): "null"}
    return next((name for kind, name in names.items() if isinstance(value, kind)), "a number")
