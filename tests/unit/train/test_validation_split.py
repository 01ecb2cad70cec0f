from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.errors import TrainingError
from tasks.train.config import TrainConfig
from tasks.train.validation_split import MINIMUM_ROWS, require_enough, validation_split


def rows(*found: tuple[str | None, str, str]) -> pd.DataFrame:
    """Rows of (document, origin, source)."""
    return pd.DataFrame(
        [
            {"example_id": f"e{number}", "document_id": document, "origin": origin, "source": source}
            for number, (document, origin, source) in enumerate(found)
        ]
    )


def config(fraction: float = 0.3, **changes: Any) -> TrainConfig:
    return TrainConfig.model_validate({"max_steps": 10, "validation_fraction": fraction, **changes})


MANY = rows(*((f"d{number}", "generated", "a.csv") for number in range(2000)))


@given(st.lists(st.sampled_from([f"d{number}" for number in range(30)]), min_size=1), st.integers(0, 5))
def test_all_rows_of_a_document_are_on_one_side_whatever_else_there_is(documents: list[str], seed: int) -> None:
    frame = rows(*((name, ("collected", "generated")[at % 2], "a.csv") for at, name in enumerate(documents)))
    held = validation_split(frame, config(), seed)
    alone = {name: validation_split(rows((name, "collected", "a.csv")), config(), seed)[0] for name in documents}
    assert held.tolist() == [alone[name] for name in documents]


def test_the_share_is_about_what_was_asked_and_a_larger_one_contains_a_smaller() -> None:
    small, large = (validation_split(MANY, config(fraction), 7) for fraction in (0.1, 0.3))
    assert small.mean() == pytest.approx(0.1, abs=0.03) and large.mean() == pytest.approx(0.3, abs=0.03)
    assert (large | ~small).all()
    assert not validation_split(MANY, config(0.0), 7).any()


def test_another_seed_draws_other_documents() -> None:
    assert (validation_split(MANY, config(), 7) != validation_split(MANY, config(), 8)).any()


@pytest.mark.parametrize("missing", [None, "", float("nan")])
def test_rows_without_a_document_are_drawn_one_by_one(missing: Any) -> None:
    held = validation_split(rows(*((missing, "generated", "a.csv") for _ in range(400))), config(), 7)
    assert 0.2 < held.mean() < 0.4


def test_replay_rows_and_rows_that_the_mix_does_not_use_are_never_measured() -> None:
    kinds = (("collected", "a.csv"), ("collected", "general.jsonl"), ("generated", "a.csv"), ("generated", "b.csv"))
    frame = rows(*((f"d{number}", *kinds[number % 4]) for number in range(400)))
    shares = {"collected": 0.0, "generated": 0.5, "replay": 0.5}
    mix = {"shares": shares, "replay": ["general.jsonl"], "source_weights": {"b.csv": 0}}
    held = frame[validation_split(frame, config(mix=mix), 7)]
    assert set(zip(held["origin"], held["source"], strict=True)) == {("generated", "a.csv")}
    assert len(held) > 15
    without_mix = frame[validation_split(frame, config(), 7)]
    assert set(without_mix["origin"]) == {"collected", "generated"}


def test_too_few_rows_are_an_error_with_how_many_there_are_and_are_needed() -> None:
    split = MANY.iloc[: MINIMUM_ROWS - 3]
    message = r"validation_fraction 0\.1 sets 7 of 60 rows aside \(7 documents\), and .* needs at least 10"
    with pytest.raises(TrainingError, match=message) as caught:
        require_enough(7, split, 60, 0.1)
    assert "raise it" in caught.value.remedy
    with pytest.raises(TrainingError, match=r"sets 12 of 60 rows aside \(12 documents\), 9 of which can be used"):
        require_enough(9, MANY.iloc[:12], 60, 0.1)
    with pytest.raises(TrainingError, match=r"sets 12 of 12 rows aside .* none are left to train on"):
        require_enough(12, MANY.iloc[:12], 12, 0.5)
    require_enough(MINIMUM_ROWS, MANY.iloc[:MINIMUM_ROWS], 60, 0.1)


def test_no_rows_have_no_split() -> None:
    empty = MANY.iloc[:0]
    assert validation_split(empty, config(), 7).dtype == np.bool_ and len(validation_split(empty, config(), 7)) == 0
