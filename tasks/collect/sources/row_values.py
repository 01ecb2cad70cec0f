"""Values that a row may hold: storable as JSON and UTF-8, of bounded size and depth."""

from __future__ import annotations

import datetime
import decimal
import json
import math
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tasks.core.files import storable

DEEPEST = 64
"""Levels of nesting inside a value; far more than a conversation needs."""
AS_TEXT = (decimal.Decimal, datetime.timedelta, uuid.UUID)
DATES = (datetime.datetime, datetime.date, datetime.time)


class Unfit(Exception):
    """The values of a row cannot be used; the message says why."""


@dataclass(frozen=True)
class Fit:
    """Converts the values of a row to plain form, or says why it cannot.

    Attributes:
        max_field_bytes: largest value of a column, as UTF-8.
        columns: columns to keep. None: all.
        nan_is_missing: NaN is a missing value, as in tables written by pandas.
    """

    max_field_bytes: int
    columns: frozenset[str] | None = None
    nan_is_missing: bool = False

    @classmethod
    def of(cls, max_field_bytes: int, columns: Iterable[str] | None, nan_is_missing: bool = False) -> Fit:
        """Build from column names; of a dotted name the first part counts."""
        names = None if columns is None else frozenset(part for name in columns for part in (name, name.split(".")[0]))
        return cls(max_field_bytes, names, nan_is_missing)

    def row(self, values: Mapping[Any, Any]) -> dict[str, Any]:
        """The row with plain JSON values: dates as ISO 8601, decimals as text, bytes decoded as UTF-8."""
        wanted = self.columns
        plain = {}
        for name, value in values.items():
            if wanted is not None and name not in wanted:
                continue
            try:
                plain[_text(name)[0]], size = self._plain(value, DEEPEST)
            except Unfit as reason:
                raise Unfit(f"column {name!r} {reason}") from reason
            if size > self.max_field_bytes:
                raise Unfit(f"column {name!r} holds {size:,} bytes, more than {self.max_field_bytes:,}")
        return plain

    def _plain(self, value: Any, levels: int) -> tuple[Any, int]:
        if isinstance(value, str):
            return _text(value)
        if value is None or isinstance(value, (bool, int)):
            return value, 8
        if isinstance(value, float):
            if math.isfinite(value):
                return value, 8
            if self.nan_is_missing and math.isnan(value):
                return None, 8
            raise Unfit(f"holds the number {value}, which JSON does not have")
        if isinstance(value, (Mapping, list, tuple)):
            return self._nested(value, levels)
        if isinstance(value, bytes):
            return _decoded(value)
        if isinstance(value, DATES):
            return value.isoformat(), 32
        if isinstance(value, AS_TEXT):
            return str(value), 32
        raise Unfit(f"holds a value of type {type(value).__name__}, which is neither text nor JSON")

    def _nested(self, value: Mapping[Any, Any] | list[Any] | tuple[Any, ...], levels: int) -> tuple[Any, int]:
        if not levels:
            raise Unfit(f"is nested more than {DEEPEST} levels deep")
        if isinstance(value, Mapping):
            keys = [_text(str(key)) for key in value]
            items = [self._plain(item, levels - 1) for item in value.values()]
            size = sum(size for _, size in keys) + sum(size for _, size in items)
            return {key: item for (key, _), (item, _) in zip(keys, items, strict=True)}, size
        items = [self._plain(item, levels - 1) for item in value]
        return [item for item, _ in items], sum(size for _, size in items)


def _text(text: str) -> tuple[str, int]:
    if "\0" in text:
        raise Unfit("holds a NUL byte")
    if text.isascii():
        return text, len(text)
    try:
        return text, len(text.encode())
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        if 0xDC80 <= code <= 0xDCFF:  # a byte decoded with surrogateescape
            raise Unfit(f"is not UTF-8: byte 0x{code - 0xDC00:02x} at character {error.start + 1}") from error
        raise Unfit(f"holds half of a surrogate pair, U+{code:04X}") from error


def _decoded(value: bytes) -> tuple[str, int]:
    try:
        return _text(value.decode())
    except UnicodeDecodeError as error:
        raise Unfit("holds bytes that are not UTF-8 text") from error


def printed(values: Mapping[Any, Any]) -> str:
    """An unreadable row as text for the quarantine, as far as possible."""
    try:
        return storable(json.dumps(values, ensure_ascii=False, default=repr))
    except (ValueError, TypeError, RecursionError):
        return storable(repr(list(values)))
