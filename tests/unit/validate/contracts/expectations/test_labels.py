"""The balance of labels: which are missing, too rare or too common."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.validate.contracts.expectations.labels import LabelShares, observe_label_shares

COLUMN = pd.Series(["cards"] * 6 + ["bills"] * 3 + ["dining"] + [None, float("nan")], dtype=object)


@pytest.mark.parametrize(
    ("arguments", "holds", "observed"),
    [
        ({"min_share": 0.1}, True, "shares from 10.0% to 60.0%"),
        ({"min_share": 0.2}, False, "below 20.0%: dining 10.0%; shares from 10.0% to 60.0%"),
        ({"max_share": 0.6}, True, "shares from 10.0% to 60.0%"),
        ({"max_share": 0.5}, False, "above 50.0%: cards 60.0%; shares from 10.0% to 60.0%"),
        ({"value_set": ["cards", "bills"]}, True, "shares from 10.0% to 60.0%"),
        ({"value_set": ["cards", "travel"]}, False, "missing: travel; shares from 0.0% to 60.0%"),
        (
            {"min_share": 0.2, "max_share": 0.5, "value_set": ["travel"]},
            False,
            "missing: travel; below 20.0%: dining 10.0%; above 50.0%: cards 60.0%; shares from 0.0% to 60.0%",
        ),
    ],
)
def test_a_share_out_of_bounds_is_named(arguments: dict[str, Any], holds: bool, observed: str) -> None:
    seen = observe_label_shares(COLUMN, LabelShares(**arguments))
    assert (seen.success, seen.observed) == (holds, observed)


def test_rows_without_a_label_do_not_count() -> None:
    seen = observe_label_shares(COLUMN, LabelShares(min_share=0.1))
    assert seen.details == {"shares": {"cards": 0.6, "bills": 0.3, "dining": 0.1}, "rows": 10}


def test_no_rows_have_no_labels() -> None:
    empty = pd.Series([], dtype=object)
    assert observe_label_shares(empty, LabelShares(min_share=0.1)).success
    assert not observe_label_shares(empty, LabelShares(value_set=["cards"])).success


def test_of_many_labels_the_first_are_named_and_the_rest_counted() -> None:
    labels = pd.Series([f"l{number}" for number in range(30)], dtype=object)
    assert "and 25 more" in observe_label_shares(labels, LabelShares(min_share=0.1)).observed


def test_labels_that_are_no_texts_are_labels() -> None:
    seen = observe_label_shares(pd.Series([1, 1, 0, "好"], dtype=object), LabelShares(value_set=[1, 0, "好"]))
    assert (seen.success, seen.details["shares"]) == (True, {"1": 0.5, "0": 0.25, "好": 0.25})


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=20), st.floats(0, 1), st.floats(0, 1))
def test_it_holds_where_every_share_is_within_the_bounds(labels: list[str], one: float, other: float) -> None:
    low, high = sorted((one, other))
    shares = [labels.count(label) / len(labels) for label in set(labels)]
    seen = observe_label_shares(pd.Series(labels, dtype=object), LabelShares(min_share=low, max_share=high))
    assert seen.success == all(low <= share <= high for share in shares)
    assert sum(seen.details["shares"].values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give min_share, max_share, value_set"),
        ({"min_share": 0.5, "max_share": 0.4}, "min_share 0.5 is more than max_share 0.4"),
        ({"min_share": 1.5}, "less than or equal to 1"),
        ({"min_share": 0.4, "value_set": ["a", "b", "c"]}, "3 labels cannot have 40.0% each"),
    ],
)
def test_bounds_that_nothing_can_keep_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LabelShares(**arguments)


def test_every_label_may_be_asked_to_have_the_same_share() -> None:
    arguments = LabelShares(min_share=0.5, value_set=["a", "b"])
    assert observe_label_shares(pd.Series(["a", "b"], dtype=object), arguments).success
