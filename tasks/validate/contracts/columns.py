"""The columns that contracts can name at each boundary, and how they are stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tasks.core.errors import ContractError
from tasks.core.tables import ARRAY, CONVERSATION, DOCUMENT, INTEGER, LINEAGE, TEXT, Columns

_STORED = {**DOCUMENT, **LINEAGE, **CONVERSATION}
"""Every other column, a recipe's fields among them, is stored as text."""
ALSO_DESCRIBED_AS = {TEXT: (ARRAY, "object", "map"), ARRAY: (TEXT, "object"), INTEGER: ("number",)}
"""The logical types that fit a stored type, in addition to its own."""


def contract_columns(fields: Sequence[str]) -> Columns:
    """The columns of rows: the recipe's fields, the lineage, and the conversation.

    ``messages`` is the conversation as JSON text; ``user_text`` and ``assistant_text`` are what each of the two wrote.
    A field that has the name of a column that every row has anyway raises a ContractError.
    """
    return _columns(fields, (*LINEAGE, *CONVERSATION))


def document_columns(fields: Sequence[str]) -> Columns:
    """The columns of documents, likewise: their origin, the recipe's fields, and the conversation, if it is one."""
    return _columns(fields, (*DOCUMENT, *CONVERSATION))


def _columns(fields: Sequence[str], given: Iterable[str]) -> Columns:
    taken = sorted({*fields} & {*given})
    if taken:
        what = f"The field {taken[0]!r} has the name of a column that every row has"
        raise ContractError(what, where="the recipe's column mapping", remedy="map the column to another name")
    return {name: _STORED.get(name, TEXT) for name in dict.fromkeys((*fields, *given))}


def can_hold(stored: str, logical: str) -> bool:
    """Whether a logical type can describe a column of a stored type. Lists and objects may be JSON text."""
    return stored == logical or logical in ALSO_DESCRIBED_AS.get(stored, ())
