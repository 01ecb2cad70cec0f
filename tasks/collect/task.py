"""The Prefect tasks of the collect stage."""

from __future__ import annotations

from prefect import State, task

from tasks.collect.collect import CollectJob
from tasks.core.stage import StageResult
from tasks.core.task import finish_stage, task_policy


@task(**task_policy("fetch"))
def fetch_sources(job: CollectJob, run_id: str) -> None:
    """Bring the snapshots of remote sources up to date; never cached: only asking shows what is new."""
    job.fetch()


@task(**task_policy("collect"))
def collect_documents(job: CollectJob, run_id: str) -> State[StageResult]:
    return finish_stage(job, run_id)
