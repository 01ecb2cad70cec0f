"""Write columns of text as JSON, as :func:`tasks.core.files.canonical_json` does for one value."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

TEXT = pa.large_string()
NEEDS_ESCAPES = r'[\x00-\x1f"\\]'
"""Characters that JSON escapes."""


def json_strings(texts: pa.Array) -> pa.Array:
    """Each text as a JSON string; null as ``null``."""
    quoted = joined('"', texts, '"')
    numbers = np.flatnonzero(pc.match_substring_regex(texts, NEEDS_ESCAPES).fill_null(False).to_numpy(False))
    escaped = [json.dumps(text, ensure_ascii=False) for text in texts.take(pa.array(numbers)).to_pylist()]
    return replaced(quoted, numbers, escaped).fill_null("null")


def json_objects(columns: Mapping[str, pa.Array], rows: int) -> pa.Array:
    """Each row of columns of text as a JSON object; ``rows`` counts for a table without columns."""
    names = sorted(columns)
    if not names:
        return pa.repeat(pa.scalar("{}", TEXT), rows)
    keys = [f"{json.dumps(name, ensure_ascii=False)}:" for name in names]
    pairs = [part for key, name in zip(keys, names, strict=True) for part in (",", key, json_strings(columns[name]))]
    return joined("{", *pairs[1:], "}")


def joined(*parts: str | pa.Array) -> pa.Array:
    """The parts of each row as one text; null if a part is null."""
    arrays = [pa.scalar(part, TEXT) if isinstance(part, str) else part for part in (*parts, "")]
    return pc.binary_join_element_wise(*arrays)


def replaced(texts: pa.Array, numbers: NDArray[np.int64], others: Sequence[str]) -> pa.Array:
    """The texts with others at these positions, which are ascending."""
    if not len(numbers):
        return texts
    mask = np.zeros(len(texts), bool)
    mask[numbers] = True
    return pc.replace_with_mask(texts, pa.array(mask), pa.array(others, texts.type))
