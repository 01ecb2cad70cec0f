"""The Prefect task of the generate stage."""

from __future__ import annotations

from prefect import task

from tasks.core.home import Home
from tasks.core.stage import StageResult, run_stage
from tasks.core.task import progress_artifact, stage_policy
from tasks.generate.generate import GenerateJob

PROGRESS_KEY = "generate-progress"


@task(**stage_policy("generate"))
def generate_rows(job: GenerateJob, run_id: str) -> StageResult:
    """Find the artifact of the generate stage, or make it."""
    with progress_artifact(PROGRESS_KEY) as on_progress:
        return run_stage(job, Home.from_environment(), run_id, on_progress)
