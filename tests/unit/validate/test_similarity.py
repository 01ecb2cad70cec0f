"""How much two texts share."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.validate import similarity
from tasks.validate.similarity import (
    as_array,
    portions,
    shingle_hashes,
    similarities,
    sorted_distinct,
    spread,
    starts,
)

TEXTS = st.lists(st.text(alphabet=st.sampled_from("ab cß-É中的أین،🎉!\n"), max_size=20), min_size=1, max_size=12)


def shingles(text: str, size: int) -> set[str]:
    return {text[start : start + size] for start in range(max(1, len(text) - size + 1))}


def jaccard(one: str, other: str, size: int) -> float:
    left, right = shingles(one, size), shingles(other, size)
    return len(left & right) / len(left | right)


@settings(deadline=None)
@given(TEXTS, st.integers(1, 8), st.integers(0, 10**6))
def test_similarity_is_that_of_the_sets_of_shingles(texts: list[str], size: int, seed: int) -> None:
    choose = random.Random(seed)
    pairs = [(choose.randrange(len(texts)), choose.randrange(len(texts))) for _ in range(20)]
    left, right = np.array(pairs, dtype=np.int64).T
    found = similarities(as_array(texts), left, right, size)
    assert found.tolist() == [jaccard(texts[one], texts[other], size) for one, other in pairs]


def test_similarity_of_many_pairs_and_of_long_texts_is_worked_out_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "MOST_TEXTS", 3)
    monkeypatch.setattr(similarity, "BYTES", 40)
    texts = ["a" * 50, "ab" * 30, "abc", "", "abcd" * 4, "aaaaa"]
    left, right = (np.ravel(side) for side in np.meshgrid(np.arange(6), np.arange(6)))
    # A slice starts elsewhere in its buffers than at their beginning.
    array = as_array(["before", *texts, "after"]).slice(1, 6)
    found = similarities(array, left, right, 3)
    assert found.tolist() == [jaccard(texts[one], texts[other], 3) for one, other in zip(left, right, strict=True)]


def test_a_text_of_a_million_characters_is_compared() -> None:
    base = "".join(random.Random(0).choices("abcdefghij ", k=1_000_000))
    texts = as_array([base, base[:900_000]])
    (found,) = similarities(texts, np.array([0]), np.array([1]), 7)
    assert found == jaccard(base, base[:900_000], 7)


@settings(deadline=None)
@given(TEXTS, st.integers(1, 8))
def test_equal_shingles_and_no_others_have_equal_hashes(texts: list[str], size: int) -> None:
    hashes, offsets = shingle_hashes(as_array(texts), size)
    of: dict[str, int] = {}
    for text, begin, end in zip(texts, offsets[:-1], offsets[1:], strict=True):
        pieces = [text[at : at + size] for at in range(max(1, len(text) - size + 1))]
        assert len(pieces) == end - begin
        for piece, value in zip(pieces, hashes[begin:end].tolist(), strict=True):
            assert of.setdefault(piece, value) == value
    assert len(set(of.values())) == len(of)


@given(st.lists(st.integers(0, 5), max_size=8), st.integers(0, 100))
def test_runs_are_spread_one_after_the_other(lengths: list[int], begin: int) -> None:
    counts = np.array(lengths, dtype=np.int64)
    begins = starts(counts) + begin
    wanted = [first + step for first, length in zip(begins, lengths, strict=True) for step in range(length)]
    assert spread(counts, begins).tolist() == wanted


@given(st.lists(st.integers(-3, 3)))
def test_each_value_comes_once_and_sorted(values: list[int]) -> None:
    assert sorted_distinct(np.array(values, dtype=np.int64)).tolist() == sorted(set(values))


@given(st.lists(st.integers(0, 60), max_size=20), st.integers(1, 6))
def test_portions_hold_all_texts_in_order_and_are_bounded(lengths: list[int], most: int) -> None:
    texts = as_array(["é" * length for length in lengths])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(similarity, "BYTES", 50)
        parts = [part.to_pylist() for _, part in portions(texts, most)]
    assert [text for part in parts for text in part] == texts.to_pylist()
    assert all(1 <= len(part) <= most for part in parts)
    assert all(len(part) == 1 or len("".join(part).encode()) <= 50 for part in parts)
