"""The stage's tables: reading rows of both origins into one, and writing what became of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.files import canonical_json
from tasks.core.messages import MESSAGES, Message, plain, turn_text, user_text
from tasks.validate.contract import LINEAGE

COLLECTED, GENERATED = "collected", "generated"
WRITTEN_BY = ("prompt", "prompt_digest", "request_id", "teacher", "teacher_revision", "sampling", "run_id")
"""Lineage that only generated rows have."""
TRAINING_SET = pa.schema(
    [
        ("example_id", pa.string()),
        ("messages", MESSAGES),
        ("tools", pa.string()),
        *((name, pa.string()) for name in ("document_id", "origin", "prompt", "prompt_digest", "teacher")),
        *((name, pa.string()) for name in ("teacher_revision", "sampling")),
        ("seed", pa.int64()),
        ("run_id", pa.string()),
    ]
)
QUARANTINE = pa.schema(
    [(name, pa.string()) for name in ("row_id", "rule", "value", "raw", "prompt", "document_id")]
)  # fmt: skip
DUPLICATES = pa.schema([(name, pa.string()) for name in ("row_id", "kind", "duplicate_of", "text")])


def read_rows(collected: Path | None, generated: Path | None, fields: Sequence[str]) -> pd.DataFrame:
    """All rows that want to train, collected before generated, each in the order of their ids.

    Args:
        collected: Parquet of collected documents, or None to leave them out.
        generated: Parquet of generated rows, or None where there are none.
        fields: the recipe's fields; one that a table lacks is missing (None) in its rows.

    Returns:
        the lineage, the fields, ``messages`` (list of turns), ``tools``, ``user_text`` and ``assistant_text``, on a
        fresh index. Of a collected row the id is its document's, and the raw text its conversation as JSON; a document
        that is no conversation is no row.
    """
    tables = [
        _as_rows(table, origin, fields)
        for table, origin in (
            (pd.DataFrame() if collected is None else _conversations(_read(collected)), COLLECTED),
            (pd.DataFrame() if generated is None else _read(generated), GENERATED),
        )
    ]
    return pd.concat(tables, ignore_index=True)


def read_user_texts(path: Path) -> pd.Series:
    """What the users said in a table of documents, by document id."""
    table = _conversations(_read(path))
    return pd.Series([user_text(turns(row)) for row in table["messages"]], index=table["document_id"], dtype=object)


def read_answers(path: Path) -> set[str]:
    """The assistant's answers in a table of documents."""
    return {answer_of(turns(row)) for row in _conversations(_read(path))["messages"]}


def turns(value: Any) -> list[Message]:
    """A conversation as stored, as Python objects; missing parts are empty."""
    if not isinstance(value, list):
        return []
    return plain([{"role": "", "content": "", **turn} for turn in value if turn])


def answer_of(messages: Sequence[Mapping[str, Any]]) -> str:
    """What the assistant said, all turns, its tool calls among them."""
    return "\n".join(turn_text(message) for message in messages if message["role"] == "assistant")


def write_training_set(path: Path, rows: pd.DataFrame) -> None:
    """Write the accepted rows."""
    _write(path, rows.rename(columns={"row_id": "example_id"}), TRAINING_SET)


def write_quarantine(path: Path, rows: pd.DataFrame) -> None:
    """Write the rejected rows, with the rules they broke and their raw text."""
    _write(path, rows, QUARANTINE)


def write_duplicates(path: Path, rows: pd.DataFrame) -> None:
    """Write the rows that say again what another one says."""
    _write(path, rows, DUPLICATES)


def _read(path: Path) -> pd.DataFrame:
    """A Parquet file with Python objects in it: None for what is missing, lists of dicts for conversations."""
    table = pq.read_table(path)
    columns = {name: pd.Series(table[name].to_pylist(), dtype=object) for name in table.column_names}
    return pd.DataFrame(columns)


def _conversations(table: pd.DataFrame) -> pd.DataFrame:
    """The documents that are conversations; the others feed prompts, and are neither trained on nor asked."""
    return table[table["messages"].map(bool).astype(bool)].reset_index(drop=True) if "messages" in table else table


def _as_rows(table: pd.DataFrame, origin: str, fields: Sequence[str]) -> pd.DataFrame:
    given = {name: table[name] for name in (*LINEAGE, *fields, "tools") if name in table}
    lacking = dict.fromkeys((*LINEAGE, *fields, "tools"), None)
    conversations = [turns(value) for value in table["messages"]] if "messages" in table else []
    rows = pd.DataFrame({**lacking, **given}, index=table.index, dtype=object).assign(origin=origin)
    rows["messages"] = pd.Series(conversations, index=table.index, dtype=object)
    if origin == COLLECTED:
        of_the_document = {"row_id": table.get("document_id"), "raw": rows["messages"].map(canonical_json)}
        rows = rows.assign(**of_the_document, **dict.fromkeys(WRITTEN_BY, ""), seed=0)
    said = {"user_text": user_text, "assistant_text": answer_of}
    rows = rows.assign(**{name: rows["messages"].map(speak).astype(object) for name, speak in said.items()})
    return rows.sort_values("row_id", kind="stable", na_position="last", ignore_index=True)


def _write(path: Path, rows: pd.DataFrame, schema: pa.Schema) -> None:
    texts = {name: rows[name].where(rows[name].notna(), "") for name in schema.names if name != "messages"}
    texts |= {"seed": rows["seed"].where(rows["seed"].notna(), 0).astype("int64")} if "seed" in schema.names else {}
    filled = rows.assign(**texts)
    pq.write_table(pa.Table.from_pylist(filled[schema.names].to_dict("records"), schema=schema), path)
