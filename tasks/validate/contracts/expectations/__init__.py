"""Expectations: what a rule of a contract can say about rows.

Great Expectations' own, and those that language data need: importing this package does not import Great Expectations.
"""

from __future__ import annotations

from tasks.validate.contracts.expectations.catalogue import (
    catalogue,
    close_names,
    find_expectation,
    from_recipe,
    is_row_level,
    runs_on_pandas,
    what_is_wrong,
)
from tasks.validate.contracts.expectations.classes import expectation_class, load_great_expectations
from tasks.validate.contracts.expectations.languages import detect_languages
from tasks.validate.contracts.expectations.phrases import refusals
from tasks.validate.contracts.expectations.registry import OWN

__all__ = [
    "OWN",
    "catalogue",
    "close_names",
    "detect_languages",
    "expectation_class",
    "find_expectation",
    "from_recipe",
    "is_row_level",
    "load_great_expectations",
    "refusals",
    "runs_on_pandas",
    "what_is_wrong",
]
