"""Turn lists of ShareGPT and OpenAI turns into canonical messages.

One reader serves both, with other keys and other words for roles, because data sets mix them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.collect.config import Layout
from tasks.collect.forms.meaning import LEARNED_TURN, is_left_unlearned, refuse_media
from tasks.collect.forms.row import Row
from tasks.collect.forms.values import (
    is_missing,
    json_text,
    list_of,
    optional_text,
    parsed,
    shown,
    spoken,
    text_of,
    unpacked,
    without_numbers,
)
from tasks.collect.records import Rejected
from tasks.core.content import says_nothing
from tasks.core.messages import Message, is_learned

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
    """How a source writes a turn: the keys of the role and of the text, and its words for the roles.

    ``ignored`` collects the keys of turns that nothing reads.
    """

    role: str
    content: str
    roles: Mapping[str, str]
    ignored: set[str]


def turn_keys(row: Row, role: str, content: str) -> TurnKeys:
    layout: Layout = row.layout
    return TurnKeys(layout.role_key or role, layout.content_key or content, {**ROLES, **layout.roles}, row.ignored)


def read_turns(value: Any, where: str, keys: TurnKeys) -> list[Message]:
    """The messages of a list of turns; calls after an assistant's text join its turn, empty system turns are left out.

    A turn that is not to be learned has ``weight: 0``.
    """
    messages: list[Message] = []
    for number, turn in enumerate(list_of(value, where, "conversation")):
        place = f"{where}[{number}]"
        if not isinstance(turn, Mapping):
            raise Rejected(f"conversation: {place!r} is not a turn")
        word = turn.get(keys.role)
        role = keys.roles.get(word) if isinstance(word, str) else None
        if role is None:
            raise Rejected(f"conversation: {place!r} has the unknown role {shown(word)}")
        refuse_media(turn, place)
        message = _call_turn(turn, place, keys) if role == CALL else _message(turn, role, place, keys)
        if role == CALL and messages and _can_join(messages[-1], message):
            messages[-1]["tool_calls"] = message["tool_calls"]
        elif role != "system" or message["content"]:
            messages.append(message)
    return messages


def learned_part(messages: list[Message], ignored: set[str]) -> list[Message]:
    """The messages up to the last turn that is learned: a turn after it teaches nothing and is not a reference.

    Raises Rejected: no turn is learned.
    """
    if not messages or is_learned(messages[-1]):
        return messages
    learned = [number for number, turn in enumerate(messages) if turn["role"] == "assistant" and is_learned(turn)]
    if not learned:
        raise Rejected("weight: every turn of the assistant is excluded from learning")
    ignored.add("turns after the last one to learn")
    return messages[: learned[-1] + 1]


def _can_join(before: Message, call: Message) -> bool:
    is_text = before["role"] == "assistant" and "tool_calls" not in before
    return is_text and is_learned(before) == is_learned(call)


def _call_turn(turn: Mapping[str, Any], place: str, keys: TurnKeys) -> Message:
    calls = _calls(turn.get(keys.content), f"{place}.{keys.content}")
    if not calls:
        raise Rejected(f"tool_call: '{place}.{keys.content}' contains no call")
    return _finished({"role": "assistant", "content": "", "tool_calls": calls}, turn, place, keys, set())


def _message(turn: Mapping[str, Any], role: str, place: str, keys: TurnKeys) -> Message:
    said, where = turn.get(keys.content), f"{place}.{keys.content}"
    read, calls = set[str](), list[Message]()
    if role == "assistant":
        own = "function_call" if says_nothing(turn.get("tool_calls")) else "tool_calls"
        calls = _calls(turn.get(own), f"{place}.{own}")
        read.add(own)
    if role != "tool" or _is_typed(said):
        said = spoken(said, where, keys.ignored)
    may_be_empty = calls or role in ("tool", "system")
    message: Message = {"role": role, "content": (optional_text if may_be_empty else text_of)(said, where)}
    if calls:
        message["tool_calls"] = calls
    if role == "tool" and not is_missing(turn.get("tool_call_id")):
        message["tool_call_id"] = text_of(turn["tool_call_id"], f"{place}.tool_call_id")
        read.add("tool_call_id")
    return _finished(message, turn, place, keys, read)


def _is_typed(said: Any) -> bool:
    """Whether a tool's result consists of typed parts: others are data, which stay JSON."""
    return (
        isinstance(said, list)
        and bool(said)
        and all(isinstance(part, Mapping) and isinstance(part.get("type"), str) for part in said)
    )


def _finished(message: Message, turn: Mapping[str, Any], place: str, keys: TurnKeys, read: set[str]) -> Message:
    """The message with its weight; the turn's other keys are noted."""
    left_out = is_left_unlearned(turn, place)
    if message["role"] == "assistant" and left_out:
        message["weight"] = 0
    asks_in_vain = message["role"] != "assistant" and left_out is False  # only the assistant's turns are learned
    known = (keys.role, keys.content, *read)
    others = [key for key in turn if key not in known and (asks_in_vain or key not in LEARNED_TURN)]
    if unread := [key for key in others if not says_nothing(turn[key])]:
        keys.ignored.update(f"{without_numbers(place)}.{key}" for key in unread)
    return message


def _calls(value: Any, where: str) -> list[Message]:
    found = unpacked(value, where, "tool_call")
    if says_nothing(found):
        return []
    calls = found if isinstance(found, list) else [found]
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
    found = unpacked(value, where, "tool_call")
    if is_missing(found):
        return "{}"
    if not isinstance(found, Mapping):
        raise Rejected(f"tool_call: {where!r} is not a JSON object")
    return json_text(found, where, "tool_call")


def read_tools(value: Any, where: str) -> str | None:
    """The tools of a conversation in OpenAI's form, as JSON text, or None."""
    found = unpacked(value, where, "tools")
    if says_nothing(found):
        return None
    tools = [
        _tool(tool, f"{where}[{number}]") for number, tool in enumerate(found if isinstance(found, list) else [found])
    ]
    return json_text(tools, where, "tools")


def _tool(value: Any, where: str) -> dict[str, Any]:
    if isinstance(value, str):
        value = parsed(value, where, "tools")
    function = value.get("function") if isinstance(value, Mapping) and value.get("type") == "function" else value
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise Rejected(f"tools: {where!r} names no function")
    return {"type": "function", "function": dict(function)}
