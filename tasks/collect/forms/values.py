"""Single values of a row: found by path, and read as text, as a list or as JSON."""

from __future__ import annotations

import datetime
import decimal
import json
import reprlib
import uuid
from collections.abc import Mapping
from typing import Any

from tasks.collect.records import Rejected
from tasks.collect.sources.json_rows import DECODER
from tasks.core.files import canonical_json

NUL = "\0"
SHORT = reprlib.Repr()
SHORT.maxstring = 60
WRITTEN_AS_THEY_ARE = (datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID)


def at_path(values: Any, path: str) -> Any:
    """The value at a path with dots into mappings and lists (``instances.0.output``), or None.

    A key that has dots itself is found too: the longest key that fits is taken.
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
    """Whether a value is null, NaN or blank text."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float | decimal.Decimal) and value != value)


def text_of(value: Any, where: str) -> str:
    """A value as text without white space around it; a list, mapping or number as JSON.

    Raises:
        Rejected: it is missing, binary, or not storable as UTF-8.
    """
    if is_missing(value):
        raise Rejected(f"missing: {where!r} is empty")
    if isinstance(value, bytes):
        raise Rejected(f"type: {where!r} is binary")
    return _storable(value if isinstance(value, str) else _written(value, where), where).strip()


def optional_text(value: Any, where: str) -> str:
    """The same, but "" for a missing value.

    Raises:
        Rejected: it is binary, or not storable as UTF-8.
    """
    return "" if is_missing(value) else text_of(value, where)


def list_of(value: Any, where: str, rule: str) -> list[Any]:
    """A list, which may be spelled as JSON text.

    Raises:
        Rejected: by ``rule``, it is none.
    """
    found = parsed(value, where, rule) if isinstance(value, str) else value
    if not isinstance(found, list):
        raise Rejected(f"{rule}: {where!r} is no list")
    return found


def parsed(text: str, where: str, rule: str) -> Any:
    """JSON text as a value.

    Raises:
        Rejected: by ``rule``, it is no JSON, or an object in it has one key twice.
    """
    try:
        return DECODER.decode(text)
    except ValueError as error:
        raise Rejected(f"{rule}: {where!r} is no JSON: {error}") from error


def json_text(value: Any, where: str, rule: str) -> str:
    """A value as JSON text in its own order of keys: a model learns that order.

    Raises:
        Rejected: by ``rule``, JSON cannot hold it; or it is not storable as UTF-8.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise Rejected(f"{rule}: {where!r} cannot be written as JSON: {error}") from error
    return _storable(text, where)


def shown(value: Any) -> str:
    """A value as a rule shows it, in a few characters."""
    if value is None or isinstance(value, str):
        return SHORT.repr(value)
    return f"of type {type(value).__name__}"


def _written(value: Any, where: str) -> str:
    if isinstance(value, WRITTEN_AS_THEY_ARE):
        return str(value)
    try:
        return canonical_json(value)
    except (TypeError, ValueError) as error:
        raise Rejected(f"type: {where!r} is no text: {error}") from error


def _storable(text: str, where: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Rejected(f"encoding: {where!r} is not UTF-8") from error
    if NUL in text:
        raise Rejected(f"encoding: {where!r} holds a NUL")
    return text
