"""Which rows as a whole are nearly equal to an evaluation text: exact, for few texts and many rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.validate.contamination.word_runs import Pairs, by_whole_rows, concatenate
from tasks.validate.normal_form import marks, normalise_texts, unaccented
from tasks.validate.similarity import (
    MOST_TEXTS,
    Hashes,
    Positions,
    Texts,
    as_array,
    begins_of,
    distinct_shingles,
    first_of_each,
    portions,
    position_in,
    similarities,
    sorted_distinct,
    spread,
    starts,
)

ROUNDING = 1e-9


class WholeTexts:
    """An index of evaluation texts by their rarest shingles of ``size`` characters; empty texts are never found.

    If the Jaccard similarity of two sets reaches a threshold, any ``n - ceil(threshold * n) + 1`` shingles of one
    include a shared one (Chaudhuri, Ganti and Kaushik 2006), so only these are looked up. A candidate is compared
    unless the sizes of the sets (Arasu, Ganti and Kaushik 2006) or the row's number of known shingles rule it out.
    Texts with other :func:`tasks.validate.normal_form.marks`, or that differ in accents only, are never found.
    """

    def __init__(self, texts: Texts, size: int, threshold: float) -> None:
        self._texts, self._size, self._threshold = normalise_texts(texts), size, threshold
        kinds = marks(self._texts)
        self._kinds = pc.unique(kinds)
        self._kind = _codes(kinds, self._kinds)
        of_text, hashes = _distinct(self._texts, size)
        self._known = sorted_distinct(hashes)
        shingles = np.searchsorted(self._known, hashes)
        order = np.lexsort((shingles, np.bincount(shingles)[shingles], of_text))
        of_text, shingles = of_text[order], shingles[order]
        self._sizes = np.bincount(of_text, minlength=len(self._texts))
        rank = np.arange(len(of_text)) - np.repeat(starts(self._sizes), self._sizes)
        looked_up = self._sizes - np.ceil(threshold * self._sizes - ROUNDING).astype(np.int64) + 1
        self._others = self._sizes - looked_up
        is_empty = pc.equal(self._texts, "").to_numpy(zero_copy_only=False)
        kept = np.flatnonzero((rank < looked_up[of_text]) & ~is_empty[of_text])
        kept = kept[np.argsort(shingles[kept], kind="stable")]
        self._of_text = of_text[kept]
        self._first = np.searchsorted(shingles[kept], np.arange(len(self._known) + 1))

    def find(self, rows: Texts) -> Pairs:
        """The pairs of a row and a text that reach the threshold, with their similarity as the share."""
        parts = portions(as_array(rows), MOST_TEXTS)
        return concatenate([pairs for start, part in parts for pairs in self._in_batch(part, start)])

    def _in_batch(self, rows: pa.LargeStringArray, start: int) -> Iterator[Pairs]:
        rows = normalise_texts(rows)
        of_row, hashes = distinct_shingles(rows, self._size)
        sizes = np.bincount(of_row, minlength=len(rows))
        kind = _codes(marks(rows), self._kinds)
        found = position_in(self._known, hashes)
        of_row, found = of_row[found >= 0], found[found >= 0]
        known = np.bincount(of_row, minlength=len(rows))
        counts = self._first[found + 1] - self._first[found]
        both = pa.concat_arrays([rows, self._texts])
        form, bare = (first_of_each(forms)[1] for forms in (both, unaccented(both)))
        for begin, end in by_whole_rows(of_row, counts):
            one, texts = self._candidates(of_row[begin:end], found[begin:end], counts[begin:end], sizes, known)
            may_be = kind[one] == self._kind[texts]
            may_be &= (form[one] == form[texts + len(rows)]) | (bare[one] != bare[texts + len(rows)])
            one, texts = one[may_be], texts[may_be]
            shares = similarities(both, one, texts + len(rows), self._size)
            enough = shares >= self._threshold - ROUNDING
            yield Pairs(one[enough] + start, texts[enough], shares[enough])

    def _candidates(
        self, of_row: Positions, found: Positions, counts: Positions, sizes: Positions, known: Positions
    ) -> tuple[Positions, Positions]:
        """The pairs of a row and a text that may reach the threshold.

        ``of_row, found, counts``: a row, one of its known shingles, and the number of texts looked up by it.
        """
        of_row, texts = np.repeat(of_row, counts), self._of_text[spread(counts, self._first[found])]
        may_be = self._is_enough(np.minimum(known[of_row], self._sizes[texts]), sizes[of_row], texts)
        keys = np.sort((of_row[may_be] << 32) | texts[may_be])
        first = np.flatnonzero(begins_of(keys))
        shared = np.diff(np.append(first, len(keys)))
        of_row, texts = keys[first] >> 32, keys[first] & 0xFFFFFFFF
        # The row may have all shingles of the text that are not looked up.
        may_be = self._is_enough(shared + self._others[texts], sizes[of_row], texts)
        return of_row[may_be], texts[may_be]

    def _is_enough(self, shared: Positions, sizes: Positions, texts: Positions) -> NDArray[np.bool_]:
        """Whether rows that share so many shingles with these texts can reach the threshold."""
        needed = self._threshold / (1 + self._threshold) * (sizes + self._sizes[texts])
        return shared >= needed - ROUNDING


def _codes(values: pa.LargeStringArray, known: pa.LargeStringArray) -> Positions:
    """The index of each value in ``known``; -1 if it is not there."""
    codes: Positions = pc.fill_null(pc.index_in(values, value_set=known), -1).to_numpy(zero_copy_only=False)
    return codes


def _distinct(texts: pa.LargeStringArray, size: int) -> tuple[Positions, Hashes]:
    of_text, hashes = [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)]
    for start, part in portions(texts, MOST_TEXTS):
        number, found = distinct_shingles(part, size)
        of_text.append(number + start)
        hashes.append(found)
    return np.concatenate(of_text), np.concatenate(hashes)
