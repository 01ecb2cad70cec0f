"""Answers of models, stored one by one as they arrive: a crash loses at most the requests in flight.

The store outlives a run: a request with the same model, messages, sampling and seed is never sent again. It also has
the requests that were in flight when a server died: one of them may have killed it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path

CHUNK = 500


@dataclass(frozen=True)
class Answer:
    """An answer of a model; its text is empty without one, and the store fills in ``run_id``.

    ``finish_reason``: ``stop``, ``length``; ``refused: ...`` if the server rejected the request; ``failed: ...`` if
    every try ended in an error. ``request_id``: digest of everything that determines the request.
    """

    request_id: str
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    run_id: str = ""

    @property
    def is_refused(self) -> bool:
        """Whether the server rejected the request."""
        return self.finish_reason.startswith("refused")

    @property
    def is_failed(self) -> bool:
        """Whether every try ended in an error, a timeout, or the server's death."""
        return self.finish_reason.startswith("failed")


class AnswerStore:
    """An SQLite table of answers by request id."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path) -> Iterator[AnswerStore]:
        """Open or create the store.

        A stored answer survives a killed process, but perhaps not a power cut: repeating the last requests is cheaper
        than waiting for the disk after every answer.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(path, timeout=60)) as connection:
            connection.text_factory = lambda text: text.decode("utf-8", "surrogatepass")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS answers (request_id TEXT PRIMARY KEY, text TEXT NOT NULL,"
                " finish_reason TEXT NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,"
                " run_id TEXT NOT NULL)"
            )
            connection.execute(
                "CREATE TABLE IF NOT EXISTS deaths"
                " (request_id TEXT NOT NULL, cause TEXT NOT NULL, run_id TEXT NOT NULL)"
            )
            yield cls(connection)

    def find(self, request_ids: Iterable[str]) -> dict[str, Answer]:
        wanted = list(request_ids)
        columns = ", ".join(field.name for field in fields(Answer))
        found: dict[str, Answer] = {}
        for start in range(0, len(wanted), CHUNK):
            chunk = wanted[start : start + CHUNK]
            marks = ",".join("?" * len(chunk))
            query = f"SELECT {columns} FROM answers WHERE request_id IN ({marks})"
            found.update((row[0], Answer(*row)) for row in self._connection.execute(query, chunk))
        return found

    def tokens_of(self, run_id: str) -> int:
        """Tokens in and out of all answers to a run's requests."""
        query = "SELECT COALESCE(SUM(prompt_tokens + completion_tokens), 0) FROM answers WHERE run_id = ?"
        total: int = self._connection.execute(query, (run_id,)).fetchone()[0]
        return total

    def add(self, answer: Answer, run_id: str) -> None:
        """Store an answer unchanged, also with half of a surrogate pair in it, which JSON can spell."""
        row_id, text, *rest = astuple(replace(answer, run_id=run_id))
        row = (row_id, text.encode("utf-8", "surrogatepass"), *rest)
        with self._connection:
            self._connection.execute("INSERT OR REPLACE INTO answers VALUES (?, CAST(? AS TEXT), ?, ?, ?, ?)", row)

    def add_death(self, request_ids: Iterable[str], cause: str, run_id: str) -> None:
        """Store that a server died of ``cause`` while it was asked these requests."""
        with self._connection:
            rows = [(request_id, cause, run_id) for request_id in request_ids]
            self._connection.executemany("INSERT INTO deaths VALUES (?, ?, ?)", rows)

    def forget_deaths(self, run_id: str) -> None:
        """Forget a run's deaths, for another run of the same name."""
        with self._connection:
            self._connection.execute("DELETE FROM deaths WHERE run_id = ?", (run_id,))

    def deaths(self, run_id: str) -> Counter[tuple[str, str]]:
        """How many servers of a run died of a cause while they were asked a request, by request id and cause."""
        query = "SELECT request_id, cause FROM deaths WHERE run_id = ?"
        return Counter(self._connection.execute(query, (run_id,)))
