"""The interface of a source: one row at a time, readable or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Record:
    """One row of a source.

    Attributes:
        source: the source's name, else the name of its file (relative to the source), table, host or data set.
        line: where the row begins, from 1: the line of a text file, the row of other sources.
        values: by column; None if the row cannot be read.
        raw: an unreadable row as text, storable as UTF-8.
        problem: why it cannot be read.
        rule: the name of that problem in the quarantine.
        former: the values as versions up to 0.4 read them, where that differs: an older home's holdout depends on it.
        version: among rows with one id the greatest version is the newest (a later fetch).
    """

    source: str
    line: int
    values: dict[str, Any] | None
    raw: str = ""
    problem: str = ""
    version: int = 0
    rule: str = "unreadable"
    former: Callable[[], dict[str, Any]] | None = None


class Rejected(Exception):
    """A row that goes to quarantine; the message is ``rule: detail``, such as ``missing: 'text' is empty``."""


class Reader(Protocol):
    """One source of a recipe.

    A remote source is fetched into a snapshot (its own folder of files, kept across nights) and read from there: the
    artifact's key is the digest of the snapshot's bytes, and the data of a night can be read again.
    """

    def check(self) -> None:
        """Find errors (``SourceError``) before anything runs, without reading all data or using the network."""
        ...

    def fetch(self) -> None:
        """Update the snapshot, all or nothing. Raises SourceError; SourceUnavailable if another try can help."""
        ...

    def digests(self) -> Mapping[str, str]:
        """SHA-256 of each file, or a pinned revision, by a name that does not depend on the machine."""
        ...

    def records(self) -> Iterator[Record]:
        """All rows, streamed, in a stable order."""
        ...


@dataclass(frozen=True)
class ReaderSettings:
    snapshots: Path
    max_field_bytes: int
