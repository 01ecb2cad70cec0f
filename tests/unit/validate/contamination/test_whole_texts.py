"""The search for rows that say the same as an evaluation text, against comparing each with each."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks.validate import similarity
from tasks.validate.contamination import whole_texts
from tasks.validate.contamination import word_runs as runs
from tasks.validate.contamination.whole_texts import WholeTexts
from tasks.validate.normal_form import normalise
from tasks.validate.similarity import Positions, similarities

TEXTS = st.lists(st.text("ab é", max_size=14), max_size=8)


def shingles(text: str, size: int) -> set[str]:
    return {text[at : at + size] for at in range(max(1, len(text) - size + 1))}


def compared_one_by_one(rows: list[str], texts: list[str], size: int, threshold: float) -> dict[tuple[int, int], float]:
    found = {}
    normalised = [list(map(normalise, side)) for side in (rows, texts)]
    for row, ours in enumerate(normalised[0]):
        for text, theirs in enumerate(normalised[1]):
            both = shingles(ours, size), shingles(theirs, size)
            share = len(both[0] & both[1]) / len(both[0] | both[1])
            if ours and theirs and share >= threshold - 1e-9:
                found[row, text] = share
    return found


def searched(rows: list[str], texts: list[str], size: int, threshold: float) -> dict[tuple[int, int], float]:
    pairs = WholeTexts(texts, size, threshold).find(rows)
    return dict(zip(zip(pairs.rows.tolist(), pairs.texts.tolist(), strict=True), pairs.shares.tolist(), strict=True))


@settings(deadline=None)
@given(TEXTS, TEXTS, st.integers(1, 5), st.sampled_from([0.1, 0.5, 0.7, 2 / 3, 0.8, 1.0]))
def test_it_finds_what_comparing_each_with_each_finds(
    rows: list[str], texts: list[str], size: int, threshold: float
) -> None:
    assert searched(rows, texts, size, threshold) == pytest.approx(compared_one_by_one(rows, texts, size, threshold))


@settings(deadline=None)
@given(TEXTS, TEXTS)
def test_how_much_is_searched_at_a_time_changes_nothing(rows: list[str], texts: list[str]) -> None:
    whole = searched(rows, texts, 2, 0.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "PAIRS", 1)
        patch.setattr(similarity, "MOST_TEXTS", 3)
        patch.setattr(whole_texts, "MOST_TEXTS", 3)
        assert searched(rows, texts, 2, 0.5) == whole


def test_what_cannot_reach_the_threshold_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "please move the money from my savings to my checking account before friday"
    other = "could you tell me how late the branch in the old town opens on a holiday"
    compared: list[tuple[str, str]] = []

    def watched(texts: pa.LargeStringArray, left: Positions, right: Positions, size: int) -> NDArray[np.float64]:
        compared.extend(zip(*(texts.take(pa.array(side)).to_pylist() for side in (left, right)), strict=True))
        return similarities(texts, left, right, size)

    monkeypatch.setattr(whole_texts, "similarities", watched)
    too_short, too_long = text[:40], f"{text} {other}"
    of_its_own = "please move the money from my savings to that jar with biscuits on a shelf"
    of_others = f"{other} before friday"
    near = text[:60]
    found = searched([too_short, too_long, of_its_own, of_others, near], [text, other], 5, 0.7)
    assert found == {(3, 1): pytest.approx(67 / 81), (4, 0): pytest.approx(56 / 70)}
    assert compared == [(of_others, other), (near, text)]


def test_a_row_that_says_a_text_over_and_over_is_found_at_any_length() -> None:
    text = "where is my card"
    assert searched(["where is my card. " * 3_000], [text], 5, 0.7)[0, 0] > 0.7
