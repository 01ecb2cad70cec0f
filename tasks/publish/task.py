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
    """

    stage: StageResult
    published: Published
    promoted: bool


@task(**POLICY)
def publish_candidate(job: PublishJob, run_id: str) -> PublishResult:
    """Merge, write the card, register the version and, last of all, move the alias ``champion``."""
    home = Home.from_environment()
    result = run_stage(job, home, run_id)
    published, promoted = publish(job, result.ref, Registry(home, job.config.name))
    return PublishResult(result, published, promoted)
