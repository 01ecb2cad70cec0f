"""What holds for every check on rows of ours, whatever the values."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.validate.contracts.expectations.classes import OWN
from tasks.validate.contracts.expectations.own import RowCheck

TOKENIZER = "seedling/model"
ARGUMENTS: dict[str, dict[str, Any]] = {
    "expect_column_token_counts_to_be_between": {"tokenizer": TOKENIZER, "min_value": 1, "max_value": 6},
    "expect_column_values_to_be_in_language": {"languages": ["en"], "minimum_letters": 3},
    "expect_column_values_to_match_json_schema": {"json_schema": {"type": "array"}},
    "expect_column_values_to_not_repeat_themselves": {"ngram": 1, "max_share": 0.4},
}
ROW_CHECKS = [check for check in OWN.values() if isinstance(check, RowCheck)]
TURN = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": st.text(max_size=3)})
ANYTHING = st.one_of(
    st.none(),
    st.just(float("nan")),
    st.floats(),
    st.integers(),
    st.booleans(),
    st.binary(max_size=4),
    st.lists(TURN, max_size=3),
    st.lists(TURN, max_size=3).map(json.dumps),
    st.text(max_size=40),
    st.text(alphabet=st.characters(codec=None), max_size=5),  # halves of surrogate pairs too
    st.sampled_from(
        [
            "Sure! 你好",
            "👩‍👩‍👧‍👦 مرحبا",
            "I cannot help with that.",
            "<|im_end|>",
            "no no no no no",
            "the passage above",
        ]
    ),
)


def failing(check: RowCheck, values: list[Any], index: list[int] | None = None) -> list[bool]:
    series = pd.Series(values, index=index, dtype=object)
    found = check.failing(series, check.arguments.model_validate(ARGUMENTS.get(check.name, {})))
    assert found.dtype == np.bool_
    return [bool(value) for value in found]


@pytest.mark.parametrize("check", ROW_CHECKS, ids=lambda check: str(check.name))
@settings(max_examples=20, deadline=None)
@given(values=st.lists(ANYTHING, max_size=6))
def test_a_row_is_judged_by_its_own_value_alone(check: RowCheck, values: list[Any]) -> None:
    together = failing(check, values)
    assert together == [failing(check, [value])[0] for value in values]
    assert together == failing(check, values, index=[7] * len(values)), "the index does not matter"


@pytest.mark.parametrize("check", ROW_CHECKS, ids=lambda check: str(check.name))
def test_missing_values_break_no_rule(check: RowCheck) -> None:
    assert not any(failing(check, [None, float("nan"), np.nan, pd.NA, pd.NaT]))


@pytest.mark.parametrize("check", ROW_CHECKS, ids=lambda check: str(check.name))
def test_a_field_of_a_million_characters_is_judged(check: RowCheck) -> None:
    assert len(failing(check, ["word and more " * 75_000, "x" * 1_000_000, "短" * 1_000_000])) == 3
