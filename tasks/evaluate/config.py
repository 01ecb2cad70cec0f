"""The ``evaluate`` section of a recipe."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.core.config import Section, ServerSettings


class Gate(Section):
    """What a candidate must show to be published; margins are differences of the metric, as fractions."""

    margin_over_base: float = Field(
        0.0, ge=-1, le=1, description="the interval of candidate less base must lie above this"
    )
    margin_over_champion: float = Field(
        0.0, ge=-1, le=1, description="the same against the champion, where there is one"
    )
    minimum_rows: int = Field(30, ge=1, description="fewer answered rows than this decide nothing: reject")


class EvaluateConfig(Section):
    """How base, candidate and champion are compared on the holdout."""

    metric: Literal["accuracy", "token_f1"] = Field(
        "accuracy", description="accuracy: the whole answer is right, for labels; token_f1: shared words, for free text"
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="of every interval")
    max_rows: int | None = Field(None, ge=1, description="of the holdout, drawn by a hash of document_id; None: all")
    max_tokens: int = Field(16, ge=1, description="of an answer")
    concurrency: int = Field(64, ge=1, description="requests in flight")
    probes: tuple[str, ...] = Field(
        ("Is 9.11 larger than 9.9?", "Why can a black hole emit X-rays?"),
        description="asked of every model and shown side by side; they decide nothing",
    )
    probe_max_tokens: int = Field(64, ge=1)
    likelihood: bool = Field(
        True, description="also read the base restricted to task.labels, by likelihood: its fairest reading"
    )
    server: ServerSettings = ServerSettings()
    timeout_minutes: float = Field(30, gt=0)
    gate: Gate = Gate()
