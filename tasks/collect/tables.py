"""Parquet files written batch by batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

BATCH_ROWS = 5_000
BATCH_CHARACTERS = 16 * 2**20
"""What a batch holds at most, whichever comes first; one row may be larger."""


@dataclass
class TableWriter:
    """A Parquet file written batch by batch; it exists with its schema even when no row came."""

    path: Path
    schema: pa.Schema
    rows: list[dict[str, Any]] = field(default_factory=list)
    characters: int = 0

    def __enter__(self) -> TableWriter:
        self._parquet = pq.ParquetWriter(self.path, self.schema)
        return self

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        self.characters += _characters(row)
        if len(self.rows) >= BATCH_ROWS or self.characters >= BATCH_CHARACTERS:
            self._flush()

    def add_table(self, table: pa.Table) -> None:
        """Write rows that are a table already, behind those that were added one by one."""
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
    """The length of all texts in a value."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_characters, value.values()))
    return sum(map(_characters, value)) if isinstance(value, list) else 0
