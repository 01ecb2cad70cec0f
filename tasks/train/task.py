"""The Prefect task of the train stage."""

from __future__ import annotations

from prefect import State, task

from tasks.core.stage import StageResult
from tasks.core.task import finish_stage, progress_artifact, task_policy
from tasks.train.train import TrainJob

PROGRESS_KEY = "train-progress"


@task(**task_policy("train"))
def train_adapter(job: TrainJob, run_id: str) -> State[StageResult]:
    """Find the artifact of the train stage, or make it; the trainings of a learning curve share one key of progress."""
    with progress_artifact(PROGRESS_KEY) as on_progress:
        return finish_stage(job, run_id, on_progress)
