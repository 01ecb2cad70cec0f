"""The rows of the stage's tables: written ones with their lineage, rejected ones with the rule and the raw text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.core import tables
from tasks.core.prompts import Prompt
from tasks.core.prompts.front_matter import Sampler

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]


def columns_of_rows(fields: Sequence[str], prompts: Iterable[Prompt]) -> tuple[str, ...]:
    """The columns of a generated row beside its lineage: the documents' fields, what is drawn, and what is written."""
    own: list[str] = []
    for prompt in prompts:
        drawn = (name for name, variable in prompt.head.variables.items() if isinstance(variable, Sampler))
        own += [*drawn, *prompt.head.output.fields]
    return tuple(dict.fromkeys([*fields, *own]))


def row_schema(fields: Sequence[str]) -> pa.Schema:
    """The columns of ``rows.parquet``: lineage, the recipe's fields as text, and the conversation."""
    return tables.schema({**tables.GENERATED, **tables.texts(*fields), "messages": tables.ARRAY})


def rejected(row: Mapping[str, Any], rule: str) -> Row:
    """The quarantine's row for one that broke a rule (``rule: detail``)."""
    return {name: row.get(name) for name in tables.QUARANTINED["generate"] if name != "rule"} | {"rule": rule}
