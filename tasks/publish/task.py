"""The Prefect task of the publish stage."""

from __future__ import annotations

from dataclasses import dataclass

from prefect import task

from tasks.core.home import Home
from tasks.core.stage import StageResult, run_stage
from tasks.core.task import task_policy
from tasks.publish.publish import PublishJob, publish
from tasks.publish.registry import Published, Registry


@dataclass(frozen=True)
class PublishResult:
    """``promoted``: this night changed the champion. ``known``: the version that made the adapter champion before."""

    stage: StageResult
    published: Published
    promoted: bool
    known: Published | None


@task(**task_policy("publish"))
def publish_candidate(job: PublishJob, run_id: str) -> PublishResult:
    """Merge, write the card, register the version and, last, move the alias ``champion``."""
    home = Home.from_environment()
    result = run_stage(job, home, run_id)
    registry = Registry(home, job.config.name)
    known = registry.promoted(job.trained.digest)
    published, promoted = publish(job, result.ref, registry)
    return PublishResult(result, published, promoted, known)
