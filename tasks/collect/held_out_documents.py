"""The documents that a recipe has held out so far, and which of them tonight's sources no longer give."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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
"""A row of the ledger. ``fields`` is JSON, so that a recipe may rename its fields and nothing is lost. Of one that does
not stand (a held out document's former words) only its id and the digest of its input are kept."""


@dataclass(frozen=True)
class HeldBefore:
    """The ledger as the last collection left it."""

    table: pa.Table

    @classmethod
    def read(cls, file: Path | None) -> HeldBefore:
        """Of a ledger's file; None: nothing was ever held out."""
        return cls(SCHEMA.empty_table() if file is None else pq.read_table(file, schema=SCHEMA))

    @cached_property
    def ids(self) -> set[str]:
        """The ids that sources gave to documents that were ever held out."""
        return set(self.table.filter(self.table["named"])["document_id"].to_pylist())

    @cached_property
    def inputs(self) -> set[bytes]:
        """The digests of every input that was ever held out."""
        return set(self.table["input"].to_pylist())

    def gone(self, index: Index, outcome: np.ndarray) -> pa.Table:
        """The documents of the holdout that no source gives tonight.

        One that its source named is there if its id is; of those known by their input, as many stay as are missing, so
        that another answer to one question replaces the former one, and one of two answers is not lost.
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
        """What else was ever held out: ids and inputs that no standing row of the new ledger has."""
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
    """Tonight's documents of the holdout as rows of the ledger.

    Args:
        documents: a part of the table of documents.
        positions: of its rows in the index.
        fields: the names of its fields.
    """
    texts = documents.select(list(fields)).to_pylist()
    columns = {
        **{name: documents[name] for name in SCHEMA.names if name in documents.column_names},
        "named": pa.array([index.named[position] for position in positions], pa.bool_()),
        "input": pa.array([index.inputs[position] for position in positions], pa.binary()),
        "content": pa.array([index.contents[position] for position in positions], pa.binary()),
        "stands": pa.array([True] * len(positions), pa.bool_()),
        "fields": pa.array([canonical_json(_present(row)) for row in texts], pa.string()),
    }
    return pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def usable(
    gone: pa.Table, fields: Sequence[str], cleaner: Cleaner, licences: Sequence[str] | None
) -> Iterator[dict[str, Any]]:
    """The documents that are gone from their sources as rows of the holdout, by the rules of today.

    What today's rules refuse, or what has no field that the recipe still has, is left out; the ledger keeps it.
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


def _present(fields: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in fields.items() if value is not None}
