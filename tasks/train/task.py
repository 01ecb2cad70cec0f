"""The Prefect task of the train stage."""

from __future__ import annotations

from prefect import task

from tasks.core.home import Home
from tasks.core.stage import StageResult, run_stage
from tasks.core.task import progress_artifact, stage_policy
from tasks.train.train import TrainJob

PROGRESS_KEY = "train-progress"


@task(**stage_policy("train"))
def train_adapter(job: TrainJob, run_id: str) -> StageResult:
    """Find the artifact of the train stage, or make it; the trainings of a learning curve share one key of progress."""
    with progress_artifact(PROGRESS_KEY) as on_progress:
        return run_stage(job, Home.from_environment(), run_id, on_progress)
