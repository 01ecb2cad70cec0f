"""Find rows that repeat an earlier row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.validate.config import NearDuplicates
from tasks.validate.duplicates.near import representatives
from tasks.validate.similarity import Positions, Texts, normalise_texts

EXACT, NEAR = "exact", "near"


@dataclass(frozen=True)
class Duplicates:
    """The rows to drop and the rows that are kept instead, by rising position of the dropped row (int64).

    ``kind``: ``exact`` (equal once normalised), ``near`` or ``meaning``. An ``original`` is never dropped itself.
    """

    position: Positions
    original: Positions
    kind: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.position)


def find_duplicates(texts: Texts, config: NearDuplicates) -> Duplicates:
    """The rows that duplicate an earlier one; ``texts`` are in order of precedence, null counts as empty.

    Each near duplicate reaches the threshold's true similarity to its original, not an estimate. Few are missed: see
    :func:`tasks.validate.duplicates.minhash.band_rows`.
    """
    normalised = normalise_texts(texts)
    first, text_of = first_of_each(normalised)
    distinct = normalised.take(pa.array(first))
    del normalised
    original = first[representatives(distinct, config)][text_of]
    position = np.flatnonzero(original != np.arange(len(original)))
    is_exact = original[position] == first[text_of[position]]
    return Duplicates(position, original[position], np.where(is_exact, EXACT, NEAR).astype(object))


def first_of_each(texts: pa.LargeStringArray) -> tuple[Positions, NDArray[np.int64]]:
    """The first position of each distinct text, ascending; and for every text, the number of its distinct text."""
    numbers = texts.dictionary_encode().indices.to_numpy().astype(np.int64)
    first = np.full(numbers.max(initial=-1) + 1, len(numbers))
    np.minimum.at(first, numbers, np.arange(len(numbers)))
    return first, numbers
