"""The quarantine: rows that break a contract, each with the rules that it breaks and the values that break them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.core import tables
from tasks.core.files import canonical_json
from tasks.core.table_writer import TableWriter
from tasks.validate.checkpoint import RuleResult
from tasks.validate.contracts.contract import Contract
from tasks.validate.conversations import as_conversations, by_batches, unfit_reasons
from tasks.validate.json_texts import TEXT, joined, json_objects
from tasks.validate.rows import as_text, batches_of, contract_view, raw_texts

BUILT_IN = "(built in)"
"""Stands for the contract of rules that the stage itself checks."""
CRITICAL = "critical"
SEVERITIES = (CRITICAL, "warning", "info")
QUARANTINE = tables.schema(tables.QUARANTINED["validate"])
BREACH = QUARANTINE.field("breaches").type.value_type
SHOWN_CHARACTERS = 1_000
"""Characters of a value in a breach; the row's own columns hold the whole value."""
BATCH_ROWS = 20_000


@dataclass(frozen=True)
class Breach:
    """A rule and the rows that break it (positions, ascending).

    ``contract`` is its name or :data:`BUILT_IN`; severity critical quarantines the rows; the values of ``columns`` are
    shown.
    """

    contract: str
    rule: str
    severity: str
    columns: tuple[str, ...]
    rows: NDArray[np.int64]


def contract_breaches(contract: Contract, results: Sequence[RuleResult]) -> list[Breach]:
    """The rules that some rows break, of every severity, in the contract's order."""
    return [
        Breach(contract.name, result.rule.name, result.rule.severity, result.rule.columns, result.failing)
        for result in results
        if result.failing is not None and len(result.failing)
    ]


def conversation_breaches(rows: pa.Table) -> list[Breach]:
    """The rows whose conversation cannot be trained on, by reason: ``messages: REASON``."""
    reasons = by_batches(lambda batch: unfit_reasons(as_conversations(batch)), rows["messages"]).combine_chunks()
    unfit = np.flatnonzero(reasons.is_valid().to_numpy(zero_copy_only=False))
    codes = reasons.take(pa.array(unfit)).dictionary_encode()
    numbers = codes.indices.to_numpy(zero_copy_only=False)
    return [
        Breach(BUILT_IN, f"messages: {reason}", CRITICAL, (), unfit[numbers == number])
        for number, reason in enumerate(codes.dictionary.to_pylist())
    ]


def quarantined(breaches: Iterable[Breach], rows: int) -> NDArray[np.bool_]:
    """Which of ``rows`` rows break a critical rule."""
    mask = np.zeros(rows, bool)
    for breach in breaches:
        if breach.severity == CRITICAL:
            mask[breach.rows] = True
    return mask


def first_rules(breaches: Sequence[Breach], positions: NDArray[np.int64]) -> pa.Array:
    """The first critical rule that each of the rows at these positions breaks, or null."""
    critical = [breach for breach in breaches if breach.severity == CRITICAL]
    first = np.full(int(positions.max(initial=-1)) + 1, -1)
    for number in reversed(range(len(critical))):
        first[critical[number].rows[critical[number].rows < len(first)]] = number
    found = first[positions]
    return pa.array([breach.rule for breach in critical], pa.string()).take(pa.array(found, mask=found < 0))


def counts_by_rule(breaches: Iterable[Breach]) -> dict[str, int]:
    """How many rows break each critical rule, most first; a row counts for every rule that it breaks."""
    counts: Counter[str] = Counter()
    for breach in breaches:
        if breach.severity == CRITICAL:
            counts[breach.rule] += len(breach.rows)
    return dict(counts.most_common())


def write_quarantine(path: Path, rows: pa.Table, breaches: Sequence[Breach], fields: Sequence[str]) -> int:
    """Write the rows that break a critical rule, each with all rules that it breaks; returns how many.

    ``rows`` is the table of the breaches' positions. Without a ``row_id``, a row has its document's id; other missing
    columns are empty.
    """
    positions = np.flatnonzero(quarantined(breaches, rows.num_rows))
    ordered = sorted(breaches, key=lambda breach: SEVERITIES.index(breach.severity))
    with TableWriter(path, QUARANTINE) as file:
        for start in range(0, len(positions), BATCH_ROWS):
            batch = positions[start : start + BATCH_ROWS]
            done = 0
            for part in batches_of(rows.take(pa.array(batch))):
                file.add_table(_batch(part, batch[done : done + part.num_rows], ordered, fields))
                done += part.num_rows
    return len(positions)


def _batch(rows: pa.Table, positions: NDArray[np.int64], breaches: Sequence[Breach], fields: Sequence[str]) -> pa.Table:
    values = {name: _one_array(as_text(rows[name])) for name in fields if name in rows.column_names}
    made = {
        "raw": pc.fill_null(raw_texts(rows), ""),
        "messages": rows["messages"],
        "fields": json_objects(values, rows.num_rows),
        "breaches": _breaches(rows, positions, breaches),
    }
    columns = [made[name] if name in made else _texts(rows, name) for name in QUARANTINE.names]
    return pa.table(columns, names=QUARANTINE.names).cast(QUARANTINE)


def _texts(rows: pa.Table, name: str) -> pa.ChunkedArray | pa.Array:
    if name == "row_id" and name not in rows.column_names:
        name = "document_id"
    if name not in rows.column_names:
        return pa.repeat(pa.scalar("", TEXT), rows.num_rows)
    return pc.fill_null(rows[name].cast(TEXT), "")


def _breaches(rows: pa.Table, positions: NDArray[np.int64], breaches: Sequence[Breach]) -> pa.Array:
    view = contract_view(rows, [column for breach in breaches for column in breach.columns])
    owners, pieces = [np.zeros(0, np.int64)], []
    for breach in breaches:
        first, last = np.searchsorted(breach.rows, [positions[0], positions[-1] + 1])
        found = breach.rows[first:last]
        owner = np.searchsorted(positions, found)
        owner = owner[positions[owner] == found]
        values = _values([view[name].take(pa.array(owner)) for name in dict.fromkeys(breach.columns)], len(owner))
        texts = (breach.contract, breach.rule, breach.severity, ", ".join(breach.columns))
        constants = [pa.repeat(pa.scalar(text, pa.string()), len(owner)) for text in texts]
        pieces.append(pa.StructArray.from_arrays([*constants, values], fields=list(BREACH)))
        owners.append(owner)
    owner = np.concatenate(owners)
    starts = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(positions)))])
    ordered = pa.concat_arrays(pieces).take(pa.array(np.argsort(owner, kind="stable")))
    return pa.ListArray.from_arrays(pa.array(starts, pa.int32()), ordered)


def _values(columns: Sequence[pa.ChunkedArray], rows: int) -> pa.Array:
    if not columns:
        return pa.repeat(pa.scalar("", pa.string()), rows)
    if len(columns) == 1:
        texts = pc.fill_null(as_text(columns[0]), "null")
    else:
        lists = zip(*(column.to_pylist() for column in columns), strict=True)
        texts = pa.array([canonical_json(list(values)) for values in lists], TEXT)
    is_long = pc.greater(pc.utf8_length(texts), SHOWN_CHARACTERS)
    cut = joined(pc.utf8_slice_codeunits(texts, 0, SHOWN_CHARACTERS), "…")
    return _one_array(pc.if_else(is_long, cut, texts)).cast(pa.string())


def _one_array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
