"""The whole recipe: the stages' configurations in one model. It is data only; functions elsewhere take one."""

from __future__ import annotations

from typing import Any

from pydantic import Field, PrivateAttr, field_validator

from tasks.collect.config import CollectConfig
from tasks.core.config import ChatTask, ModelSource, Name, Section
from tasks.evaluate.config import EvaluateConfig
from tasks.generate.config import GenerateConfig
from tasks.publish.config import PublishConfig
from tasks.train.config import TrainConfig
from tasks.validate.config import ValidateConfig


class Recipe(Section):
    """Everything one nightly run needs, a section per stage; paths are absolute once it is read."""

    name: Name
    description: str = ""
    seed: int = 3407
    model: ModelSource
    task: ChatTask = ChatTask()
    collect: CollectConfig
    generate: GenerateConfig | None = None
    validate_: ValidateConfig = Field(alias="validate")
    train: TrainConfig
    evaluate: EvaluateConfig
    publish: PublishConfig
    _reference: str = PrivateAttr("")

    @property
    def reference(self) -> str:
        """How a command names it: by its file's name in ``deployments/recipes``, or by a path."""
        return self._reference or self.name

    def referred_to_as(self, reference: str) -> Recipe:
        """The same recipe, with its reference."""
        named = self.model_copy()
        named._reference = reference
        return named

    @field_validator("description", mode="before")
    @classmethod
    def _one_line(cls, value: Any) -> Any:
        return " ".join(value.split()) if isinstance(value, str) else value
