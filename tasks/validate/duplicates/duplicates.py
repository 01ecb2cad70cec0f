"""Find rows that repeat an earlier row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.validate.config import NearDuplicates
from tasks.validate.duplicates.near import representatives
from tasks.validate.normal_form import marks, normalise_texts
from tasks.validate.similarity import Positions, Texts, first_of_each

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


def find_duplicates(texts: Texts, config: NearDuplicates, contexts: pa.Array | None = None) -> Duplicates:
    """The rows that duplicate an earlier one; ``texts`` are in order of precedence, null counts as empty.

    Rows of different ``contexts`` (:func:`tasks.validate.rows.contexts`) are never duplicates.

    Each near duplicate reaches the threshold's true similarity to its original, not an estimate. Few are missed: see
    :func:`tasks.validate.duplicates.minhash.band_rows`.
    """
    forms = normalise_texts(texts)
    first, text_of = first_of_each(forms if contexts is None else _joined(forms, contexts))
    distinct = forms.take(pa.array(first))
    del forms
    groups = comparable(distinct, None if contexts is None else contexts.take(pa.array(first)))
    original = first[representatives(distinct, groups, config)][text_of]
    position = np.flatnonzero(original != np.arange(len(original)))
    is_exact = original[position] == first[text_of[position]]
    return Duplicates(position, original[position], np.where(is_exact, EXACT, NEAR).astype(object))


def comparable(forms: pa.LargeStringArray, contexts: pa.Array | None) -> Positions:
    """A number for each normal form: only texts of one number can be copies, as context and :func:`marks` are equal."""
    kinds = marks(forms)
    return first_of_each(kinds if contexts is None else _joined(kinds, contexts))[1]


def _joined(texts: pa.LargeStringArray, contexts: pa.Array) -> pa.LargeStringArray:
    return pc.binary_join_element_wise(contexts.cast(pa.large_string()), texts, pa.scalar("\n", pa.large_string()))
