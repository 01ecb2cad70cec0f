"""Which rows say nearly the same as an evaluation text: exact, for a few texts against very many rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.validate.runs import Pairs, together
from tasks.validate.similarity import (
    Hashes,
    Positions,
    Texts,
    as_array,
    begins_of,
    each_once,
    normalise_texts,
    portions,
    shingle_hashes,
    similarities,
    spread,
)

BATCH = 5_000
"""Rows that are searched at a time."""
ROUNDING = 1e-9


class WholeTexts:
    """Evaluation texts, by the shingles that fewest of them have.

    Of two sets whose Jaccard similarity reaches a threshold, any one's ``n - ceil(threshold * n) + 1`` shingles hold
    one that both have (Chaudhuri, Ganti and Kaushik 2006): only those are looked up, and what is found is compared.

    Args:
        texts: empty ones are found nowhere.
        size: characters in a shingle.
        threshold: Jaccard similarity from which a row says the same.
    """

    def __init__(self, texts: Texts, size: int, threshold: float) -> None:
        self._texts, self._size, self._threshold = normalise_texts(texts), size, threshold
        of_text, hashes = _distinct(self._texts, size)
        self._lengths = pc.utf8_length(self._texts).to_numpy(zero_copy_only=False).astype(np.int64)
        _, which, uses = np.unique(hashes, return_inverse=True, return_counts=True)
        order = np.lexsort((hashes, uses[which], of_text))
        of_text, hashes = of_text[order], hashes[order]
        counts = np.bincount(of_text, minlength=len(self._texts))
        rank = np.arange(len(of_text)) - np.repeat(np.cumsum(counts) - counts, counts)
        looked_up = counts - np.ceil(threshold * counts - ROUNDING).astype(np.int64) + 1
        self._sizes, self._others = counts, counts - looked_up
        kept = (rank < looked_up[of_text]) & (self._lengths[of_text] > 0)
        order = np.argsort(hashes[kept], kind="stable")
        hashes, self._of_text = hashes[kept][order], of_text[kept][order]
        self._hashes = each_once(hashes)
        self._first = np.append(np.searchsorted(hashes, self._hashes), len(hashes))
        longest = int(self._lengths.max(initial=0))
        # A text of n characters has n - size + 1 shingles at most, and of repeated ones fewer.
        self._longest = round((longest + size) / threshold) + size

    def said_by(self, rows: Texts) -> Pairs:
        """The pairs of a row and a text that reach the threshold, with their similarity as the share."""
        arrow, start = as_array(rows), 0
        found = []
        for part in portions(arrow, BATCH):
            found.append(self._in_batch(part, start))
            start += len(part)
        return together(found)

    def _in_batch(self, rows: pa.LargeStringArray, start: int) -> Pairs:
        rows = normalise_texts(rows)
        lengths = pc.utf8_length(rows).to_numpy(zero_copy_only=False)
        searched = np.flatnonzero((lengths > 0) & (lengths <= self._longest))
        rows = rows.take(pa.array(searched))
        of_row, hashes = _distinct(rows, self._size)
        sizes = np.bincount(of_row, minlength=len(rows))
        at = np.minimum(np.searchsorted(self._hashes, hashes), max(0, len(self._hashes) - 1))
        there = self._hashes[at] == hashes if len(self._hashes) else np.zeros(len(at), bool)
        of_row, at = of_row[there], at[there]
        counts = self._first[at + 1] - self._first[at]
        texts = self._of_text[spread(counts, self._first[at])]
        keys = np.sort((np.repeat(of_row, counts) << 32) | texts)
        first = np.flatnonzero(begins_of(keys))
        shared = np.diff(np.append(first, len(keys)))
        of_row, texts = keys[first] >> 32, keys[first] & 0xFFFFFFFF
        # So many shingles two sets of these sizes share at the threshold; those not looked up may all be among them.
        needed = self._threshold / (1 + self._threshold) * (sizes[of_row] + self._sizes[texts])
        may_be = shared + self._others[texts] >= needed - ROUNDING
        of_row, texts = of_row[may_be], texts[may_be]
        shares = self._similarities(rows, of_row, texts)
        enough = shares >= self._threshold - ROUNDING
        return Pairs(searched[of_row[enough]] + start, texts[enough], shares[enough])

    def _similarities(self, rows: pa.LargeStringArray, of_row: Positions, texts: Positions) -> NDArray[np.float64]:
        both = pa.concat_arrays([rows, self._texts])
        return similarities(both, of_row, texts + len(rows), self._size)


def _distinct(texts: pa.LargeStringArray, size: int) -> tuple[Positions, Hashes]:
    """The distinct shingles of every text: the text's position, and the shingle's hash."""
    hashes, offsets = shingle_hashes(texts, size)
    owner = np.repeat(np.arange(len(texts)), np.diff(offsets))
    order = np.lexsort((hashes, owner))
    owner, hashes = owner[order], hashes[order]
    first = np.append(True, (owner[1:] != owner[:-1]) | (hashes[1:] != hashes[:-1]))[: len(owner)]
    return owner[first], hashes[first]
