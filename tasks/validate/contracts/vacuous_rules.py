"""Find rules that decide nothing: those that can never fail, can never hold, or repeat or contradict another."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tasks.validate.contracts.rule import Fault, Rule

BOUNDS = (("min_value", "max_value"), ("min_share", "max_share"))
NEVER_NEGATIVE = frozenset({
    "expect_column_value_lengths_to_be_between", "expect_column_token_counts_to_be_between",
    "expect_column_unique_value_count_to_be_between", "expect_column_proportion_of_unique_values_to_be_between",
    "expect_column_proportion_of_non_null_values_to_be_between", "expect_column_label_shares_to_be_between",
    "expect_column_stdev_to_be_between", "expect_table_row_count_to_be_between",
    "expect_table_column_count_to_be_between",
})  # fmt: skip
AT_MOST_ONE = frozenset({
    "expect_column_proportion_of_unique_values_to_be_between",
    "expect_column_proportion_of_non_null_values_to_be_between", "expect_column_label_shares_to_be_between",
    "expect_column_values_to_not_repeat_themselves",
})  # fmt: skip
SETS_THAT_MUST_ALLOW = (
    "expect_column_values_to_be_in_set",
    "expect_column_distinct_values_to_be_in_set",
    "expect_column_most_common_value_to_be_in_set",
)
SETS_THAT_MUST_EXCLUDE = ("expect_column_values_to_not_be_in_set", "expect_column_distinct_values_to_contain_set")
IN_SET, CONTAINS = "expect_column_values_to_be_in_set", "expect_column_distinct_values_to_contain_set"
NULL, NOT_NULL = "expect_column_values_to_be_null", "expect_column_values_to_not_be_null"
RANKS = {"critical": 2, "warning": 1, "info": 0}
DEPENDS_ON_CONTEXT = re.compile(r"(?<!\\)(?:\\\\)*(?:[\^$]|\\[bBAZ1-9]|\(\?[=!<P(])")
"""Anchors, look-around and groups that are referred to: an empty match may fail because of the text around it."""


class Placed(NamedTuple):
    rule: Rule
    at: tuple[str | int, ...]


def why_vacuous(expectation: str, arguments: Mapping[str, Any]) -> Fault | None:
    """Why a rule can never fail, or can never hold, whatever the rows; None where it decides something."""
    if _number(arguments.get("mostly")) == 0:
        return _never_fails("mostly: 0 lets every row break it", "mostly", "leave mostly out, or raise it")
    return (
        _bounds_fault(expectation, arguments)
        or _quantiles_fault(arguments)
        or _set_fault(expectation, arguments)
        or _pattern_fault(expectation, arguments)
    )


def clashes(rules: Sequence[Placed]) -> Iterator[tuple[Placed, Fault]]:
    """The rules that an earlier rule on the same columns repeats, implies or contradicts, each with the first clash."""
    for number, later in enumerate(rules):
        found = (fault for earlier in rules[:number] if (fault := _clash(earlier.rule, later.rule)))
        if fault := next(found, None):
            yield later, fault


def matches_anything(pattern: str) -> bool:
    """Whether a search surely succeeds in every text, because the pattern matches the empty string anywhere."""
    bare = re.sub(r"^(?:\\A|\^)", "", pattern)
    if bare == pattern:
        bare = re.sub(r"(?<!\\)(?:\\Z|\$)$", "", pattern)
    return not DEPENDS_ON_CONTEXT.search(bare) and re.compile(bare).fullmatch("") is not None


def _bounds_fault(expectation: str, arguments: Mapping[str, Any]) -> Fault | None:
    least, most = 0 if expectation in NEVER_NEGATIVE else None, 1 if expectation in AT_MOST_ONE else None
    strict_min, strict_max = bool(arguments.get("strict_min")), bool(arguments.get("strict_max"))
    for low_name, high_name in BOUNDS:
        low, high = _number(arguments.get(low_name)), _number(arguments.get(high_name))
        for name in (low_name, high_name) if (least, most) != (None, None) else ():
            if isinstance(arguments.get(name), str | bool):
                return Fault("bad-range", f"{name} {arguments[name]!r} is not a number", "write a number", name)
        if low is not None and high is not None and (low > high or (low == high and (strict_min or strict_max))):
            what = f"{low_name} {low} is above {high_name} {high}"
            if low == high:
                what = f"{low_name} and {high_name} are {low}, and no value is strictly between"
            return Fault("bad-range", what, "swap or correct them", low_name)
        if high is not None and least is not None and (high < least or (high == least and strict_max)):
            what = f"no value is below {least}, so none is below {high}"
            return Fault("never-holds", what, "raise it", high_name)
        if low is not None and most is not None and (low > most or (low == most and strict_min)):
            what = f"no value is above {most}, so none is above {low}"
            return Fault("never-holds", what, "lower it", low_name)
    return _unbounded_fault(expectation, arguments, least, most)


def _quantiles_fault(arguments: Mapping[str, Any]) -> Fault | None:
    given = arguments.get("quantile_ranges")
    for low, high in given.get("value_ranges") or () if isinstance(given, Mapping) else ():
        if low is not None and high is not None and low > high:
            return Fault("bad-range", f"{low} is above {high}", "swap or correct them", "quantile_ranges")
    return None


def _unbounded_fault(
    expectation: str, arguments: Mapping[str, Any], least: float | None, most: float | None
) -> Fault | None:
    has_bounds = expectation.endswith("_to_be_between") or expectation in AT_MOST_ONE
    if not has_bounds or "quantile" in expectation or arguments.get("value_set"):
        return None
    given = {name: arguments[name] for pair in BOUNDS for name in pair if arguments.get(name) is not None}
    if not given:
        has_defaults = expectation in AT_MOST_ONE
        return None if has_defaults else _never_fails("it has no bounds", "column", "give it min_value or max_value")
    if any(_excludes_something(name, arguments, least, most) for name in given):
        return None
    name = next(iter(given))
    return _never_fails(f"{name} {given[name]} excludes nothing", name, "give it a bound that excludes something")


def _excludes_something(name: str, arguments: Mapping[str, Any], least: float | None, most: float | None) -> bool:
    bound = _number(arguments[name])
    is_lower = name.startswith("min")
    outermost = least if is_lower else most
    if bound is None or outermost is None:
        return True
    is_strict = arguments.get("strict_min" if is_lower else "strict_max")
    inside = bound > outermost if is_lower else bound < outermost
    return inside or bool(is_strict and bound == outermost)


def _set_fault(expectation: str, arguments: Mapping[str, Any]) -> Fault | None:
    for name in ("value_set", "regex_list"):
        if arguments.get(name) != []:
            continue
        if expectation in SETS_THAT_MUST_ALLOW:
            return Fault("never-holds", "an empty set allows no value", "name the values that are allowed", name)
        if expectation in SETS_THAT_MUST_EXCLUDE or name == "regex_list":
            return _never_fails("an empty list excludes nothing", name, "name the values or patterns")
    return None


def _pattern_fault(expectation: str, arguments: Mapping[str, Any]) -> Fault | None:
    patterns = {name: arguments[name] for name in ("regex", "regex_list") if arguments.get(name)}
    for name, value in patterns.items():
        listed = value if isinstance(value, list) else [value]
        loose = [pattern for pattern in listed if isinstance(pattern, str) and matches_anything(pattern)]
        needs_all = arguments.get("match_on") == "all"
        if not loose or (needs_all and len(loose) < len(listed)):
            continue
        what = f"{loose[0]!r} is found in every text"
        if "not_match" in expectation:
            return Fault("never-holds", what, "write what a text must not hold", name)
        return _never_fails(what, name, "write what a text must hold")
    return None


def _clash(earlier: Rule, rule: Rule) -> Fault | None:
    if earlier.columns != rule.columns or "row_condition" in {*earlier.arguments, *rule.arguments}:
        return None
    line = earlier.where.rsplit(":", 1)[-1]
    if earlier.expectation == rule.expectation and earlier.arguments == rule.arguments:
        return Fault("same-rule", f"The rule repeats that of line {line}", "remove one of the two", is_error=False)
    if _contradict(earlier, rule) or _contradict(rule, earlier):
        what = f"No row can satisfy both this rule and that of line {line}, {earlier.name!r}"
        return Fault("never-holds", what, "correct one of the two")
    if RANKS[earlier.severity] >= RANKS[rule.severity] and _implies(earlier, rule):
        what = f"Every row that breaks this rule also breaks that of line {line}, {earlier.name!r}"
        return Fault("redundant", what, "remove it, or make it stricter", is_error=False)
    return None


def _implies(one: Rule, other: Rule) -> bool:
    if one.expectation != other.expectation or one.tolerance_is_set:
        return False
    if one.expectation == IN_SET:
        return all(value in other.arguments["value_set"] for value in one.arguments["value_set"])
    ranges = _range(one), _range(other)
    if ranges[0] and ranges[1]:
        return ranges[1][0] <= ranges[0][0] and ranges[0][1] <= ranges[1][1]
    return _without_mostly(one) == _without_mostly(other)


def _contradict(one: Rule, other: Rule) -> bool:
    if one.tolerance_is_set or other.tolerance_is_set:
        return False
    if one.expectation == NOT_NULL:
        return other.expectation == NULL
    if one.expectation == IN_SET:
        allowed = one.arguments["value_set"]
        if other.expectation == CONTAINS:
            return any(value not in allowed for value in other.arguments["value_set"])
        return bool(allowed) and not any(_may_satisfy(value, other) for value in allowed)
    ranges = _range(one), _range(other)
    return bool(one.expectation == other.expectation and ranges[0] and ranges[1] and ranges[0][1] < ranges[1][0])


def _may_satisfy(value: Any, rule: Rule) -> bool:
    """Whether a value may satisfy a rule; True where that is unknown."""
    arguments = rule.arguments
    match rule.expectation:
        case "expect_column_values_to_be_in_set":
            return value in arguments["value_set"]
        case "expect_column_values_to_not_be_in_set":
            return value not in arguments["value_set"]
        case "expect_column_value_lengths_to_be_between" if isinstance(value, str):
            low, high = _range(rule) or (0, len(value))
            return low <= len(value) <= high
        case "expect_column_values_to_match_regex" if isinstance(value, str):
            return re.search(arguments["regex"], value) is not None
        case "expect_column_values_to_not_match_regex" if isinstance(value, str):
            return re.search(arguments["regex"], value) is None
        case _:
            return True


def _range(rule: Rule) -> tuple[float, float] | None:
    """A rule's lower and upper bound; None where it has none, or where they are strict or not numbers."""
    arguments = rule.arguments
    for names in BOUNDS:
        given = [arguments.get(name) for name in names]
        is_strict = arguments.get("strict_min") or arguments.get("strict_max")
        if given == [None, None] or is_strict:
            continue
        low, high = (_number(value) for value in given)
        if (low is None) == (given[0] is None) and (high is None) == (given[1] is None):
            return (-math.inf if low is None else low, math.inf if high is None else high)
    return None


def _without_mostly(rule: Rule) -> dict[str, Any]:
    return {name: value for name, value in rule.arguments.items() if name != "mostly"}


def _never_fails(why: str, argument: str, remedy: str) -> Fault:
    return Fault("never-fails", f"it can never fail: {why}", remedy, argument)


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
