"""The Prefect task of the collect stage."""

from __future__ import annotations

from prefect import task

from tasks.collect.collect import CollectJob
from tasks.core.home import Home
from tasks.core.stage import StageResult, run_stage
from tasks.core.task import stage_policy


@task(**stage_policy("collect"))
def collect_documents(job: CollectJob, run_id: str) -> StageResult:
    """Find the artifact of the collect stage, or make it."""
    return run_stage(job, Home.from_environment(), run_id)
