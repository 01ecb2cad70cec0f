"""The Prefect task of the generate stage."""

from __future__ import annotations

from prefect import task

from tasks.core.home import Home
from tasks.core.stage import StageResult, run_stage
from tasks.core.task import stage_policy
from tasks.generate.generate import GenerateJob


@task(**stage_policy("generate"))
def generate_rows(job: GenerateJob, run_id: str) -> StageResult:
    """Find the artifact of the generate stage, or make it."""
    return run_stage(job, Home.from_environment(), run_id)
