from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.validate.runs import Runs, word_counts
from tasks.validate.similarity import normalise
from tasks.validate.whole_texts import WholeTexts

WORDS = st.lists(st.sampled_from(["a", "b", "c", "d", "E,"]), max_size=9).map(" ".join)
TEXTS = st.lists(WORDS, max_size=5)


def covered(row: str, text: str, size: int) -> float:
    """The share of a text's words that stand in runs which the row has: word by word."""
    ours, theirs = normalise(row).split(), normalise(text).split()
    runs = {tuple(ours[start : start + size]) for start in range(len(ours) - size + 1)}
    at = {
        start + offset
        for start in range(len(theirs) - size + 1)
        if tuple(theirs[start : start + size]) in runs
        for offset in range(size)
    }
    return len(at) / len(theirs) if theirs else 0.0


@given(TEXTS, TEXTS, st.integers(2, 4), st.sampled_from([0.01, 0.5, 1.0]))
def test_the_share_is_that_of_a_word_by_word_count(rows: list[str], texts: list[str], size: int, least: float) -> None:
    found = Runs(texts, size).repeated_in(rows, least)
    pairs = zip(found.rows.tolist(), found.texts.tolist(), found.shares.tolist(), strict=True)
    shares = {
        (row, text): covered(rows[row], texts[text], size) for row in range(len(rows)) for text in range(len(texts))
    }
    assert {(row, text): share for row, text, share in pairs} == pytest.approx(
        {pair: share for pair, share in shares.items() if share >= least}
    )


def similarity(one: str, other: str, size: int) -> float:
    """Jaccard similarity of sets of shingles."""
    sets = [
        {text[start : start + size] for start in range(max(1, len(text) - size + 1))}
        for text in (normalise(one), normalise(other))
    ]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1]) if all(map(normalise, (one, other))) else 0.0


@given(TEXTS, TEXTS, st.integers(1, 4), st.sampled_from([0.3, 0.7, 1.0]))
def test_every_pair_that_is_similar_enough_is_found_and_no_other(
    rows: list[str], texts: list[str], size: int, threshold: float
) -> None:
    found = WholeTexts(texts, size, threshold).said_by(rows)
    pairs = zip(found.rows.tolist(), found.texts.tolist(), found.shares.tolist(), strict=True)
    shares = {
        (row, text): similarity(rows[row], texts[text], size) for row in range(len(rows)) for text in range(len(texts))
    }
    assert {(row, text): share for row, text, share in pairs} == pytest.approx(
        {pair: share for pair, share in shares.items() if share >= threshold - 1e-9}
    )


def test_words_are_counted_as_they_are_compared() -> None:
    assert word_counts(["Don't go!", "", "...", "我们 go", "ไทย"]).tolist() == [3, 0, 1, 3, 3]
