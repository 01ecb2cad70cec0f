"""Duplicates: found all, and nothing else."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.validate.config import NearDuplicates
from tasks.validate.duplicates.duplicates import Duplicates, find_duplicates
from tasks.validate.normal_form import marks, normalise_texts
from tests.unit.validate.questions import LONG_QUESTION, OTHER_QUESTIONS, SAME_QUESTIONS

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


def brute_force(texts: list[str], config: NearDuplicates) -> set[int]:
    """What stays when every text is compared with all that stay before it and have the same marks."""
    forms = normalise_texts(texts)
    kinds = marks(forms).to_pylist()
    cut = [
        {text[start : start + config.shingle] for start in range(max(1, len(text) - config.shingle + 1))}
        for text in forms.to_pylist()
    ]
    kept: list[int] = []
    for position, own in enumerate(cut):
        alike = (cut[other] for other in kept if kinds[other] == kinds[position])
        if all(len(own & other) / len(own | other) < config.threshold for other in alike):
            kept.append(position)
    return set(kept)


def listed(found: Duplicates) -> list[tuple[int, int, str]]:
    return list(zip(found.position.tolist(), found.original.tolist(), found.kind.tolist(), strict=True))


def test_texts_that_differ_in_form_alone_are_exact_duplicates() -> None:
    texts = ["Lost  my CARD!!", "lost my card", "lo\uff53t my, card.", "found my card again, thanks"]
    assert listed(find_duplicates(texts, NEAR)) == [(1, 0, "exact"), (2, 0, "exact")]


def test_other_scripts_and_signs_tell_texts_apart() -> None:
    texts = ["我的卡丢了", "我的工资呢", "أين راتبي", "👍", "👎", "?", "!", "", "cost: $5", "cost: €5"]
    assert len(find_duplicates(texts, NearDuplicates(threshold=0.99))) == 0


@pytest.mark.parametrize(("one", "other"), OTHER_QUESTIONS)
@pytest.mark.parametrize("around", ["{}", LONG_QUESTION])
def test_what_differs_in_signs_numbers_code_or_accents_is_no_duplicate(one: str, other: str, around: str) -> None:
    assert listed(find_duplicates([around.format(one), around.format(other)], NEAR)) == []


@pytest.mark.parametrize(("one", "other"), SAME_QUESTIONS)
@pytest.mark.parametrize("around", ["{}", LONG_QUESTION])
def test_what_differs_in_form_is_an_exact_duplicate(one: str, other: str, around: str) -> None:
    assert listed(find_duplicates([around.format(one), around.format(other)], NEAR)) == [(1, 0, "exact")]


def test_a_word_more_is_near_if_signs_and_numbers_are_equal() -> None:
    text = "could you please calculate how much -5 + 3 gives in the end and explain every step to me"
    texts = [text, text + " ok", text.replace("-5", "5") + " ok", text.replace("+ 3", "+ 30") + " ok"]
    assert listed(find_duplicates(texts, NEAR)) == [(1, 0, "near")]


def test_the_same_words_in_another_context_are_another_question() -> None:
    text = "please freeze my lost card now because I cannot find it anywhere"
    contexts = pa.array(["", "a", "b", "a", "b", "a"])
    found = find_duplicates([text, text, text, text.upper(), text + " ok", "a"], NEAR, contexts)
    assert listed(found) == [(3, 1, "exact"), (4, 2, "near")]


def test_the_row_that_stays_is_the_first_and_is_itself_kept() -> None:
    first = "please freeze my lost card now because I cannot find it anywhere"
    texts = [first, first + " ok", first.upper() + " OK!", first + " ok ok"]
    assert listed(find_duplicates(texts, NEAR)) == [(n, 0, "near") for n in (1, 2, 3)]


def test_an_exact_copy_of_a_text_that_is_dropped_points_to_the_one_that_stays() -> None:
    first = "please freeze my lost card now because I cannot find it anywhere"
    texts = ["something else entirely", first, first + " ok", first + " OK", first + "!"]
    assert listed(find_duplicates(texts, NEAR)) == [(2, 1, "near"), (3, 1, "near"), (4, 1, "exact")]


def test_no_texts_and_empty_ones() -> None:
    empty: list[str] = []
    for nothing in (empty, pa.array([], pa.string()), pa.chunked_array([], pa.large_string())):
        assert listed(find_duplicates(nothing, NEAR)) == []
    missing = pa.chunked_array([["", "a"], [None, "a"]], pa.string())
    assert listed(find_duplicates(missing, NEAR)) == [(2, 0, "exact"), (3, 1, "exact")]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.sampled_from([1, 2, 80]),
    threshold=st.sampled_from([0.3, 0.5, 0.8, 0.95, 1.0]),
    shingle=st.integers(1, 7),
)
def test_what_stays_is_what_comparing_every_pair_keeps(seed: int, count: int, threshold: float, shingle: int) -> None:
    texts = sentences(count, seed)
    config = NearDuplicates(threshold=threshold, shingle=shingle)
    found = find_duplicates(texts, config)
    kept = set(range(len(texts))) - set(found.position.tolist())
    assert set(found.original.tolist()) <= kept
    assert kept == brute_force(texts, config)
    assert (found.original < found.position).all() and (np.diff(found.position) > 0).all()


def test_the_result_is_the_same_each_time_and_in_each_form() -> None:
    texts = sentences(3_000, 7)
    first = find_duplicates(texts, NEAR)
    assert listed(find_duplicates(pa.chunked_array([texts[:999], texts[999:]]), NEAR)) == listed(first)
    assert 300 < len(first) < 2_700


def test_fifty_thousand_copies_of_a_text_leave_one() -> None:
    found = find_duplicates(
        ["another text", *["Say it AGAIN, please!"] * 25_000, *["say it again please"] * 25_000], NEAR
    )
    assert len(found) == 49_999 and (found.original == 1).all() and set(found.kind) == {"exact"}


def test_a_text_of_a_million_characters_is_compared_with_short_ones() -> None:
    text = "".join(random.Random(0).choices("abcdefghijklmnopqrstuvwxyz ", k=1_000_000))
    found = find_duplicates(["short", text, text.upper(), text[:-50_000], text[:500_000]], NEAR)
    assert listed(found) == [(2, 1, "exact"), (3, 1, "near")]


def test_planted_copies_among_many_texts_are_all_found() -> None:
    choose = random.Random(5)
    texts = ["".join(choose.choices("abcdefghijklm ", k=choose.randint(60, 120))) for _ in range(5_000)]
    copies = [text[:30] + "z" + text[31:] for text in texts[:1_000]]
    found = find_duplicates(texts + copies, NEAR)
    assert found.position.tolist() == list(range(5_000, 6_000))
    assert found.original.tolist() == list(range(1_000))
