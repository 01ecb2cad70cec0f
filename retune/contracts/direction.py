"""Decide whether new arguments make a rule accept more rows, or fewer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Direction = Literal["looser", "tighter", "both", "same"]

ALLOWED = ("value_set", "languages", "value_pairs_set", "type_list")  # arguments that list what is allowed
LOOKED_FOR = ("phrases", "tokens")  # arguments that list what is forbidden: a longer list finds more
MUST_HOLD = ("expect_column_distinct_values_to_contain_set", "expect_column_label_shares_to_be_between")
"""Expectations whose ``value_set`` is required rather than allowed."""
NUMBERS: Mapping[str, int] = {"mostly": 1, "strict_min": 1, "strict_max": 1, "threshold": -1, "minimum_letters": -1}
"""Whether a rule becomes tighter (1) or looser (-1) as the argument grows; bounds are recognised by their names."""
DEFAULTS: Mapping[str, Any] = {"mostly": 1.0, "strict_min": False, "strict_max": False}


def direction(expectation: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Direction:
    """Looser if the new arguments can only accept more rows, tighter if only fewer, both if either may happen."""
    found: set[Direction] = set()
    for name in dict.fromkeys((*old, *new)):
        before, after = old.get(name, DEFAULTS.get(name)), new.get(name, DEFAULTS.get(name))
        if before != after:
            found.add(_of_argument(expectation, name, before, after))
    found.discard("same")
    return next(iter(found)) if len(found) == 1 else "both" if found else "same"


def _of_argument(expectation: str, name: str, before: Any, after: Any) -> Direction:
    if isinstance(before, list) or isinstance(after, list):
        return _of_lists(expectation, name, before or [], after or [])
    slope = 1 if name.startswith("min_") else -1 if name.startswith("max_") else NUMBERS.get(name)
    if slope is None or not all(value is None or isinstance(value, int | float) for value in (before, after)):
        return "both"
    if before is None or after is None:
        if not name.startswith(("min_", "max_")):
            return "both"
        return "tighter" if before is None else "looser"
    return "tighter" if (after - before) * slope > 0 else "looser"


def _of_lists(expectation: str, name: str, before: Any, after: Any) -> Direction:
    if not isinstance(before, list) or not isinstance(after, list):
        return "both"
    gained = any(item not in before for item in after)
    lost = any(item not in after for item in before)
    if gained == lost:
        return "both" if gained else "same"
    if name in ALLOWED:
        narrows = gained if expectation in MUST_HOLD or "not_be_in" in expectation else lost
        return "tighter" if narrows else "looser"
    if name in LOOKED_FOR or "not_match" in expectation:
        return "tighter" if gained else "looser"
    return "both"
