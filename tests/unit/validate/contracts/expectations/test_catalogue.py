"""The catalogue that is read without importing Great Expectations says what Great Expectations says, and adds ours."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from tasks.validate.contracts.expectations.catalogue import (
    catalogue,
    close_names,
    find_expectation,
    from_recipe,
    is_row_level,
    runs_on_pandas,
    what_is_wrong,
)
from tasks.validate.contracts.expectations.classes import OWN, expectation_class, load_great_expectations

DEPRECATED_ALIAS = "ExpectMulticolumnValuesToBeUnique"
REPLACED = {"expect_column_values_to_match_json_schema"}
TOKENS = "expect_column_token_counts_to_be_between"
SHARES = "expect_column_label_shares_to_be_between"


def test_every_expectation_of_great_expectations_can_be_named() -> None:
    exported = [name for name in dir(load_great_expectations().expectations) if name.startswith(("Expect", "Unexpect"))]
    names = set(exported) - {"Expectation", DEPRECATED_ALIAS}
    assert {expectation_class(found).__name__ for name in names if (found := find_expectation(name))} == names
    assert {name for name in catalogue() if expectation_class(name).__name__ not in names} == OWN.keys() - REPLACED


def test_a_name_that_does_not_exist_is_not_found_but_has_neighbours() -> None:
    assert find_expectation("expect_column_values_to_be_unik") is None
    assert close_names("expect_column_values_to_be_unik")[0] == "expect_column_values_to_be_unique"
    assert close_names("zzzzz") == []


@pytest.mark.parametrize("mostly", [0.29, 0.57, 0.95, 1])
def test_a_good_share_is_good_both_in_the_catalogue_and_in_the_class(mostly: float) -> None:
    name = "expect_column_values_to_not_be_null"
    assert what_is_wrong(name, {"column": "a", "mostly": mostly}) is None
    assert expectation_class(name)(column="a", mostly=mostly).mostly == mostly


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("expect_column_values_to_not_be_null", {}),
        ("expect_column_values_to_not_be_null", {"column": "a", "max": 1}),
        ("expect_column_values_to_not_be_null", {"column": 3, "mostly": "much"}),
        ("expect_table_row_count_to_equal", {"value": "x"}),
        ("expect_column_values_to_be_json_parseable", {}),
        ("expect_column_values_to_be_json_parseable", {"column": "a", "strict": True}),
        ("expect_column_values_to_be_increasing", {"column": "a", "strict": True}),
        ("expect_column_values_to_match_json_schema", {"column": "a", "json_schema": {"type": "strin"}}),
        ("expect_column_values_to_be_in_language", {"column": "a", "languages": ["english"]}),
        ("expect_column_values_to_be_in_language", {"column": "a", "languages": "en"}),
        ("expect_column_values_to_not_be_refusals", {"column": "a", "phrases": [""]}),
        ("expect_column_values_to_not_repeat_themselves", {"column": "a", "max_share": 1.5}),
        (TOKENS, {"column": "a", "tokenizer": "seedling/model"}),
        (SHARES, {"column": "a", "min_share": 0.5, "max_share": 0.1}),
        (SHARES, {"column": "a", "min_share": 0.1, "mostly": 0.5}),
    ],
)
def test_bad_arguments_are_bad_both_in_the_catalogue_and_in_the_class(name: str, arguments: dict[str, object]) -> None:
    assert what_is_wrong(name, arguments)
    with pytest.raises((ValueError, TypeError)):
        expectation_class(name)(**arguments)


def test_expectations_for_sql_alone_are_known_as_such() -> None:
    assert not runs_on_pandas("unexpected_rows_expectation")
    assert runs_on_pandas("expect_column_values_to_be_json_parseable")
    assert runs_on_pandas("expect_column_values_to_match_regex")


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (TOKENS, {"column": "a", "max_value": 5}, "the argument 'tokenizer' is missing"),
        (
            TOKENS,
            {"column": "a", "tokenizer": "m", "min_value": 3, "max_value": 2},
            "min_value 3 is more than max_value 2",
        ),
        (TOKENS, {"column": "a", "tokenizer": "m", "max_value": "9"}, "max_value: Input should be a valid integer"),
        (TOKENS, {"column": "a", "max": 2}, "unknown argument 'max'; it takes column, mostly, row_condition"),
        (SHARES, {"min_share": 0.1}, "the argument 'column' is missing"),
    ],
)
def test_what_is_wrong_with_a_rule_of_ours_is_said(name: str, arguments: dict[str, Any], message: str) -> None:
    assert (what_is_wrong(name, arguments) or "").startswith(message)


@pytest.mark.parametrize("name", sorted(catalogue()))
def test_a_rule_is_on_rows_where_its_class_names_failing_rows(name: str) -> None:
    load_great_expectations()
    from great_expectations.expectations.expectation import (
        ColumnMapExpectation,
        ColumnPairMapExpectation,
        MulticolumnMapExpectation,
    )

    on_rows = (ColumnMapExpectation, ColumnPairMapExpectation, MulticolumnMapExpectation)
    assert is_row_level(name) == issubclass(expectation_class(name), on_rows)


def test_what_a_recipe_knows_is_said_by_argument() -> None:
    assert from_recipe(TOKENS) == {"tokenizer": "model"}
    assert from_recipe("expect_column_values_to_not_hold_control_tokens") == {"tokens": "control_tokens"}
    assert from_recipe("expect_column_values_to_not_be_null") == {}


def test_nothing_here_imports_great_expectations_or_torch() -> None:
    code = (
        "import sys\n"
        "from tasks.validate.contracts.expectations.catalogue import catalogue, is_row_level, what_is_wrong\n"
        "[(is_row_level(name), what_is_wrong(name, {'column': 'a'})) for name in catalogue()]\n"
        "print({'great_expectations', 'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
