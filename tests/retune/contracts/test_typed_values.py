"""A value of a file is of a logical type, or is told what it is instead."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retune.contracts.typed_values import WrongType, as_logical, conversation, kind_of, majority

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
LOGICAL = ("string", "integer", "number", "boolean", "date", "time", "timestamp", "array", "object", "map")


@pytest.mark.parametrize(
    ("value", "logical", "is_written", "seen"),
    [
        ("a", "string", False, "a"),
        (3, "integer", False, 3),
        (3.0, "integer", False, 3),
        ("3", "integer", True, 3),
        (" 3.5 ", "number", True, 3.5),
        ("9007199254740993.0", "integer", True, 2**53 + 1),
        ("12345678901234567.89", "number", True, Decimal("12345678901234567.89")),
        ("1.10", "number", True, 1.1),
        (3, "number", False, 3),
        (True, "boolean", False, True),
        ("False", "boolean", True, False),
        ("2026-11-24", "date", False, "2026-11-24"),
        ("2026-11-24T10:00:00+00:00", "timestamp", False, "2026-11-24T10:00:00+00:00"),
        ("10:00:00", "time", False, "10:00:00"),
        ([1, 2], "array", False, "[1,2]"),
        ("[1, 2]", "array", True, "[1, 2]"),
        ({"b": 1, "a": 2}, "object", False, '{"a":2,"b":1}'),
    ],
)
def test_a_value_of_its_type_is_seen_as_rules_see_it(value: Any, logical: str, is_written: bool, seen: Any) -> None:
    assert as_logical(value, logical, is_written) == seen


@pytest.mark.parametrize(
    ("value", "logical", "is_written", "said"),
    [
        (3, "string", False, "integer 3"),
        ("3", "integer", False, "string '3'"),
        (3.5, "integer", False, "number 3.5"),
        (2**70, "integer", False, "integer 1180591620717411303424"),
        (10**400, "number", False, "integer 1000"),
        (True, "integer", False, "boolean true"),
        ("nan", "number", True, "NaN"),
        ("1e999", "number", True, "Infinity"),
        ("yes", "boolean", True, "string 'yes'"),
        (1, "boolean", False, "integer 1"),
        ("24.11.2026", "date", False, "not a date"),
        (20261124, "date", False, "not a date"),
        ({"a": 1}, "array", False, "object"),
        ("[1", "array", True, "not valid JSON"),
        ([], "object", False, "array"),
    ],
)
def test_a_value_of_another_type_is_said(value: Any, logical: str, is_written: bool, said: str) -> None:
    with pytest.raises(WrongType, match=said):
        as_logical(value, logical, is_written)


@given(value=JSON.filter(lambda value: value is not None), logical=st.sampled_from(LOGICAL), is_written=st.booleans())
def test_any_value_is_of_a_type_or_is_not(value: Any, logical: str, is_written: bool) -> None:
    try:
        seen = as_logical(value, logical, is_written)
    except WrongType as reason:
        assert str(reason)
    else:
        assert isinstance(seen, str | int | float)


@given(values=st.lists(JSON, max_size=6))
def test_the_type_of_most_values_is_one_that_they_have(values: list[Any]) -> None:
    there = {kind_of(value) for value in values if value is not None}
    found = majority(values)
    assert found in there if there else found is None


def test_conversations_keep_what_a_turn_says_and_lack_what_it_lacks() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    turns = [{"role": "user", "content": "2?"}, {"role": "assistant", "content": None, "tool_calls": [call]},
             {"role": "tool", "content": "2", "tool_call_id": "c"}, {"content": "2"}]  # fmt: skip
    assert conversation(turns) == [
        {"role": "user", "content": "2?"},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "c", "name": "add", "arguments": '{"a":1}'}]},
        {"role": "tool", "content": "2", "tool_call_id": "c"},
        {"role": "", "content": "2"},
    ]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (5, "not a list of turns"),
        ("[", "not a list of turns"),
        ({"role": "user"}, "not a list of turns"),
        (["hello"], "turn 1 is string"),
        ([{"role": "user", "content": ["parts"]}], "content of turn 1 is array"),
        ([{"role": "assistant", "content": "", "tool_calls": [{"function": {}}]}], "tool call of turn 1 has no name"),
        ([{"role": "assistant", "content": "", "tool_calls": 3}], "tool call of turn 1 has no name"),
    ],
)
def test_what_is_no_conversation_is_said(value: Any, said: str) -> None:
    with pytest.raises(WrongType, match=said):
        conversation(value)


@given(value=JSON)
def test_any_value_is_a_conversation_or_is_not(value: Any) -> None:
    try:
        turns = conversation(value)
    except WrongType:
        return
    assert all(isinstance(turn["role"], str) and isinstance(turn["content"], str) for turn in turns)
