"""Trace one row back: the rules it broke, its prompt and the messages that were sent, its document."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from retune.quarantine.collected import COLLECT, collected_document, first_row, set_aside_under, stored_document
from retune.quarantine.details import LostRow, read_details, turns_of
from retune.quarantine.lost_rows import DUPLICATES, KEPT, read_lost_rows
from retune.quarantine.prompt_sent import Sent, prompt_sent
from retune.quarantine.run_files import RunFiles
from tasks.core.answer_store import AnswerStore
from tasks.core.artifacts import ArtifactRef
from tasks.core.errors import RecipeError
from tasks.core.home import Home
from tasks.core.tables import ROWS, TRAINING_SET

NEAR = 5
FEW_IDS = 20_000
"""Up to so many ids, a mistyped id is searched by similarity; among more, as a part of an id only."""


@dataclass(frozen=True)
class Written:
    """How a teacher wrote a row.

    Attributes:
        sampling, seed, attempts: of the request; None if unknown.
        run_id: the run that asked; a later run reuses the answer.
        drawn: by variable, the value drawn for the row.
    """

    prompt: str
    prompt_digest: str
    request_id: str
    teacher: str
    teacher_revision: str
    sampling: Mapping[str, Any] | None
    seed: int | None
    attempts: int | None
    run_id: str
    drawn: Mapping[str, Any]
    judgements: tuple[Mapping[str, Any], ...]
    sent: Sent


@dataclass(frozen=True)
class RowTrace:
    """A row with everything that it comes from.

    Attributes:
        row: the row; the outcome of a row that was not set aside is ``kept``, or the purpose of a document:
            ``held out``, ``training document``.
        written: None if no prompt wrote the row.
        document: its document as it was collected, or None if unknown.
        same_id: for a document, ``SOURCE:LINE`` of other rows with its id that collect set aside.
    """

    run_id: str
    row: LostRow
    written: Written | None = None
    document: Mapping[str, Any] | None = None
    same_id: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "run_id": self.run_id,
            "row": self.row.as_json(),
            "written": asdict(self.written) if self.written else None,
            "document": self.document,
            "same_id": list(self.same_id),
        }


def trace_row(files: RunFiles, home: Home, row_id: str) -> RowTrace:
    """Find a row of a run, set aside or kept, or a document that it collected, and trace where it comes from.

    ``home``: whose answers are searched. ``row_id``: a generated row's id, a document's, or ``SOURCE:LINE`` of a row
    that never became a document. Raises RecipeError: the run has no such row; with similar ids.
    """
    lost = read_lost_rows(files)
    under_id = set_aside_under(files, lost, row_id)
    row = (
        _first(files, lost.filter(pc.equal(lost["row_id"], row_id)))
        or _kept(files, row_id)
        or collected_document(files, row_id)
        or _first(files, under_id)
    )
    if row is None:
        raise _unknown(files, lost, row_id)
    stored = _lineage(files, row)
    whole = replace(row, turns=turns_of(stored.get("messages")) or row.turns, raw=row.raw or stored.get("raw", ""))
    document = _document(files, row) if row.document_id else None
    same_id = tuple(place for place in under_id["row_id"].to_pylist() if place != row.row_id)
    return RowTrace(files.record.run_id, whole, _written(files, home, row, stored), document, same_id)


def _first(files: RunFiles, lost: pa.Table) -> LostRow | None:
    return next(iter(read_details(files, lost.slice(0, 1))), None)


def _kept(files: RunFiles, row_id: str) -> LostRow | None:
    found = first_row(files.folders.get("validate"), TRAINING_SET, "example_id", row_id)
    if found is None:
        return None
    return LostRow(
        stage="validate",
        outcome=KEPT,
        row_id=row_id,
        prompt=found["prompt"] or f"({found['origin']})",
        source=found["source"] or "",
        document_id=found["document_id"] or "",
        reasons=(),
        stored=found,
    )


def _document(files: RunFiles, row: LostRow) -> Mapping[str, Any] | None:
    found = stored_document(files, row.document_id)
    if found is None:
        return None
    return {name: value for name, value in found[1].items() if value not in (None, "") and name != "messages"}


def _lineage(files: RunFiles, row: LostRow) -> Mapping[str, Any]:
    """What is stored of a written row: in the generate stage's rows, and in the file that holds it."""
    accepted = first_row(files.folders.get("generate"), ROWS, "row_id", row.row_id) or {}
    return {**accepted, **{name: value for name, value in row.stored.items() if value not in (None, "")}}


def _written(files: RunFiles, home: Home, row: LostRow, stored: Mapping[str, Any]) -> Written | None:
    if not stored.get("prompt"):
        return None
    generated = files.artifact("generate")
    if generated is None or files.documents is None:
        sent = Sent((), "the artifact of the generate stage is gone, so the prompt cannot be rendered again")
    else:
        names = ("prompt", "prompt_digest", "request_id", "document_id", "attempts")
        request = {**{name: stored.get(name) for name in names}, "row_id": row.row_id}
        sent = prompt_sent(request, generated, files.documents, files.record)
    return Written(
        prompt=stored["prompt"],
        prompt_digest=stored.get("prompt_digest", ""),
        request_id=stored.get("request_id", ""),
        sampling=json.loads(stored["sampling"]) if "sampling" in stored else sent.sampling,
        seed=stored.get("seed", sent.seed),
        attempts=stored.get("attempts"),
        run_id=stored.get("run_id") or _asked_by(home, stored.get("request_id")),
        drawn=json.loads(stored.get("drawn", "{}")),
        judgements=tuple(json.loads(stored.get("judgements", "[]"))),
        sent=sent,
        **_teacher(stored, generated),
    )


def _teacher(stored: Mapping[str, Any], generated: ArtifactRef | None) -> dict[str, str]:
    """Name and revision; a rejected row does not store them, but its artifact and its accepted rows do."""
    if "teacher" in stored:
        return {name: stored[name] for name in ("teacher", "teacher_revision")}
    if generated is None:
        return {"teacher": "", "teacher_revision": ""}
    revision = generated.manifest()["determinants"]["files"]["teacher"]
    others = pq.ParquetFile(generated.folder / ROWS).iter_batches(1, columns=["teacher"])
    return {"teacher": next((batch["teacher"][0].as_py() for batch in others), ""), "teacher_revision": revision}


def _asked_by(home: Home, request_id: str | None) -> str:
    if not request_id or not home.answers.is_file():
        return ""
    with AnswerStore.open(home.answers) as store:
        found = store.find([request_id])
    return found[request_id].run_id if found else ""


def _unknown(files: RunFiles, lost: pa.Table, row_id: str) -> RecipeError:
    ids = pc.unique(lost["row_id"])
    near = ids.filter(pc.match_substring(ids, row_id)).slice(0, NEAR).to_pylist() if row_id else []
    if not near and len(ids) <= FEW_IDS:
        near = difflib.get_close_matches(row_id, ids.to_pylist(), NEAR)
    copies = files.record.stages.get(COLLECT, {}).get(DUPLICATES, 0)
    removed = f"; collect removed {copies:,} rows as duplicates and does not record which" if copies else ""
    return RecipeError(
        f"Run {files.record.run_id} has no row {row_id!r}, neither set aside nor kept{removed}",
        where=files.record.folder,
        remedy=(f"similar ids: {', '.join(near)}; " if near else "")
        + f"{files.record.command('quarantine', 'sample')} shows rows with their ids; --run names another run",
    )
