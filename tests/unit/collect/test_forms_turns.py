"""Turns of ShareGPT and OpenAI: roles, tool calls, results and tools are kept; a broken turn is named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tasks.core.messages import for_template, why_invalid
from tests.unit.collect.rows_of_forms import assistant, read, rule, system, turn, user

WEATHER = {"name": "weather", "description": "of a town", "parameters": {"type": "object"}}
WRAPPED = {"type": "function", "function": WEATHER}
CALL = '{"name": "weather", "arguments": {"town": "Rom", "days": 2}}'


def test_sharegpts_calls_results_and_tools_are_kept() -> None:
    row = {
        "conversations": [
            turn("human", "Weather in Rom?"),
            turn("function_call", CALL),
            turn("observation", '{"sun": true}'),
            turn("gpt", "Sunny."),
        ],
        "tools": json.dumps([WEATHER]),
    }
    found = read(row)
    call = {"id": None, "name": "weather", "arguments": '{"town": "Rom", "days": 2}'}
    assert found.messages == [
        user("Weather in Rom?"),
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": '{"sun": true}'},
        assistant("Sunny."),
    ]
    assert json.loads(found.tools or "") == [WRAPPED]
    assert found.fields == {"user": "Weather in Rom?", "assistant": "Sunny."}
    assert why_invalid(found.messages) is None


@pytest.mark.parametrize("value", [f"[{CALL}, {CALL}]", [json.loads(CALL)] * 2], ids=["JSON", "list"])
def test_several_calls_of_one_turn_stay_together(value: Any) -> None:
    found = read({"conversations": [turn("human", "a"), turn("function_call", value)]})
    assert [call["name"] for call in found.messages[1]["tool_calls"]] == ["weather", "weather"]


def test_a_call_behind_the_assistants_text_belongs_to_its_turn() -> None:
    found = read({"conversations": [turn("human", "a"), turn("gpt", "Let me see."), turn("function_call", CALL)]})
    assert [message["role"] for message in found.messages] == ["user", "assistant"]
    assert found.messages[1]["content"] == "Let me see." and len(found.messages[1]["tool_calls"]) == 1


def test_a_call_before_the_assistants_text_stays_before_it() -> None:
    found = read({"conversations": [turn("human", "a"), turn("function_call", CALL), turn("gpt", "Done.")]})
    assert found.messages[1]["content"] == "" and found.messages[2] == assistant("Done.")


def test_the_column_may_be_called_conversation_and_be_json_text() -> None:
    turns = [turn("human", "a"), turn("gpt", "b")]
    assert read({"conversation": turns}).messages == [user("a"), assistant("b")]
    assert read({"conversations": json.dumps(turns)}).messages == [user("a"), assistant("b")]


def test_a_system_column_counts_where_no_turn_says_it() -> None:
    turns = [turn("human", "a"), turn("gpt", "b")]
    assert read({"conversations": turns, "system": "s"}).messages[0] == system("s")
    own = [turn("system", "own"), *turns]
    assert read({"conversations": own, "system": "s"}).messages == [system("own"), user("a"), assistant("b")]


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ("no list", "conversation: 'conversations' is not valid JSON"),
        ({"from": "human"}, "conversation: 'conversations' is not a list"),
        ([], "missing: 'conversations' has no turn"),
        (["a"], "conversation: 'conversations[0]' is not a turn"),
        ([turn("parrot", "a")], "conversation: 'conversations[0]' has the unknown role 'parrot'"),
        ([{"from": ["human"], "value": "a"}], "conversation: 'conversations[0]' has the unknown role of type list"),
        ([turn("human", "")], "missing: 'conversations[0].value' is empty"),
        (
            [turn("human", "a"), turn("function_call", "weather(Rom)")],
            "tool_call: 'conversations[1].value' is not valid JSON",
        ),
        ([turn("function_call", "[]")], "tool_call: 'conversations[0].value' contains no call"),
        (
            [turn("function_call", '{"arguments": {"a": 1}}')],
            "tool_call: 'conversations[0].value[0]' names no function",
        ),
        (
            [turn("function_call", '{"name": "f", "arguments": [1]}')],
            "tool_call: 'conversations[0].value[0].arguments'",
        ),
        ([turn("function_call", '{"name": "f", "arguments": {"x": NaN}}')], "tool_call: 'conversations[0].value' is"),
        (
            [turn("function_call", '{"name": "f", "arguments": {"a": 1, "a": 2}}')],
            "tool_call: 'conversations[0].value' is not valid JSON: the key 'a' appears twice",
        ),
    ],
)
def test_a_broken_conversation_is_rejected_with_its_place(turns: Any, expected: str) -> None:
    assert rule({"conversations": turns}, "sharegpt").startswith(expected)


@pytest.mark.parametrize("tools", ["[", "[1]", '[{"description": "no name"}]', [{"name": 1}], 5])
def test_tools_that_name_no_function_are_rejected(tools: Any) -> None:
    turns = [turn("human", "a"), turn("gpt", "b")]
    assert rule({"conversations": turns, "tools": tools}, "sharegpt").startswith("tools: 'tools")


@pytest.mark.parametrize("tools", [None, "", " ", [], "[]", "null", "{}", {}, [None], float("nan"), {"name": None}])
def test_no_tools_are_none(tools: Any) -> None:
    assert read({"conversations": [turn("human", "a"), turn("gpt", "b")], "tools": tools}).tools is None


def test_openais_calls_are_read_with_arguments_as_text_or_object() -> None:
    def call(arguments: Any) -> dict[str, Any]:
        return {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": arguments}}

    for arguments in ('{"town": "Rom"}', {"town": "Rom"}):
        row = {
            "messages": [
                system("s"),
                user("a"),
                {"role": "assistant", "content": None, "tool_calls": [call(arguments)]},
                {"role": "tool", "content": "sun", "tool_call_id": "c1"},
                assistant("Sunny."),
            ],
            "tools": [WRAPPED],
        }
        found = read(row)
        assert found.messages[2] == {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "c1", "name": "weather", "arguments": '{"town": "Rom"}'}],
        }
        assert found.messages[3] == {"role": "tool", "content": "sun", "tool_call_id": "c1"}
        assert json.loads(found.tools or "") == [WRAPPED]
        assert for_template(found.messages)[2]["tool_calls"][0]["function"]["arguments"] == {"town": "Rom"}


def test_openais_older_functions_are_read() -> None:
    row = {
        "messages": [
            user("a"),
            {"role": "assistant", "content": "", "function_call": {"name": "weather", "arguments": ""}},
            {"role": "function", "name": "weather", "content": "sun"},
            assistant("b"),
        ],
        "functions": [WEATHER],
    }
    found = read(row)
    assert found.messages[1]["tool_calls"] == [{"id": None, "name": "weather", "arguments": "{}"}]
    assert found.messages[2] == {"role": "tool", "content": "sun"}
    assert json.loads(found.tools or "") == [WRAPPED]


def test_parts_of_a_content_are_joined_and_pictures_rejected() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert read({"messages": [user("x") | {"content": parts}, assistant("y")]}).messages[0] == user("a\nb")
    picture = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "data:"}}]
    message = rule({"messages": [{"role": "user", "content": picture}, assistant("y")]})
    assert message == "conversation: 'messages[0].content[1]' is of type 'image_url': only text is supported"


def test_nulls_that_a_table_puts_into_turns_mean_nothing() -> None:
    filled = {"tool_calls": None, "tool_call_id": None, "function_call": None, "name": None}
    found = read({"messages": [{**user("a"), **filled}, {**assistant("b"), **filled}], "tools": None})
    assert found.messages == [user("a"), assistant("b")]
