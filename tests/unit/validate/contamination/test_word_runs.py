from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.validate.contamination import word_runs as runs
from tasks.validate.contamination.word_runs import WordRuns, by_whole_rows, word_counts
from tasks.validate.normal_form import normalise

WORDS = st.lists(st.sampled_from(["a", "b", "c", "d", "E,"]), max_size=9).map(" ".join)
TEXTS = st.lists(WORDS, max_size=5)


def covered(ours: list[str], theirs: list[str], size: int) -> float:
    """The share of a text's words that are in runs which the row has: word by word."""
    found = {tuple(ours[start : start + size]) for start in range(len(ours) - size + 1)}
    at = {
        start + offset
        for start in range(len(theirs) - size + 1)
        if tuple(theirs[start : start + size]) in found
        for offset in range(size)
    }
    return len(at) / len(theirs) if theirs else 0.0


@settings(deadline=None)
@given(TEXTS, TEXTS, st.integers(2, 4), st.sampled_from([0.01, 0.5, 1.0]))
def test_the_share_is_that_of_a_word_by_word_count(rows: list[str], texts: list[str], size: int, least: float) -> None:
    found = WordRuns(texts, size).find(rows, least)
    pairs = zip(found.rows.tolist(), found.texts.tolist(), found.shares.tolist(), strict=True)
    words = [[normalise(text).split() for text in side] for side in (rows, texts)]
    shares = {
        (row, text): covered(ours, theirs, size)
        for row, ours in enumerate(words[0])
        for text, theirs in enumerate(words[1])
    }
    assert {(row, text): share for row, text, share in pairs} == pytest.approx(
        {pair: share for pair, share in shares.items() if share >= least}
    )


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=20).map(sorted), st.integers(1, 25))
def test_rows_are_worked_on_as_many_at_a_time_as_are_allowed_and_never_in_parts(
    places: list[tuple[int, int]], most: int
) -> None:
    of_row, counts = np.array(places, np.int64).reshape(-1, 2).T
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "PAIRS", most)
        ranges = list(by_whole_rows(of_row, counts))
    assert [place for begin, end in ranges for place in range(begin, end)] == list(range(len(places)))
    for begin, end in ranges:
        is_alone = of_row[begin] == of_row[end - 1]
        assert counts[begin:end].sum() <= most or is_alone
        if end < len(of_row):
            assert of_row[end - 1] != of_row[end]
            with_next = counts[begin:][of_row[begin:] <= of_row[end]].sum()
            assert with_next > most, "the next row would have had room"


def test_words_are_counted_as_they_are_compared() -> None:
    assert word_counts(["Don't go!", "", "...", "我们 go", "ไทย"]).tolist() == [3, 0, 1, 3, 3]
