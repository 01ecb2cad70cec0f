"""The Prefect task of the publish stage."""

from __future__ import annotations

from dataclasses import dataclass

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.core.home import Home
from tasks.core.stage import StageResult, run_stage
from tasks.core.task import stage_policy
from tasks.publish.publish import PublishJob, publish
from tasks.publish.registry import Published, Registry

# The registry is a world of its own, so this task looks at it every night: what is published already stays as it is.
POLICY = {**stage_policy("publish"), "cache_key_fn": None, "cache_policy": NO_CACHE, "persist_result": False}


@dataclass(frozen=True)
class PublishResult:
    """What publishing hands to the flow.

    Attributes:
        stage: artifact, whether it was there already, seconds.
        published: its version in the registry.
        promoted: whether this night changed who is champion.
        known: the version that made this very adapter champion before this night, or None.
    """

    stage: StageResult
    published: Published
    promoted: bool
    known: Published | None


@task(**POLICY)
def publish_candidate(job: PublishJob, run_id: str) -> PublishResult:
    """Merge, write the card, register the version and, last of all, move the alias ``champion``."""
    home = Home.from_environment()
    result = run_stage(job, home, run_id)
    registry = Registry(home, job.config.name)
    known = registry.promoted(job.trained.digest)
    published, promoted = publish(job, result.ref, registry)
    return PublishResult(result, published, promoted, known)
