from __future__ import annotations

import pytest
from hypothesis import given
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
        ("the", "", 1.0),
    ],
)
def test_token_f1_is_squads(answer: str, reference: str, score: float) -> None:
    assert token_f1(answer, reference) == pytest.approx(score)


@given(st.text(), st.text())
def test_token_f1_is_symmetric_and_a_fraction(one: str, other: str) -> None:
    assert 0 <= token_f1(one, other) <= 1
    assert token_f1(one, other) == token_f1(other, one)
    assert token_f1(one, one) == 1
