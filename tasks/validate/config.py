"""The ``validate`` section of a recipe."""

from __future__ import annotations

from pydantic import Field

from tasks.core.config import ModelSource, Section


class Contracts(Section):
    """The contract at each boundary: the name of an ODCS v3 file in data_contracts/, or a path."""

    documents: str = Field("raw_documents", description="collected documents, before anything is generated from them")
    rows: str = Field("chat_examples", description="generated rows, before they may train")
    training_set: str = Field("training_set", description="all candidate rows, and the training set that is left")
    evaluations: str = Field("evaluation_set", description="the held-out documents that models are evaluated on")


class NearDuplicates(Section):
    """When two user texts are near duplicates: Jaccard similarity of their character shingles."""

    threshold: float = Field(0.8, gt=0, le=1, description="Jaccard similarity from which the later row is dropped")
    shingle: int = Field(5, ge=1, le=50, description="characters in a shingle")
    permutations: int = Field(128, ge=16, le=1024, description="MinHash permutations; more miss fewer candidates")


class SameMeaning(Section):
    """When two user texts mean the same: cosine similarity of their embeddings."""

    model: ModelSource = Field(description="its mean-pooled last hidden states are the embeddings")
    threshold: float = Field(0.95, gt=0, le=1, description="cosine similarity from which the later row is dropped")


class EvaluationSet(Section):
    """A file of evaluation texts, in addition to the holdout, that no training row may repeat."""

    path: str = Field(description="JSONL, CSV or Parquet, relative to the recipe's file")
    column: str = Field("text", description="column that holds the text")


class Contamination(Section):
    """When a training row is a copy of an evaluation text."""

    ngram: int = Field(5, ge=2, le=50, description="words in a run that both texts have")
    threshold: float = Field(
        0.5, gt=0, le=1, description="share of an evaluation text from which a row that covers it with runs is a copy"
    )
    similarity: float = Field(
        0.7, gt=0, le=1, description="Jaccard similarity of character shingles from which a whole row is a copy"
    )
    shingle: int = Field(5, ge=1, le=50, description="characters in a shingle")
    evaluation_sets: dict[str, EvaluationSet] = Field({}, description="more sets by name, in addition to the holdout")


class ValidateConfig(Section):
    """Contracts, duplicates, leaks of evaluation texts, and how many rows must be left."""

    contracts: Contracts = Contracts()
    include_collected: bool = Field(True, description="collected training documents join the training set")
    near_duplicates: NearDuplicates = NearDuplicates()
    same_meaning: SameMeaning | None = Field(None, description="also drop paraphrases")
    contamination: Contamination = Contamination()
    control: bool = Field(
        False, description="also keep a random subset of the unfiltered rows, as large as the training set"
    )
    drift_window: int = Field(30, ge=1, description="how many publications back the baseline for slow drift is")
    timeout_minutes: float = Field(240, gt=0, description="of each of its three stages")
    minimum_rows: int = Field(1, ge=0, description="fewer accepted rows stop the run")
    minimum_rows_per_label: int = Field(0, ge=0, description="the same for every label")
