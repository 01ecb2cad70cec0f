"""Rules that promise nothing: those that can never fail, can never hold, or say again what another one says."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.validate.contracts.rule import Rule

BOUNDS = (("min_value", "max_value"), ("min_share", "max_share"))
LEAST = {
    "expect_column_value_lengths_to_be_between": 0,
    "expect_column_token_counts_to_be_between": 0,
    "expect_column_unique_value_count_to_be_between": 0,
    "expect_column_proportion_of_unique_values_to_be_between": 0,
    "expect_column_proportion_of_non_null_values_to_be_between": 0,
    "expect_column_label_shares_to_be_between": 0,
    "expect_column_stdev_to_be_between": 0,
    "expect_table_row_count_to_be_between": 0,
    "expect_table_column_count_to_be_between": 0,
}
"""The smallest value there can be."""
MOST = {
    "expect_column_proportion_of_unique_values_to_be_between": 1,
    "expect_column_proportion_of_non_null_values_to_be_between": 1,
    "expect_column_label_shares_to_be_between": 1,
    "expect_column_values_to_not_repeat_themselves": 1,
}
"""The largest."""
SETS_THAT_MUST_ALLOW = (
    "expect_column_values_to_be_in_set",
    "expect_column_distinct_values_to_be_in_set",
    "expect_column_most_common_value_to_be_in_set",
)
SETS_THAT_MUST_HOLD_SOMETHING = (
    "expect_column_values_to_not_be_in_set",
    "expect_column_distinct_values_to_contain_set",
)
IN_SET, CONTAINS = "expect_column_values_to_be_in_set", "expect_column_distinct_values_to_contain_set"
NULL, NOT_NULL = "expect_column_values_to_be_null", "expect_column_values_to_not_be_null"
RANKS = {"critical": 2, "warning": 1, "info": 0}
DEPENDS_ON_ITS_SURROUNDINGS = re.compile(r"(?<!\\)(?:\\\\)*(?:[\^$]|\\[bBAZ1-9]|\(\?[=!<P(])")
"""Anchors, look-around, groups that are referred to: parts of a pattern that an empty text alone does not decide."""


@dataclass(frozen=True)
class Senseless:
    """Why a rule decides nothing.

    Attributes:
        code: ``bad-range``, ``never-fails`` or ``never-holds``.
        what: one sentence.
        argument: the argument that makes it so.
        remedy: what to do about it.
    """

    code: str
    what: str
    argument: str
    remedy: str


@dataclass(frozen=True)
class Placed:
    """A rule and its place in the contract file."""

    rule: Rule
    at: tuple[str | int, ...]


@dataclass(frozen=True)
class Clash:
    """A rule that another one makes pointless or impossible."""

    code: str
    what: str
    at: tuple[str | int, ...]
    remedy: str
    is_error: bool


def what_is_senseless(expectation: str, arguments: Mapping[str, Any]) -> Senseless | None:
    """Why a rule can never fail, or can never hold, whatever the rows; None where it decides something."""
    if _number(arguments.get("mostly")) == 0:
        return _never_fails("mostly: 0 lets every row break it", "mostly", "leave mostly out, or raise it")
    return (
        _of_bounds(expectation, arguments)
        or _of_quantiles(arguments)
        or _of_sets(expectation, arguments)
        or _of_patterns(expectation, arguments)
    )


def clashes(rules: Sequence[Placed]) -> Iterator[Clash]:
    """The rules that an earlier one of the same column repeats, makes pointless, or contradicts; each of them once."""
    for number, later in enumerate(rules):
        found = (clash for earlier in rules[:number] if (clash := _clash(earlier.rule, later)))
        yield from list(found)[:1]


def matches_anything(pattern: str) -> bool:
    """Whether a search for it is certain to succeed in every text: it can be found empty, wherever one looks.

    Says no where that takes more than a look: of patterns with look-around, or held at both ends.
    """
    bare = re.sub(r"^(?:\\A|\^)", "", pattern)
    if bare == pattern:
        bare = re.sub(r"(?<!\\)(?:\\Z|\$)$", "", pattern)
    return not DEPENDS_ON_ITS_SURROUNDINGS.search(bare) and re.compile(bare).fullmatch("") is not None


def _of_bounds(expectation: str, arguments: Mapping[str, Any]) -> Senseless | None:
    least, most = LEAST.get(expectation), MOST.get(expectation)
    strict_min, strict_max = bool(arguments.get("strict_min")), bool(arguments.get("strict_max"))
    for low_name, high_name in BOUNDS:
        low, high = _number(arguments.get(low_name)), _number(arguments.get(high_name))
        for name in (low_name, high_name) if (least, most) != (None, None) else ():
            if isinstance(arguments.get(name), str | bool):
                return Senseless("bad-range", f"{name} {arguments[name]!r} is no number", name, "write a number")
        if low is not None and high is not None and (low > high or (low == high and (strict_min or strict_max))):
            what = f"{low_name} {low} is above {high_name} {high}"
            if low == high:
                what = f"{low_name} and {high_name} are {low}, and nothing is strictly between"
            return Senseless("bad-range", what, low_name, "swap or correct them")
        if high is not None and least is not None and (high < least or (high == least and strict_max)):
            what = f"nothing is below {least}, and so not below {high}"
            return Senseless("never-holds", what, high_name, "raise it")
        if low is not None and most is not None and (low > most or (low == most and strict_min)):
            return Senseless("never-holds", f"nothing is above {most}, and so not above {low}", low_name, "lower it")
    return _without_bounds(expectation, arguments, least, most)


def _of_quantiles(arguments: Mapping[str, Any]) -> Senseless | None:
    given = arguments.get("quantile_ranges")
    for low, high in given.get("value_ranges") or () if isinstance(given, Mapping) else ():
        if low is not None and high is not None and low > high:
            return Senseless("bad-range", f"{low} is above {high}", "quantile_ranges", "swap or correct them")
    return None


def _without_bounds(
    expectation: str, arguments: Mapping[str, Any], least: float | None, most: float | None
) -> Senseless | None:
    """Bounds that exclude nothing."""
    is_about_bounds = expectation.endswith("_to_be_between") or expectation in MOST
    if not is_about_bounds or "quantile" in expectation or arguments.get("value_set"):
        return None
    given = {name: arguments[name] for pair in BOUNDS for name in pair if arguments.get(name) is not None}
    if not given:
        has_defaults = expectation in MOST
        return None if has_defaults else _never_fails("it has no bounds", "column", "give it min_value or max_value")
    if any(_excludes_something(name, arguments, least, most) for name in given):
        return None
    name = next(iter(given))
    return _never_fails(f"{name} {given[name]} excludes nothing", name, "give it a bound that excludes something")


def _excludes_something(name: str, arguments: Mapping[str, Any], least: float | None, most: float | None) -> bool:
    """Whether a bound lies inside of what there can be."""
    bound = _number(arguments[name])
    is_lower = name.startswith("min")
    outermost = least if is_lower else most
    if bound is None or outermost is None:
        return True
    is_strict = arguments.get("strict_min" if is_lower else "strict_max")
    inside = bound > outermost if is_lower else bound < outermost
    return inside or bool(is_strict and bound == outermost)


def _of_sets(expectation: str, arguments: Mapping[str, Any]) -> Senseless | None:
    for name in ("value_set", "regex_list"):
        if arguments.get(name) != []:
            continue
        if expectation in SETS_THAT_MUST_ALLOW:
            return Senseless("never-holds", "an empty set allows no value", name, "name the values that are allowed")
        if expectation in SETS_THAT_MUST_HOLD_SOMETHING or name == "regex_list":
            return _never_fails("an empty list excludes nothing", name, "name what it is about")
    return None


def _of_patterns(expectation: str, arguments: Mapping[str, Any]) -> Senseless | None:
    patterns = {name: arguments[name] for name in ("regex", "regex_list") if arguments.get(name)}
    for name, value in patterns.items():
        listed = value if isinstance(value, list) else [value]
        loose = [pattern for pattern in listed if isinstance(pattern, str) and matches_anything(pattern)]
        needs_all = arguments.get("match_on") == "all"
        if not loose or (needs_all and len(loose) < len(listed)):
            continue
        what = f"{loose[0]!r} is found in every text"
        if "not_match" in expectation:
            return Senseless("never-holds", what, name, "write what a text must not hold")
        return _never_fails(what, name, "write what a text must hold")
    return None


def _clash(earlier: Rule, later: Placed) -> Clash | None:
    rule = later.rule
    if earlier.columns != rule.columns or "row_condition" in {*earlier.arguments, *rule.arguments}:
        return None
    line = earlier.where.rsplit(":", 1)[-1]
    if earlier.expectation == rule.expectation and earlier.arguments == rule.arguments:
        return Clash("same-rule", f"The rule repeats that of line {line}", later.at, "remove one of the two", False)
    if _contradict(earlier, rule) or _contradict(rule, earlier):
        what = f"Nothing can keep both this rule and that of line {line}, {earlier.name!r}"
        return Clash("never-holds", what, later.at, "correct one of the two", True)
    if RANKS[earlier.severity] >= RANKS[rule.severity] and _implies(earlier, rule):
        what = f"Whatever breaks this rule breaks that of line {line}, {earlier.name!r}, too"
        return Clash("redundant", what, later.at, "remove it, or make it stricter", False)
    return None


def _implies(one: Rule, other: Rule) -> bool:
    """Whether what keeps one rule keeps the other, of the same kind and column."""
    if one.expectation != other.expectation or one.tolerance_is_set:
        return False
    if one.expectation == IN_SET:
        return all(value in other.arguments["value_set"] for value in one.arguments["value_set"])
    ranges = _range(one), _range(other)
    if ranges[0] and ranges[1]:
        return ranges[1][0] <= ranges[0][0] and ranges[0][1] <= ranges[1][1]
    return _without_mostly(one) == _without_mostly(other)


def _contradict(one: Rule, other: Rule) -> bool:
    """Whether nothing keeps both; of a rule on single values, no value."""
    if one.tolerance_is_set or other.tolerance_is_set:
        return False
    if one.expectation == NOT_NULL:
        return other.expectation == NULL
    if one.expectation == IN_SET:
        allowed = one.arguments["value_set"]
        if other.expectation == CONTAINS:
            return any(value not in allowed for value in other.arguments["value_set"])
        return bool(allowed) and not any(_may_keep(value, other) for value in allowed)
    ranges = _range(one), _range(other)
    return bool(one.expectation == other.expectation and ranges[0] and ranges[1] and ranges[0][1] < ranges[1][0])


def _may_keep(value: Any, rule: Rule) -> bool:
    """Whether a value may keep a rule; yes where that takes more than a look."""
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
    """From where to where a rule's bounds go; None where it has none, or they are no numbers or strict ones."""
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


def _never_fails(why: str, argument: str, remedy: str) -> Senseless:
    return Senseless("never-fails", f"it can never fail: {why}", argument, remedy)


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
