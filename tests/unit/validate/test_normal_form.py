"""The normal form: what carries meaning stays, what carries none goes."""

from __future__ import annotations

import random
import string
import time

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.validate.normal_form import marks, normalise, normalise_texts, unaccented
from tasks.validate.similarity import as_array
from tests.unit.validate.questions import OTHER_QUESTIONS, SAME_QUESTIONS

PIECES = [
    "a",
    "of",
    "Card",
    "x",
    "I",
    " ",
    "\n",
    "-",
    " - ",
    ".",
    ",",
    "!",
    "?",
    "'",
    '"',
    "(",
    ")",
    ";",
    ":",
    "5",
    "ü",
]


@pytest.mark.parametrize(
    ("text", "form", "has_to_be_equal"),
    [
        ("  Lost my\tCARD!! ", "lost my card", ""),
        ("我的卡丢了。请冻结!", "我的卡丢了 请冻结", ""),
        ("أين راتبي؟", "أين راتبي", ""),
        ('Hi - I\'m (well) "here"; ok?', "hi i m well here ok", ""),
        ("👍 ok 👍🏽", "👍 ok 👍🏽", "👍 👍🏽"),
        ("?!", "?!", "?!"),
        (" ... ", "...", "..."),
        ("", "", ""),
        (" \n", "", ""),
        ("cost: $5", "cost $5", "$5"),
        ("What is 5 - 3?", "what is 5-3", "5-3"),
        ("A 24-hour test of GPT-4, covid-19", "a 24 hour test of gpt 4 covid 19", "24 4 19"),
        ("Is f(X, y) == 2.50?", "is f(X,\ue020y) ==2.50", "f(X,\ue020y) ==2.50"),
        ("カード3枚", "カード 3 枚", "3"),
        ("a\x00b\x1fc", "a\x00b c", "a\x00b"),
    ],
)
def test_the_form_and_what_has_to_be_equal_in_copies(text: str, form: str, has_to_be_equal: str) -> None:
    assert normalise(text) == form
    assert marks(as_array([form])).to_pylist()[0].split() == has_to_be_equal.split()


@pytest.mark.parametrize(("one", "other"), OTHER_QUESTIONS)
def test_what_asks_for_something_else_has_another_form(one: str, other: str) -> None:
    assert normalise(one) != normalise(other)


@pytest.mark.parametrize(("one", "other"), SAME_QUESTIONS)
def test_what_asks_for_the_same_has_the_same_form(one: str, other: str) -> None:
    assert normalise(one) == normalise(other)


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), max_size=12))
def test_an_array_of_texts_is_normalised_as_each_alone(texts: list[str]) -> None:
    # A character outside ASCII, which goes, keeps Arrow's faster way from being taken.
    assert normalise_texts(texts).to_pylist() == [normalise(f"{text}\u200b") for text in texts]


@settings(deadline=None)
@given(st.text(max_size=60))
def test_white_space_around_a_text_changes_nothing(text: str) -> None:
    assert normalise(text) == normalise(f"\n  {text.strip()}\n")


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


def test_texts_without_accents_are_compared_letter_by_letter() -> None:
    forms = normalise_texts(["Schön, señor", "schon senor", "ok", "की"])
    assert unaccented(forms).to_pylist() == ["schon senor", "schon senor", "ok", "क"]


@pytest.mark.parametrize(
    "piece", ["f(", "a-", "`a", "*a ", "[", "{a", "我a", "1,", "_a", "a.", "\n  ", "=a", "/", "👍", " - "]
)
def test_time_grows_with_the_length_alone(piece: str) -> None:
    def seconds(length: int) -> float:
        text = (piece * length)[:length] + "é"
        start = time.process_time()
        normalise(text)
        return time.process_time() - start

    seconds(100)
    assert seconds(40_000) < 12 * max(seconds(10_000), 0.01)


def test_a_long_word_is_kept() -> None:
    word = "".join(random.Random(0).choices(string.ascii_letters + string.digits + "+/", k=10_000))
    assert normalise(f"decode {word}").startswith("decode ")
    assert normalise(word) != normalise(word[:-1])
