"""Earlier champions, newest first, and what they were trained on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.publish.registry import Published, Registry

TRAINING_PROFILE = "training_profile.json"


def champions_before(registry: Registry, validated: str) -> Iterator[Published]:
    """The champions that a training set is compared with: the current one, the one before it, and so on.

    Leading champions that were trained on this very training set (``validated``: the digest of its artifact) are
    skipped: a night without news then compares with the same champion as the night before, and one after a rollback
    with the restored champion.
    """
    champion = registry.champion()
    is_itself = True
    while champion is not None:
        is_itself = is_itself and learned_from(champion) == validated
        if not is_itself:
            yield champion
        champion = registry.version(champion.previous) if champion.previous else None


def learned_from(published: Published) -> str | None:
    """Digest of the validate artifact that a version was trained on; None if its folder is gone."""
    artifacts = lineage_of(published).get("artifacts", [])
    return next((ref["digest"] for ref in artifacts if ref["stage"] == "validate"), None)


def lineage_of(published: Published) -> dict[str, Any]:
    """The lineage of a version, see ``PublishJob.lineage``; empty if its folder is gone."""
    try:
        lineage: dict[str, Any] = json.loads((Path(published.path) / "lineage.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return lineage
