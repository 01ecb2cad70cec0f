"""Stream the rows of a SQL query into a snapshot; with a watermark, each night only rows at or above the last one.

Every row is a line of JSON in a part; values that JSON lacks become text (dates, decimals, UUIDs, UTF-8 bytes), so that
a value does not depend on its neighbours, and unusable rows are found where all JSON lines are read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime, time
from typing import IO, Any

import zstandard
from sqlalchemy import Connection, CursorResult, bindparam, text
from sqlalchemy.types import NullType

from tasks.collect.config import SqlSource
from tasks.collect.records import ReaderSettings, Record
from tasks.collect.sources.databases import database_url, read_only, without_password
from tasks.collect.sources.environment import Environment
from tasks.collect.sources.formats import read_file
from tasks.collect.sources.snapshots import Snapshot, State
from tasks.collect.sources.watermarks import Watermark
from tasks.core.errors import SourceError
from tasks.core.files import digest_of

ROWS_AT_A_TIME = 1_000
COMMENT = re.compile(r"\s*(?:--[^\n]*(?:\n|$)|/\*.*?\*/)", re.DOTALL)
TABLE = re.compile(r"\bfrom\s+([\w.\"]+)", re.IGNORECASE)


class SqlReader:
    """Reads a ``sql`` source; after ``fetch``, ``fetched`` counts the rows, and the new ones."""

    def __init__(self, source: SqlSource, settings: ReaderSettings, columns: Iterable[str] | None = None) -> None:
        self.source, self.settings = source, settings
        self.columns = None if columns is None else tuple(columns)
        self.fetched: Mapping[str, int] = {}
        where = without_password(source.sql)
        self._environment = Environment(where)
        identity = {"sql": where, "query": source.query, "watermark": source.watermark}
        self._snapshot = Snapshot(settings.snapshots, "sql", identity, where)

    @property
    def name(self) -> str:
        table = TABLE.search(self.source.query)
        return self.source.name or (table[1].replace('"', "") if table else "sql")

    def check(self) -> None:
        database_url(self.source.sql, self._environment)
        if not re.match(r"(select|with)\b", _bare(self.source.query), re.IGNORECASE):
            remedy = "begin it with SELECT or WITH: sources are read-only"
            raise SourceError("The query is not a SELECT", where=self.source.query[:200], remedy=remedy)

    def fetch(self) -> None:
        """Add the rows at or above the watermark to the snapshot; without a watermark, replace it by all rows."""
        self.check()
        url = database_url(self.source.sql, self._environment)
        origin = digest_of(without_password(url.render_as_string(hide_password=True)))
        with self._snapshot.update(origin) as former, read_only(url, self._environment) as connection:
            self._snapshot.commit(self._read_on(connection, former or State(origin, ())))

    def digests(self) -> Mapping[str, str]:
        return {part.label: part.digest for part in self._snapshot.current().parts}

    def records(self) -> Iterator[Record]:
        """All rows of all nights; a later night has a greater version."""
        limit, columns = self.settings.max_field_bytes, self.columns
        before = 0
        for version, part in enumerate(self._snapshot.current().parts, 1):
            path = self._snapshot.path(part)
            for record in read_file(path, "jsonl", name=self.name, max_field_bytes=limit, columns=columns):
                yield replace(record, line=before + record.line, version=version)
            before += part.details["rows"]

    def _read_on(self, connection: Connection, former: State) -> State:
        incremental = self.source.watermark is not None
        past = Watermark.read(former.details) if incremental and former.parts else Watermark()
        now = Watermark(past.last)
        file = self._snapshot.new_file()
        with zstandard.open(file, "wb") as stream:
            rows, new = self._write_rows(connection, past, now, stream)
        self.fetched = {"rows": rows, "new_rows": new}
        parts = former.parts if incremental else ()
        if new or not parts:
            label = f"rows-{len(parts) + 1:05}"
            parts = (*parts, self._snapshot.keep(file, label, ".jsonl.zst", {"rows": new}))
        else:
            file.unlink()
        return State(former.origin, parts, now.as_details() if incremental else {})

    def _write_rows(
        self, connection: Connection, past: Watermark, now: Watermark, stream: IO[bytes]
    ) -> tuple[int, int]:
        result = self._select(connection, past)
        columns = list(result.keys())
        self._require_columns(columns)
        index = columns.index(self.source.watermark) if self.source.watermark else None
        rows = new = 0
        for row in result:
            rows += 1
            line = json.dumps(dict(zip(columns, row, strict=True)), default=_plain).encode()
            if index is None or not past.holds(now.advance(row[index], line, self.name)):
                stream.write(line + b"\n")
                new += 1
        return rows, new

    def _select(self, connection: Connection, past: Watermark) -> CursorResult[Any]:
        connection.execution_options(stream_results=True, yield_per=ROWS_AT_A_TIME)
        query = _literal(_bare(self.source.query).rstrip("; \t\r\n"))
        if self.source.watermark is None:
            return connection.execute(text(query))
        column = _literal(connection.dialect.identifier_preparer.quote(self.source.watermark))
        rows = f"SELECT * FROM ({query}\n) AS retune_rows"
        if past.last is None:
            return connection.execute(text(f"{rows} ORDER BY {column}"))
        # An untyped parameter takes the column's type in PostgreSQL, so that timestamps written as text compare right.
        last = bindparam("last", past.last, type_=NullType())
        condition = f"{column} >= :last OR {column} IS NULL"
        return connection.execute(text(f"{rows} WHERE {condition} ORDER BY {column}").bindparams(last))

    def _require_columns(self, columns: list[str]) -> None:
        twice = sorted({column for column in columns if columns.count(column) > 1})
        if twice:
            what = f"The query has two columns named {twice[0]!r}"
            raise SourceError(what, where=self.source.query[:200], remedy="rename one with AS")
        if self.source.watermark and self.source.watermark not in columns:
            what = f"The query has no column {self.source.watermark!r} for the watermark"
            remedy = f"select it, or name one of: {', '.join(columns)}"
            raise SourceError(what, where=self.source.query[:200], remedy=remedy)


def _bare(query: str) -> str:
    while comment := COMMENT.match(query):
        query = query[comment.end() :]
    return query.strip()


def _literal(sql: str) -> str:
    """Escape colons, which SQLAlchemy would take for parameters: casts, times and JSON paths have them too."""
    return sql.replace(":", r"\:")


def _plain(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "surrogateescape")
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return list(value) if isinstance(value, set | frozenset) else str(value)
