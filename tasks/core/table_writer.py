"""Parquet files written batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

BATCH_ROWS = 5_000
BATCH_CHARACTERS = 16 * 2**20
"""Limits of a batch, whichever is reached first; one row may be larger."""


@dataclass
class TableWriter:
    """Writes a Parquet file batch by batch; the file exists with its schema even if no row is added."""

    path: Path
    schema: pa.Schema
    rows: list[Mapping[str, Any]] = field(default_factory=list)
    characters: int = 0

    def __enter__(self) -> TableWriter:
        self._parquet = pq.ParquetWriter(self.path, self.schema)
        return self

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row; keys that are not columns are left out."""
        self.rows.append(row)
        self.characters += _characters(row)
        if len(self.rows) >= BATCH_ROWS or self.characters >= BATCH_CHARACTERS:
            self._flush()

    def add_all(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows as a batch of their own."""
        self.add_table(pa.Table.from_pylist(list(rows), schema=self.schema))

    def add_table(self, table: pa.Table) -> None:
        """Append a table as a batch of its own, after the rows added so far."""
        self._flush()
        self._parquet.write_table(table.cast(self.schema))

    def _flush(self) -> None:
        if self.rows:
            self._parquet.write_table(pa.Table.from_pylist(self.rows, schema=self.schema))
            self.rows.clear()
            self.characters = 0

    def __exit__(self, *exception: object) -> None:
        self._flush()
        self._parquet.close()


def _characters(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(_characters, value.values()))
    return sum(map(_characters, value)) if isinstance(value, list) else 0
