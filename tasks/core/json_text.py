"""Parse JSON text that others wrote, without what Python's parser lets pass."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any, NoReturn


def strict_json(text: str) -> Any:
    """Parse JSON text with finite numbers and unique keys.

    Raises ValueError: it is not valid JSON, has NaN, Infinity or a number beyond a float (1e999), or a key is twice in
    one object; RecursionError: it is nested too deeply.
    """
    return _DECODER.decode(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {twice[:100]!r} appears twice in one object")
    return values


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text[:100])


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_finite)
