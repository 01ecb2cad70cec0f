"""Where the stages of a run wrote their files, including a stage that stopped the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flows.report.record import RECORD, RunRecord, read_record
from tasks.core.artifacts import MANIFEST, ArtifactRef
from tasks.core.errors import RecipeError
from tasks.core.home import Home
from tasks.core.progress import say
from tasks.core.tables import HOLDOUT, TRAIN

STAGES = ("collect", "check_documents", "generate", "validate", "train", "evaluate")
"""The stages that set rows aside, in their order; a training on a part of the rows is named ``train 0.5``."""


def position(stage: str) -> int:
    """Where a stage comes in the order of :data:`STAGES`."""
    kind = stage.partition(" ")[0]
    return STAGES.index(kind) if kind in STAGES else len(STAGES)


@dataclass(frozen=True)
class RunFiles:
    """The files that still exist of a run.

    ``folders``: by stage, the artifact's folder; for a stage that stopped the run, the folder of its evidence.
    ``gone``: stages whose folder no longer exists.
    """

    record: RunRecord
    folders: Mapping[str, Path]
    gone: tuple[str, ...] = ()

    @property
    def documents(self) -> Path | None:
        """The training documents, without those that were set aside."""
        return self._documents(TRAIN)

    @property
    def held_out(self) -> Path | None:
        """The held-out documents, likewise."""
        return self._documents(HOLDOUT)

    def _documents(self, table: str) -> Path | None:
        folders = (self.folders.get(stage) for stage in ("check_documents", "collect"))
        return next((folder / table for folder in folders if folder and (folder / table).is_file()), None)

    def artifact(self, stage: str) -> ArtifactRef | None:
        """A stage's complete artifact; None if it stopped the run, did not start, or no longer exists."""
        folder = self.folders.get(stage)
        if folder is None or not (folder / MANIFEST).is_file():
            return None
        found = ArtifactRef(stage, folder.name, str(folder), "", 0).manifest()
        return ArtifactRef(stage, found["key"], str(folder), found["digest"], found["summary"]["accepted"])


def find_run(home: Home, run_id: str | None) -> RunFiles:
    """A run by its id; by default the latest that read documents. Reports why, if that is not the latest of all.

    Raises RecipeError: there is no such run, or none of its files exists any more.
    """
    if run_id is not None:
        return _files_of(read_record(home, run_id))
    names = sorted((path.parent.name for path in home.runs.glob(f"*/{RECORD}")), reverse=True)
    skipped = ""
    for name in names:
        try:
            record = read_record(home, name)
        except RecipeError:
            skipped = skipped or f"the record of the latest, {name}, is damaged"
            continue
        if record.stages or record.evidence:
            if skipped:
                say(f"This is run {record.run_id}: {skipped}")
            return _files_of(record)
        skipped = skipped or f"the latest, {name} ({record.status}), has set nothing aside"
    raise RecipeError(
        "No run has read documents yet, so nothing was set aside",
        where=str(home.runs),
        remedy=f"see why the last one stopped: {home.command('report')}"
        if names
        else f"start one: {home.command('run', recipe='embedded')}",
    )


def _files_of(record: RunRecord) -> RunFiles:
    written = sorted(dict.fromkeys([*record.stages, *record.evidence]), key=position)
    known = [stage for stage in written if stage.partition(" ")[0] in STAGES]
    named = {stage: record.stages.get(stage, {}).get("path") or record.evidence.get(stage) for stage in known}
    folders = {stage: Path(path) for stage, path in named.items() if path}
    there = {stage: folder for stage, folder in folders.items() if folder.is_dir()}
    if not there:
        what = "All files that it wrote were removed" if folders else "It ended before it read any documents"
        raise RecipeError(
            f"Run {record.run_id} has no quarantine: {what}",
            where=record.folder,
            remedy=f"make them again: {record.run_again}" if folders else f"see why: {record.command('report')}",
        )
    return RunFiles(record, there, tuple(stage for stage in folders if stage not in there))
