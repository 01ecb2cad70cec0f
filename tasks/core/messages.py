"""The canonical chat form: ``messages = [{role, content, tool_calls?, tool_call_id?, weight?}, ...]``.

The assistant learns its turns, except those of ``weight`` 0, which only come before later ones. A tool call is
``{id, name, arguments}``. Its arguments are JSON text, because no column type fits all of them. The tools that a
conversation may call (JSON Schemas in OpenAI's form) are JSON text in a column of their own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from tasks.core.characters import is_blank
from tasks.core.config import ChatTask
from tasks.core.files import canonical_json

TOOL_CALLS = pa.list_(pa.struct([("id", pa.string()), ("name", pa.string()), ("arguments", pa.string())]))
MESSAGES = pa.list_(
    pa.struct(
        [
            ("role", pa.string()),
            ("content", pa.string()),
            ("tool_calls", TOOL_CALLS),
            ("tool_call_id", pa.string()),
            ("weight", pa.int8()),
        ]
    )
)
"""The Arrow type of a conversation, as every stage stores it."""
Message = dict[str, Any]


def to_messages(task: ChatTask, row: Mapping[str, Any]) -> list[Message]:
    """The training conversation of a row: system (if the task has one), user, assistant."""
    system = [{"role": "system", "content": task.system}] if task.system else []
    return [
        *system,
        {"role": "user", "content": question_of(task, row)},
        {"role": "assistant", "content": str(row[task.output])},
    ]


def question_of(task: ChatTask, row: Mapping[str, Any]) -> str:
    """The user's turn of a row: the task's input and, if it has text, its context on the next line."""
    context = row.get(task.context) if task.context else None
    return f"{row[task.input]}\n{context}" if context and context.strip() else str(row[task.input])


def plain(messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    """A conversation read from a table, without the keys that are empty in a turn."""
    turns = []
    for message in messages:
        turn: Message = {"role": message["role"], "content": message["content"] or ""}
        if calls := [dict(call) for call in _tool_calls(message)]:
            turn["tool_calls"] = calls
        if message.get("tool_call_id") is not None:
            turn["tool_call_id"] = message["tool_call_id"]
        if not is_learned(message):
            turn["weight"] = 0
        turns.append(turn)
    return turns


def is_learned(message: Mapping[str, Any]) -> bool:
    """Whether the assistant may learn this turn of its own; false for a turn of weight 0."""
    return message.get("weight") != 0


def without_weights(messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    """The turns as templates and servers read them."""
    return [{key: value for key, value in message.items() if key != "weight"} for message in messages]


def for_template(messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    """A conversation for a chat template: a tool call's arguments are an object."""
    return without_weights(for_masking(messages))


def for_masking(messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    """As :func:`for_template`, with the weights of the turns."""
    return [_with_calls(turn, json.loads) for turn in plain(messages)]


def for_server(messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    """A conversation for OpenAI's chat API: a tool call's arguments are JSON text."""
    return without_weights([_with_calls(turn, str) for turn in plain(messages)])


def _with_calls(turn: Message, arguments: Any) -> Message:
    if "tool_calls" not in turn:
        return turn
    calls = [
        {
            "id": call["id"] or f"call_{number}",
            "type": "function",
            "function": {"name": call["name"], "arguments": arguments(call["arguments"])},
        }
        for number, call in enumerate(turn["tool_calls"])
    ]
    return {**turn, "tool_calls": calls}


def turn_text(message: Mapping[str, Any]) -> str:
    """A turn's text: its content, then its tool calls as JSON, one per line."""
    texts = [message["content"]] if message["content"] else []
    for call in _tool_calls(message):
        texts.append(canonical_json({"name": call["name"], "arguments": json.loads(call["arguments"])}))
    return "\n".join(texts)


def _tool_calls(message: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """A turn's tool calls; a table can hold None, and its arrays have no truth value."""
    calls = message.get("tool_calls")
    return () if calls is None else calls


def user_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """All user turns: the text in which duplicates and leaks are found."""
    return "\n".join(message["content"] for message in messages if message["role"] == "user")


def why_invalid(messages: Sequence[Mapping[str, Any]]) -> str | None:
    """The reason why a conversation cannot be trained on, or None.

    A valid conversation has no empty turn except of a tool, at most one system turn (the first), ends with the
    assistant's turn, and gives a tool's result only after a call.
    """
    roles = [message["role"] for message in messages]
    if not roles or roles[-1] != "assistant":
        return "the last turn is not the assistant's"
    if "user" not in roles:
        return "there is no user turn"
    if "system" in roles[1:]:
        return "a system turn that is not the first"
    if any(message["role"] != "tool" and is_blank(turn_text(message)) for message in messages):
        return "an empty turn"
    called = False
    for message in messages:
        if message["role"] == "tool" and not called:
            return "a tool's result without a call"
        called = len(_tool_calls(message)) > 0 or (called and message["role"] == "tool")
    return None
