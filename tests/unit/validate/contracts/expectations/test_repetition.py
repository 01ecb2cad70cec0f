"""Texts that say the same again and again."""

from __future__ import annotations

import pandas as pd
import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from tasks.validate.contracts.expectations.repetition import Repetition, repeated_shares, repeats_itself


def share(text: str, ngram: int) -> float:
    return float(repeated_shares(pd.Series([text], dtype=object), ngram)[0])


def by_definition(text: str, ngram: int) -> float:
    """The same share, word by word."""
    words = regex.findall(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}]\p{M}*|[\p{L}\p{M}\p{N}]+", text.lower())
    seen, covered = set(), set()
    for start in range(len(words) - ngram + 1):
        run = tuple(words[start : start + ngram])
        covered |= set(range(start, start + ngram)) if run in seen else set()
        seen.add(run)
    return sum(len(words[place]) for place in covered) / max(sum(map(len, words)), 1)


WORDS = st.lists(st.sampled_from(["my", "card", "is", "lost", "Über", "карта", "بطاقة", "x1"]), max_size=25)


@given(WORDS, st.sampled_from([" ", ", ", "\n", " - ", "! "]), st.integers(1, 5))
def test_the_share_is_that_of_the_definition(words: list[str], between: str, ngram: int) -> None:
    text = between.join(words)
    assert share(text, ngram) == pytest.approx(by_definition(text, ngram))


@given(st.lists(st.sampled_from("abcdefgh"), min_size=4, max_size=12, unique=True), st.integers(2, 6))
def test_a_text_said_several_times_has_all_but_the_first(words: list[str], times: int) -> None:
    assert share(" ".join(words * times), 4) == pytest.approx((times - 1) / times)


def test_punctuation_and_case_do_not_hide_a_repetition() -> None:
    assert share("Where is my card? where is MY card!", 4) == 0.5


def test_characters_are_the_words_of_scripts_without_spaces() -> None:
    assert share("我的卡在哪里" * 4, 4) == pytest.approx(0.75)
    assert share("カードはどこですか" * 2, 4) == pytest.approx(0.5)
    assert share("บัตรอยู่ที่ไหน" * 3, 4) == pytest.approx(2 / 3, abs=0.05)
    assert share("我上周订购的新卡在哪里", 4) == 0


def test_texts_do_not_count_for_each_other() -> None:
    same = pd.Series(["where is my new card"] * 3 + ["", None, "🙂 🙂 🙂 🙂 🙂"], dtype=object)
    assert repeated_shares(same, 3).tolist() == [0] * 6


def test_only_more_than_the_share_fails() -> None:
    texts = pd.Series(["a b c d a b c d", "a b c d e", "no " * 50, None], dtype=object)
    assert repeats_itself(texts, Repetition(max_share=0.5)).tolist() == [False, False, True, False]
    assert repeats_itself(texts, Repetition(max_share=0.49)).tolist() == [True, False, True, False]
