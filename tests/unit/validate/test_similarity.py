"""Texts brought to one form, and how much two of them share."""

from __future__ import annotations

import random
import re
import sys
import unicodedata
from functools import cache

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.validate import similarity
from tasks.validate.similarity import (
    as_array,
    normalise,
    normalise_texts,
    portions,
    shingle_hashes,
    similarities,
    sorted_distinct,
    spread,
    starts,
)

TEXTS = st.lists(st.text(alphabet=st.sampled_from("ab cß-É中的أین،🎉!\n"), max_size=20), min_size=1, max_size=12)


@cache
def gaps() -> re.Pattern[str]:
    points = map(chr, range(sys.maxunicode + 1))
    return re.compile(rf"[\s{re.escape(''.join(c for c in points if unicodedata.category(c)[0] == 'P'))}]+")


def one_by_one(text: str) -> str:
    """What :func:`normalise` promises, said with Python's own functions."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return gaps().sub(" ", folded).strip() or folded.strip()


def shingles(text: str, size: int) -> set[str]:
    return {text[start : start + size] for start in range(max(1, len(text) - size + 1))}


def jaccard(one: str, other: str, size: int) -> float:
    left, right = shingles(one, size), shingles(other, size)
    return len(left & right) / len(left | right)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("  Lost my\tCARD!! ", "lost my card"),
        ("lo\uff53t my, card.", "lost my card"),
        ("Straße", "strasse"),
        ("我的卡丢了。请冻结!", "我的卡丢了 请冻结"),
        ("أين راتبي؟", "أين راتبي"),
        ("👍 ok 👍🏽", "👍 ok 👍🏽"),
        ("?!", "?!"),
        (" ... ", "..."),
        ("", ""),
        (" \n", ""),
        ("cost: $5", "cost $5"),
        ("a\x00b\x1fc", "a\x00b c"),
    ],
)
def test_what_does_not_change_the_meaning_goes(text: str, plain: str) -> None:
    assert normalise(text) == plain


@settings(deadline=None)
@given(st.lists(st.text(max_size=30), max_size=12))
def test_an_array_of_texts_is_normalised_as_each_alone(texts: list[str]) -> None:
    assert normalise_texts(texts).to_pylist() == [one_by_one(text) for text in texts]


def test_every_character_is_treated_as_python_knows_it() -> None:
    texts = [f"a{chr(code)}b" for code in range(sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF]
    assert normalise_texts(texts).to_pylist() == [one_by_one(text) for text in texts]


@settings(deadline=None)
@given(st.text(max_size=60))
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once == normalise(f"  {text}\n")


def test_texts_come_in_any_form() -> None:
    texts = ["Eins", "zwei!", None, "drei"]
    plain = ["eins", "zwei", "", "drei"]
    for kind in (pa.string(), pa.large_string()):
        whole = pa.array(texts, kind)
        assert normalise_texts(whole).to_pylist() == plain
        assert normalise_texts(whole.slice(1, 2)).to_pylist() == plain[1:3]
        assert normalise_texts(pa.chunked_array([whole.slice(0, 1), whole.slice(1)])).to_pylist() == plain
    assert normalise_texts(pa.chunked_array([], pa.string())).to_pylist() == []
    assert normalise_texts([]).to_pylist() == []
    assert normalise_texts(pa.nulls(2)).to_pylist() == ["", ""]


def test_half_a_surrogate_pair_is_no_fault() -> None:
    assert normalise_texts(["half \ud83d of a pair", "B"]).to_pylist() == ["half of a pair", "b"]


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
