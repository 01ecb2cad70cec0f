"""The Prefect tasks of the collect stage."""

from __future__ import annotations

from prefect import task

from tasks.collect.collect import CollectJob
from tasks.core.home import Home
from tasks.core.stage import StageResult, run_stage
from tasks.core.task import retry_policy, stage_policy


@task(name="fetch", task_run_name="fetch", tags=["retune"], **retry_policy())
def fetch_sources(job: CollectJob, run_id: str) -> None:
    """Bring the snapshots of remote sources up to date; never cached, since only asking tells what is new."""
    job.fetch()


@task(**stage_policy("collect"))
def collect_documents(job: CollectJob, run_id: str) -> StageResult:
    """Find the artifact of the collect stage, or make it."""
    return run_stage(job, Home.from_environment(), run_id)
