"""Small real tables of collected and generated rows for the validate stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tasks.validate.quarantine import QUARANTINE

FIELDS = ("message", "queue")
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
TYPES = {"messages": MESSAGES, "line": pa.int64(), "seed": pa.int64()}
COLLECTED_COLUMNS = ("document_id", "source", "line", *FIELDS, "messages")
GENERATED_COLUMNS = (
    "row_id", "document_id", "prompt", "prompt_digest", "request_id", "raw", "teacher", "teacher_revision", "sampling",
    "seed", "run_id", *FIELDS, "messages",
)  # fmt: skip

Row = dict[str, Any]


def conversation(message: str | None, queue: str | None) -> list[dict[str, str | None]]:
    return [{"role": "user", "content": message}, {"role": "assistant", "content": queue}]


def document(document_id: str, message: str | None, queue: str | None = "cards") -> Row:
    """A collected row."""
    row = {"document_id": document_id, "source": "s.csv", "line": 1, "message": message, "queue": queue}
    return {**row, "messages": conversation(message, queue)}


def written(row_id: str | None, message: str | None, queue: str | None = "cards", prompt: str = "write") -> Row:
    """A generated row."""
    lineage = {"prompt_digest": "pd", "request_id": f"q-{row_id}", "teacher": "seedling", "teacher_revision": "r1"}
    sampling = {"sampling": '{"temperature": 1.0}', "seed": 7, "run_id": "run-1"}
    row = {"row_id": row_id, "document_id": "d1", "prompt": prompt, "raw": message, "message": message, "queue": queue}
    return {**row, **lineage, **sampling, "messages": conversation(message, queue)}


def write_table(path: Path, rows: list[Row], columns: tuple[str, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = pa.schema([(name, TYPES.get(name, pa.string())) for name in columns])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)


def write_no_lost_documents(folder: Path) -> None:
    """The quarantine of documents that all kept their contract."""
    pq.write_table(QUARANTINE.empty_table(), folder / "quarantine.parquet")


def write_contract(
    path: Path,
    properties: list[Row],
    quality: list[Row] | None = None,
    name: str = "rows",
    drift: list[Row] | None = None,
) -> Path:
    """A contract with these properties and rules on the table and, where given, a second table of drift measures."""
    table = {"name": "rows", "properties": properties, **({"quality": quality} if quality else {})}
    tables = [table, *([{"name": "drift", "properties": drift}] if drift else [])]
    about: Row = {"apiVersion": "v3.1.0", "kind": "DataContract", "id": "rows", "name": name}
    about |= {"version": "1.0.0", "status": "active", "team": {"name": "tests"}}
    path.write_text(yaml.safe_dump({**about, "schema": tables}, sort_keys=False), encoding="utf-8")
    return path


def expectation(kind: str, kwargs: Row | None = None, **more: Any) -> Row:
    """A quality rule that names an expectation."""
    implementation = {"type": kind, **({"kwargs": kwargs} if kwargs else {})}
    return dict(type="custom", engine="greatExpectations", implementation=implementation, **more)
