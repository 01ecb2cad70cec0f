"""The rows that a run set aside, of all stages and outcomes in one table: their ids, and the rules they broke."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from retune.quarantine.run_files import RunFiles
from tasks.core import tables

QUARANTINED, CONTAMINATED, DUPLICATES = "quarantined", "contaminated", "duplicates"
KEPT, HELD_OUT, TRAINING_DOCUMENT = "kept", "held out", "training document"
"""Outcomes of rows that were not set aside."""
FILES = {QUARANTINED: tables.QUARANTINE, CONTAMINATED: tables.CONTAMINATED, DUPLICATES: tables.DUPLICATES}
"""By outcome, the table of a stage's artifact that holds its rows."""
TEXT = pa.large_string()
EVALUATE = "evaluate"
UNKNOWN_SOURCE = pa.scalar("(unknown)", TEXT)
LOST = pa.schema(
    [
        *((name, TEXT) for name in ("stage", "outcome", "row_id", "prompt", "source", "document_id")),
        ("rules", pa.list_(TEXT)),
        ("at", pa.int64()),
    ]
)
"""``rules``: the critical rules that a row broke; for a contaminated row the name of the evaluation set, for a
duplicate its kind. ``at``: the row's position in its file."""


def read_lost_rows(files: RunFiles) -> pa.Table:
    """All rows that a run set aside, in the order of the stages and of their files."""
    return pa.concat_tables([LOST.empty_table(), *_tables(files)])


def shown_outcome(outcome: str) -> str:
    """The outcome of one row, as people read it."""
    return "duplicate" if outcome == DUPLICATES else outcome


def shown_rule(rule: str, outcome: str) -> str:
    """The reason as people read it: ``near (duplicate)``; a rule that quarantined a row by its name alone."""
    return rule if outcome == QUARANTINED else f"{rule} ({shown_outcome(outcome)})"


def _tables(files: RunFiles) -> Iterator[pa.Table]:
    for stage, folder in files.folders.items():
        for outcome, name in FILES.items():
            if (folder / name).is_file():
                is_held_out = stage == EVALUATE
                documents = files.held_out if is_held_out else files.documents
                yield _lost(stage, outcome, folder / name, documents, HELD_OUT if is_held_out else "collected")


def _lost(stage: str, outcome: str, path: Path, documents: Path | None, origin: str) -> pa.Table:
    wanted = ("row_id", "origin", "prompt", "source", "document_id", "line", "rule", "breaches", "set", "kind")
    present = pq.read_schema(path).names
    table = pq.read_table(path, columns=[name for name in wanted if name in present]).combine_chunks()
    sources = _texts(table, "source") if "source" in present else _sources(table, documents)
    columns = {
        "stage": pa.repeat(pa.scalar(stage, TEXT), table.num_rows),
        "outcome": pa.repeat(pa.scalar(outcome, TEXT), table.num_rows),
        "row_id": _ids(table),
        "prompt": _filled(_texts(table, "prompt"), _origins(table, origin)),
        "source": _filled(sources, UNKNOWN_SOURCE),
        "document_id": _texts(table, "document_id"),
        "rules": _rules(table),
        "at": pa.array(np.arange(table.num_rows)),
    }
    return pa.table(columns).cast(LOST)


def _rules(table: pa.Table) -> pa.Array:
    if "breaches" in table.column_names:
        return _critical(_one_array(table["breaches"]))
    if "rule" in table.column_names:
        names = pc.list_element(pc.split_pattern(_texts(table, "rule"), ":", max_splits=1), 0)
    else:
        names = _texts(table, "set" if "set" in table.column_names else "kind")
    return pa.ListArray.from_arrays(pa.array(np.arange(len(names) + 1), pa.int32()), _one_array(names))


def _critical(breaches: pa.ListArray) -> pa.ListArray:
    parts, owners = pc.list_flatten(breaches), pc.list_parent_indices(breaches)
    is_critical = pc.equal(pc.struct_field(parts, "severity"), "critical")
    names = pc.struct_field(parts, "rule").filter(is_critical).cast(TEXT)
    counts = np.bincount(owners.filter(is_critical).to_numpy(zero_copy_only=False), minlength=len(breaches))
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32()), names)


def _ids(table: pa.Table) -> pa.Array:
    """A row's id, or its place in its source, or the document's id of a row that is a document."""
    if "row_id" in table.column_names or "line" not in table.column_names:
        return _texts(table, "row_id" if "row_id" in table.column_names else "document_id")
    return pc.binary_join_element_wise(_texts(table, "source"), _texts(table, "line"), pa.scalar(":", TEXT))


def _sources(table: pa.Table, documents: Path | None) -> pa.Array:
    if documents is None:
        return pa.repeat(pa.scalar("", TEXT), table.num_rows)
    known = pq.read_table(documents, columns=["document_id", "source"]).combine_chunks()
    at = pc.index_in(_texts(table, "document_id"), value_set=_texts(known, "document_id"))
    return _texts(known, "source").take(at)


def _texts(table: pa.Table, name: str) -> pa.Array:
    if name not in table.column_names:
        return pa.repeat(pa.scalar("", TEXT), table.num_rows)
    return pc.fill_null(_one_array(table[name]).cast(TEXT), "")


def _origins(table: pa.Table, default: str) -> pa.Array:
    origins = _filled(_texts(table, "origin"), pa.scalar(default, TEXT))
    return pc.binary_join_element_wise(pa.scalar("(", TEXT), origins, pa.scalar(")", TEXT), pa.scalar("", TEXT))


def _filled(values: pa.Array, default: pa.Array | pa.Scalar) -> pa.Array:
    values = pc.fill_null(values, "")
    return pc.if_else(pc.equal(values, ""), default, values)


def _one_array(values: pa.ChunkedArray | pa.Array) -> pa.Array:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
