"""A statistical profile of a training set, kept with every publication and compared with the next training set.

The compared measures do not depend on the number of rows. Measures that are slow per text use a sample.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.core.tables import COLLECTED_ROWS
from tasks.validate.contracts.expectations.languages import detect_languages
from tasks.validate.contracts.expectations.phrases import refusals
from tasks.validate.drift.diversity import diversity
from tasks.validate.drift.size_free_diversity import distinct_shares, mean_similarity
from tasks.validate.rows import COLLECTED

PROFILE = "profile.json"
SAMPLE = 5_000
"""Rows that languages, refusals, similarity and distinct shares are measured on."""
SAMPLE_CHARACTERS = 2_000
"""Characters that are read from each text of the sample."""
BINS_PER_OCTAVE = 2
MOST_NAMES = 1_000
LONGEST_NAME = 80
"""Characters of an answer that may still be a label."""
QUANTILES = {"p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95}


class Record(BaseModel):
    """Data that is written and read unchanged."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Counts(Record):
    """How many of ``rows`` rows have each value; ``names`` holds the most frequent values only."""

    rows: int
    names: dict[str, int]


class Lengths(Record):
    """Text lengths: quantiles of characters and of words, empty without rows.

    ``bins``: rows by length in half octaves; bin b holds 2^(b/2) to 2^((b+1)/2) characters, bin -1 empty texts.
    """

    characters: dict[str, int]
    words: dict[str, int]
    bins: Counts


class Profile(Record):
    """What a training set looks like; profiles of different ``format`` are not compared.

    Attributes:
        answers: answers of at most 80 characters that more than one row has, such as labels.
        origins, sources, prompts: where rows come from; a collected row's prompt is ``(collected)``.
        sample: rows that the measures below read.
        refusals: answers in the sample that refuse.
        self_similarity: see :func:`tasks.validate.drift.size_free_diversity.mean_similarity`.
        distinct: see :func:`tasks.validate.drift.size_free_diversity.distinct_shares`.
        diversity: of user texts, see :func:`tasks.validate.drift.diversity.diversity`; varies with the row count.
    """

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

    ``rows`` has the text columns ``user_text``, ``assistant_text``, ``origin``, ``source`` and ``prompt``; null is
    empty.
    """
    user, assistant = _texts(rows["user_text"]), _texts(rows["assistant_text"])
    chosen = _sample(rows.num_rows, seed)
    questions, answers = _cut(user.take(chosen)), _cut(assistant.take(chosen))
    sample = [f"{question}\n{answer}" for question, answer in zip(questions, answers, strict=True)]
    short = assistant.filter(pc.less_equal(pc.utf8_length(assistant), LONGEST_NAME))
    said = _counts(short, rows.num_rows).names
    return Profile(
        rows=rows.num_rows,
        user=_lengths(user),
        assistant=_lengths(assistant),
        answers=Counts(rows=rows.num_rows, names={text: count for text, count in said.items() if count > 1}),
        origins=_counts(_texts(rows["origin"]), rows.num_rows),
        sources=_counts(_texts(rows["source"]), rows.num_rows),
        prompts=_counts(_prompts(rows), rows.num_rows),
        sample=len(sample),
        languages=_counts(pa.chunked_array([pa.array(detect_languages(sample), pa.string())]), len(sample)),
        refusals=int(np.sum(refusals(answers))),
        self_similarity=mean_similarity(sample),
        distinct=distinct_shares(sample),
        diversity=diversity(user, seed),
    )


def read_profile(path: Path) -> Profile | None:
    """Read a profile; None if the file is missing, damaged or of another format."""
    try:
        return Profile.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError):
        return None


def _texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.fill_null(column.cast(pa.large_string()), "")


def _prompts(rows: pa.Table) -> pa.ChunkedArray:
    return pc.if_else(pc.equal(_texts(rows["origin"]), COLLECTED), COLLECTED_ROWS, _texts(rows["prompt"]))


def _sample(rows: int, seed: int) -> pa.Array:
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
    return np.where(lengths > 0, np.floor(BINS_PER_OCTAVE * np.log2(np.maximum(lengths, 1))), -1).astype(np.int64)


def _quantiles(lengths: NDArray[np.int64]) -> dict[str, int]:
    if not len(lengths):
        return {}
    found = np.quantile(lengths, list(QUANTILES.values()), method="lower")
    return {name: int(value) for name, value in zip(QUANTILES, found, strict=True)}


def _counts(values: pa.ChunkedArray, rows: int) -> Counts:
    counted = pa.table({"value": values}).group_by("value").aggregate([("value", "count")])
    ordered = counted.sort_by([("value_count", "descending"), ("value", "ascending")]).slice(0, MOST_NAMES)
    names, numbers = (ordered[name].to_pylist() for name in ("value", "value_count"))
    return Counts(rows=rows, names=dict(zip(names, numbers, strict=True)))
