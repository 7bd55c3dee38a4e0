"""Which ids came before: in a temporary database, so that memory does not grow with the rows."""

from __future__ import annotations

import hashlib
import sqlite3

from supercorrect_agent.errors import DataError
from supercorrect_agent.types import Problem, content_id


class Seen:
    """Ids with hashes of their questions and answers; a file of SQLite's own once 64 MB are full."""

    def __init__(self) -> None:
        # Another thread may go on with a reading.
        self._rows = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._rows.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-65536;"
            "CREATE TABLE seen (id INTEGER PRIMARY KEY, question INTEGER, answer INTEGER); BEGIN;"
        )

    def add(self, problem: Problem) -> str:
        """Adds a problem.

        Returns:
            ``new``, ``duplicate``, ``other answer`` (the same question) or ``other question`` (the same id).
            Only a new one was added.

        Raises:
            DataError: The disk of the temporary file is full.
        """
        question, answer = _number(content_id(problem.question)), _number(problem.answer or "")
        key = _number(problem.id)
        try:
            found = self._rows.execute("SELECT question, answer FROM seen WHERE id=?", (key,)).fetchone()
            if found is None:
                self._rows.execute("INSERT INTO seen VALUES (?, ?, ?)", (key, question, answer))
                return "new"
        except sqlite3.Error as error:
            raise DataError(
                f"The ids of the problems cannot be written to a temporary file ({error}). "
                "Free some space, or choose another folder in TMPDIR."
            ) from error
        if found[0] != question:
            return "other question"
        return "duplicate" if found[1] == answer else "other answer"

    def close(self) -> None:
        self._rows.close()


def _number(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
