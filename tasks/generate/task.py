"""The Prefect task of the generate stage."""

from __future__ import annotations

from prefect import State, task

from tasks.core.stage import StageResult
from tasks.core.task import finish_stage, progress_artifact, task_policy
from tasks.generate.generate import GenerateJob

PROGRESS_KEY = "generate-progress"


@task(**task_policy("generate"))
def generate_rows(job: GenerateJob, run_id: str) -> State[StageResult]:
    """Find or make the artifact of the generate stage."""
    with progress_artifact(PROGRESS_KEY) as on_progress:
        return finish_stage(job, run_id, on_progress)
