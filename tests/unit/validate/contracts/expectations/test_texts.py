"""Batches of texts: all values in order, in bounded memory."""

from __future__ import annotations

import pandas as pd
import pytest

from tasks.validate.contracts.expectations import own
from tasks.validate.contracts.expectations.own import text_batches


@pytest.mark.parametrize("rows", [1, 3, 100])
@pytest.mark.parametrize("characters", [1, 10, 1_000])
def test_batches_hold_all_values_in_order(monkeypatch: pytest.MonkeyPatch, rows: int, characters: int) -> None:
    monkeypatch.setattr(own, "ROWS", rows)
    monkeypatch.setattr(own, "CHARACTERS", characters)
    values = ["a", "bb" * 30, "", None, 3, float("nan"), "ü🙂", "短" * 12, "z"]
    batches = [batch.to_pylist() for batch in text_batches(pd.Series(values, dtype=object))]
    assert [text for batch in batches for text in batch] == ["a", "bb" * 30, "", "", "", "", "ü🙂", "短" * 12, "z"]
    assert all(len(batch) <= rows and sum(map(len, batch[1:])) <= characters for batch in batches)


def test_half_a_surrogate_pair_does_not_stop_a_batch() -> None:
    (batch,) = text_batches(pd.Series(["fine", "broken \ud83d"], dtype=object))
    assert batch.to_pylist() == ["fine", "broken ?"]


def test_no_values_make_no_batch() -> None:
    assert list(text_batches(pd.Series([], dtype=object))) == []
