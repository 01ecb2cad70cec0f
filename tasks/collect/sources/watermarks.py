"""How far a table was read: the greatest watermark, and the rows that have it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from tasks.core.errors import SourceError

KINDS: dict[str, Callable[[Any], Any]] = {
    "int": int,
    "float": float,
    "str": str,
    "Decimal": Decimal,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
}
"""Allowed types of a watermark, with their parsers."""


@dataclass
class Watermark:
    """The position of a reading; rows come in the order of their watermarks.

    Each night reads the rows in ``ties`` (with the last watermark) and ``unmarked`` again; their digests are kept.
    """

    last: Any = None
    ties: set[str] = field(default_factory=set)
    unmarked: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, details: Mapping[str, Any]) -> Watermark:
        kind, value = details["last"]
        return cls(KINDS[kind](value) if kind else None, set(details["ties"]), set(details["unmarked"]))

    def as_details(self) -> dict[str, Any]:
        kind = "" if self.last is None else type(self.last).__name__
        return {"last": [kind, str(self.last)], "ties": sorted(self.ties), "unmarked": sorted(self.unmarked)}

    def advance(self, value: Any, row: bytes, where: str) -> str:
        """Move to a row; returns its digest."""
        digest = hashlib.sha256(row).hexdigest()[:32]
        if value is None:
            self.unmarked.add(digest)
            return digest
        _require_order(value, self.last, where)
        if value != self.last:
            self.ties = set()
        self.last = value
        self.ties.add(digest)
        return digest

    def holds(self, digest: str) -> bool:
        return digest in self.ties or digest in self.unmarked


def _require_order(value: Any, last: Any, where: str) -> None:
    if type(value).__name__ not in KINDS:
        remedy = "name a column with numbers, dates or texts that only grow, or cast it in the query"
        raise SourceError(f"A {type(value).__name__} cannot be a watermark", where=where, remedy=remedy)
    if str(value).lower() in ("infinity", "inf", "nan"):
        remedy = "exclude such rows in the query"
        raise SourceError(f"A row has the watermark {value}, which no value can follow", where=where, remedy=remedy)
    numbers = isinstance(value, int | float) and isinstance(last, int | float)
    if last is not None and type(value) is not type(last) and not numbers:
        what = f"The watermark is {last!r} in one row and {value!r} in the next: the types have no common order"
        raise SourceError(what, where=where, remedy="cast the column to one type in the query")
