"""The types of Retune's own expectations: plain functions on a column's values, with typed arguments.

They search the texts of a column with Arrow, batch by batch, to bound memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import pandas as pd

Mask = NDArray[np.bool_]
Share = Annotated[float, Field(ge=0, le=1)]
ROWS = 50_000
CHARACTERS = 20_000_000
"""Most rows of a batch, and most characters, except that a batch always has at least one text."""
WIDE_LETTERS = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
"""Letters of scripts without spaces between words, and Korean syllables: each carries as much as several letters."""


class Arguments(BaseModel):
    """The arguments of one check, without those that every expectation takes (``column``, ``mostly``, ...)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    from_recipe: ClassVar[Mapping[str, str]] = {}
    """Arguments that the recipe gives where the contract omits them: argument -> field of ``ContractContext``."""


@dataclass(frozen=True)
class RowCheck:
    """A check that names the rows that break it.

    ``failing`` maps (values, arguments) to one bool per value, True where it breaks the rule; never for a missing value
    (None, NaN), as another rule requires values. The series may have any index. ``sentence`` maps arguments to what
    must hold, to follow the column's name: "values must not be refusals".
    """

    name: str
    arguments: type[Arguments]
    failing: Callable[[pd.Series[Any], Any], Mask]
    sentence: Callable[[Any], str]


@dataclass(frozen=True)
class Observation:
    """What a check on a whole column found: whether it holds, a text for people, and the numbers for ``details``."""

    success: bool
    observed: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TableCheck:
    """A check on a column as a whole; ``observe`` maps (values, arguments) to what it found."""

    name: str
    arguments: type[Arguments]
    observe: Callable[[pd.Series[Any], Any], Observation]
    sentence: Callable[[Any], str]


def is_missing(values: pd.Series[Any]) -> Mask:
    return values.isna().to_numpy(dtype=bool)


def is_text(values: pd.Series[Any]) -> Mask:
    return np.fromiter((isinstance(value, str) for value in values), bool, len(values))


def search(values: pd.Series[Any], find: Callable[[pa.Array], pa.Array]) -> Mask:
    """Where an Arrow function of the texts is true. A value that is not a string counts as empty."""
    found = [find(texts).to_numpy(zero_copy_only=False) for texts in text_batches(values)]
    return np.concatenate([np.zeros(0, bool), *found]).astype(bool)


def text_batches(values: pd.Series[Any]) -> Iterator[pa.Array]:
    """The values in order, as Arrow strings without nulls. A value that is not a string becomes empty."""
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
        texts = (value if isinstance(value, str) else "" for value in values)
        return pa.array([text.encode("utf-8", "replace").decode("utf-8") for text in texts], type=pa.large_string())
