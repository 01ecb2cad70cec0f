"""The Prefect tasks of the validate package: one at each boundary that data cross."""

from __future__ import annotations

from prefect import State, task

from tasks.core.stage import StageResult
from tasks.core.task import finish_stage, task_policy
from tasks.validate.check_documents import CheckDocumentsJob
from tasks.validate.check_training_set import CheckTrainingSetJob
from tasks.validate.validate import ValidateJob


@task(**task_policy("check_documents"))
def check_documents(job: CheckDocumentsJob, run_id: str) -> State[StageResult]:
    """Find the artifact of the documents that keep their contracts, or make it."""
    return finish_stage(job, run_id)


@task(**task_policy("validate"))
def validate_rows(job: ValidateJob, run_id: str) -> State[StageResult]:
    """Find the artifact of the validate stage, or make it."""
    return finish_stage(job, run_id)


@task(**task_policy("check_training_set"))
def check_training_set(job: CheckTrainingSetJob, run_id: str) -> State[StageResult]:
    """Find the artifact of the training set's contract and its drift, or make it."""
    return finish_stage(job, run_id)
