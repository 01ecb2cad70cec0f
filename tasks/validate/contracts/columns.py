"""The columns that contracts can name at each boundary, and how they are stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tasks.core.errors import ContractError

TEXT, INTEGER, ARRAY = "string", "integer", "array"
LINEAGE = (
    "row_id", "origin", "document_id", "source", "prompt", "prompt_digest", "request_id", "raw", "teacher",
    "teacher_revision", "sampling", "seed", "judgements", "drawn", "run_id",
)  # fmt: skip
CONVERSATION = ("messages", "user_text", "assistant_text")
DOCUMENT = ("document_id", "source", "line", "licence")
STORED_OTHERWISE = {"seed": INTEGER, "line": INTEGER, "messages": ARRAY}
"""Every other column, a recipe's fields among them, is stored as text."""

ALSO_DESCRIBED_AS = {
    TEXT: (ARRAY, "object", "map"),
    ARRAY: (TEXT, "object"),
    INTEGER: ("number",),
}
"""The logical types that fit a stored type beside its own."""

Columns = Mapping[str, str]
"""The columns of a table in order, each with the ODCS logical type that it is stored as."""


def contract_columns(fields: Sequence[str]) -> Columns:
    """The columns of rows: the recipe's fields, the lineage, and the conversation.

    ``messages`` is the conversation as JSON text, ``user_text`` and ``assistant_text`` what each of them said.

    Raises:
        ContractError: a field has the name of a column that every row has anyway.
    """
    return _columns(fields, (*LINEAGE, *CONVERSATION))


def document_columns(fields: Sequence[str]) -> Columns:
    """The columns of documents: where each comes from, the recipe's fields, and the conversation, if it is one.

    Raises:
        ContractError: a field has the name of a column that every document has anyway.
    """
    return _columns(fields, (*DOCUMENT, *CONVERSATION))


def _columns(fields: Sequence[str], given: Sequence[str]) -> Columns:
    taken = sorted({*fields} & {*given})
    if taken:
        raise ContractError(
            f"The field {taken[0]!r} has the name of a column that every row has",
            where="the recipe's column mapping",
            remedy="map the column to another name",
        )
    return {name: STORED_OTHERWISE.get(name, TEXT) for name in dict.fromkeys((*fields, *given))}


def can_hold(stored: str, logical: str) -> bool:
    """Whether a column of one stored type can be described by a logical type. Lists and objects may be JSON text."""
    return stored == logical or logical in ALSO_DESCRIBED_AS.get(stored, ())
