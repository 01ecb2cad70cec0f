"""The texts of a column as Arrow holds them, batch by batch: quick to search, and little memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tasks.validate.contracts.expectations.own import Mask

ROWS = 50_000
CHARACTERS = 20_000_000
"""A batch has at most this many rows, and no more than one text too many of characters."""
WIDE_LETTERS = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
"""Letters of scripts without spaces between words, and Korean syllables: each says as much as several letters do."""


def is_missing(values: pd.Series[Any]) -> Mask:
    """Where there is no value: None or NaN."""
    return values.isna().to_numpy(dtype=bool)


def is_text(values: pd.Series[Any]) -> Mask:
    """Where the value is a text."""
    return np.fromiter((isinstance(value, str) for value in values), bool, len(values))


def search(values: pd.Series[Any], find: Callable[[pa.Array], pa.Array]) -> Mask:
    """Where an Arrow function of the texts is true; a value that is no text counts as empty."""
    found = [find(texts).to_numpy(zero_copy_only=False) for texts in text_batches(values)]
    return np.concatenate([np.zeros(0, bool), *found]).astype(bool)


def text_batches(values: pd.Series[Any]) -> Iterator[pa.Array]:
    """The values in order, as Arrow texts without nulls: what is no text is empty."""
    sizes = np.fromiter((len(value) if isinstance(value, str) else 0 for value in values), np.int64, len(values))
    ends, start = np.cumsum(sizes), 0
    while start < len(values):
        full = int(np.searchsorted(ends, ends[start] + CHARACTERS, side="right"))
        stop = min(max(full, start + 1), start + ROWS)
        yield _as_arrow(values.iloc[start:stop])
        start = stop


def _as_arrow(values: pd.Series[Any]) -> pa.Array:
    try:
        return pc.fill_null(pa.array(values, type=pa.large_string(), from_pandas=True), "")
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError):  # mixed types, or half of a surrogate pair
        return pa.array([_well_formed(value) for value in values], type=pa.large_string())


def _well_formed(value: Any) -> str:
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else ""
