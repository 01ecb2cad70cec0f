"""The stage's tables: written rows with their lineage, and what was lost with the rule and the raw text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.messages import MESSAGES
from tasks.core.prompts import Prompt
from tasks.core.prompts.front_matter import Sampler

Row = dict[str, Any]

LINEAGE = pa.schema(
    [
        *((name, pa.string()) for name in ("row_id", "document_id", "prompt", "prompt_digest", "request_id", "raw")),
        *((name, pa.string()) for name in ("teacher", "teacher_revision", "sampling", "drawn", "judgements")),
        ("run_id", pa.string()),
        *((name, pa.int64()) for name in ("seed", "attempts")),
    ]
)
"""Where a row comes from. JSON text: ``drawn``, by variable the value drawn or the ids of the documents shown, and
``judgements``. ``attempts`` is how many answers it took."""
QUARANTINE = pa.schema(
    [
        *((name, pa.string()) for name in ("row_id", "document_id", "prompt", "prompt_digest", "request_id")),
        *((name, pa.string()) for name in ("rule", "raw", "drawn", "judgements")),
        ("attempts", pa.int64()),
    ]
)


def columns_of_rows(fields: Sequence[str], prompts: Iterable[Prompt]) -> tuple[str, ...]:
    """The columns of a generated row beside its lineage: the documents' fields, what is drawn, and what is written."""
    own: list[str] = []
    for prompt in prompts:
        drawn = (name for name, variable in prompt.head.variables.items() if isinstance(variable, Sampler))
        own += [*drawn, *prompt.head.output.fields]
    return tuple(dict.fromkeys([*fields, *own]))


def row_schema(fields: Sequence[str]) -> pa.Schema:
    """The columns of ``rows.parquet``: lineage, the recipe's fields as text, and the conversation."""
    return pa.schema([*LINEAGE, *((name, pa.string()) for name in fields), ("messages", MESSAGES)])


def rejected(row: Mapping[str, Any], rule: str) -> Row:
    """The quarantine's row for one that broke a rule (``rule: detail``)."""
    return {name: row.get(name) for name in QUARANTINE.names if name != "rule"} | {"rule": rule}


class RowFile:
    """A Parquet file that grows block by block; it exists with its schema even when no row came."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._schema = schema
        self._parquet = pq.ParquetWriter(path, schema)
        self.rows = 0

    def __enter__(self) -> RowFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._parquet.close()

    def add(self, rows: Iterable[Row]) -> None:
        """Append rows; keys that the schema does not have are left out."""
        table = pa.Table.from_pylist(list(rows), schema=self._schema)
        self._parquet.write_table(table)
        self.rows += table.num_rows
