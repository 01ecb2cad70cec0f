"""Single values of a row: found by path, and read as text, list or JSON."""

from __future__ import annotations

import datetime
import decimal
import json
import re
import reprlib
import uuid
from collections.abc import Mapping
from typing import Any

from tasks.collect.records import Rejected
from tasks.core.characters import is_blank
from tasks.core.content import NotText, content_text
from tasks.core.files import canonical_json
from tasks.core.json_text import strict_json

NUL = "\0"
SHORT = reprlib.Repr()
SHORT.maxstring = 60
WRITTEN_AS_THEY_ARE = (datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID)


def at_path(values: Any, path: str) -> Any:
    """The value at a dotted path into mappings and lists (``instances.0.output``), or None.

    Keys that contain dots are found too: the longest matching key wins.
    """
    if isinstance(values, list):
        number, _, rest = path.partition(".")
        if not number.isdecimal() or len(number) > 9 or int(number) >= len(values):
            return None
        return at_path(values[int(number)], rest) if rest else values[int(number)]
    if not isinstance(values, Mapping):
        return None
    key = path
    while key not in values:
        key = key.rpartition(".")[0]
        if not key:
            return None
    return values[key] if key == path else at_path(values[key], path[len(key) + 1 :])


def is_missing(value: Any) -> bool:
    if isinstance(value, str):
        return is_blank(value)
    return value is None or (isinstance(value, float | decimal.Decimal) and value != value)


def text_of(value: Any, where: str) -> str:
    """A value as stripped text; a list, mapping or number as JSON."""
    if is_missing(value):
        raise Rejected(f"missing: {where!r} is empty")
    if isinstance(value, bytes):
        raise Rejected(f"type: {where!r} is binary")
    return _storable(value if isinstance(value, str) else _written(value, where), where).strip()


def optional_text(value: Any, where: str) -> str:
    """As ``text_of``, with "" for a missing value."""
    return "" if is_missing(value) else text_of(value, where)


def spoken(value: Any, where: str, ignored: set[str]) -> Any:
    """What somebody says: the text parts of a list or an object, joined; any other value as it is.

    Thoughts are left out and added to ``ignored``; other parts and objects are rejected.
    """
    if not isinstance(value, list | Mapping):
        return value
    thoughts: set[str] = set()
    try:
        text = content_text(value, thoughts)
    except NotText as reason:
        raise Rejected(f"conversation: '{where}{reason.place}' is {reason.what}: only text is supported") from reason
    ignored.update(f"{without_numbers(where)}[].{kind}" for kind in thoughts)
    return text


def without_numbers(where: str) -> str:
    """A place in a row without the numbers of its items, for counting."""
    return re.sub(r"\[\d+\]", "[]", where)


def list_of(value: Any, where: str, rule: str) -> list[Any]:
    """A list, which may be given as JSON text."""
    found = unpacked(value, where, rule)
    if not isinstance(found, list):
        raise Rejected(f"{rule}: {where!r} is not a list")
    return found


def unpacked(value: Any, where: str, rule: str) -> Any:
    """A value that may be given as JSON text."""
    return parsed(value, where, rule) if isinstance(value, str) and value.strip() else value


def parsed(text: str, where: str, rule: str) -> Any:
    try:
        return strict_json(text)
    except ValueError as error:
        raise Rejected(f"{rule}: {where!r} is not valid JSON: {error}") from error


def json_text(value: Any, where: str, rule: str) -> str:
    """A value as JSON text with its keys in their own order: a model learns that order."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise Rejected(f"{rule}: {where!r} cannot be written as JSON: {error}") from error
    return _storable(text, where)


def shown(value: Any) -> str:
    if value is None or isinstance(value, str):
        return SHORT.repr(value)
    return f"of type {type(value).__name__}"


def _written(value: Any, where: str) -> str:
    if isinstance(value, WRITTEN_AS_THEY_ARE):
        return str(value)
    try:
        return canonical_json(value)
    except (TypeError, ValueError) as error:
        raise Rejected(f"type: {where!r} is not text: {error}") from error


def _storable(text: str, where: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Rejected(f"encoding: {where!r} is not UTF-8") from error
    if NUL in text:
        raise Rejected(f"encoding: {where!r} holds a NUL")
    return text
