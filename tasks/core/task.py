"""What the stages' Prefect tasks share: caching by the artifact's key, retries by class of failure, live progress."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import TaskRunContext
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH
from prefect.tasks import exponential_backoff

from tasks.core.artifacts import ArtifactStore
from tasks.core.errors import RetuneError
from tasks.core.files import digest_of
from tasks.core.home import Home
from tasks.core.stage import OnProgress

RETRIES = 2
FIRST_DELAY_SECONDS = 10
PROGRESS_EVERY_SECONDS = 5.0
LAST_UPDATE_SECONDS = 5.0

log = logging.getLogger(__name__)


def artifact_cache_key(context: TaskRunContext, parameters: dict[str, Any]) -> str:
    """The artifact's key: same inputs, prompts, contracts and versions, same result, across nights.

    Prefect would hand out a stored reference without looking at its files. So a reference whose files are gone or
    fail their digest is forgotten here, before Prefect looks for it.
    """
    key = parameters["job"].key()
    home = Home.from_environment()
    # A stored reference holds the artifact's path: in a home that was moved it is another reference.
    name = f"{key.stage}-{key.hex}-{digest_of(str(home.root))[:8]}"
    if ArtifactStore(home.artifacts).find(key) is None:
        (PREFECT_LOCAL_STORAGE_PATH.value() / name).unlink(missing_ok=True)
    return name


def can_retry(task: object, task_run: object, state: Any) -> bool:
    """Whether another try can help: a lost child or server yes, a broken contract or a full disk never."""
    try:
        state.result()
    except RetuneError as error:
        return error.retryable
    except Exception:
        return False
    return False


def stage_policy(stage: str) -> dict[str, Any]:
    """Arguments of ``@task`` for a stage; the flow sets the timeout from the recipe.

    Results are persisted as JSON (references, never data), so that an unchanged stage is not even entered.
    """
    return {
        "name": stage,
        "task_run_name": stage,
        "tags": ["retune"],
        "cache_key_fn": artifact_cache_key,
        "persist_result": True,
        "result_serializer": "json",
        **retry_policy(),
    }


def retry_policy() -> dict[str, Any]:
    """Arguments of ``@task``: retries by class of failure, with a growing, jittered delay."""
    return {
        "retries": RETRIES,
        "retry_delay_seconds": exponential_backoff(FIRST_DELAY_SECONDS),
        "retry_jitter_factor": 0.5,
        "retry_condition_fn": can_retry,
    }


@contextlib.contextmanager
def progress_artifact(key: str) -> Iterator[OnProgress]:
    """Show progress as a Prefect artifact of this run: made at the first news, renewed every few seconds, and last.

    Runs may share a key: Prefect shows the newest artifact of each. It is written from a thread of its own, one update
    at a time: Prefect's API may be slow, and the caller has an event loop to run. An update that fails is logged and
    forgotten.
    """
    artifact: Any = None
    update: Future[None] | None = None
    untold: tuple[float, str] | None = None
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
