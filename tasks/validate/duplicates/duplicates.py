"""Rows that say again what an earlier row says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.validate.config import NearDuplicates
from tasks.validate.duplicates.near import stand_ins
from tasks.validate.similarity import Positions, Texts, normalise_texts

EXACT, NEAR = "exact", "near"


@dataclass(frozen=True)
class Duplicates:
    """The rows to drop, and the rows that stay in their place: three arrays of one length, by rising position.

    Attributes:
        position: of each dropped row (int64).
        original: position of the row that is kept (int64); it is never itself dropped.
        kind: ``exact`` (equal once normalised), ``near`` or ``meaning`` (object).
    """

    position: Positions
    original: Positions
    kind: NDArray[np.object_]

    def __len__(self) -> int:
        """How many rows are dropped."""
        return len(self.position)


def find_duplicates(texts: Texts, config: NearDuplicates) -> Duplicates:
    """The rows that duplicate an earlier one; the first of its kind always stays, and no original is itself dropped.

    Nothing is dropped on an estimate: each near duplicate has at least the threshold's similarity to its original.
    Few are missed: see :func:`tasks.validate.duplicates.minhash.band_rows`.

    Args:
        texts: what is compared, in order of precedence; what is null counts as empty.
        config: when two texts are near.
    """
    normalised = normalise_texts(texts)
    first, text_of = first_of_each(normalised)
    distinct = normalised.take(pa.array(first))
    del normalised
    near = first[stand_ins(distinct, config)]
    original = near[text_of]
    position = np.flatnonzero(original != np.arange(len(original)))
    same = original[position] == first[text_of[position]]
    return Duplicates(position, original[position], np.where(same, EXACT, NEAR).astype(object))


def first_of_each(texts: pa.LargeStringArray) -> tuple[Positions, NDArray[np.int64]]:
    """Where each distinct text comes first, rising; and for every text, the number of its distinct one."""
    numbers = texts.dictionary_encode().indices.to_numpy().astype(np.int64)
    first = np.full(numbers.max(initial=-1) + 1, len(numbers))
    np.minimum.at(first, numbers, np.arange(len(numbers)))
    return first, numbers
