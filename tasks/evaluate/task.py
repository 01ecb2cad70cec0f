"""The Prefect task of the evaluate stage."""

from __future__ import annotations

from prefect import task

from tasks.core.home import Home
from tasks.core.stage import StageResult, run_stage
from tasks.core.task import stage_policy
from tasks.evaluate.evaluate import EvaluateJob


@task(**stage_policy("evaluate"))
def evaluate_candidate(job: EvaluateJob, run_id: str) -> StageResult:
    """Find the artifact of the evaluate stage, or make it."""
    return run_stage(job, Home.from_environment(), run_id)
