"""The tables between stages: the names of their files, and their columns with their types.

Importing this module does not load pyarrow; :func:`schema` turns columns into an Arrow schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TRAIN, HOLDOUT, INDEX = "train.parquet", "holdout.parquet", "index.parquet"
"""Documents, from collect. ``INDEX``: the id and content digest of each, to tell new and changed ones from the rest."""
ROWS = "rows.parquet"
"""Rows that a teacher wrote, from generate."""
TRAINING_SET, CONTROL, DUPLICATES, CONTAMINATED = (
    "training_set.parquet", "control.parquet", "duplicates.parquet", "contaminated.parquet",
)  # fmt: skip
"""From validate. ``CONTROL``: as many rows as the training set, drawn before the filters."""
ANSWERS = "answers.parquet"
"""What each model answered, from evaluate."""
QUARANTINE = "quarantine.parquet"
"""Rejected rows, from every stage; the columns depend on the stage."""

COLLECTED_ROWS, UNKNOWN = "(collected)", "(unknown)"
"""Stand for the prompt of rows that no prompt wrote, and for a prompt or source that is not known."""

TEXT, INTEGER, NUMBER, BINARY, ARRAY, SPANS, BREACHES = (
    "string", "integer", "number", "binary", "array", "spans", "breaches",
)  # fmt: skip
"""Types of columns. The first three and ``ARRAY`` (a conversation) are ODCS logical types."""
Columns = Mapping[str, str]
"""The columns of a table in order, each with its type."""


def texts(*names: str) -> dict[str, str]:
    """Columns of text."""
    return dict.fromkeys(names, TEXT)


DOCUMENT: Columns = {**texts("document_id", "source"), "line": INTEGER, **texts("licence")}
"""Where a document comes from."""
LINEAGE: Columns = {
    **texts("row_id", "origin", "document_id", "source", "prompt", "prompt_digest", "request_id", "raw", "teacher"),
    **texts("teacher_revision", "sampling"),
    "seed": INTEGER,
    **texts("judgements", "drawn", "run_id"),
}
"""Where a row comes from. JSON text: ``drawn``, by variable the value drawn or the ids of the documents shown, and
``judgements``."""
GENERATED: Columns = {
    **texts("row_id", "document_id", "prompt", "prompt_digest", "request_id", "raw", "teacher", "teacher_revision"),
    **texts("sampling", "drawn", "judgements", "run_id"),
    **{"seed": INTEGER, "attempts": INTEGER},
}
"""The part of the lineage that ``ROWS`` stores. ``attempts``: how many answers the row took."""
CONVERSATION: Columns = {"messages": ARRAY, **texts("user_text", "assistant_text")}
RESERVED = frozenset((*DOCUMENT, "messages", "tools"))
"""Columns of every document: a recipe's fields have other names."""
DUPLICATE: Columns = texts(
    "row_id", "origin", "prompt", "document_id", "source", "kind", "duplicate_of", "text", "original"
)
"""Of ``DUPLICATES``. ``text``: what the user says in the row; ``original``: the same of the row that is kept."""
CONTAMINATION: Columns = {
    **texts("row_id", "origin", "prompt", "document_id", "text", "set", "evaluation_id", "evaluation_text"),
    **{"coverage": NUMBER, "spans": SPANS},
}
"""Of ``CONTAMINATED``. ``text``: the row's conversation; spans count characters (code points) of ``text`` and of
``evaluation_text``, end excluded; a span's own ``text`` is the row's."""
QUARANTINED: Mapping[str, Columns] = {
    "collect": {**texts("source"), "line": INTEGER, **texts("rule", "raw")},
    "generate": {
        **texts("row_id", "document_id", "prompt", "prompt_digest", "request_id", "rule", "raw", "drawn", "judgements"),
        "attempts": INTEGER,
    },
    "validate": {
        **texts("row_id", "origin", "document_id", "source", "prompt", "prompt_digest", "request_id", "raw"),
        "messages": ARRAY,
        **texts("tools", "fields", "run_id"),
        "breaches": BREACHES,
    },
    "train": texts("row_id", "rule", "value", "raw", "origin", "prompt", "document_id", "source"),
    "evaluate": texts("document_id", "rule", "value", "raw"),
}
"""Of ``QUARANTINE``, by stage. Of validate, ``fields`` holds the recipe's fields as JSON text, and ``breaches`` all
rules that the row broke, critical ones first."""


def schema(columns: Columns) -> Any:
    """The Arrow schema (``pyarrow.Schema``) of columns, as a table stores them."""
    import pyarrow as pa

    from tasks.core.messages import MESSAGES

    bounds = ("row_start", "row_end", "evaluation_start", "evaluation_end")
    span = pa.struct([*((name, pa.int32()) for name in bounds), ("text", pa.string())])
    breach = pa.struct([(name, pa.string()) for name in ("contract", "rule", "severity", "column", "value")])
    types = {
        TEXT: pa.string(), INTEGER: pa.int64(), NUMBER: pa.float64(), BINARY: pa.binary(),
        ARRAY: MESSAGES, SPANS: pa.list_(span), BREACHES: pa.list_(breach),
    }  # fmt: skip
    return pa.schema([(name, types[type_]) for name, type_ in columns.items()])
