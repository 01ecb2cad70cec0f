"""What the stages' Prefect tasks share: the state that a stage ends in, retries by class of failure, live progress."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from prefect import State
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed
from prefect.tasks import exponential_backoff

from tasks.core.errors import RetuneError
from tasks.core.home import Home
from tasks.core.stage import OnProgress, StageJob, StageResult, ignore_progress, run_stage

RETRIES = 2
FIRST_DELAY_SECONDS = 10
PROGRESS_EVERY_SECONDS = 5.0
LAST_UPDATE_SECONDS = 5.0

log = logging.getLogger(__name__)


def task_policy(name: str) -> dict[str, Any]:
    """Arguments of ``@task`` for a stage; the flow sets the timeout from the recipe.

    Prefect does not cache: only the artifact store knows whether an artifact exists and is complete. A lost process or
    server is retried, with a growing, jittered delay.
    """
    return {
        "name": name,
        "task_run_name": name,
        "tags": ["retune"],
        "cache_policy": NO_CACHE,
        "persist_result": False,
        "retries": RETRIES,
        "retry_delay_seconds": exponential_backoff(FIRST_DELAY_SECONDS),
        "retry_jitter_factor": 0.5,
        "retry_condition_fn": can_retry,
    }


def can_retry(task: object, task_run: object, state: Any) -> bool:
    """Whether another try can help: a lost child or server yes, a broken contract or a full disk never."""
    error = failure_of(state)
    return isinstance(error, RetuneError) and error.retryable


def failure_of(state: State[Any]) -> Exception | None:
    """The error that a task's state holds, or None."""
    found = state.result(raise_on_failure=False)
    return found if isinstance(found, Exception) else None


def finish_stage(job: StageJob, run_id: str, on_progress: OnProgress = ignore_progress) -> State[StageResult]:
    """Find a job's artifact, or make it.

    Returns:
        the task's final state, which holds the result. It is named ``Cached`` if the artifact was found, as Prefect
        names the states of its own cache.
    """
    result = run_stage(job, Home.from_environment(), run_id, on_progress)
    return Completed(name="Cached" if result.cached else "Completed", data=result)


@contextlib.contextmanager
def progress_artifact(key: str) -> Iterator[OnProgress]:
    """Show progress as a Prefect artifact of this run: made at the first update, renewed every few seconds, and last.

    Runs may share a key: Prefect shows the newest artifact of each. A thread writes it, one update at a time: Prefect's
    API may be slow, and the caller has an event loop to run. An update that fails is logged and forgotten.
    """
    artifact: Any = None
    update: Future[None] | None = None
    waiting: tuple[float, str] | None = None
    written_at = float("-inf")

    def write(share: float, note: str) -> None:
        nonlocal artifact
        try:
            if artifact is None:
                artifact = create_progress_artifact(100 * share, key=key, description=note)
            else:
                update_progress_artifact(artifact, 100 * share, description=note)
        except Exception as error:
            log.debug("the progress artifact was not written: %s", error)

    def on_progress(share: float, note: str) -> None:
        nonlocal update, waiting, written_at
        waiting = (share, note)
        if time.monotonic() - written_at >= PROGRESS_EVERY_SECONDS and (update is None or update.done()):
            written_at = time.monotonic()
            update, waiting = thread.submit(contextvars.copy_context().run, write, share, note), None

    thread = ThreadPoolExecutor(1, thread_name_prefix="progress-artifact")
    try:
        yield on_progress
    finally:
        if waiting is not None:
            update = thread.submit(contextvars.copy_context().run, write, waiting[0], waiting[1])
        if update is not None:
            with contextlib.suppress(TimeoutError):
                update.result(LAST_UPDATE_SECONDS)
        thread.shutdown(wait=False, cancel_futures=True)
