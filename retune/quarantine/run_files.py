"""Where a run's stages left what they wrote, a stage that stopped the run among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flows.report.record import RECORD, RunRecord, read_record
from tasks.core.artifacts import MANIFEST, ArtifactRef
from tasks.core.errors import RecipeError
from tasks.core.home import Home
from tasks.core.progress import say
from tasks.core.tables import TRAIN

STAGES = ("collect", "check_documents", "generate", "validate")
"""Those that set rows aside, in their order."""


@dataclass(frozen=True)
class RunFiles:
    """What there is of a run.

    Attributes:
        record: what the run says of itself.
        folders: by stage, the artifact's folder or, of a stage that stopped the run, that of its evidence.
        gone: stages whose folder is there no more.
    """

    record: RunRecord
    folders: Mapping[str, Path]
    gone: tuple[str, ...] = ()

    @property
    def documents(self) -> Path | None:
        """The training documents, those that were set aside not among them."""
        folders = (self.folders.get(stage) for stage in ("check_documents", "collect"))
        return next((folder / TRAIN for folder in folders if folder and (folder / TRAIN).is_file()), None)

    def artifact(self, stage: str) -> ArtifactRef | None:
        """A stage's whole artifact; None of one that stopped the run, was not reached, or is gone."""
        folder = self.folders.get(stage)
        if folder is None or not (folder / MANIFEST).is_file():
            return None
        found = ArtifactRef(stage, folder.name, str(folder), "", 0).manifest()
        return ArtifactRef(stage, found["key"], str(folder), found["digest"], found["summary"]["accepted"])


def find_run(home: Home, run_id: str | None) -> RunFiles:
    """A run by its id; without one the latest that came so far as to read documents, and why if that is not the latest.

    Raises:
        RecipeError: there is no such run, or nothing that it wrote is there any more.
    """
    if run_id is not None:
        return _files_of(read_record(home, run_id))
    names = sorted((path.parent.name for path in home.runs.glob(f"*/{RECORD}")), reverse=True)
    passed_over = ""
    for name in names:
        try:
            record = read_record(home, name)
        except RecipeError:
            passed_over = passed_over or f"the record of the latest, {name}, is damaged"
            continue
        if record.stages or record.evidence:
            if passed_over:
                say(f"This is run {record.run_id}: {passed_over}")
            return _files_of(record)
        passed_over = passed_over or f"the latest, {name} ({record.status}), has set nothing aside"
    raise RecipeError(
        "No run has read documents yet, so nothing was set aside",
        where=str(home.runs),
        remedy="start one: retune run" if not names else "retune report says why the last one stopped",
    )


def _files_of(record: RunRecord) -> RunFiles:
    named = {stage: record.stages.get(stage, {}).get("path") or record.evidence.get(stage) for stage in STAGES}
    folders = {stage: Path(path) for stage, path in named.items() if path}
    there = {stage: folder for stage, folder in folders.items() if folder.is_dir()}
    if not there:
        what = "Nothing is left of what it wrote" if folders else "It ended before it read any documents"
        raise RecipeError(
            f"Run {record.run_id} has no quarantine: {what}",
            where=record.folder,
            remedy="retune run makes the artifacts again" if folders else f"retune report --run {record.run_id}",
        )
    return RunFiles(record, there, tuple(stage for stage in folders if stage not in there))
