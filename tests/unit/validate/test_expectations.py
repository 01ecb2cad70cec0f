"""The catalogue that is read without importing Great Expectations says what Great Expectations says."""

from __future__ import annotations

import pytest

from tasks.validate.expectations import (
    catalogue,
    close_names,
    expectation_class,
    find_expectation,
    load_great_expectations,
    runs_on_pandas,
    what_is_wrong,
)

DEPRECATED_ALIAS = "ExpectMulticolumnValuesToBeUnique"


def test_every_expectation_of_great_expectations_can_be_named() -> None:
    exported = [name for name in dir(load_great_expectations().expectations) if name.startswith(("Expect", "Unexpect"))]
    names = set(exported) - {"Expectation", DEPRECATED_ALIAS}
    assert {expectation_class(found).__name__ for name in names if (found := find_expectation(name))} == names
    assert len(catalogue()) == len(names)


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
