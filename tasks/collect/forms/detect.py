"""Detect the form of a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.collect.config import Form
from tasks.collect.forms.values import shown
from tasks.collect.records import Rejected

TURNS: dict[str, Form] = {"messages": "openai", "conversations": "sharegpt", "conversation": "sharegpt"}
"""Columns with turns, in order of preference: the form of an empty list there."""
BY_COLUMNS: tuple[tuple[Form, tuple[str, ...]], ...] = (
    ("alpaca", ("instruction", "output")),
    ("prompt_completion", ("prompt", "completion")),
    ("text", ("text",)),
)
MOST_COLUMNS = 12


def form_of(values: Mapping[str, Any]) -> Form:
    for column, form in TURNS.items():
        turns = values.get(column)
        if isinstance(turns, list):
            first = turns[0] if turns else None
            keyed: dict[str, Form] = {"role": "openai", "from": "sharegpt"}
            return next((keyed[key] for key in keyed if isinstance(first, Mapping) and key in first), form)
        if isinstance(turns, str) and turns.lstrip().startswith("["):
            return "sharegpt" if '"from"' in turns else "openai"
    for form, columns in BY_COLUMNS:
        if all(column in values for column in columns):
            return form
    names = [shown(name) for name in list(values)[:MOST_COLUMNS]]
    more = ", ..." if len(values) > MOST_COLUMNS else ""
    raise Rejected(f"form: unknown for the columns {', '.join(names)}{more}; map them in the source's columns")
