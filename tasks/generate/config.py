"""The ``generate`` section of a recipe."""

from __future__ import annotations

from pydantic import Field

from tasks.core.config import ModelSource, Section, ServerSettings


class GenerateConfig(Section):
    """Which prompts write rows, which one checks them, and the teacher that answers."""

    prompts: tuple[str, ...] = Field(min_length=1, description="names in prompts/, or paths beside the recipe")
    check: str | None = Field(None, description="a prompt that must accept a row (its output.accept) for it to stay")
    teacher: ModelSource | None = Field(None, description="None: the recipe's model")
    concurrency: int = Field(64, ge=1, le=4096, description="requests in flight")
    server: ServerSettings = ServerSettings()
    timeout_minutes: float = Field(60, gt=0)
