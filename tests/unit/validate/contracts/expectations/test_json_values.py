"""JSON by schema: what is no JSON fails, it does not stop the rule."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.validate.contracts.expectations.json_values import JsonSchema, breaks_json_schema

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"queue": {"$ref": "#/$defs/queue"}, "count": {"type": "integer", "minimum": 1}},
    "required": ["queue"],
    "$defs": {"queue": {"enum": ["cards", "bills"]}},
}
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.sampled_from(["cards", "bills"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["queue", "count"]), inner, max_size=2),
    max_leaves=5,
)


def broken(*values: Any, schema: dict[str, Any] | None = None) -> list[bool]:
    arguments = JsonSchema(json_schema=SCHEMA if schema is None else schema)
    return [bool(value) for value in breaks_json_schema(pd.Series(values, dtype=object), arguments)]


def test_json_of_the_schema_passes_and_all_else_fails() -> None:
    assert broken('{"queue": "cards"}', '{"queue": "bills", "count": 2, "note": "你好 🙂"}') == [False, False]
    assert broken('{"queue": "flights"}', '{"count": 1}', '{"queue": "cards", "count": 0}', "[]") == [True] * 4


def test_what_is_no_json_fails_and_the_rest_is_still_judged() -> None:
    values = [
        "{",
        "",
        "cards",
        '{"queue": "cards"} x',
        '{"queue": "cards", "x": NaN}',
        "Infinity",
        "[" * 100_000,
        3,
        {},
    ]
    assert broken(*values, '{"queue": "cards"}') == [True] * len(values) + [False]


def test_missing_values_are_not_judged() -> None:
    assert broken(None, float("nan")) == [False, False]


@given(st.lists(VALUE, max_size=4))
def test_the_verdict_is_that_of_jsonschema(values: list[Any]) -> None:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    assert broken(*map(json.dumps, values)) == [not validator.is_valid(value) for value in values]


def test_the_draft_that_the_schema_names_is_taken() -> None:
    schema = {"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 1, "exclusiveMinimum": True}
    assert broken("1", "2", schema=schema) == [True, False]


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "strin"}, "not a valid JSON Schema: 'strin' is not valid"),
        ({"$ref": "https://example.org/schema.json"}, "is not in the schema itself"),
        ({"properties": {"a": {"$ref": "#/$defs/b"}}}, r"'#/\$defs/b' is not in the schema itself"),
    ],
)
def test_a_schema_that_cannot_work_is_refused(schema: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        JsonSchema(json_schema=schema)
