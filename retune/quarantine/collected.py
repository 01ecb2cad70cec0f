"""What a run collected under a document's id: the document itself, and rows that collect set aside."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from retune.quarantine.details import LostRow, turns_of
from retune.quarantine.lost_rows import HELD_OUT, QUARANTINED, TRAINING_DOCUMENT
from retune.quarantine.run_files import RunFiles
from tasks.collect.forms.values import at_path
from tasks.collect.splits import SAME_ID
from tasks.core.files import canonical_json
from tasks.core.tables import HOLDOUT, QUARANTINE, TRAIN

COLLECT = "collect"
ORIGINS = {HELD_OUT: "(held out)", TRAINING_DOCUMENT: "(collected)"}
BATCH_ROWS = 1_000


def first_row(folder: Path | None, table: str, column: str, value: str) -> dict[str, Any] | None:
    """The first row of a table that has a value in a column; None if there is no such row or no table."""
    if folder is None or not (folder / table).is_file():
        return None
    found: list[dict[str, Any]] = pq.read_table(folder / table, filters=[(column, "==", value)]).to_pylist()
    return found[0] if found else None


def stored_document(files: RunFiles, document_id: str) -> tuple[str, Mapping[str, Any]] | None:
    """A document as collect wrote it, and its purpose: :data:`TRAINING_DOCUMENT` or :data:`HELD_OUT`."""
    for table, purpose in ((TRAIN, TRAINING_DOCUMENT), (HOLDOUT, HELD_OUT)):
        found = first_row(files.folders.get(COLLECT), table, "document_id", document_id)
        if found is not None:
            return purpose, found
    return None


def collected_document(files: RunFiles, document_id: str) -> LostRow | None:
    """A document in the form of a row; its outcome is its purpose."""
    found = stored_document(files, document_id)
    if found is None:
        return None
    purpose, row = found
    return LostRow(
        stage=COLLECT,
        outcome=purpose,
        row_id=document_id,
        prompt=ORIGINS[purpose],
        source=row["source"] or "",
        document_id=document_id,
        reasons=(),
        turns=turns_of(row["messages"]),
    )


def set_aside_under(files: RunFiles, lost: pa.Table, document_id: str) -> pa.Table:
    """The rows of ``lost`` that collect set aside and to which their source gives this id, in their order.

    Finds rows that could be read; in a row that is cut off in the quarantine, an id before the cut. ``lost``:
    :func:`retune.quarantine.lost_rows.read_lost_rows` of the run.
    """
    is_of_collect = pc.and_(pc.equal(lost["stage"], COLLECT), pc.equal(lost["outcome"], QUARANTINED))
    rows = lost.filter(is_of_collect)
    if not rows.num_rows or not document_id:
        return rows.slice(0, 0)
    found = _positions(files.folders[COLLECT] / QUARANTINE, document_id, _id_columns(files))
    return rows.filter(pc.is_in(rows["at"], value_set=pa.array(list(found), pa.int64())))


def _positions(quarantine: Path, document_id: str, columns: Collection[str]) -> Iterator[int]:
    written = canonical_json(document_id)[1:-1]
    start = 0
    with pq.ParquetFile(quarantine) as file:
        for batch in file.iter_batches(BATCH_ROWS, columns=["rule", "raw"]):
            for at in pc.indices_nonzero(pc.fill_null(pc.match_substring(batch["raw"], written), False)).to_pylist():
                is_document = (batch["rule"][at].as_py() or "").startswith(f"{SAME_ID}:")
                if _has_id(batch["raw"][at].as_py(), ("document_id",) if is_document else columns, document_id):
                    yield start + at
            start += batch.num_rows


def _has_id(raw: str, columns: Collection[str], document_id: str) -> bool:
    try:
        values = json.loads(raw)
    except (ValueError, RecursionError):
        return any(f"{canonical_json(column)}:{canonical_json(document_id)}" in raw for column in columns)
    ids = (at_path(values, column) for column in columns)
    return any(value is not None and str(value).strip() == document_id for value in ids)


def _id_columns(files: RunFiles) -> set[str]:
    artifact = files.artifact(COLLECT)
    if artifact is None:
        return set()
    config = artifact.manifest()["determinants"]["config"]["collect"]
    return {section["id_column"] for section in (config, *config["sources"]) if section.get("id_column")}
