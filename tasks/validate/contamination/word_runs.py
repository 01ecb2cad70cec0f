"""How much of an evaluation text a row repeats in runs of words: exact, for few texts and many rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.validate.normal_form import LINE, SPACE, normalise_texts
from tasks.validate.similarity import (
    UNSPACED,
    Positions,
    Texts,
    as_array,
    begins_of,
    portions,
    position_in,
    sorted_distinct,
    spread,
)

OPERATORS = r"\p{Sm}*/^"
"""Divide a formula into words behind an operand, so that it is not one long word; a sign stays with its number."""
BATCH = 10_000
"""Rows that are searched at a time."""
PAIRS = 2_000_000
"""Pairs of a row's run (or shingle) and a text that has it, that are counted at a time."""


@dataclass(frozen=True)
class Pairs:
    """Positions of rows and of the texts that they repeat; ``shares``: how much of the text, 0 to 1."""

    rows: Positions
    texts: Positions
    shares: NDArray[np.float64]


def concatenate(pairs: Sequence[Pairs]) -> Pairs:
    """All pairs, in order."""
    return Pairs(
        np.concatenate([np.zeros(0, np.int64), *(part.rows for part in pairs)]),
        np.concatenate([np.zeros(0, np.int64), *(part.texts for part in pairs)]),
        np.concatenate([np.zeros(0), *(part.shares for part in pairs)]),
    )


def by_whole_rows(of_row: Positions, counts: Positions) -> Iterator[tuple[int, int]]:
    """Ranges of at most :data:`PAIRS` pairs, or of one row; a row is never divided.

    ``of_row``: the row of each place, ascending; ``counts``: the number of pairs of each place.
    """
    begin, ends = 0, np.cumsum(counts)
    while begin < len(of_row):
        full = int(np.searchsorted(ends, ends[begin] - counts[begin] + PAIRS, side="right"))
        end = int(np.searchsorted(of_row, of_row[begin], side="right"))
        if full > end:
            end = full if full == len(of_row) else int(np.searchsorted(of_row, of_row[full], side="left"))
        yield begin, end
        begin = end


class WordRuns:
    """An index of evaluation texts by their runs of ``size`` words; shorter texts are never found."""

    def __init__(self, texts: Texts, size: int) -> None:
        self._size = size
        words, counts = _words(as_array(texts))
        self._words = pc.unique(words)
        codes = pc.index_in(words, value_set=self._words).to_numpy(zero_copy_only=False).astype(np.int64)
        self._lengths = counts
        begins = np.cumsum(counts) - counts
        runs_of_text = np.maximum(counts - size + 1, 0)
        runs = spread(runs_of_text, begins)
        of_text = np.repeat(np.arange(len(counts)), runs_of_text)
        self._steps: list[Positions] = []
        found = codes[runs] if len(runs) else np.zeros(0, np.int64)
        for offset in range(1, size):
            keys = _key(found, codes[runs + offset])
            self._steps.append(sorted_distinct(keys))
            found = np.searchsorted(self._steps[-1], keys)
        order = np.argsort(found, kind="stable")
        self._of_text, self._at = of_text[order], (runs - begins[of_text])[order]
        self._first = np.searchsorted(found[order], np.arange(len(self._steps[-1]) + 1))

    def find(self, rows: Texts, least: float) -> Pairs:
        """The pairs in which such runs of a row cover at least this share of a text's words."""
        parts = portions(as_array(rows), BATCH)
        return concatenate([pairs for start, part in parts for pairs in self._in_batch(part, start, least)])

    def _in_batch(self, rows: pa.LargeStringArray, start: int, least: float) -> Iterator[Pairs]:
        words, counts = _words(rows)
        codes = pc.fill_null(pc.index_in(words, value_set=self._words), -1).to_numpy(zero_copy_only=False)
        found, of_row = self._lookup(codes.astype(np.int64), np.repeat(np.arange(len(counts)), counts))
        keys = sorted_distinct(_key(of_row, found))  # a repeated run of a row covers nothing more
        of_row, found = keys >> 32, keys & 0xFFFFFFFF
        counts = self._first[found + 1] - self._first[found]
        for begin, end in by_whole_rows(of_row, counts):
            yield self._covered(of_row[begin:end], found[begin:end], counts[begin:end], start, least)

    def _lookup(self, codes: Positions, of_row: Positions) -> tuple[Positions, Positions]:
        """The known runs among all runs of words: their numbers, and the row of each."""
        begins = np.flatnonzero(codes >= 0)
        found = codes[begins]
        for offset, known in enumerate(self._steps, start=1):
            inside = begins + offset < len(codes)
            begins, found = begins[inside], found[inside]
            inside = (of_row[begins + offset] == of_row[begins]) & (codes[begins + offset] >= 0)
            begins, found = begins[inside], found[inside]
            at = position_in(known, _key(found, codes[begins + offset]))
            begins, found = begins[at >= 0], at[at >= 0]
        return found, of_row[begins]

    def _covered(self, of_row: Positions, found: Positions, counts: Positions, start: int, least: float) -> Pairs:
        uses = spread(counts, self._first[found])
        row, text, at = np.repeat(of_row, counts), self._of_text[uses], self._at[uses]
        order = np.lexsort((at, text, row))
        row, text, at = row[order], text[order], at[order]
        begins = begins_of(row) | begins_of(text)
        # Overlapping runs cover the words between their beginnings; the last run of a pair covers all its words.
        ahead = np.append(np.where(begins[1:], self._size, at[1:] - at[:-1]), self._size)[: len(at)]
        first = np.flatnonzero(begins)
        covered = np.add.reduceat(np.minimum(ahead, self._size), first) if len(first) else np.zeros(0, np.int64)
        shares = covered / self._lengths[text[first]]
        enough = shares >= least
        return Pairs(row[first][enough] + start, text[first][enough], shares[enough])


def word_counts(texts: Texts) -> Positions:
    """How many words each text has."""
    counts = [_words(part)[1] for _, part in portions(as_array(texts), BATCH)]
    return np.concatenate(counts) if counts else np.zeros(0, np.int64)


def words_of(texts: pa.LargeStringArray) -> list[list[str]]:
    """The normalised words of each text."""
    words, counts = _words(texts)
    ends = np.cumsum(counts).tolist()
    return [words[end - count : end].to_pylist() for end, count in zip(ends, counts.tolist(), strict=True)]


def _words(texts: pa.LargeStringArray) -> tuple[pa.LargeStringArray, Positions]:
    """The normalised words of all texts, one text after the other, and how many each text has."""
    spaced = pc.replace_substring_regex(normalise_texts(texts), f"([{UNSPACED}])", r" \1 ")
    spaced = pc.replace_substring_regex(spaced, rf"([^\s{OPERATORS}])([{OPERATORS}]+)", r"\1 \2 ")
    spaced = pc.replace_substring_regex(spaced, rf"(\S)([{SPACE}{LINE}]+)", r"\1 \2")
    lists = pc.utf8_split_whitespace(pc.utf8_trim_whitespace(spaced))
    words, owner = lists.flatten(), pc.list_parent_indices(lists)
    is_word = pc.not_equal(words, "")
    counts = np.bincount(owner.filter(is_word).to_numpy(zero_copy_only=False), minlength=len(texts))
    return words.filter(is_word), counts.astype(np.int64)


def _key(high: Positions, low: Positions) -> Positions:
    return (high << 32) | low
