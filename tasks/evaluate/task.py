"""The Prefect task of the evaluate stage."""

from __future__ import annotations

from prefect import State, task

from tasks.core.stage import StageResult
from tasks.core.task import finish_stage, task_policy
from tasks.evaluate.evaluate import EvaluateJob


@task(**task_policy("evaluate"))
def evaluate_candidate(job: EvaluateJob, run_id: str) -> State[StageResult]:
    """Find or make the artifact of the evaluate stage."""
    return finish_stage(job, run_id)
