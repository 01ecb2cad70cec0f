"""One row followed back: the rules it broke, the prompt and the messages it was asked for with, its document."""

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
from retune.quarantine.lost_rows import DUPLICATES, read_lost_rows
from retune.quarantine.prompt_sent import Sent, prompt_sent
from retune.quarantine.run_files import RunFiles
from tasks.core import tables
from tasks.core.answer_store import AnswerStore
from tasks.core.artifacts import ArtifactRef
from tasks.core.errors import RecipeError
from tasks.core.home import Home

KEPT = "kept"
NEAR = 5
FEW_IDS = 20_000
"""Among so many ids a mistyped one is looked for by likeness; among more, by its beginning alone."""


@dataclass(frozen=True)
class Written:
    """How a generated row came to be.

    Attributes:
        prompt, prompt_digest: the template.
        request_id: of the request that it came from.
        teacher, teacher_revision: the model that answered.
        sampling, seed, attempts: of the request; None where they cannot be had any more.
        run_id: the run that asked; a later one reuses the answer.
        drawn: what was drawn for it, by variable.
        judgements: what judges said of it.
        sent: the messages.
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
        run_id: the run that is looked at.
        row: the row; where it was not set aside its outcome is ``kept``, or what its document is for: ``held out``,
            ``training document``.
        written: None of a row that no prompt wrote.
        document: its document as it was collected, or None where that is not known.
        same_id: of a document, ``SOURCE:LINE`` of other rows of its id that collect set aside.
    """

    run_id: str
    row: LostRow
    written: Written | None = None
    document: Mapping[str, Any] | None = None
    same_id: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """JSON-like."""
        written = asdict(self.written) if self.written else None
        return {
            "run_id": self.run_id,
            "row": self.row.as_json(),
            "written": written,
            "document": self.document,
            "same_id": list(self.same_id),
        }


def trace_row(files: RunFiles, home: Home, row_id: str) -> RowTrace:
    """Find a row of a run, lost or kept, or a document that it collected, and what it comes from.

    Args:
        files: the run's.
        home: whose answers are looked up.
        row_id: a generated row's id, a document's, or ``SOURCE:LINE`` of what never became a document.

    Raises:
        RecipeError: the run has no such row; with ids that are near.
    """
    lost = read_lost_rows(files)
    under_id = set_aside_under(files, lost, row_id)
    row = (
        _only(files, lost.filter(pc.equal(lost["row_id"], row_id)))
        or _kept(files, row_id)
        or collected_document(files, row_id)
        or _only(files, under_id)
    )
    if row is None:
        raise _unknown(files, lost, row_id)
    told = _lineage(files, row)
    whole = replace(row, turns=turns_of(told.get("messages")) or row.turns, raw=row.raw or told.get("raw", ""))
    document = _document(files, row) if row.document_id else None
    same_id = tuple(place for place in under_id["row_id"].to_pylist() if place != row.row_id)
    return RowTrace(files.record.run_id, whole, _written(files, home, row, told), document, same_id)


def _only(files: RunFiles, lost: pa.Table) -> LostRow | None:
    """The first of some lost rows."""
    return next(iter(read_details(files, lost.slice(0, 1))), None)


def _kept(files: RunFiles, row_id: str) -> LostRow | None:
    """A row of the training set."""
    found = first_row(files.folders.get("validate"), tables.TRAINING_SET, "example_id", row_id)
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
    """A row's document as collect wrote it: without what is empty, and without the conversation made of it."""
    found = stored_document(files, row.document_id)
    if found is None:
        return None
    return {name: value for name, value in found[1].items() if value not in (None, "") and name != "messages"}


def _lineage(files: RunFiles, row: LostRow) -> Mapping[str, Any]:
    """What is stored of a written row: in the generate stage's rows, and in the file that holds it."""
    accepted = first_row(files.folders.get("generate"), tables.ROWS, "row_id", row.row_id) or {}
    return {**accepted, **{name: value for name, value in row.stored.items() if value not in (None, "")}}


def _written(files: RunFiles, home: Home, row: LostRow, told: Mapping[str, Any]) -> Written | None:
    if not told.get("prompt"):
        return None
    generated = files.artifact("generate")
    if generated is None or files.documents is None:
        sent = Sent((), "what the prompt was rendered from is gone with the artifact of the generate stage")
    else:
        asked = {name: told.get(name) for name in ("prompt", "prompt_digest", "request_id", "document_id", "attempts")}
        sent = prompt_sent({**asked, "row_id": row.row_id}, generated, files.documents, files.record)
    return Written(
        prompt=told["prompt"],
        prompt_digest=told.get("prompt_digest", ""),
        request_id=told.get("request_id", ""),
        sampling=json.loads(told["sampling"]) if "sampling" in told else sent.sampling,
        seed=told.get("seed", sent.seed),
        attempts=told.get("attempts"),
        run_id=told.get("run_id") or _asked_by(home, told.get("request_id")),
        drawn=json.loads(told.get("drawn", "{}")),
        judgements=tuple(json.loads(told.get("judgements", "[]"))),
        sent=sent,
        **_teacher(told, generated),
    )


def _teacher(told: Mapping[str, Any], generated: ArtifactRef | None) -> dict[str, str]:
    """Name and revision: a row that was rejected does not say them, but its artifact does, and its other rows."""
    if "teacher" in told:
        return {name: told[name] for name in ("teacher", "teacher_revision")}
    if generated is None:
        return {"teacher": "", "teacher_revision": ""}
    revision = generated.manifest()["determinants"]["files"]["teacher"]
    others = pq.ParquetFile(generated.folder / tables.ROWS).iter_batches(1, columns=["teacher"])
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
        remedy=(f"near ones are: {', '.join(near)}; " if near else "")
        + "retune quarantine sample shows rows with their ids; --run names another run",
    )
