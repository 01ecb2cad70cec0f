"""The Prefect task of the generate stage."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from prefect import task
from prefect.artifacts import create_progress_artifact, update_progress_artifact

from tasks.core.home import Home
from tasks.core.stage import OnProgress, StageResult, run_stage
from tasks.core.task import stage_policy
from tasks.generate.generate import GenerateJob

PROGRESS_KEY = "generate-progress"
PROGRESS_EVERY_SECONDS = 5.0
LAST_UPDATE_SECONDS = 5.0

log = logging.getLogger(__name__)


@task(**stage_policy("generate"))
def generate_rows(job: GenerateJob, run_id: str) -> StageResult:
    """Find the artifact of the generate stage, or make it."""
    with progress_artifact() as on_progress:
        return run_stage(job, Home.from_environment(), run_id, on_progress)


@contextlib.contextmanager
def progress_artifact() -> Iterator[OnProgress]:
    """Show progress as a Prefect artifact of this run: made at the first news, renewed every few seconds, and last.

    It is written from a thread of its own, one update at a time: Prefect's API may be slow, and the caller has an
    event loop to run. An update that fails is logged and forgotten.
    """
    artifact: Any = None
    update: Future[None] | None = None
    untold: tuple[float, str] | None = None
    written_at = float("-inf")

    def write(share: float, note: str) -> None:
        nonlocal artifact
        try:
            if artifact is None:
                artifact = create_progress_artifact(100 * share, key=PROGRESS_KEY, description=note)
            else:
                update_progress_artifact(artifact, 100 * share, description=note)
        except Exception as error:
            log.debug("the progress artifact was not written: %s", error)

    def on_progress(share: float, note: str) -> None:
        nonlocal update, untold, written_at
        untold = (share, note)
        if time.monotonic() - written_at >= PROGRESS_EVERY_SECONDS and (update is None or update.done()):
            written_at = time.monotonic()
            update, untold = thread.submit(contextvars.copy_context().run, write, share, note), None

    thread = ThreadPoolExecutor(1, thread_name_prefix="progress-artifact")
    try:
        yield on_progress
    finally:
        if untold is not None:
            update = thread.submit(contextvars.copy_context().run, write, untold[0], untold[1])
        if update is not None:
            with contextlib.suppress(TimeoutError):
                update.result(LAST_UPDATE_SECONDS)
        thread.shutdown(wait=False, cancel_futures=True)
