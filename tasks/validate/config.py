"""The ``validate`` section of a recipe."""

from __future__ import annotations

from pydantic import Field

from tasks.core.config import Section


class NearDuplicates(Section):
    """When two user texts count as one: Jaccard similarity of their character shingles."""

    threshold: float = Field(0.8, gt=0, le=1, description="Jaccard similarity from which the later row is dropped")
    shingle: int = Field(5, ge=1, le=50, description="characters in a shingle")
    permutations: int = Field(128, ge=16, le=1024, description="MinHash permutations; more find candidates more surely")


class Contamination(Section):
    """When a user text counts as seen in the holdout."""

    threshold: float = Field(0.8, gt=0, le=1, description="Jaccard similarity to any holdout text that is too near")
    shingle: int = Field(5, ge=1, le=50, description="characters in a shingle")


class ValidateConfig(Section):
    """The contract that rows must keep, what counts as a duplicate or a leak, and how much must be left."""

    contract: str = Field(description="an Open Data Contract Standard (ODCS v3) YAML")
    include_collected: bool = Field(True, description="collected training documents join the training set")
    near_duplicates: NearDuplicates = NearDuplicates()
    contamination: Contamination = Contamination()
    minimum_rows: int = Field(1, ge=0, description="fewer accepted rows stop the run")
    minimum_rows_per_label: int = Field(0, ge=0, description="the same for every answer of the assistant")
