from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.evaluate.metrics import accuracy, token_f1


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        ("Billing", "billing", 1.0),
        ("  billing\n", "billing", 1.0),
        ("It is billing", "billing", 0.0),
        ("billing dispute", "billing", 0.0),
        ("", "billing", 0.0),
        ("STRASSE", "straße", 1.0),
    ],
)
def test_only_the_whole_answer_counts(answer: str, reference: str, score: float) -> None:
    assert accuracy(answer, reference) == score


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        ("The cat sat.", "a cat sat", 1.0),
        ("cat", "cat sat", 2 / 3),
        ("dog", "cat", 0.0),
        ("cat cat", "cat", 2 / 3),
        ("", "cat", 0.0),
        ("well-known, isn't it?", "wellknown isnt it", 1.0),
    ],
)
def test_token_f1_is_squads(answer: str, reference: str, score: float) -> None:
    assert token_f1(answer, reference) == pytest.approx(score)


@settings(deadline=None)
@given(
    *[st.lists(st.sampled_from(["Cat,", "cat", "the", "it's", "is", "(so)", "well-known", "A", "dog."])).map(" ".join)]
    * 2
)
def test_token_f1_of_english_prose_is_that_of_transformers(answer: str, reference: str) -> None:
    squad = pytest.importorskip("transformers.data.metrics.squad_metrics")
    if all(map(squad.get_tokens, (answer, reference))):
        assert token_f1(answer, reference) == pytest.approx(squad.compute_f1(reference, answer))


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        ("请冻结我的卡。", "请冻结我的卡", 1.0),
        ("冻结卡", "请冻结我的卡", 2 * 3 / 9),
        ("东京", "北京", 0.5),
        ("カードを止めて!", "カードを止めて", 1.0),
        ("カード", "カート", 2 / 3),
        ("ไม่ไป", "ไป", 2 * 2 / 6),
        ("我有 iPhone 手机", "我有iPhone手机", 1.0),
        ("我有5张", "我有6张", 2 * 3 / 8),
        ("「東京」です。", "東京です", 1.0),
        ("\uff21\uff22\uff23\u3000\uff11\uff12", "abc 12", 1.0),
        ("ｶﾞｽ", "ガス", 1.0),
        ("cafe\u0301", "caf\u00e9", 1.0),
        ("cafe", "café", 0.0),
        ("की", "का", 0.0),
        ("¿Dónde está?", "dónde está", 1.0),
        ("أين راتبي؟", "أين راتبي", 1.0),
        ("서울에 있다.", "서울에 있다", 1.0),
    ],
)
def test_words_need_no_spaces(answer: str, reference: str, score: float) -> None:
    assert token_f1(answer, reference) == pytest.approx(score)


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        ("C++", "C", 0.5),
        ("C#", "C", 2 / 3),
        ("-5", "5", 2 / 3),
        ("\u22125", "-5", 1.0),
        ("5 - 3", "5-3", 1.0),
        ("5 - 3", "5 + 3", 2 / 3),
        ("covid-19", "COVID-19", 1.0),
        ("1.5", "15", 0.0),
        ("1,000", "1000", 1.0),
        ("1,5", "15", 0.0),
        ("x²", "x2", 0.0),
        ("$5", "€5", 0.5),
        ("50%", "50", 2 / 3),
        ("<", ">", 0.0),
        ("👍", "👎", 0.0),
        ("👍", "👍", 1.0),
        ("!", "?", 0.0),
        ("...", "...", 1.0),
        ("!", "", 0.0),
        ("the", "", 0.0),
        ("A", "B", 0.0),
        ("A", "a.", 1.0),
        ("", "", 1.0),
        (" \n", "", 1.0),
        ("", "好", 0.0),
    ],
)
def test_symbols_signs_and_empty_answers_count(answer: str, reference: str, score: float) -> None:
    assert token_f1(answer, reference) == pytest.approx(score)


@given(st.text(), st.text())
def test_token_f1_is_symmetric_and_a_fraction(one: str, other: str) -> None:
    assert 0 <= token_f1(one, other) <= 1
    assert token_f1(one, other) == token_f1(other, one)
    assert token_f1(one, one) == 1
