"""Any text that a model writes is either fields or a rule that it breaks, never an exception."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.answers import Answer
from tasks.core.prompts import Output
from tasks.generate.parse import accepts, parse

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"message": {"type": "string", "minLength": 2}, "mood": {"type": "number", "multipleOf": 0.5}},
    "required": ["message"],
}
TEXT = Output(field="message")
JSON = Output(format="json", json_schema=SCHEMA)
NO_SCHEMA_OF_AN_OBJECT = Output(format="json", json_schema={"properties": {"message": {}}})


def answer(text: str, finish_reason: str = "stop") -> Answer:
    return Answer("id", text, finish_reason, 1, 1)


def test_a_text_fills_its_field_without_the_white_space_around_it() -> None:
    assert parse(TEXT, answer("  I lost\nmy card. \n")) == ({"message": "I lost\nmy card."}, None)


@pytest.mark.parametrize(
    "text",
    [
        '{"message": "hi there", "mood": 1.5}',
        ' {"message":"hi there","mood":1.5}\n',
        '```json\n{"message": "hi there", "mood": 1.5}\n```',
        '```\n{"message": "hi there", "mood": 1.5}\n```\n',
    ],
)
def test_json_is_read_with_and_without_a_fence(text: str) -> None:
    assert parse(JSON, answer(text)) == ({"message": "hi there", "mood": "1.5"}, None)


def test_values_that_are_no_text_are_kept_as_readable_json() -> None:
    fields, problem = parse(NO_SCHEMA_OF_AN_OBJECT, answer('{"message": ["zürich", 1], "b": null}'))
    assert problem is None and fields == {"message": '["zürich",1]', "b": "null"}


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("hello", "unparseable"),
        ('{"message": "hi', "unparseable"),
        ('Sure! {"message": "hi there"}', "unparseable"),
        ("[" * 100_000, "unparseable"),
        ("9" * 5_000, "unparseable"),
        ('{"mood": 1}', "schema"),
        ('{"message": "x"}', "schema"),
        ('{"message": 3}', "schema"),
        ('["message"]', "schema"),
        ('{"message": "hi there", "mood": Infinity}', "unparseable"),
        ('{"message": "hi there", "mood": NaN}', "unparseable"),
        ('{"message": "hi there", "mood": 1e999}', "unparseable"),
        ('{"message": "half \\ud83d of a pair"}', "encoding"),
    ],
)
def test_an_answer_that_cannot_be_used_breaks_a_named_rule(text: str, rule: str) -> None:
    fields, problem = parse(JSON, answer(text))
    assert not fields and problem is not None and problem.split(":")[0] == rule


def test_an_answer_that_was_cut_off_or_refused_is_not_read_at_all() -> None:
    good = '{"message": "hi there"}'
    assert parse(JSON, answer(good, "length")) == ({}, "truncated: the answer ran into max_tokens")
    assert parse(TEXT, answer("", "refused: too long")) == ({}, "refused: too long")


def test_an_answer_other_than_an_object_is_refused_where_the_schema_allows_it() -> None:
    assert str(parse(NO_SCHEMA_OF_AN_OBJECT, answer("[1]"))[1]).startswith("schema")


NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["message", "mood", "x"]), inner),
    max_leaves=6,
)


DEEP = st.integers(1, 1500).map(lambda depth: '{"message": ' + "[" * depth + "]" * depth + "}")


@given(st.text() | NESTED.map(json.dumps) | DEEP)
@settings(max_examples=150, deadline=None)
def test_nothing_that_a_model_writes_raises_and_every_field_can_be_stored(text: str) -> None:
    for output in (TEXT, JSON, NO_SCHEMA_OF_AN_OBJECT):
        fields, problem = parse(output, answer(text))
        assert fields == {} or problem is None
        for name, value in fields.items():
            (name + value).encode("utf-8")


@pytest.mark.parametrize(
    ("text", "finish_reason", "passes"),
    [
        ("Yes", "stop", True),
        (" yes, it is", "stop", True),
        ("no", "stop", False),
        ("I say yes", "stop", False),
        ("yes", "length", False),
        ("", "stop", False),
        ("yes", "refused: x", False),
    ],
)
def test_a_check_accepts_what_matches_its_pattern_in_any_case(text: str, finish_reason: str, passes: bool) -> None:
    assert accepts(Output(accept="^yes"), answer(text, finish_reason)) is passes
