"""What a training set looks like, small enough to keep beside every publication and to compare with the next.

Measured so that two sets can be compared whatever their sizes. What takes time for each text is measured on a sample.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.validate.contracts.expectations.languages import detect_languages
from tasks.validate.contracts.expectations.phrases import refusals
from tasks.validate.drift.diversity import diversity
from tasks.validate.drift.size_free_diversity import distinct_shares, mean_similarity

PROFILE = "profile.json"
SAMPLE = 5_000
"""Rows that languages, refusals, similarity and diversity are measured on."""
SAMPLE_CHARACTERS = 2_000
"""Of each text of the sample."""
BINS_AN_OCTAVE = 2
COLLECTED = "collected"
MOST_NAMES = 1_000
LONGEST_NAME = 80
"""Characters of an answer that may still be a label."""
QUANTILES = {"p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95}


class Counts(BaseModel):
    """How many rows have each value of something.

    Attributes:
        rows: that were counted.
        names: the most frequent values; the others' rows are what is missing to ``rows``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    names: dict[str, int]


class Lengths(BaseModel):
    """How long texts are.

    Attributes:
        characters, words: quantiles; a word is what white space sets apart. Empty where there are no rows.
        bins: rows by length in half octaves: bin b holds 2^(b/2) to 2^((b+1)/2) characters, bin -1 empty texts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    characters: dict[str, int]
    words: dict[str, int]
    bins: Counts


class Profile(BaseModel):
    """What a training set looks like.

    Attributes:
        format: of this record; one of another format is not compared.
        rows: conversations.
        user, assistant: the lengths of what each said.
        answers: those of at most 80 characters that more than one row has: the labels, where the task has some.
        origins, sources, prompts: where rows come from; a collected row's prompt is ``(collected)``.
        sample: rows that the rest was measured on.
        languages: of user and assistant text together.
        refusals: answers that refuse, of the sample.
        self_similarity: see :func:`tasks.validate.drift.size_free_diversity.mean_similarity`.
        distinct: see :func:`tasks.validate.drift.size_free_diversity.distinct_shares`.
        diversity: of what users say, see :func:`tasks.validate.drift.diversity.diversity`; varies with the row count.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    rows: int
    user: Lengths
    assistant: Lengths
    answers: Counts
    origins: Counts
    sources: Counts
    prompts: Counts
    sample: int
    languages: Counts
    refusals: int
    self_similarity: float | None
    distinct: dict[int, float]
    diversity: dict[str, Any]


def profile(rows: pa.Table, seed: int) -> Profile:
    """Measure a training set.

    Args:
        rows: ``user_text``, ``assistant_text``, ``origin``, ``source`` and ``prompt``; strings, a missing one is empty.
        seed: of the sample.
    """
    user, assistant = _texts(rows["user_text"]), _texts(rows["assistant_text"])
    chosen = _sample(rows.num_rows, seed)
    asked, answered = _cut(user.take(chosen)), _cut(assistant.take(chosen))
    said = [f"{question}\n{answer}" for question, answer in zip(asked, answered, strict=True)]
    return Profile(
        rows=rows.num_rows,
        user=_lengths(user),
        assistant=_lengths(assistant),
        answers=_repeated(
            _counts(assistant.filter(pc.less_equal(pc.utf8_length(assistant), LONGEST_NAME)), rows.num_rows)
        ),
        origins=_counts(_texts(rows["origin"]), rows.num_rows),
        sources=_counts(_texts(rows["source"]), rows.num_rows),
        prompts=_counts(_prompts(rows), rows.num_rows),
        sample=len(said),
        languages=_counts(pa.chunked_array([pa.array(detect_languages(said), pa.string())]), len(said)),
        refusals=int(np.sum(refusals(answered))),
        self_similarity=mean_similarity(said),
        distinct=distinct_shares(said),
        diversity=diversity(user, seed),
    )


def read_profile(path: Path) -> Profile | None:
    """A profile that was written; None where there is none, or none that this version understands."""
    try:
        return Profile.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError):
        return None


def _texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.fill_null(column.cast(pa.large_string()), "")


def _prompts(rows: pa.Table) -> pa.ChunkedArray:
    return pc.if_else(pc.equal(_texts(rows["origin"]), COLLECTED), f"({COLLECTED})", _texts(rows["prompt"]))


def _sample(rows: int, seed: int) -> pa.Array:
    """Positions, ascending."""
    chosen = np.random.default_rng(seed).choice(rows, min(rows, SAMPLE), replace=False)
    return pa.array(np.sort(chosen), pa.int64())


def _cut(texts: pa.ChunkedArray) -> list[str]:
    found: list[str] = pc.utf8_slice_codeunits(texts, 0, SAMPLE_CHARACTERS).to_pylist()
    return found


def _lengths(texts: pa.ChunkedArray) -> Lengths:
    characters = pc.utf8_length(texts).to_numpy()
    words = pc.count_substring_regex(texts, r"\S+").to_numpy()
    bins, rows = (found.tolist() for found in np.unique(_bins(characters), return_counts=True))
    return Lengths(
        characters=_quantiles(characters),
        words=_quantiles(words),
        bins=Counts(rows=len(texts), names=dict(zip(map(str, bins), rows, strict=True))),
    )


def _bins(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.where(lengths > 0, np.floor(BINS_AN_OCTAVE * np.log2(np.maximum(lengths, 1))), -1).astype(np.int64)


def _quantiles(lengths: NDArray[np.int64]) -> dict[str, int]:
    if not len(lengths):
        return {}
    found = np.quantile(lengths, list(QUANTILES.values()), method="lower")
    return {name: int(value) for name, value in zip(QUANTILES, found, strict=True)}


def _counts(values: pa.ChunkedArray, rows: int) -> Counts:
    """The most frequent values, of equally frequent ones the first in the alphabet."""
    counted = pa.table({"value": values}).group_by("value").aggregate([("value", "count")])
    ordered = counted.sort_by([("value_count", "descending"), ("value", "ascending")]).slice(0, MOST_NAMES)
    return Counts(
        rows=rows, names=dict(zip(ordered["value"].to_pylist(), ordered["value_count"].to_pylist(), strict=True))
    )


def _repeated(counts: Counts) -> Counts:
    """Without what a single row has: that is a text, not a label."""
    return Counts(rows=counts.rows, names={name: rows for name, rows in counts.names.items() if rows > 1})
