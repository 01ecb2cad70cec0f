"""Which rows only look like a copy of an evaluation text: they have another sign, number or accent in its place."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import regex
from numpy.typing import NDArray

from tasks.validate.contamination.word_runs import Pairs, words_of
from tasks.validate.normal_form import LETTERS, without_accents

BATCH = 1_000
"""Pairs whose words are in memory."""
MOST_WORDS = 20_000
"""Words of either text that are compared."""
MARK = regex.compile(f"[^{LETTERS}]")


def asks_otherwise(
    rows: pa.LargeStringArray, texts: pa.LargeStringArray, pairs: Pairs, least: int
) -> NDArray[np.bool_]:
    """Whether the row of each pair asks something else than the text that it covers with runs of ``least`` words.

    Between the runs, before the first and behind the last, an edited copy has other words, or none. Another question
    has other :func:`tasks.validate.normal_form.marks` there: among the same words, or in place of the text's.
    """
    found = np.zeros(len(pairs.rows), dtype=bool)
    for start in range(0, len(found), BATCH):
        part = slice(start, start + BATCH)
        of_row, of_text = (
            words_of(side.take(pa.array(at[part]))) for side, at in ((rows, pairs.rows), (texts, pairs.texts))
        )
        found[part] = [_asks_otherwise(*both, least) for both in zip(of_row, of_text, strict=True)]
    return found


def _asks_otherwise(row: Sequence[str], text: Sequence[str], least: int) -> bool:
    if f" {' '.join(text)} " in f" {' '.join(row)} ":
        return False
    row, text = row[:MOST_WORDS], text[:MOST_WORDS]
    matcher = difflib.SequenceMatcher(None, text, row, False)
    runs = [run for run in matcher.get_matching_blocks() if run.size >= least]
    if not runs:
        return False
    first, last = runs[0], runs[-1]
    head, tail = text[: first.a], text[last.a + last.size :]
    before, behind = row[: first.b], row[last.b + last.size :]
    # A mark can join or divide words, so the row may have some more or fewer in the same place.
    ends = [(before[-length:], head) for length in _lengths(head, least)]
    ends += [(behind[:length], tail) for length in _lengths(tail, least)]
    if any(ours and _has_other_marks(ours, theirs) for ours, theirs in ends):
        return True
    gaps = [(row[one.b + one.size : other.b], text[one.a + one.size : other.a]) for one, other in pairwise(runs)]
    near = [(ours, theirs) for ours, theirs in gaps if len(ours) <= len(theirs) + least]
    return any(_has_other_marks(*gap) or _marks_replace_marks(*gap) for gap in near)


def _lengths(words: Sequence[str], least: int) -> range:
    return range(max(1, len(words) - least), len(words) + least) if words else range(0)


def _has_other_marks(ours: Sequence[str], theirs: Sequence[str]) -> bool:
    """Whether the words differ in nothing but marks, or in nothing but what is no letter or digit without accents."""
    return ours != theirs and (_plain(ours) == _plain(theirs) or _letters(ours) == _letters(theirs))


def _marks_replace_marks(ours: Sequence[str], theirs: Sequence[str]) -> bool:
    one, other = ([word for word in words if word not in _plain(words)] for words in (ours, theirs))
    return bool(one and other) and one != other


def _plain(words: Sequence[str]) -> list[str]:
    return [word for word in words if not MARK.search(word)]


def _letters(words: Sequence[str]) -> str:
    return "".join(filter(str.isalnum, without_accents("".join(words)))).casefold()
