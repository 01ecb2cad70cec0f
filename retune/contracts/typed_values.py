"""Check that a value of a file has the logical type that a contract gives its column."""

from __future__ import annotations

import datetime
import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from tasks.core.files import canonical_json
from tasks.core.messages import Message, is_learned

MOST_INTEGER = 2**63 - 1
MOST_NUMBER = int(sys.float_info.max)
ISO = {
    "date": datetime.date.fromisoformat,
    "time": datetime.time.fromisoformat,
    "timestamp": datetime.datetime.fromisoformat,
}
JSON_KINDS = {"array": list, "object": dict, "map": dict}
WORDS = {"true": True, "false": False}
KINDS = {bool: "boolean", int: "integer", float: "number", Decimal: "number", str: "string", list: "array"}


class WrongType(ValueError):
    """A value is not of the type; the message describes the value."""


def as_logical(value: Any, logical: str, is_written: bool) -> Any:
    """A value (plain JSON, not null) as rules see it: text, a finite number, or JSON text of a list or an object.

    ``is_written``: numbers are text, which is parsed without loss: a number is a Decimal if a double would not hold it.
    Raises a WrongType if the value is not of the ODCS logical type.
    """
    if logical in ISO:
        _parsed(ISO[logical], value, f"a {logical}")
        return value
    if logical in JSON_KINDS:
        found = _parsed(json.loads, value, "valid JSON") if isinstance(value, str) else value
        if not isinstance(found, JSON_KINDS[logical]):
            raise WrongType(_described(value))
        return value if isinstance(value, str) else canonical_json(value)
    if logical in ("integer", "number"):
        return _number(value, logical, is_written)
    if logical == "boolean":
        found = WORDS.get(value.strip().lower()) if is_written and isinstance(value, str) else value
        if not isinstance(found, bool):
            raise WrongType(_described(value))
        return found
    if logical == "string" and not isinstance(value, str):
        raise WrongType(_described(value))
    return value


def kind_of(value: Any) -> str:
    return KINDS.get(type(value), "object")


def majority(values: Sequence[Any]) -> str | None:
    """The logical type of most values; None if all are missing. Next to numbers, integers count as numbers."""
    counts = Counter(kind_of(value) for value in values if value is not None)
    if counts["number"] and counts["integer"]:
        counts["number"] += counts.pop("integer")
    return max(counts, key=counts.__getitem__, default=None)


def conversation(value: Any) -> list[Message]:
    """Turns as the project stores them, or a WrongType. A part that a turn lacks stays missing, for the contract."""
    if isinstance(value, str):
        value = _parsed(json.loads, value, "a list of turns")
    if not isinstance(value, list):
        raise WrongType(f"{kind_of(value)}, not a list of turns")
    return [_turn(turn, number) for number, turn in enumerate(value, 1)]


def _turn(turn: Any, number: int) -> Message:
    if not isinstance(turn, Mapping):
        raise WrongType(f"turn {number} is {kind_of(turn)}, not an object")
    texts = {"role": turn.get("role") or "", "content": turn.get("content") or ""}
    odd = next((name for name, text in texts.items() if not isinstance(text, str)), None)
    if odd:
        raise WrongType(f"the {odd} of turn {number} is {kind_of(turn[odd])}, not text")
    calls = turn.get("tool_calls")
    message: Message = {**texts, **({"tool_calls": _calls(calls, number)} if calls else {})}
    if not is_learned(turn):
        message["weight"] = 0
    return message | ({"tool_call_id": str(turn["tool_call_id"])} if turn.get("tool_call_id") is not None else {})


def _calls(calls: Any, number: int) -> list[dict[str, Any]]:
    """Tool calls in the project's form; OpenAI's have name and arguments one level below."""
    found = []
    for call in calls if isinstance(calls, list) else [calls]:
        inner = call.get("function", call) if isinstance(call, Mapping) else None
        if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str):
            raise WrongType(f"a tool call of turn {number} has no name")
        arguments = inner.get("arguments") or {}
        written = arguments if isinstance(arguments, str) else canonical_json(arguments)
        found.append({"id": call.get("id"), "name": inner["name"], "arguments": written})
    return found


def _number(value: Any, logical: str, is_written: bool) -> int | float | Decimal:
    number: Any = _parsed(_number_in, value, "a number") if is_written and isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int | float | Decimal):
        raise WrongType(_described(number))
    if not isinstance(number, int) and not math.isfinite(number):
        raise WrongType(_shown(number))
    if isinstance(number, int) and abs(number) > MOST_NUMBER:
        raise WrongType(f"integer {_shown(number)}")
    if logical == "number":
        return number
    whole = int(number)
    if number != whole or abs(whole) > MOST_INTEGER:
        raise WrongType(_described(value))
    return whole


def _number_in(text: str) -> int | float | Decimal:
    try:
        return int(text)
    except ValueError:
        number = float(text)
    return number if not math.isfinite(number) or Decimal(repr(number)) == Decimal(text) else Decimal(text.strip())


def _parsed(parse: Callable[[str], Any], value: Any, what: str) -> Any:
    try:
        return parse(value)
    except (ValueError, TypeError, RecursionError) as error:
        raise WrongType(f"{_described(value)}, not {what}") from error


def _described(value: Any) -> str:
    return f"{kind_of(value)} {_shown(value)}"


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return f"{value[:60]!r}{'...' if len(value) > 60 else ''}"
    return canonical_json(value)[:60]
