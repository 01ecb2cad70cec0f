"""The choice of texts that stay: right whatever the order and the blocks, and never quadratic."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks.validate.config import NearDuplicates
from tasks.validate.duplicates import near
from tasks.validate.duplicates.near import MOST_VERIFIED, representatives
from tasks.validate.similarity import Positions, as_array, similarities

NEAR = NearDuplicates()


def sentence(choose: random.Random, words: int) -> str:
    return " ".join("".join(choose.choices("abcdefghijklmnop", k=choose.randint(2, 9))) for _ in range(words))


def selected(texts: pa.LargeStringArray) -> Positions:
    return representatives(texts, np.zeros(len(texts), dtype=np.int64), NEAR)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many pairs of texts were compared."""
    done = {"verified": 0}

    def counted(texts: Any, left: Any, *rest: Any) -> Any:
        done["verified"] += len(left)
        return similarities(texts, left, *rest)

    monkeypatch.setattr(near, "similarities", counted)
    return done


def test_many_texts_near_each_other_are_compared_with_one(work: dict[str, int]) -> None:
    mould = sentence(random.Random(0), 30)
    texts = [f"{mould} {number}" for number in range(50_000)]
    assert (selected(as_array(texts)) == 0).all()
    assert work["verified"] < 51_000


def test_texts_of_one_mould_cost_a_bounded_number_of_comparisons_each(
    work: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near, "BLOCK", 64)
    choose = random.Random(1)
    mould = sentence(choose, 22)
    texts = [f"{mould} {sentence(choose, 5)}" for _ in range(3_000)]
    kept_for = selected(as_array(texts))
    assert (kept_for == np.arange(3_000)).mean() > 0.5, "they are alike, but not near"
    assert work["verified"] <= 3_000 * (MOST_VERIFIED + 64) < 3_000 * 2_999 / 2 / 10


def test_a_chain_is_cut_where_a_text_is_near_none_that_stays() -> None:
    words = sentence(random.Random(2), 1_540).split()
    texts = as_array([" ".join(words[at : at + 40]) for at in range(1_500)])
    kept_for = selected(texts)
    kept = np.flatnonzero(kept_for == np.arange(1_500))
    dropped = np.flatnonzero(kept_for != np.arange(1_500))
    assert (similarities(texts, dropped, kept_for[dropped], NEAR.shingle) >= NEAR.threshold).all()
    assert np.isin(kept_for, kept).all()
    assert (similarities(texts, kept[1:], kept[:-1], NEAR.shingle) < NEAR.threshold).all()
    assert 150 < len(kept) < 750


@pytest.mark.parametrize("block", [1, 2, 7, 512])
def test_the_choice_does_not_depend_on_the_blocks(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    choose = random.Random(3)
    texts = [sentence(choose, 8)]
    for _ in range(400):
        words = choose.choice(texts).split()
        words[choose.randrange(8)] = choose.choice(["moon", "sun"])
        texts.append(" ".join(words) if choose.random() < 0.9 else sentence(choose, 8))
    array = as_array(list(dict.fromkeys(texts)))
    kept = selected(array) == np.arange(len(array))
    monkeypatch.setattr(near, "BLOCK", block)
    assert ((selected(array) == np.arange(len(array))) == kept).all()
    assert 20 < kept.sum() < len(array) - 20


def test_a_bucket_that_is_given_up_drops_nothing_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "MOST_KEPT", 2)
    monkeypatch.setattr(near, "MOST_VERIFIED", 1)
    choose = random.Random(4)
    mould = sentence(choose, 15)
    texts = [f"{mould} {sentence(choose, choose.randint(1, 4))}" for _ in range(600)]
    array = as_array(texts)
    kept_for = selected(array)
    dropped = np.flatnonzero(kept_for != np.arange(600))
    assert len(dropped) and (kept_for[kept_for] == kept_for).all()
    assert (similarities(array, dropped, kept_for[dropped], NEAR.shingle) >= NEAR.threshold).all()
