"""How much of an evaluation text a row repeats in runs of words: exact, for a few texts against very many rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.validate.similarity import (
    Positions,
    Texts,
    as_array,
    begins_of,
    each_once,
    normalise_texts,
    portions,
    position_in,
    spread,
)

UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
"""Scripts that set no spaces between words: there each character counts as a word."""
BATCH = 10_000
"""Rows that are searched at a time."""
PAIRS = 2_000_000
"""Runs or shingles of rows, times the texts that have them, that are counted at a time."""


@dataclass(frozen=True)
class Pairs:
    """Rows and the evaluation texts that they repeat; all fields of one length.

    Attributes:
        rows, texts: positions.
        shares: how much of the text the row repeats, 0 to 1.
    """

    rows: Positions
    texts: Positions
    shares: NDArray[np.float64]


def together(pairs: Sequence[Pairs]) -> Pairs:
    """All pairs in one, in their order."""
    return Pairs(
        np.concatenate([np.zeros(0, np.int64), *(one.rows for one in pairs)]),
        np.concatenate([np.zeros(0, np.int64), *(one.texts for one in pairs)]),
        np.concatenate([np.zeros(0), *(one.shares for one in pairs)]),
    )


def by_whole_rows(of_row: Positions, counts: Positions) -> Iterator[tuple[int, int]]:
    """Ranges of at most :data:`PAIRS` in all, but each of one row at least, that divide no row.

    Args:
        of_row: rising.
        counts: how many pairs each place stands for.
    """
    begin, ends = 0, np.cumsum(counts)
    while begin < len(of_row):
        full = int(np.searchsorted(ends, ends[begin] - counts[begin] + PAIRS, side="right"))
        end = int(np.searchsorted(of_row, of_row[begin], side="right"))
        if full > end:
            end = full if full == len(of_row) else int(np.searchsorted(of_row, of_row[full], side="left"))
        yield begin, end
        begin = end


class Runs:
    """Evaluation texts, by their runs of ``size`` words.

    Args:
        texts: at least ``size`` words each, else nothing of them is found.
        size: words in a run.
    """

    def __init__(self, texts: Texts, size: int) -> None:
        self._size = size
        words, counts = _words(as_array(texts))
        self._words = pc.unique(words)
        codes = pc.index_in(words, value_set=self._words).to_numpy(zero_copy_only=False).astype(np.int64)
        self._lengths = counts
        begins = np.cumsum(counts) - counts
        runs = spread(np.maximum(counts - size + 1, 0), begins)
        of_text = np.repeat(np.arange(len(counts)), np.maximum(counts - size + 1, 0))
        self._steps: list[Positions] = []
        found = codes[runs] if len(runs) else np.zeros(0, np.int64)
        for offset in range(1, size):
            keys = _key(found, codes[runs + offset])
            self._steps.append(each_once(keys))
            found = np.searchsorted(self._steps[-1], keys)
        order = np.argsort(found, kind="stable")
        self._of_text, self._at = of_text[order], (runs - begins[of_text])[order]
        self._first = np.searchsorted(found[order], np.arange(len(self._steps[-1]) + 1))

    def repeated_in(self, rows: Texts, least: float) -> Pairs:
        """The pairs in which a row repeats at least this share of a text's words in such runs."""
        arrow, start = as_array(rows), 0
        pairs = []
        for part in portions(arrow, BATCH):
            pairs += self._in_batch(part, start, least)
            start += len(part)
        return together(pairs)

    def _in_batch(self, rows: pa.LargeStringArray, start: int, least: float) -> list[Pairs]:
        words, counts = _words(rows)
        codes = pc.fill_null(pc.index_in(words, value_set=self._words), -1).to_numpy(zero_copy_only=False)
        found, of_row = self._lookup(codes.astype(np.int64), np.repeat(np.arange(len(counts)), counts))
        seen = each_once(_key(of_row, found))  # the same run twice in a row covers nothing more
        of_row, found = seen >> 32, seen & 0xFFFFFFFF
        counts = self._first[found + 1] - self._first[found]
        return [
            self._covered(of_row[begin:end], found[begin:end], counts[begin:end], start, least)
            for begin, end in by_whole_rows(of_row, counts)
        ]

    def _lookup(self, codes: Positions, of_row: Positions) -> tuple[Positions, Positions]:
        """The known runs among all runs of words: their numbers, and the row of each."""
        begins = np.flatnonzero(codes >= 0)
        found = codes[begins]
        for offset, known in enumerate(self._steps, start=1):
            inside = begins + offset < len(codes)
            begins, found = begins[inside], found[inside]
            inside = (of_row[begins + offset] == of_row[begins]) & (codes[begins + offset] >= 0)
            begins, found = begins[inside], found[inside]
            keys = _key(found, codes[begins + offset])
            at = position_in(known, keys)
            begins, found = begins[at >= 0], at[at >= 0]
        return found, of_row[begins]

    def _covered(self, of_row: Positions, found: Positions, counts: Positions, start: int, least: float) -> Pairs:
        """The share of each text that the runs of each row cover."""
        uses = spread(counts, self._first[found])
        row, text, at = np.repeat(of_row, counts), self._of_text[uses], self._at[uses]
        order = np.lexsort((at, text, row))
        row, text, at = row[order], text[order], at[order]
        begins = begins_of(row) | begins_of(text)
        # Runs that overlap cover what lies between their beginnings, and the last one of a pair all of itself.
        ahead = np.append(np.where(begins[1:], self._size, at[1:] - at[:-1]), self._size)[: len(at)]
        first = np.flatnonzero(begins)
        covered = np.add.reduceat(np.minimum(ahead, self._size), first) if len(first) else np.zeros(0, np.int64)
        shares = covered / self._lengths[text[first]]
        enough = shares >= least
        return Pairs(row[first][enough] + start, text[first][enough], shares[enough])


def word_counts(texts: Texts) -> Positions:
    """How many words each text has."""
    counts = [_words(part)[1] for part in portions(as_array(texts), BATCH)]
    return np.concatenate(counts) if counts else np.zeros(0, np.int64)


def _words(texts: pa.LargeStringArray) -> tuple[pa.LargeStringArray, Positions]:
    """The words of all texts one after the other, normalised, and how many each text has."""
    spaced = pc.replace_substring_regex(normalise_texts(texts), f"([{UNSPACED}])", r" \1 ")
    lists = pc.utf8_split_whitespace(pc.utf8_trim_whitespace(spaced))
    words, owner = lists.flatten(), pc.list_parent_indices(lists)
    real = pc.not_equal(words, "")
    counts = np.bincount(owner.filter(real).to_numpy(zero_copy_only=False), minlength=len(texts))
    return words.filter(real), counts.astype(np.int64)


def _key(high: Positions, low: Positions) -> Positions:
    return (high << 32) | low
