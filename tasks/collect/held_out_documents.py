"""The documents that a recipe has held out so far, and those of them that have left their sources."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.collect.forms import Conversation
from tasks.collect.hygiene import Cleaner, check_licence
from tasks.collect.identity import LostDigits, likeness, respelled, spelled
from tasks.collect.records import Rejected
from tasks.collect.splits import HOLDOUT, Index
from tasks.core.errors import SourceError
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


STYLES = b"retune.id_styles"
"""Metadata of a ledger: the styles of :func:`respelled` that its nights hash ids in, as a JSON list. A ledger without
it comes from version 0.4 or before, which hashed an id as the source wrote it."""
FORMER = "former inputs"
"""One of the styles: the home is older, see ``HeldBefore.keeps_former``."""
LOOK_ALIKES = 0.01
"""Share of the documents ever held out that may be missing while an id that looks like theirs is new."""
MOST_EXAMPLES = 3


@dataclass(frozen=True)
class HeldBefore:
    """The ledger as the last collection left it.

    Attributes:
        table: its rows; ids in their one spelling.
        styles: styles in which this home hashes ids, so that no document changes sides; none: the one spelling.
        is_older: whether a version that kept no styles wrote it.
        seen: styles that an older home's sources write tonight; they count from the next night on.
        renamed: tonight's ids of documents whose id an older home keeps as the digest of another spelling.
    """

    table: pa.Table
    styles: frozenset[str] = frozenset()
    is_older: bool = False
    seen: set[str] = field(default_factory=set)
    renamed: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path | None) -> HeldBefore:
        """Read a ledger file; None: nothing was held out before."""
        if file is None:
            return cls(SCHEMA.empty_table())
        table = pq.read_table(file, schema=SCHEMA)
        styles = (pq.read_schema(file).metadata or {}).get(STYLES)
        if styles is not None:
            return cls(table, frozenset(json.loads(styles)))
        written = table.filter(table["named"])["document_id"].to_pylist()
        found = frozenset(style for name in written for style in _styles(name))
        return _in_one_spelling(cls(table, found, is_older=True))

    @property
    def keeps_former(self) -> bool:
        """Whether inputs were hashed as versions up to 0.4 read them, so that their digests count too."""
        return self.is_older or FORMER in self.styles

    def hashed(self, name: str, written: str) -> list[str]:
        """The texts of which all must hash to the holdout to hold a document out.

        ``name``: the id in its one spelling; ``written``: as its source writes it tonight. Nights of an older home
        hashed what was written: a document that they trained on stays in training under each spelling.
        """
        ways = respelled(name) if self.is_older or self.styles else {}
        known = [text for style, text in ways.items() if style in self.styles]
        if self.is_older and ways and not known:
            self.seen.update(_styles(written))
            return [written]
        return known or [name]

    def under_todays_names(self) -> HeldBefore:
        """The ledger with tonight's ids, once all documents have been read."""
        ids = [self.renamed.get(name, name) for name in self.table["document_id"].to_pylist()]
        return replace(self, table=self.table.set_column(0, "document_id", pa.array(ids, pa.string())))

    def marked(self, ledger: pa.Table) -> pa.Table:
        """A new ledger with the styles that the next night needs."""
        styles = json.dumps(sorted(self.styles | self.seen | ({FORMER} if self.keeps_former else set())))
        return ledger.replace_schema_metadata({STYLES: styles.encode()})

    def refuse_other_spellings(self, index: Index) -> None:
        """Raise a SourceError if held-out documents are missing while new ids look like theirs: 007 and 7."""
        tonight = {name for name, named in zip(index.ids, index.named, strict=True) if named}
        missing = {likeness(name): name for name in sorted(self.ids - tonight)}
        if not missing:
            return
        alike = [(missing[key], name) for name in sorted(tonight - self.ids) if (key := likeness(name)) in missing]
        if len(alike) <= LOOK_ALIKES * len(self.ids):
            return
        examples = ", ".join(f"{old!r} is now {new!r}" for old, new in alike[:MOST_EXAMPLES])
        raise SourceError(
            f"{len(alike):,} of {len(self.ids):,} held-out documents seem to have another spelling of their id",
            where=f"the id column: {examples}{', ...' if len(alike) > MOST_EXAMPLES else ''}",
            remedy="if they are the same documents, let the source spell their ids as before (text keeps leading "
            "zeros; in a query, use CAST, LPAD or LOWER); if they are other documents, put a prefix before their ids",
        )

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


def _styles(written: str) -> list[str]:
    with suppress(LostDigits):
        return [style for style, text in respelled(spelled(written)).items() if text == written]
    return []


def _in_one_spelling(held: HeldBefore) -> HeldBefore:
    """A ledger of written ids in one spelling; of two rows that then have one id, the later one stands."""
    rows = held.table.to_pylist()
    last: dict[str, int] = {}
    for number, row in enumerate(rows):
        if not row["named"]:
            continue
        with suppress(LostDigits):
            row["document_id"] = spelled(row["document_id"])
        if row["stands"] and (former := last.get(row["document_id"])) is not None:
            rows[former]["stands"] = False
        if row["stands"]:
            last[row["document_id"]] = number
    return replace(held, table=pa.Table.from_pylist(rows, schema=SCHEMA))


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
