"""The documents that a recipe has held out so far, and those of them that have left their sources."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.collect.forms import Conversation
from tasks.collect.hygiene import Cleaner, check_licence
from tasks.collect.records import Rejected
from tasks.collect.splits import HOLDOUT, Index
from tasks.core.files import canonical_json
from tasks.core.messages import MESSAGES, plain

SCHEMA = pa.schema(
    [
        ("document_id", pa.string()),
        ("named", pa.bool_()),
        ("input", pa.binary()),
        ("content", pa.binary()),
        ("stands", pa.bool_()),
        ("source", pa.string()),
        ("line", pa.int64()),
        ("licence", pa.string()),
        ("fields", pa.string()),
        ("messages", MESSAGES),
        ("tools", pa.string()),
    ]
)
"""A row of the ledger. ``fields`` is JSON, so that a recipe may rename its fields without losing data. A row that no
longer stands (a former version of a held-out document) keeps only its id and the digest of its input."""


@dataclass(frozen=True)
class HeldBefore:
    """The ledger as the last collection left it."""

    table: pa.Table

    @classmethod
    def read(cls, file: Path | None) -> HeldBefore:
        """Read a ledger file; None: nothing was held out before."""
        return cls(SCHEMA.empty_table() if file is None else pq.read_table(file, schema=SCHEMA))

    @cached_property
    def ids(self) -> set[str]:
        """Source-given ids of all documents ever held out."""
        return set(self.table.filter(self.table["named"])["document_id"].to_pylist())

    @cached_property
    def inputs(self) -> set[bytes]:
        """Digests of all inputs ever held out."""
        return set(self.table["input"].to_pylist())

    def gone(self, index: Index, outcome: np.ndarray) -> pa.Table:
        """The held-out documents that no source gives tonight.

        A document with a source-given id is present if its id is. For documents identified by their input, as many are
        kept as are missing, so that a new answer to a question replaces the former one, and neither of two answers is
        lost.
        """
        held = np.flatnonzero(outcome == HOLDOUT)
        ids = {index.ids[position] for position in held}
        contents = {index.contents[position] for position in held}
        there = Counter(index.inputs[position] for position in held)
        before = self.table.filter(self.table["stands"])
        missing = Counter(before["input"].to_pylist())
        missing.subtract(there)
        kept = []
        for name, named, entered, content in zip(
            *(before[column].to_pylist() for column in ("document_id", "named", "input", "content")), strict=True
        ):
            if named:
                kept.append(name not in ids)
                continue
            stays = content not in contents and missing[entered] > 0
            missing[entered] -= stays
            kept.append(stays)
        return before.filter(pa.array(kept, pa.bool_()))

    def former(self, standing: Sequence[pa.Table]) -> pa.Table:
        """Ids and inputs held out at any time that are not in the standing rows of the new ledger."""
        ids = {name for table in standing for name in table["document_id"].to_pylist()}
        inputs = {entered for table in standing for entered in table["input"].to_pylist()}
        known = zip(*(self.table[column].to_pylist() for column in ("document_id", "named", "input")), strict=True)
        rows = {
            (name, named, entered)
            for name, named, entered in known
            if entered not in inputs or (named and name not in ids)
        }
        return pa.Table.from_pylist(
            [
                {"document_id": name, "named": named, "input": entered, "stands": False}
                for name, named, entered in sorted(rows)
            ],
            schema=SCHEMA,
        )


def ledger_rows(documents: pa.Table, positions: Sequence[int], index: Index, fields: Sequence[str]) -> pa.Table:
    """Tonight's documents of the holdout as rows of the ledger."""
    rows = documents.select(list(fields)).to_pylist()
    texts = [canonical_json({name: text for name, text in row.items() if text is not None}) for row in rows]
    columns = {
        **{name: documents[name] for name in SCHEMA.names if name in documents.column_names},
        "named": pa.array([index.named[position] for position in positions], pa.bool_()),
        "input": pa.array([index.inputs[position] for position in positions], pa.binary()),
        "content": pa.array([index.contents[position] for position in positions], pa.binary()),
        "stands": pa.array([True] * len(positions), pa.bool_()),
        "fields": pa.array(texts, pa.string()),
    }
    return pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def usable(
    gone: pa.Table, fields: Sequence[str], cleaner: Cleaner, licences: Sequence[str] | None
) -> Iterator[dict[str, Any]]:
    """Rows of the holdout for documents that left their sources, under today's rules.

    Documents that today's rules refuse, or that have none of the recipe's fields, are left out; the ledger keeps them.
    """
    for row in gone.to_pylist():
        texts = {name: value for name, value in json.loads(row["fields"]).items() if name in fields}
        conversation = Conversation(plain(row["messages"]), row["tools"], texts)
        if not (conversation.messages or texts):
            continue
        try:
            check_licence(row["licence"], licences)
            clean = cleaner.clean_again(conversation)
        except Rejected:
            continue
        place = {name: row[name] for name in ("document_id", "source", "line", "licence")}
        yield {**place, **clean.fields, "messages": clean.messages, "tools": clean.tools}
