"""The one shape of a stage: a job that knows its key and can fill an empty folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tasks.core.artifacts import ArtifactRef, ArtifactStore, StageKey, Summary
from tasks.core.home import Home

OnProgress = Callable[[float, str], None]


def _unseen(share: float, note: str) -> None:
    """Nobody watches."""


@dataclass(frozen=True)
class StageContext:
    """What a job may know of the run that executes it; none of it may shape the artifact's content.

    Attributes:
        home: where state lives.
        run_id: the run, for logs and lineage.
        key: the key of the artifact being written: the name of its work folder.
        on_progress: told of progress: the share that is done, 0 to 1, and a line of text. May be called often.
    """

    home: Home
    run_id: str
    key: str
    on_progress: OnProgress = _unseen

    def log(self, name: str) -> Path:
        """The run's log file of this name."""
        return self.home.logs / self.run_id / f"{name}.log"

    def work_folder(self, stage: str) -> Path:
        """Unfinished work of this artifact, found again by the next run."""
        return self.home.work / stage / self.key


class StageJob(Protocol):
    """A stage's configuration and inputs."""

    def key(self) -> StageKey:
        """What determines the artifact."""
        ...

    def fill(self, folder: Path, context: StageContext) -> Summary:
        """Write the artifact's files into an empty folder."""
        ...


@dataclass(frozen=True)
class StageResult:
    """What a stage hands to the flow.

    Attributes:
        ref: the artifact.
        cached: whether it was there already.
        seconds: how long this took.
    """

    ref: ArtifactRef
    cached: bool
    seconds: float


def run_stage(job: StageJob, home: Home, run_id: str, on_progress: OnProgress = _unseen) -> StageResult:
    """Find the job's artifact, or make it."""
    started = time.monotonic()
    store = ArtifactStore(home.artifacts)
    key = job.key()
    found = store.find(key)
    context = StageContext(home, run_id, key.hex, on_progress)
    ref = found or store.write(key, lambda folder: job.fill(folder, context))
    return StageResult(ref, found is not None, round(time.monotonic() - started, 3))
