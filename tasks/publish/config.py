"""The ``publish`` section of a recipe."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.core.config import Name, Section


class PublishConfig(Section):
    """How a candidate that passed the gate becomes the champion."""

    name: Name = Field(description="name of the registered model in MLflow")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("bfloat16", description="dtype of the merged weights")
    licence: str = Field("other", description="licence in the model card; base and data must allow it")
    timeout_minutes: float = Field(60, gt=0)
