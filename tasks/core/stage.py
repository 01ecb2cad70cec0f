"""What a stage is: a job that knows its key and can fill an empty folder."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tasks.core.artifacts import ArtifactRef, ArtifactStore, StageKey, Summary
from tasks.core.home import Home
from tasks.core.tables import QUARANTINE

OnProgress = Callable[[float, str], None]


def ignore_progress(share: float, note: str) -> None:
    """The ``OnProgress`` of a caller that does not show progress."""


@dataclass(frozen=True)
class StageContext:
    """What a job may know about its run. The artifact's content must not depend on it.

    ``key``: of the artifact being written, also the name of its work folder. ``on_progress`` takes the share done,
    0 to 1, and a line of text; it may be called often.
    """

    home: Home
    run_id: str
    key: str
    on_progress: OnProgress = ignore_progress

    def log(self, name: str) -> Path:
        return self.home.logs / self.run_id / f"{name}.log"

    def keep_quarantine(self, stage: str, folder: Path) -> None:
        """Copy a stage's quarantine to the run's logs when it stops the run, since there will be no artifact."""
        if (folder / QUARANTINE).is_file():
            kept = self.log(stage).with_suffix("")
            kept.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / QUARANTINE, kept)

    def work_folder(self, stage: str) -> Path:
        """The folder of this artifact's unfinished work, which the next run continues."""
        return self.home.work / stage / self.key


class StageJob(Protocol):
    """A stage's configuration and inputs."""

    def key(self) -> StageKey:
        """Everything that determines the artifact."""
        ...

    def fill(self, folder: Path, context: StageContext) -> Summary:
        """Write the artifact's files into an empty folder."""
        ...


@dataclass(frozen=True)
class StageResult:
    """The artifact of a stage, whether it existed before, and the seconds that it took to find or make it."""

    ref: ArtifactRef
    cached: bool
    seconds: float


def run_stage(job: StageJob, home: Home, run_id: str, on_progress: OnProgress = ignore_progress) -> StageResult:
    """Find the job's artifact, or make it."""
    started = time.monotonic()
    store = ArtifactStore(home.artifacts)
    key = job.key()
    found = store.find(key)
    context = StageContext(home, run_id, key.hex, on_progress)
    ref = found or store.write(key, lambda folder: job.fill(folder, context))
    return StageResult(ref, found is not None, round(time.monotonic() - started, 3))
