"""Turn lists of ShareGPT and OpenAI turns into canonical messages.

One reader serves both, with other keys and other words for roles, because data sets mix them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.collect.config import Layout
from tasks.collect.forms.values import is_missing, json_text, list_of, optional_text, parsed, shown, text_of
from tasks.collect.records import Rejected
from tasks.core.messages import Message

CALL = "function_call"
ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant",
    "function_call": CALL, "tool_call": CALL,
    "tool": "tool", "observation": "tool", "function": "tool", "tool_response": "tool", "function_response": "tool",
}  # fmt: skip
"""Data sets' words for roles; ``function_call`` is an assistant's turn that calls tools."""


@dataclass(frozen=True)
class TurnKeys:
    """How a source writes a turn: the keys of the role and of the text, and its words for the roles."""

    role: str
    content: str
    roles: Mapping[str, str]


def turn_keys(layout: Layout, role: str, content: str) -> TurnKeys:
    return TurnKeys(layout.role_key or role, layout.content_key or content, {**ROLES, **layout.roles})


def read_turns(value: Any, where: str, keys: TurnKeys) -> list[Message]:
    """The messages of a list of turns; calls after an assistant's text join its turn."""
    messages: list[Message] = []
    for number, turn in enumerate(list_of(value, where, "conversation")):
        place = f"{where}[{number}]"
        if not isinstance(turn, Mapping):
            raise Rejected(f"conversation: {place!r} is not a turn")
        word = turn.get(keys.role)
        role = keys.roles.get(word) if isinstance(word, str) else None
        if role is None:
            raise Rejected(f"conversation: {place!r} has the unknown role {shown(word)}")
        if role != CALL:
            messages.append(_message(turn, role, place, keys))
            continue
        calls = _calls(turn.get(keys.content), f"{place}.{keys.content}")
        if messages and messages[-1]["role"] == "assistant" and "tool_calls" not in messages[-1]:
            messages[-1]["tool_calls"] = calls
        else:
            messages.append({"role": "assistant", "content": "", "tool_calls": calls})
    return messages


def _message(turn: Mapping[str, Any], role: str, place: str, keys: TurnKeys) -> Message:
    said, where = turn.get(keys.content), f"{place}.{keys.content}"
    calls: list[Message] = []
    if role == "assistant" and turn.get("tool_calls"):
        calls = _calls(turn["tool_calls"], f"{place}.tool_calls")
    elif role == "assistant" and turn.get("function_call"):
        calls = _calls(turn["function_call"], f"{place}.function_call")
    if isinstance(said, list) and keys.role == "role":
        said = _joined(said, where)
    message: Message = {"role": role, "content": optional_text(said, where) if calls else text_of(said, where)}
    if calls:
        message["tool_calls"] = calls
    if role == "tool" and not is_missing(turn.get("tool_call_id")):
        message["tool_call_id"] = text_of(turn["tool_call_id"], f"{place}.tool_call_id")
    return message


def _joined(parts: list[Any], where: str) -> Any:
    if not parts or not all(isinstance(part, Mapping) and isinstance(part.get("type"), str) for part in parts):
        return parts
    for number, part in enumerate(parts):
        if part["type"] != "text":
            raise Rejected(
                f"conversation: '{where}[{number}]' is of type {shown(part['type'])}: only text is supported"
            )
    return "\n".join(optional_text(part.get("text"), f"{where}[{number}].text") for number, part in enumerate(parts))


def _calls(value: Any, where: str) -> list[Message]:
    if isinstance(value, str):
        value = parsed(value, where, "tool_call")
    calls = value if isinstance(value, list) else [value]
    if not calls:
        raise Rejected(f"tool_call: {where!r} contains no call")
    return [_call(call, f"{where}[{number}]") for number, call in enumerate(calls)]


def _call(value: Any, where: str) -> Message:
    given = value.get("function") if isinstance(value, Mapping) and value.get("function") else value
    if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
        raise Rejected(f"tool_call: {where!r} names no function")
    number = value.get("id")
    return {
        "id": None if is_missing(number) else text_of(number, f"{where}.id"),
        "name": text_of(given["name"], f"{where}.name"),
        "arguments": _arguments(given.get("arguments"), f"{where}.arguments"),
    }


def _arguments(value: Any, where: str) -> str:
    if is_missing(value):
        return "{}"
    found = parsed(value, where, "tool_call") if isinstance(value, str) else value
    if not isinstance(found, Mapping):
        raise Rejected(f"tool_call: {where!r} is not a JSON object")
    return json_text(found, where, "tool_call")


def read_tools(value: Any, where: str) -> str | None:
    """The tools of a conversation in OpenAI's form, as JSON text, or None."""
    if is_missing(value):
        return None
    found = parsed(value, where, "tools") if isinstance(value, str) else value
    tools = [
        _tool(tool, f"{where}[{number}]") for number, tool in enumerate(found if isinstance(found, list) else [found])
    ]
    return json_text(tools, where, "tools") if tools else None


def _tool(value: Any, where: str) -> dict[str, Any]:
    if isinstance(value, str):
        value = parsed(value, where, "tools")
    function = value.get("function") if isinstance(value, Mapping) and value.get("type") == "function" else value
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise Rejected(f"tools: {where!r} names no function")
    return {"type": "function", "function": dict(function)}
