"""The stage's tables: read rows of both origins, show them to contracts, and write the training set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.core import tables
from tasks.core.files import canonical_json
from tasks.core.sources import is_any_of
from tasks.core.table_writer import TableWriter
from tasks.core.tables import COLLECTED_ROWS, DOCUMENT, INTEGER, LINEAGE, UNKNOWN
from tasks.validate.conversations import BATCH_ROWS, CONVERSATION, as_conversations, as_json, by_batches, role_texts
from tasks.validate.json_texts import TEXT
from tasks.validate.normal_form import normalise

COLLECTED, GENERATED = "collected", "generated"
NUMBERS = tuple(name for name, type_ in {**LINEAGE, **DOCUMENT}.items() if type_ == INTEGER)
BATCH_BYTES = 2**30


def read_rows(
    documents: Path, generated: Path | None, fields: Sequence[str], include_collected: bool = True
) -> pa.Table:
    """All candidate rows: collected before generated ones, each sorted by id.

    ``documents`` and ``generated`` are Parquet files; a recipe's field that a table lacks is null. With
    ``include_collected``, documents that are conversations are rows too.

    Returns:
        ``LINEAGE``, the fields and ``tools`` as text (``seed`` as int64), ``messages`` (:data:`CONVERSATION`),
        ``user_text`` and ``assistant_text``; missing values are null. A collected row has its document's id and no
        ``raw``; a generated row has its document's source.
    """
    tables = [_sorted(_collected_rows(documents, fields))] if include_collected else []
    if generated is not None:
        tables.append(_sorted(_generated_rows(generated, documents, fields)))
    return pa.concat_tables(tables) if tables else _collected_rows(documents, fields).slice(0, 0)


def read_documents(path: Path, fields: Sequence[str]) -> pa.Table:
    """All documents of a table, in its order.

    Returns:
        ``DOCUMENT``, the fields and ``tools`` as text (``line`` as int64), ``messages`` (:data:`CONVERSATION`),
        ``user_text`` and ``assistant_text``; the last three are null if a document is not a conversation.
    """
    return _read(path, (*DOCUMENT, *fields, "tools"))


def read_training_set(path: Path, fields: Sequence[str]) -> pa.Table:
    """The rows of a training set, with the columns of :func:`read_rows`."""
    found = _read(path, ("example_id", *LINEAGE, *fields, "tools"))
    return _with(found, "row_id", found["example_id"]).drop_columns("example_id")


def read_answers(path: Path, replay: Collection[str] = ()) -> set[str]:
    """The assistant's distinct texts in a table of documents, without replay sources."""
    found = answers_of(_read(path, ("source",)), replay)
    return {text for text in pc.unique(found).to_pylist() if text is not None}


def answers_of(rows: pa.Table, replay: Collection[str]) -> pa.ChunkedArray:
    """The assistant's text in each row; null if ``replay`` names its source."""
    named = [source for source in pc.unique(rows["source"]).to_pylist() if source and is_any_of(source, replay)]
    is_replay = pc.is_in(rows["source"], value_set=pa.array(named, rows["source"].type))
    return pc.if_else(is_replay, pa.scalar(None, rows["assistant_text"].type), rows["assistant_text"])


def contract_view(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """The columns that a contract names, with ``messages`` as JSON text; missing columns are left out."""
    return pa.table({name: _shown(table, name) for name in dict.fromkeys(columns) if name in table.column_names})


def contexts(rows: pa.Table) -> pa.Array:
    """What the user's question of each row is asked in: a digest of the system turn and the tools; empty without both.

    The same words ask for something else under another system turn, or with other tools at hand.
    """
    system = by_batches(lambda batch: _digests(role_texts(batch, "system"), normalise), rows["messages"])
    tools = by_batches(lambda batch: _digests(batch, _plain_tools), rows["tools"])
    return pc.binary_join_element_wise(system, tools, pa.scalar("", TEXT)).combine_chunks()


def raw_texts(table: pa.Table) -> pa.ChunkedArray:
    """The teacher's answer that each row was made from; of a collected row, its conversation as JSON."""
    conversations = _json(table["messages"])
    if not {"raw", "origin"} <= set(table.column_names):
        return conversations
    is_written = pc.fill_null(pc.equal(table["origin"], GENERATED), False)
    return pc.if_else(is_written, table["raw"].cast(TEXT), conversations)


def prompts_of(rows: pa.Table) -> pa.ChunkedArray:
    """The prompt of each row; ``(collected)`` for a collected row, since no prompt's name has brackets."""
    is_collected = pc.fill_null(pc.equal(rows["origin"], COLLECTED), False)
    return pc.if_else(is_collected, pa.scalar(COLLECTED_ROWS, TEXT), named(rows["prompt"]))


def named(names: pa.ChunkedArray) -> pa.ChunkedArray:
    """Names as text, with ``(unknown)`` for missing and empty ones."""
    texts = pc.fill_null(names.cast(TEXT), "")
    return pc.if_else(pc.equal(texts, ""), pa.scalar(UNKNOWN, TEXT), texts)


def constant(value: str, rows: int) -> pa.ChunkedArray:
    """A column of one repeated value."""
    return pa.chunked_array([pa.repeat(pa.scalar(value, TEXT), rows)], TEXT)


def training_set_schema(fields: Sequence[str]) -> pa.Schema:
    """The columns of ``training_set.parquet``: the conversation, then the columns that a contract can name."""
    names = [name for name in dict.fromkeys((*LINEAGE, *fields)) if name not in ("row_id", "messages", "tools")]
    head = {"example_id": tables.TEXT, "messages": tables.ARRAY, "tools": tables.TEXT}
    return tables.schema(head | {name: INTEGER if name in NUMBERS else tables.TEXT for name in names})


def write_training_set(path: Path, rows: pa.Table, fields: Sequence[str]) -> None:
    """Write a training set; missing lineage is empty, a missing field is null."""
    schema = training_set_schema(fields)
    with TableWriter(path, schema) as file:
        for batch in batches_of(rows):
            filled = [_filled(batch, "row_id" if name == "example_id" else name) for name in schema.names]
            file.add_table(pa.table(filled, names=schema.names))


def batches_of(table: pa.Table) -> Iterator[pa.Table]:
    """Divide a table into batches whose texts fit into Arrow arrays with 32-bit offsets."""
    for start in range(0, table.num_rows, BATCH_ROWS):
        yield from _halved(table.slice(start, BATCH_ROWS))


def as_text(column: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    """A column of any type as text; nested values and bytes as JSON."""
    try:
        return column.cast(TEXT)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        written = [None if value is None else canonical_json(value) for value in column.to_pylist()]
        return pa.array(written, TEXT)


def _halved(table: pa.Table) -> Iterator[pa.Table]:
    if table.num_rows > 1 and table.nbytes > BATCH_BYTES:
        half = table.num_rows // 2
        yield from _halved(table.slice(0, half))
        yield from _halved(table.slice(half))
    else:
        yield table


def _read(path: Path, columns: Sequence[str], conversations_only: bool = False) -> pa.Table:
    """A Parquet file's columns, missing ones as null, with the texts of its conversations."""
    file = pq.ParquetFile(path)
    names = dict.fromkeys((*columns, "messages"))
    there = [name for name in names if name in file.schema_arrow.names]
    schema = pa.schema([*((name, _type(name)) for name in names), ("user_text", TEXT), ("assistant_text", TEXT)])
    batches = []
    for batch in file.iter_batches(BATCH_ROWS, columns=there):
        values = {name: _cast(batch.column(name), name) for name in there}
        values |= {name: pa.nulls(len(batch), _type(name)) for name in names if name not in values}
        values |= {f"{role}_text": role_texts(values["messages"], role) for role in ("user", "assistant")}
        read = pa.record_batch(values).select(schema.names)
        batches.append(read.filter(pc.is_valid(read["user_text"])) if conversations_only else read)
    return pa.Table.from_batches([batch.cast(schema) for batch in batches], schema)


def _type(name: str) -> pa.DataType:
    return CONVERSATION if name == "messages" else pa.int64() if name in NUMBERS else TEXT


def _cast(column: pa.Array, name: str) -> pa.Array:
    if name == "messages":
        return as_conversations(column)
    if name not in NUMBERS:
        return as_text(column)
    try:
        return column.cast(pa.int64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.nulls(len(column), pa.int64())


def _shown(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name == "messages":
        return _json(table[name])
    return raw_texts(table) if name == "raw" else table[name]


def _json(messages: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_string(messages.type) or pa.types.is_large_string(messages.type):
        return messages
    return by_batches(lambda batch: as_json(as_conversations(batch)), messages)


def _collected_rows(documents: Path, fields: Sequence[str]) -> pa.Table:
    found = _read(documents, (*LINEAGE, *fields, "tools"), conversations_only=True)
    found = _with(found, "row_id", found["document_id"])
    return _with(found, "origin", constant(COLLECTED, found.num_rows))


def _generated_rows(path: Path, documents: Path, fields: Sequence[str]) -> pa.Table:
    found = _read(path, (*LINEAGE, *fields, "tools"))
    found = _with(found, "origin", constant(GENERATED, found.num_rows))
    return _with(found, "source", _sources(found["document_id"], documents))


def _digests(texts: pa.Array, form: Callable[[str], str]) -> pa.Array:
    """A digest of the form of each text; empty for an empty form or null."""
    encoded = pc.fill_null(texts, "").dictionary_encode()
    forms = map(form, encoded.dictionary.to_pylist())
    digests = [
        hashlib.sha256(written.encode("utf-8", "replace")).hexdigest()[:32] if written else "" for written in forms
    ]
    return pa.array(digests, TEXT).take(encoded.indices)


def _plain_tools(text: str) -> str:
    """Tools as canonical JSON; empty if there are none."""
    try:
        tools = json.loads(text or "null")
    except ValueError:
        return text
    return canonical_json(tools) if tools else ""


def _sorted(table: pa.Table) -> pa.Table:
    """Sorted by ``row_id``, nulls last; one column at a time, so that the table is not in memory twice."""
    order = pc.sort_indices(table.select(["row_id"]), [("row_id", "ascending", "at_end")])
    for name in table.column_names:
        table = _with(table, name, table[name].take(order))
        pa.default_memory_pool().release_unused()
    return table


def _sources(document_ids: pa.ChunkedArray, documents: Path) -> pa.ChunkedArray:
    known = _read(documents, ("document_id", "source"))
    at = pc.index_in(document_ids, value_set=known["document_id"].combine_chunks(), skip_nulls=True)
    return known["source"].take(at)


def _with(table: pa.Table, name: str, values: pa.ChunkedArray) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def _filled(rows: pa.Table, name: str) -> pa.ChunkedArray:
    if name == "seed":
        return pc.fill_null(rows[name], 0)
    return pc.fill_null(rows[name], "") if name in LINEAGE or name == "tools" else rows[name]
