"""The canonical chat form."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from tasks.core.config import ChatTask
from tasks.core.messages import (
    MESSAGES,
    for_masking,
    for_server,
    for_template,
    is_learned,
    plain,
    to_messages,
    turn_text,
    user_text,
    why_invalid,
)


def turns(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in pairs]


CALLING: dict[str, Any] = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"id": None, "name": "find", "arguments": '{"what": "card"}'}],
}


def test_tool_calls_survive_a_table_and_take_the_forms_of_templates_and_servers() -> None:
    talk: list[dict[str, Any]] = [
        *turns(("user", "a")),
        CALLING,
        {"role": "tool", "content": "t", "tool_call_id": "c1"},
    ]
    table = pa.array([talk], MESSAGES)
    assert plain(table.to_pylist()[0]) == talk
    (template,) = (turn["tool_calls"] for turn in for_template(talk) if "tool_calls" in turn)
    assert template[0]["function"] == {"name": "find", "arguments": {"what": "card"}}
    (server,) = (turn["tool_calls"] for turn in for_server(talk) if "tool_calls" in turn)
    assert server[0]["function"]["arguments"] == '{"what": "card"}' and server[0]["id"] == "call_0"
    assert turn_text(CALLING) == '{"arguments":{"what":"card"},"name":"find"}'


def test_a_turn_of_weight_zero_survives_a_table_and_neither_templates_nor_servers_see_it() -> None:
    talk: list[dict[str, Any]] = [
        *turns(("user", "a")),
        {"role": "assistant", "content": "b", "weight": 0},
        *turns(("user", "c"), ("assistant", "d")),
    ]
    stored = pa.array([talk], MESSAGES).to_pylist()[0]
    assert plain(stored) == talk and plain(for_masking(stored)) == talk
    assert [is_learned(turn) for turn in stored] == [True, False, True, True]
    bare = turns(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))
    assert for_template(stored) == for_server(stored) == bare


def test_a_row_becomes_a_conversation_with_the_tasks_system_turn() -> None:
    task = ChatTask(system="Route it.", input="message", output="queue")
    row = {"message": "lost card", "queue": "cards", "topic": "unused"}
    assert to_messages(task, row) == turns(("system", "Route it."), ("user", "lost card"), ("assistant", "cards"))
    assert [turn["role"] for turn in to_messages(ChatTask(), {"input": "a", "output": "b"})] == ["user", "assistant"]


def test_the_users_text_is_all_user_turns_and_nothing_else() -> None:
    talk = turns(("system", "s"), ("user", "one"), ("assistant", "a"), ("user", "two"), ("assistant", "b"))
    assert user_text(talk) == "one\ntwo"


@pytest.mark.parametrize(
    ("talk", "reason"),
    [
        (turns(("user", "a"), ("assistant", "b")), None),
        (turns(("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")), None),
        ([], "last turn"),
        (turns(("user", "a")), "last turn"),
        (turns(("assistant", "b")), "no user turn"),
        (turns(("user", "a"), ("system", "s"), ("assistant", "b")), "not the first"),
        (turns(("user", " \n"), ("assistant", "b")), "empty turn"),
        (turns(("user", "a"), ("tool", "t"), ("assistant", "b")), "without a call"),
        ([*turns(("user", "a")), CALLING, *turns(("tool", "t"), ("tool", "t"), ("assistant", "b"))], None),
        ([*turns(("user", "a")), CALLING, *turns(("tool", ""), ("assistant", "b"))], None),
        ([*turns(("user", "a")), CALLING, *turns(("tool", "t"), ("assistant", ""))], "empty turn"),
        ([*turns(("user", "a")), CALLING], None),
    ],
)
def test_the_fault_of_an_invalid_conversation_is_named(talk: list[dict[str, str]], reason: str | None) -> None:
    found = why_invalid(talk)
    assert found is None if reason is None else reason in str(found)
