"""Validate the rows of a run again by the contracts as they are now, without asking the teacher."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flows.night.jobs import documents_job, validate_job
from flows.recipe.read import read_recipe
from flows.report.artifact_files import evidence_of
from retune.quarantine.lost_rows import CONTAMINATED, DUPLICATES, FILES, QUARANTINED, read_lost_rows
from retune.quarantine.run_files import RunFiles
from tasks.core.artifacts import ArtifactRef
from tasks.core.errors import ContractViolation, RecipeError
from tasks.core.home import Home
from tasks.core.lock import run_lock
from tasks.core.progress import say
from tasks.core.stage import run_stage
from tasks.core.tables import TRAINING_SET
from tasks.validate.validate import REPLAY

DOCUMENTS, ROWS = "check_documents", "validate"
"""The stages that check documents and rows one by one."""
PLACES = {
    "training set": (TRAINING_SET, "example_id"),
    **{name: (FILES[name], "row_id") for name in (DUPLICATES, CONTAMINATED)},
}


@dataclass(frozen=True)
class Recovered:
    """How a stage's quarantine has changed.

    Attributes:
        recovered: rows that left the quarantine, by the first rule that they had broken.
        quarantined: rows that are new in the quarantine, by the first rule that they break.
        went_to: how many recovered rows are now in the training set, duplicates, contaminated.
    """

    recovered: Mapping[str, int]
    quarantined: Mapping[str, int]
    went_to: Mapping[str, int]


@dataclass(frozen=True)
class Replay:
    """The outcome of validating a run's documents and rows again.

    Attributes:
        recipe: whose contracts applied: its name or file.
        documents, rows: the quarantines; no rows if the run was stopped before it had any.
        training_set, before: rows in the training set now, and in the run's own; None if there is none.
        was_there: whether this result was stored already.
        asks_again: whether the next run asks the teacher again before it validates: the documents have changed, or
            a limit had cut generation short.
        run_again: the command that starts the next run.
    """

    run_id: str
    recipe: str
    documents: Recovered
    rows: Recovered | None
    training_set: int | None
    before: int | None
    was_there: bool
    asks_again: bool
    path: str
    run_again: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def replay(files: RunFiles, home: Home, recipe_name: str | None = None) -> Replay:
    """Validate a run's documents and generated rows again.

    Raises RecipeError: an artifact that the run collected or generated no longer exists, or the recipe does not;
    ContractViolation: the rows still break a contract as a whole, or too little is left; BusyError: a run is in
    progress.

    Args:
        files: of the run; a stage that is replayed may have stopped it.
        home: where the artifacts go, under the keys by which the next run finds them.
        recipe_name: whose contracts apply; None: the run's own recipe, as its file is now.
    """
    name = recipe_name or files.record.started_as or files.record.recipe
    recipe = read_recipe(name)
    run_id = f"{files.record.run_id}{REPLAY}"
    with run_lock(home), _report_evidence(home, run_id):
        collected = _artifact(files, "collect")
        say("check_documents")
        documents = run_stage(documents_job(recipe, collected), home, run_id)
        done, generated = documents, None
        has_rows = recipe.generate is None or "generate" in files.record.stages
        if has_rows:
            generated = _artifact(files, "generate") if recipe.generate else None
            say("validate")
            job = validate_job(recipe, collected, documents.ref, generated)
            done = run_stage(job, home, run_id, lambda _, note: say(f"  {note}"))
    now = RunFiles(files.record, {DOCUMENTS: documents.ref.folder, **({ROWS: done.ref.folder} if has_rows else {})})
    own = files.artifact(ROWS)
    return Replay(
        run_id=files.record.run_id,
        recipe=name,
        run_again=home.command("run", recipe=recipe.reference),
        documents=_compare(files, now, DOCUMENTS),
        rows=_compare(files, now, ROWS) if has_rows else None,
        training_set=done.ref.rows if has_rows else None,
        before=own.rows if own else None,
        was_there=documents.cached and done.cached,
        asks_again=generated is not None and _asks_again(files, documents.ref, generated),
        path=done.ref.path,
    )


@contextlib.contextmanager
def _report_evidence(home: Home, run_id: str) -> Iterator[None]:
    """Print where the evidence of a stage that stops is: no report will name it."""
    try:
        yield
    except ContractViolation:
        for stage, folder in evidence_of(home, run_id).items():
            say(f"findings of stage {stage}: {folder}")
        raise


def _artifact(files: RunFiles, stage: str) -> ArtifactRef:
    found = files.artifact(stage)
    if found is None:
        raise RecipeError(
            f"The artifact of the {stage} stage of run {files.record.run_id} is gone: nothing can be validated again",
            where=str(files.record.stages.get(stage, {}).get("path", files.record.folder)),
            remedy=f"make it again; answers that the teacher gave are reused: {files.record.run_again}",
        )
    return found


def _asks_again(files: RunFiles, documents: ArtifactRef, generated: ArtifactRef) -> bool:
    recorded = files.artifact(DOCUMENTS)
    is_partial = bool(generated.manifest()["summary"].get("partial"))
    return is_partial or recorded is None or recorded.digest != documents.digest


def _compare(files: RunFiles, now: RunFiles, stage: str) -> Recovered:
    before, after = (_quarantined(run, stage) for run in (files, now))
    recovered = _only_in(before, after)
    went_to = {
        place: _count_of(now.folders[stage] / name, column, recovered["row_id"])
        for place, (name, column) in PLACES.items()
        if (now.folders[stage] / name).is_file()
    }
    return Recovered(_by_rule(recovered), _by_rule(_only_in(after, before)), went_to)


def _quarantined(files: RunFiles, stage: str) -> pa.Table:
    folders = {name: folder for name, folder in files.folders.items() if name == stage}
    lost = read_lost_rows(RunFiles(files.record, folders))
    return lost.filter(pc.equal(lost["outcome"], QUARANTINED))


def _only_in(these: pa.Table, others: pa.Table) -> pa.Table:
    return these.filter(pc.invert(pc.is_in(these["row_id"], value_set=others["row_id"])))


def _by_rule(rows: pa.Table) -> dict[str, int]:
    rules = pc.list_element(rows["rules"], 0)
    counts = ((found["values"], found["counts"]) for found in pc.value_counts(rules).to_pylist())
    return dict(sorted(counts, key=lambda item: (-item[1], item[0])))


def _count_of(table: Path, column: str, ids: pa.ChunkedArray) -> int:
    found = pq.read_table(table, columns=[column])[column].cast(pa.large_string())
    return int(pc.sum(pc.is_in(found, value_set=ids)).as_py() or 0)
