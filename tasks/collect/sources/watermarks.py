"""How far a table has been read: the greatest watermark, and which rows have it."""

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
"""The types that a watermark may have, and how each is read from its text."""


@dataclass
class Watermark:
    """Where a reading stands; rows come in the order of their watermarks.

    Attributes:
        last: the greatest watermark seen; None before the first row.
        ties: digests of the rows that have it: they come again each night, and are told from new ones by them.
        unmarked: digests of the rows without a watermark, which come again each night too.
    """

    last: Any = None
    ties: set[str] = field(default_factory=set)
    unmarked: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, details: Mapping[str, Any]) -> Watermark:
        """What ``as_details`` wrote."""
        kind, value = details["last"]
        return cls(KINDS[kind](value) if kind else None, set(details["ties"]), set(details["unmarked"]))

    def as_details(self) -> dict[str, Any]:
        """As JSON."""
        kind = "" if self.last is None else type(self.last).__name__
        return {"last": [kind, str(self.last)], "ties": sorted(self.ties), "unmarked": sorted(self.unmarked)}

    def advance(self, value: Any, row: bytes, where: str) -> str:
        """Move on to a row, and give its digest.

        Raises:
            SourceError: the value cannot be a watermark.
        """
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
        """Whether a row was among those that come again."""
        return digest in self.ties or digest in self.unmarked


def _require_order(value: Any, last: Any, where: str) -> None:
    if type(value).__name__ not in KINDS:
        raise SourceError(
            f"A {type(value).__name__} is no watermark",
            where=where,
            remedy="name a column with numbers, dates or texts that only grow, or cast it in the query",
        )
    if str(value).lower() in ("infinity", "inf", "nan"):
        raise SourceError(
            f"A row has the watermark {value}, which nothing can follow",
            where=where,
            remedy="leave such rows out in the query",
        )
    numbers = isinstance(value, int | float) and isinstance(last, int | float)
    if last is not None and type(value) is not type(last) and not numbers:
        raise SourceError(
            f"The watermark is {last!r} in one row and {value!r} in the next: two types have no common order",
            where=where,
            remedy="cast the column to one type in the query",
        )
