"""The Prefect task of the train stage."""

from __future__ import annotations

from prefect import task

from tasks.core.home import Home
from tasks.core.stage import StageResult, run_stage
from tasks.core.task import stage_policy
from tasks.train.train import TrainJob


@task(**stage_policy("train"))
def train_adapter(job: TrainJob, run_id: str) -> StageResult:
    """Find the artifact of the train stage, or make it."""
    return run_stage(job, Home.from_environment(), run_id)
