"""Rules that decide nothing are told from those that do."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.validate.contracts.vacuous_rules import matches_anything, why_vacuous

LENGTHS = "expect_column_value_lengths_to_be_between"
BETWEEN = "expect_column_values_to_be_between"
MATCH, NOT_MATCH = "expect_column_values_to_match_regex", "expect_column_values_to_not_match_regex"
ALL_OF = "expect_column_values_to_match_regex_list"


@pytest.mark.parametrize(
    ("expectation", "arguments", "code"),
    [
        (BETWEEN, {}, "never-fails"),
        (BETWEEN, {"min_value": 0}, None),
        (BETWEEN, {"min_value": 3, "max_value": 2}, "bad-range"),
        (BETWEEN, {"min_value": 3, "max_value": 3}, None),
        (BETWEEN, {"min_value": 3, "max_value": 3, "strict_max": True}, "bad-range"),
        (BETWEEN, {"min_value": "2026-01-01", "max_value": "2025-01-01"}, None),
        (LENGTHS, {"min_value": 0}, "never-fails"),
        (LENGTHS, {"min_value": 0, "strict_min": True}, None),
        (LENGTHS, {"min_value": 0, "max_value": 5}, None),
        (LENGTHS, {"max_value": -1}, "never-holds"),
        ("expect_table_row_count_to_be_between", {"min_value": 0}, "never-fails"),
        ("expect_table_row_count_to_be_between", {"min_value": 1}, None),
        ("expect_column_mean_to_be_between", {}, "never-fails"),
        ("expect_column_mean_to_be_between", {"min_value": 0}, None),
        ("expect_column_proportion_of_unique_values_to_be_between", {"min_value": 0, "max_value": 1}, "never-fails"),
        ("expect_column_proportion_of_unique_values_to_be_between", {"min_value": 1.5}, "never-holds"),
        ("expect_column_proportion_of_unique_values_to_be_between", {"min_value": 0.5}, None),
        ("expect_column_label_shares_to_be_between", {"max_share": 1.0}, "never-fails"),
        ("expect_column_label_shares_to_be_between", {"max_share": 1.0, "value_set": ["a"]}, None),
        ("expect_column_label_shares_to_be_between", {"value_set": ["a"]}, None),
        ("expect_column_values_to_not_repeat_themselves", {}, None),
        ("expect_column_values_to_not_repeat_themselves", {"max_share": 1}, "never-fails"),
        ("expect_column_token_counts_to_be_between", {"min_value": 0, "tokenizer": "t"}, "never-fails"),
        ("expect_column_values_to_be_unique", {"mostly": 0}, "never-fails"),
        ("expect_column_values_to_be_unique", {"mostly": 0.1}, None),
        ("expect_column_values_to_be_in_set", {"value_set": []}, "never-holds"),
        ("expect_column_values_to_not_be_in_set", {"value_set": []}, "never-fails"),
        ("expect_column_distinct_values_to_contain_set", {"value_set": []}, "never-fails"),
        ("expect_column_distinct_values_to_be_in_set", {"value_set": []}, "never-holds"),
        (MATCH, {"regex": ".*"}, "never-fails"),
        (MATCH, {"regex": ".+"}, None),
        (NOT_MATCH, {"regex": "a?"}, "never-holds"),
        (NOT_MATCH, {"regex": "a"}, None),
        (ALL_OF, {"regex_list": ["a", ".*"]}, "never-fails"),
        (ALL_OF, {"regex_list": ["a", ".*"], "match_on": "all"}, None),
        (ALL_OF, {"regex_list": []}, "never-fails"),
        ("expect_column_quantile_values_to_be_between", {"quantile_ranges": {}}, None),
    ],
)
def test_what_a_rule_cannot_decide_is_told(expectation: str, arguments: dict[str, Any], code: str | None) -> None:
    found = why_vacuous(expectation, {"column": "c", **arguments})
    assert (found.code if found else None) == code
    if found:
        assert found.argument in {"column", *arguments} and found.remedy


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", True),
        (".*", True),
        ("^.*", True),
        (".*$", True),
        (r"\A\s*", True),
        ("(a|b)*", True),
        ("(?s).*", True),
        (r"\\*", True),
        ("^.*$", False),
        ("^$", False),
        (r"\b", False),
        ("(?!x)", False),
        ("(?<!x)", False),
        (r"(a?)\1", False),
        (r"\$", False),
        ("a", False),
    ],
)
def test_a_pattern_that_is_found_everywhere_is_told(pattern: str, expected: bool) -> None:
    assert matches_anything(pattern) is expected


PIECES = st.sampled_from(["a", "a*", "a?", ".", ".*", "^", "$", r"\b", "(a|b)*", r"\s*", "|", "[^a]", r"\^", "(?=a)"])


@given(pieces=st.lists(PIECES, max_size=4), text=st.text(alphabet="ab \n$^é", max_size=6))
def test_what_is_found_everywhere_is_found_in_any_text(pieces: list[str], text: str) -> None:
    pattern = "".join(pieces)
    try:
        expression = re.compile(pattern)
    except re.error:
        return
    if matches_anything(pattern):
        assert expression.search(text) is not None


@given(
    low=st.none() | st.integers(-2, 4),
    high=st.none() | st.integers(-2, 4),
    strict=st.booleans(),
    lengths=st.integers(0, 6),
)
def test_bounds_of_lengths_are_judged_as_lengths_are(
    low: int | None, high: int | None, strict: bool, lengths: int
) -> None:
    arguments = {"column": "c", "min_value": low, "max_value": high, "strict_min": strict}

    def keeps(length: int) -> bool:
        above = low is None or (length > low if strict else length >= low)
        return above and (high is None or length <= high)

    found = why_vacuous(LENGTHS, arguments)
    code = found.code if found else None
    if code == "never-fails":
        assert keeps(lengths)
    elif code in ("never-holds", "bad-range"):
        assert not keeps(lengths)
    else:
        assert any(map(keeps, range(20))), "something can keep it"
        assert not all(map(keeps, range(20))), "something can break it"
