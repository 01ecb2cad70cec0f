"""Sameness is measured exactly, and does not depend on how many texts there are."""

from __future__ import annotations

import math
import random
from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.validate.drift.size_free_diversity import SHINGLE, WORD, distinct_shares, mean_similarity
from tests.unit.validate.drift.profiles import training_rows

TEXTS = [user for user, _ in training_rows(400, 1)]


def shingles(text: str) -> set[str]:
    plain = " ".join(text.casefold().split())
    return {plain[start : start + SHINGLE] for start in range(max(1, len(plain) - SHINGLE + 1))} if plain else set()


def pair_by_pair(texts: list[str]) -> float | None:
    """The definition, without a shortcut."""
    sets = [found for found in map(shingles, texts) if found]
    if len(sets) < 2:
        return None
    cosines = [len(one & other) / math.sqrt(len(one) * len(other)) for one, other in combinations(sets, 2)]
    return sum(cosines) / len(cosines)


@settings(deadline=None)
@given(st.lists(st.text(max_size=12), max_size=6))
def test_mean_similarity_is_the_mean_over_all_pairs(texts: list[str]) -> None:
    expected = pair_by_pair(texts)
    assert mean_similarity(texts) == (None if expected is None else pytest.approx(expected, abs=1e-9))


def test_texts_that_are_all_the_same_are_wholly_alike_and_others_are_not() -> None:
    assert mean_similarity(["where is my card"] * 5) == pytest.approx(1)
    assert mean_similarity(["abcdefgh", "ijklmnop", "我的信用卡昨天丢了"]) == 0
    assert mean_similarity(["only one", ""]) is None


def test_distinct_shares_are_the_mean_over_draws() -> None:
    pairs = [pair for text in TEXTS for pair in pairwise(WORD.findall(text))]
    rng = random.Random(0)
    draws = [len(set(rng.sample(pairs, 512))) / 512 for _ in range(300)]
    assert distinct_shares(TEXTS)[512] == pytest.approx(sum(draws) / len(draws), abs=0.002)


def test_distinct_shares_of_all_pairs_are_those_that_are_there() -> None:
    texts = ["a b c d e"] * 64  # 256 pairs, four of them distinct
    assert distinct_shares(texts) == {256: pytest.approx(4 / 256)}
    assert distinct_shares(["too few words"]) == {}


@pytest.mark.parametrize("rows", [50, 100, 200])
def test_neither_depends_on_the_number_of_texts(rows: int) -> None:
    some = TEXTS[:rows]
    assert mean_similarity(some) == pytest.approx(mean_similarity(TEXTS), rel=0.15)
    assert distinct_shares(some)[256] == pytest.approx(distinct_shares(TEXTS)[256], rel=0.02)


def test_characters_of_scripts_without_spaces_are_words() -> None:
    assert WORD.findall("我的卡 lost 昨天 ร้าน") == ["我", "的", "卡", "lost", "昨", "天", *WORD.findall("ร้าน")]
    assert len(distinct_shares(["我的信用卡昨天丢了请帮我" * 30])) == 1


def test_half_of_a_surrogate_pair_is_a_character_like_any_other() -> None:
    assert mean_similarity(["abc\ud83dxyz", "abc\ud83dxyz"]) == pytest.approx(1)
