"""The ``validate`` section of a recipe."""

from __future__ import annotations

from pydantic import Field

from tasks.core.config import ModelSource, Section


class Contracts(Section):
    """The contract at each boundary: an ODCS v3 file in data_contracts/ by name, or by path."""

    documents: str = Field("raw_documents", description="what collect hands on, before anything is generated from it")
    rows: str = Field("chat_examples", description="generated rows, before they may train")
    training_set: str = Field("training_set", description="everything that wants to train, and what is left of it")
    evaluations: str = Field("evaluation_set", description="the held-out documents that the models are asked")


class NearDuplicates(Section):
    """When two user texts count as one: Jaccard similarity of their character shingles."""

    threshold: float = Field(0.8, gt=0, le=1, description="Jaccard similarity from which the later row is dropped")
    shingle: int = Field(5, ge=1, le=50, description="characters in a shingle")
    permutations: int = Field(128, ge=16, le=1024, description="MinHash permutations; more find candidates more surely")


class SameMeaning(Section):
    """When two user texts count as one by meaning: cosine similarity of their embeddings."""

    model: ModelSource = Field(description="whose mean-pooled last hidden states are the embeddings")
    threshold: float = Field(0.95, gt=0, le=1, description="cosine similarity from which the later row is dropped")


class EvaluationSet(Section):
    """A file of evaluation texts beside the holdout, which no training row may repeat."""

    path: str = Field(description="JSONL, CSV or Parquet, relative to the recipe's file")
    column: str = Field("text", description="column that holds the text")


class Contamination(Section):
    """When a training row counts as a copy of an evaluation text."""

    ngram: int = Field(5, ge=2, le=50, description="words in a run that both must have")
    threshold: float = Field(
        0.5, gt=0, le=1, description="share of an evaluation text that runs of the single nearest row may cover"
    )
    similarity: float = Field(
        0.7, gt=0, le=1, description="Jaccard similarity of character shingles from which a row as a whole is a copy"
    )
    shingle: int = Field(5, ge=1, le=50, description="characters in a shingle")
    evaluation_sets: dict[str, EvaluationSet] = Field({}, description="further sets by name, beside the holdout")


class ValidateConfig(Section):
    """The contracts that rows must keep, what counts as a duplicate or a leak, and how much must be left."""

    contracts: Contracts = Contracts()
    include_collected: bool = Field(True, description="collected training documents join the training set")
    near_duplicates: NearDuplicates = NearDuplicates()
    same_meaning: SameMeaning | None = Field(None, description="also drop what says the same in other words")
    contamination: Contamination = Contamination()
    control: bool = Field(
        False, description="also keep a random subset of the unfiltered rows, as large as the training set"
    )
    drift_window: int = Field(
        30, ge=1, description="publications back to the training set that slow drift is measured against"
    )
    timeout_minutes: float = Field(240, gt=0, description="of each of its three stages")
    minimum_rows: int = Field(1, ge=0, description="fewer accepted rows stop the run")
    minimum_rows_per_label: int = Field(0, ge=0, description="the same for every answer of the assistant")
