"""The policy that every stage's Prefect task shares: caching by the artifact's key, and retries by class of failure."""

from __future__ import annotations

from typing import Any

from prefect.context import TaskRunContext
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH
from prefect.tasks import exponential_backoff

from tasks.core.artifacts import ArtifactStore
from tasks.core.errors import RetuneError
from tasks.core.files import digest_of
from tasks.core.home import Home

RETRIES = 2
FIRST_DELAY_SECONDS = 10


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
