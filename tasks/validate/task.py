"""The Prefect task of the validate stage."""

from __future__ import annotations

from prefect import task

from tasks.core.home import Home
from tasks.core.stage import StageResult, run_stage
from tasks.core.task import stage_policy
from tasks.validate.validate import ValidateJob


@task(**stage_policy("validate"))
def validate_rows(job: ValidateJob, run_id: str) -> StageResult:
    """Find the artifact of the validate stage, or make it."""
    return run_stage(job, Home.from_environment(), run_id)
