"""Candidates: pairs that are near share a bucket, and time is not spent on the others."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa

from tasks.validate.config import NearDuplicates
from tasks.validate.duplicates.minhash import (
    MISSED_AT_MOST,
    UNLIKE,
    UNLIKE_CANDIDATES,
    Sketches,
    agreements,
    agreements_needed,
    band_rows,
    buckets,
    missed,
    sketch,
)
from tasks.validate.similarity import as_array, similarities

NEAR = NearDuplicates()


def sketched(texts: pa.LargeStringArray) -> Sketches:
    return sketch(texts, np.zeros(len(texts), dtype=np.int64), NEAR)


def edited_pairs(count: int, seed: int) -> list[str]:
    """Texts of random letters, and behind them the same again with a few letters changed."""
    choose = random.Random(seed)
    texts = ["".join(choose.choices("abcdefghij ", k=choose.randint(60, 200))) for _ in range(count)]
    edited = []
    for text in texts:
        for _ in range(choose.randint(0, 6)):
            at = choose.randrange(len(text))
            text = text[:at] + choose.choice("xyz") + text[at + 1 :]
        edited.append(text)
    return texts + edited


def test_few_texts_miss_almost_nothing_at_the_threshold_and_many_stay_affordable() -> None:
    for threshold in (0.3, 0.5, 0.8, 0.9, 0.95, 1.0):
        rows = band_rows(threshold, 128, 80)
        assert missed(threshold, rows, 128) <= MISSED_AT_MOST
        for texts in (10_000, 1_000_000, 50_000_000):
            rows = band_rows(threshold, 128, texts)
            assert texts * (1 - missed(UNLIKE, rows, 128)) <= UNLIKE_CANDIDATES
    assert [band_rows(0.8, 128, texts) for texts in (31_000, 400_000, 1_000_000)] == [4, 5, 6]


def test_texts_with_equal_keys_share_a_bucket_and_no_others() -> None:
    keys = np.array([[7, 3, 7, 9, 3, 7], [1, 2, 3, 4, 5, 4], [1, 2, 3, 4, 5, 6]], dtype=np.uint64)
    members, numbers = buckets(keys)
    assert members.tolist() == sorted(members.tolist())
    together = [sorted(members[numbers == number].tolist()) for number in np.unique(numbers)]
    assert sorted(together) == [[0, 2, 5], [1, 4], [3, 5]]
    assert buckets(keys[2:])[0].tolist() == []


def test_pairs_at_the_threshold_share_a_bucket_and_pass_the_estimate() -> None:
    texts = as_array(edited_pairs(1_500, 1))
    left, right = np.arange(1_500), np.arange(1_500, 3_000)
    near = similarities(texts, left, right, NEAR.shingle) >= NEAR.threshold
    assert 500 < near.sum() < 1_500, "there are pairs on both sides"
    found = sketched(texts)
    share_a_band = (found.bands[:, left] == found.bands[:, right]).any(axis=0)
    estimate = agreements(found.minima, left, right)
    assert share_a_band[near].all()
    assert (estimate[near] >= agreements_needed(NEAR.threshold, NEAR.permutations)).all()


def test_shared_minima_estimate_the_similarity() -> None:
    texts = as_array(edited_pairs(1_000, 2))
    left, right = np.arange(1_000), np.arange(1_000, 2_000)
    error = agreements(sketched(texts).minima, left, right) / NEAR.permutations
    error -= similarities(texts, left, right, NEAR.shingle)
    assert abs(error.mean()) < 0.01 and error.std() < 0.05


def test_the_same_texts_have_the_same_sketch_whatever_stands_beside_them() -> None:
    texts = edited_pairs(700, 3)
    alone, among = sketched(as_array(texts[:10])), sketched(as_array(texts))
    assert (alone.minima == among.minima[:10]).all() and (alone.bands == among.bands[:, :10]).all()


def test_texts_of_different_groups_share_no_bucket() -> None:
    texts = as_array(["please freeze my lost card now"] * 4)
    members, numbers = buckets(sketch(texts, np.array([0, 1, 0, 2]), NEAR).bands)
    assert set(members.tolist()) == {0, 2} and len(set(numbers.tolist())) * 2 == len(numbers)
