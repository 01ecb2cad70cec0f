"""Duplicates and leaks: found all, and nothing else."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.validate.config import Contamination, NearDuplicates
from tasks.validate.contamination import find_contamination
from tasks.validate.duplicates import Duplicate, find_duplicates
from tasks.validate.similarity import bands, jaccard, normalise, shingles

NEAR = NearDuplicates()
WORDS = (
    "my",
    "card",
    "lost",
    "please",
    "freeze",
    "it",
    "now",
    "when",
    "salary",
    "account",
    "ok",
    "我的",
    "卡",
    "أين",
    "🎉",
)


def sentences(count: int, seed: int) -> list[str]:
    """Sentences of few words and small edits of earlier ones: many pairs on both sides of any threshold."""
    choose = random.Random(seed)
    made: list[str] = []
    for _ in range(count):
        if made and choose.random() < 0.6:
            words = choose.choice(made).split()
            words[choose.randrange(len(words))] = choose.choice(WORDS)
            made.append(" ".join(words))
        else:
            made.append(" ".join(choose.choices(WORDS, k=choose.randint(3, 14))))
    return made


def brute_force(texts: list[str], config: NearDuplicates) -> list[tuple[int, int]]:
    """Every pair compared: each text is dropped for the most similar kept one before it."""
    cut = [shingles(normalise(text), config.shingle) for text in texts]
    kept: list[int] = []
    dropped = []
    for position, own in enumerate(cut):
        score, original = max(((jaccard(own, cut[other]), -other) for other in kept), default=(0.0, 0))
        if score >= config.threshold:
            dropped.append((position, -original))
        else:
            kept.append(position)
    return dropped


def test_texts_that_differ_in_form_alone_are_exact_duplicates() -> None:
    texts = ["Lost  my CARD!!", "lost my card", "lo\uff53t my, card.", "found my card again, thanks"]
    assert find_duplicates(texts, NEAR) == [Duplicate(1, 0, "exact"), Duplicate(2, 0, "exact")]


def test_other_scripts_and_signs_tell_texts_apart() -> None:
    texts = ["我的卡丢了", "我的工资呢", "أين راتبي", "👍", "👎", "?", "!", "", "cost: $5", "cost: €5"]
    assert find_duplicates(texts, NearDuplicates(threshold=0.99)) == []


def test_the_row_that_stays_is_the_first_and_is_itself_kept() -> None:
    first = "please freeze my lost card now because I cannot find it anywhere"
    texts = [first, first + " ok", first.upper() + " OK!", first + " ok ok"]
    assert find_duplicates(texts, NEAR) == [Duplicate(n, 0, "near") for n in (1, 2, 3)]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), threshold=st.sampled_from([0.3, 0.5, 0.8, 0.95, 1.0]), shingle=st.integers(1, 7))
def test_near_duplicates_are_those_that_comparing_every_pair_finds(seed: int, threshold: float, shingle: int) -> None:
    texts = sentences(80, seed)
    config = NearDuplicates(threshold=threshold, shingle=shingle)
    found = find_duplicates(texts, config)
    kept = set(range(len(texts))) - {duplicate.position for duplicate in found}
    assert {duplicate.original for duplicate in found} <= kept
    assert kept == set(range(len(texts))) - {position for position, _ in brute_force(texts, config)}


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), threshold=st.sampled_from([0.3, 0.6, 0.8, 1.0]))
def test_contamination_is_what_comparing_with_every_holdout_text_finds(seed: int, threshold: float) -> None:
    texts = sentences(80, seed)
    holdout, rows = texts[::3], texts
    cut = [shingles(normalise(text), 5) for text in holdout]
    expected = {}
    for position, text in enumerate(rows):
        own = shingles(normalise(text), 5)
        score, nearest = max((jaccard(own, other), -number) for number, other in enumerate(cut))
        if score >= threshold:
            expected[position] = -nearest
    assert find_contamination(rows, holdout, Contamination(threshold=threshold)) == expected
    assert set(range(0, len(rows), 3)) <= set(expected), "an equal text is always found"


def test_without_a_holdout_nothing_is_contaminated() -> None:
    assert find_contamination(["a message"], [], Contamination()) == {}


@given(st.text(max_size=60))
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once


@given(st.text(max_size=60))
def test_the_white_space_around_a_text_does_not_matter(text: str) -> None:
    assert normalise(f"  {text}\n") == normalise(text)


@given(st.text(max_size=40), st.integers(1, 8))
def test_a_text_is_wholly_like_itself(text: str, size: int) -> None:
    assert jaccard(shingles(text, size), shingles(text, size)) == 1.0
    assert all(len(piece) <= size or piece == text for piece in shingles(text, size))


def test_bands_divide_the_permutations_and_miss_almost_nothing_at_the_threshold() -> None:
    for threshold in (0.3, 0.5, 0.8, 0.9, 1.0):
        count = bands(threshold, 128)
        assert 128 % count == 0
        assert (1 - threshold ** (128 // count)) ** count <= 1e-6
    assert bands(0.8, 128) < 128, "a high threshold leaves room for selective bands"
