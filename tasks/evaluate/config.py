"""The ``evaluate`` section of a recipe."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.core.config import Section, ServerSettings


class Gate(Section):
    """What a candidate must show to be published; margins are differences of the metric, as fractions."""

    margin_over_base: float = Field(
        0.0, ge=-1, le=1, description="the interval of candidate minus base must be above this"
    )
    margin_over_champion: float = Field(0.0, ge=-1, le=1, description="the same against the champion, if there is one")
    minimum_rows: int = Field(30, ge=1, description="with fewer answered rows the candidate is rejected")


class EvaluateConfig(Section):
    """How base, candidate and champion are compared on the holdout."""

    metric: Literal["accuracy", "token_f1"] = Field(
        "accuracy", description="accuracy: the whole answer is right, for labels; token_f1: shared words, for free text"
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="confidence level of every interval")
    max_rows: int | None = Field(
        None, ge=1, description="rows of the holdout, drawn by a hash of document_id; None: all"
    )
    max_tokens: int = Field(16, ge=1, description="of an answer")
    concurrency: int = Field(64, ge=1, description="requests in flight")
    probes: tuple[str, ...] = Field(
        ("Is 9.11 larger than 9.9?", "Why can a black hole emit X-rays?"),
        description="asked of every model and shown side by side; not part of the decision",
    )
    probe_max_tokens: int = Field(64, ge=1)
    few_shot: int = Field(
        0, ge=0, le=32, description="also evaluate the base with so many training documents as examples in its prompt"
    )
    likelihood: bool = Field(True, description="also evaluate the base restricted to task.labels, by likelihood")
    server: ServerSettings = ServerSettings()
    timeout_minutes: float = Field(30, gt=0)
    gate: Gate = Gate()
