"""The ``generate`` section of a recipe."""

from __future__ import annotations

import urllib.parse
from typing import Annotated

from pydantic import Field, StringConstraints, field_validator, model_validator

from tasks.core.config import ModelSource, Section, ServerSettings


class Endpoint(Section):
    """A remote server with OpenAI's chat API."""

    url: str = Field(description="base URL up to and including /v1")
    model: str = Field(description="the model's name on that server")
    api_key_env: str | None = Field(None, description="environment variable that holds the key; None: no key")

    @field_validator("url")
    @classmethod
    def _no_secrets(cls, url: str) -> str:
        """The URL appears in messages and reports."""
        parts = urllib.parse.urlsplit(url)
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError(
                "the URL must not contain user, password, query or fragment: name the key's variable in api_key_env"
            )
        return url


class Limits(Section):
    """Limits of generation; when one is reached, the night continues with the rows so far if they are enough."""

    rows: int | None = Field(None, ge=1, description="rows written and accepted by the judges")
    tokens: int | None = Field(None, ge=1, description="tokens in and out, of this run's requests")
    minutes: float | None = Field(None, gt=0)
    deadline: Annotated[str, StringConstraints(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] | None = Field(
        None, description="local time of day, HH:MM, the next one after the stage starts"
    )
    minimum_rows: int = Field(1, ge=0, description="fewer rows stop the run when a limit was reached")


class GenerateConfig(Section):
    """The prompts that write rows, the judges, and the teacher."""

    prompts: tuple[str, ...] = Field(min_length=1, description="names in prompts/, or paths relative to the recipe")
    judges: tuple[str, ...] = Field((), description="prompts with a judge section that must all pass a row")
    teacher: ModelSource | None = Field(None, description="None: the recipe's model")
    adapter: str | None = Field(None, description="folder of the teacher's LoRA adapter in PEFT's layout")
    endpoints: tuple[Endpoint, ...] = Field((), description="remote servers to use instead of starting vLLM")
    concurrency: int = Field(
        64, ge=1, le=4096, description="maximum of requests in flight; adapts to the server below it"
    )
    attempts: int = Field(2, ge=1, le=10, description="tries of a row whose answer was rejected, the first included")
    failure_limit: float = Field(0.5, gt=0, le=1, description="share of failed rows above which generation stops early")
    limits: Limits = Limits()
    server: ServerSettings = ServerSettings()
    timeout_minutes: float = Field(60, gt=0)

    @model_validator(mode="after")
    def _is_consistent(self) -> GenerateConfig:
        if self.endpoints and self.teacher is not None:
            raise ValueError("name either a teacher to start or endpoints, not both")
        if self.endpoints and self.adapter is not None:
            raise ValueError("an adapter needs a teacher that Retune serves; endpoints have their own")
        if self.limits.minutes is not None and self.limits.minutes >= self.timeout_minutes:
            raise ValueError(
                f"limits.minutes {self.limits.minutes:g} must be below timeout_minutes {self.timeout_minutes:g},"
                " which ends the stage without its rows"
            )
        return self
