"""Rules that a column, as it is stored, cannot be held against: sums of texts, bounds of numbers for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tasks.core.tables import ARRAY, INTEGER, TEXT
from tasks.validate.contracts.arguments import ArgumentFault
from tasks.validate.contracts.rule import Rule
from tasks.validate.contracts.vacuous_rules import IN_SET

OF_NUMBERS = frozenset({
    "expect_column_mean_to_be_between", "expect_column_median_to_be_between", "expect_column_stdev_to_be_between",
    "expect_column_sum_to_be_between", "expect_column_quantile_values_to_be_between",
    "expect_column_value_z_scores_to_be_less_than", "expect_column_values_to_be_increasing",
    "expect_column_values_to_be_decreasing", "expect_multicolumn_sum_to_equal",
})  # fmt: skip
BOUNDED = (
    "expect_column_values_to_be_between",
    "expect_column_max_to_be_between",
    "expect_column_min_to_be_between",
)
COMPARED = "expect_column_pair_values_a_to_be_greater_than_b"
NOT_IN_SET = "expect_column_values_to_not_be_in_set"
TEXTS = (TEXT, ARRAY)
"""Stored types whose values are texts when rules see them; a list is the JSON of it."""
REMEDY = "choose a rule for texts, such as expect_column_value_lengths_to_be_between"


def misfits(rule: Rule, types: Mapping[str, str | None]) -> Iterator[ArgumentFault]:
    """What of a rule does not fit the types that its columns are stored as, where those are known."""
    for column in rule.columns:
        kind = types.get(column)
        if kind in TEXTS and (wants := _wants_numbers(rule)):
            argument, why = wants
            what = f"{rule.expectation}: {why}, and the column {column!r} is text"
            yield ArgumentFault("column-type", what, argument, REMEDY)
        elif kind in (*TEXTS, INTEGER) and rule.expectation in (IN_SET, NOT_IN_SET):
            yield from _of_set(rule, "text" if kind in TEXTS else "a number")
    if rule.expectation == COMPARED and len({types.get(name) in TEXTS for name in rule.columns if types.get(name)}) > 1:
        what = f"{rule.expectation}: of {' and '.join(map(repr, rule.columns))} one is text and one is a number"
        yield ArgumentFault("column-type", what, "column_A", "compare columns of one type")


def _wants_numbers(rule: Rule) -> tuple[str | None, str] | None:
    if rule.expectation in OF_NUMBERS:
        return None, "it is about numbers"
    if rule.expectation in BOUNDED:
        for name in ("min_value", "max_value"):
            if isinstance(value := rule.arguments.get(name), int | float):
                return name, f"{name} {value} is a number"
    return None


def _of_set(rule: Rule, kind: str) -> Iterator[ArgumentFault]:
    """A set of which no value can be in the column."""
    values = rule.arguments.get("value_set") or []
    fitting = str if kind == "text" else int | float
    if values and not any(isinstance(value, fitting) for value in values):
        code = "never-holds" if rule.expectation == IN_SET else "never-fails"
        what = f"{rule.expectation}: {_shown(values)} can be no value of the column, which is {kind}"
        remedy = "write the values in quotes" if kind == "text" else "write the values without quotes"
        yield ArgumentFault(code, what, "value_set", remedy)


def _shown(values: list[Any]) -> str:
    return ", ".join(map(repr, values[:3]))
