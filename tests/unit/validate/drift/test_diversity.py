"""How varied texts are: the measures against their definitions and against what other programs say."""

from __future__ import annotations

import math
import random

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.validate.drift import diversity as measures
from tasks.validate.drift.diversity import SAMPLE, WordCodes, diversity, self_similarity
from tasks.validate.drift.size_free_diversity import words

TEXTS = st.lists(st.text(alphabet=st.sampled_from("ab c中أ.!"), max_size=25), max_size=8)
CARDS = [
    "i lost my card yesterday",
    "i lost my bank card",
    "when is my salary paid",
    "hello",
    "hello there my card",
]


def distinct(texts: list[str], n: int) -> float | None:
    return measures.distinct(WordCodes(texts), n)


def self_bleu(texts: list[str]) -> float | None:
    return measures.self_bleu(WordCodes(texts))


def vendi_score(texts: list[str]) -> float | None:
    return measures.vendi_score(WordCodes(texts))


def test_words_are_folded_and_scripts_without_spaces_fall_into_characters() -> None:
    assert words("My CARD, Straße!") == ["my", "card", "strasse"]
    assert words("我的卡 أين راتبي؟") == ["我", "的", "卡", "أين", "راتبي"]


def test_distinct_counts_pairs_of_neighbouring_words_in_one_text_only() -> None:
    assert distinct(["My card my CARD", "my card"], 1) == pytest.approx(2 / 6)
    assert distinct(["my card my card", "my card"], 2) == pytest.approx(2 / 4)
    assert distinct(["word"], 2) is None


def test_self_bleu_is_what_sacrebleu_gives() -> None:
    # The mean of sacreBLEU 2.6.0's sentence_score, tokenize="none", effective_order=True, all others as references.
    assert self_bleu(CARDS) == pytest.approx(0.2664228576632673)
    assert self_bleu(["the cat sat on the mat the cat", "the the the", "a dog"]) == pytest.approx(0.1565097017043591)


def test_self_bleu_of_copies_is_one_and_of_texts_that_share_no_word_nothing() -> None:
    assert self_bleu(["please freeze my card"] * 3) == pytest.approx(1)
    assert self_bleu(["one two", "three four", ""]) == 0
    assert self_bleu(["alone"]) is None


def test_the_vendi_score_counts_texts_that_are_unlike() -> None:
    assert vendi_score(["a b c"] * 5) == pytest.approx(1)
    assert vendi_score(["a b", "c d", "e f"]) == pytest.approx(3)
    assert vendi_score(["a b", "c d", "a b", "c d"]) == pytest.approx(2)
    assert vendi_score(["", "a", "b"]) == pytest.approx(3)
    assert vendi_score([]) is None


def test_the_vendi_score_is_that_of_the_mean_of_the_kernels() -> None:
    # "a b" and "a c": cosine 1/2 of the words, 0 of the pairs; so K = [[1, 1/4], [1/4, 1]], and K / 2 has the
    # eigenvalues 5/8 and 3/8.
    entropy = -(5 / 8 * math.log(5 / 8) + 3 / 8 * math.log(3 / 8))
    assert vendi_score(["a b", "a c"]) == pytest.approx(math.exp(entropy))


def test_self_similarity_is_that_to_the_nearest_other_text() -> None:
    assert self_similarity(["a long sentence", "A long sentence!", "zzzzzzz"]) == pytest.approx(2 / 3)
    assert self_similarity(["aaaaaaaaaa", "aaaaabbbbb"]) == pytest.approx(1 / 6), "each shingle counts once"
    assert self_similarity(["alone"]) is None


@settings(deadline=None)
@given(TEXTS)
def test_diversity_lies_between_nothing_and_all(texts: list[str]) -> None:
    found = diversity(texts, 0)
    shares = [distinct(texts, 1), self_similarity(texts), *(found[f"distinct_{n}"] for n in (1, 2, 3))]
    for value in (*shares, found["self_bleu"]):
        assert value is None or 0 <= value <= 1 + 1e-9
    if texts:
        assert 1 - 1e-9 <= found["vendi"] <= len(texts) + 1e-9
    assert found["sample"] == len(texts)


def test_a_collapse_is_seen_by_every_measure() -> None:
    choose = random.Random(0)
    lexicon = ["".join(choose.choices("abcdefgh", k=5)) for _ in range(2_000)]
    varied = [" ".join(choose.choices(lexicon, k=12)) for _ in range(300)]
    collapsed = [f"please {choose.choice(varied[:20])}" for _ in range(300)]
    one, other = diversity(varied, 0), diversity(collapsed, 0)
    assert one["vendi"] > 5 * other["vendi"]
    assert one["self_bleu"] + 0.5 < other["self_bleu"]
    assert all(one[f"distinct_{n}"] > other[f"distinct_{n}"] for n in (1, 2, 3))


def test_a_sample_of_many_texts_is_drawn_by_the_seed() -> None:
    texts = [f"text number {number} of many {number % 7}" for number in range(SAMPLE + 500)]
    drawn = diversity(pa.chunked_array([texts[:700], texts[700:]]), 3)
    assert drawn == diversity(texts, 3) != diversity(texts, 4)
    assert drawn["sample"] == SAMPLE


def test_of_a_long_text_the_beginning_is_measured() -> None:
    assert diversity(["one two " * 200_000, "three"], 0)["distinct_1"] == pytest.approx(3 / 501)
