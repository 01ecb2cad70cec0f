"""Whether a value of a file is of the logical type that a contract gives its column."""

from __future__ import annotations

import datetime
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tasks.core.files import canonical_json
from tasks.core.messages import Message

MOST_INTEGER = 2**63 - 1
MOST_NUMBER = int(sys.float_info.max)
ISO = {
    "date": datetime.date.fromisoformat,
    "time": datetime.time.fromisoformat,
    "timestamp": datetime.datetime.fromisoformat,
}
WORDS = {"true": True, "false": False}


class WrongType(ValueError):
    """A value is not of the type; the message says what it is instead."""


def as_logical(value: Any, logical: str, is_written: bool) -> Any:
    """A value as rules see it: text, a finite number, or JSON text of a list or an object.

    Args:
        value: plain JSON, not null.
        logical: an ODCS logical type.
        is_written: whether the file knows nothing but text, so that numbers must be read from it.

    Raises:
        WrongType: it is none of that type.
    """
    if logical in ISO:
        _parsed(ISO[logical], value, logical)
        return value
    reader = _READERS.get(logical)
    return reader(value, is_written) if reader else value


def kind_of(value: Any) -> str:
    """The logical type that a plain JSON value has by itself."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"


def conversation(value: Any) -> list[Message]:
    """Turns as the project stores them; a part that a turn lacks stays away, for the contract to judge.

    Raises:
        WrongType: it is no list of turns.
    """
    if isinstance(value, str):
        value = _parsed(json.loads, value, "list of turns")
    if not isinstance(value, list):
        raise WrongType(f"{kind_of(value)}, no list of turns")
    return [_turn(turn, number) for number, turn in enumerate(value, 1)]


def _turn(turn: Any, number: int) -> Message:
    if not isinstance(turn, Mapping):
        raise WrongType(f"turn {number} is {kind_of(turn)}, no object")
    texts = {"role": turn.get("role") or "", "content": turn.get("content") or ""}
    odd = next((name for name, text in texts.items() if not isinstance(text, str)), None)
    if odd:
        raise WrongType(f"the {odd} of turn {number} is {kind_of(turn[odd])}, no text")
    calls = turn.get("tool_calls")
    message: Message = {**texts, **({"tool_calls": _calls(calls, number)} if calls else {})}
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


def _text(value: Any, is_written: bool) -> str:
    if not isinstance(value, str):
        raise WrongType(f"{kind_of(value)} {_shown(value)}")
    return value


def _integer(value: Any, is_written: bool) -> int:
    number = _number(value, is_written)
    if number != int(number) or abs(number) > MOST_INTEGER:
        raise WrongType(f"{kind_of(value)} {_shown(value)}")
    return int(number)


def _number(value: Any, is_written: bool) -> float:
    if is_written and isinstance(value, str):
        value = _parsed(_number_in, value, "number")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise WrongType(f"{kind_of(value)} {_shown(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise WrongType(_shown(value))
    if isinstance(value, int) and abs(value) > MOST_NUMBER:
        raise WrongType(f"integer {_shown(value)}")
    return value


def _number_in(text: str) -> float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _boolean(value: Any, is_written: bool) -> bool:
    if is_written and isinstance(value, str):
        value = WORDS.get(value.strip().lower(), value)
    if not isinstance(value, bool):
        raise WrongType(f"{kind_of(value)} {_shown(value)}")
    return value


def _as_json(kind: type[Any]) -> Callable[[Any, bool], str]:
    """A reader of lists or of objects, which may be JSON text already."""

    def read(value: Any, is_written: bool) -> str:
        found = _parsed(json.loads, value, "JSON") if isinstance(value, str) else value
        if not isinstance(found, kind):
            raise WrongType(f"{kind_of(value)} {_shown(value)}")
        return value if isinstance(value, str) else canonical_json(value)

    return read


def _parsed(parse: Callable[[str], Any], value: Any, what: str) -> Any:
    try:
        return parse(value)
    except (ValueError, TypeError, RecursionError) as error:
        raise WrongType(f"{kind_of(value)} {_shown(value)}, no {what}") from error


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else canonical_json(value)
    return f"{text[:60]!r}{'...' if len(text) > 60 else ''}" if isinstance(value, str) else text[:60]


_READERS: dict[str, Callable[[Any, bool], Any]] = {
    "string": _text,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "array": _as_json(list),
    "object": _as_json(dict),
    "map": _as_json(dict),
}


def majority(values: Sequence[Any]) -> str | None:
    """The logical type of most of the values that are there; None where there are none. Integers are numbers too."""
    counts: dict[str, int] = {}
    for value in values:
        if value is not None:
            kind = kind_of(value)
            counts[kind] = counts.get(kind, 0) + 1
    if counts.get("number") and counts.get("integer"):
        counts["number"] += counts.pop("integer")
    return max(counts, key=lambda kind: counts[kind], default=None)
