"""What a source gives: one row at a time, readable or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Record:
    """One row of a source.

    Attributes:
        source: the source's name, else the name of its file (relative to the source), table, host or data set.
        line: where the row begins; 1 is the first line of a text file, the first row of other sources.
        values: by column, or None where the row cannot be read.
        raw: the row as text where it cannot be read; storable as UTF-8.
        problem: why not.
        version: of two rows with one id, that of the greater version is the newer (a source's later fetch).
    """

    source: str
    line: int
    values: dict[str, Any] | None
    raw: str = ""
    problem: str = ""
    version: int = 0


class Rejected(Exception):
    """A row that goes to quarantine; its message is ``rule: detail``, such as ``missing: 'text' is empty``."""


class Reader(Protocol):
    """One source of a recipe.

    A remote source is fetched into a snapshot (files below a folder of its own, kept from night to night) and read
    from there: what a night learns from can be read again, and the artifact's key is made of the snapshot's bytes.
    """

    def check(self) -> None:
        """Find what is wrong before anything runs, without reading it all or asking the network.

        Raises:
            SourceError: a file is missing, of no known format or unreadable; a URL, query or option makes no sense.
        """
        ...

    def fetch(self) -> None:
        """Bring the snapshot up to date, all or nothing; a local source has none.

        Raises:
            SourceError: with what the source answered. ``SourceUnavailable`` where a retry can help.
        """
        ...

    def digests(self) -> Mapping[str, str]:
        """What determines the rows: SHA-256 of each file (or a pinned revision), by a name that no machine shapes."""
        ...

    def records(self) -> Iterator[Record]:
        """All rows, streamed, in a stable order."""
        ...


@dataclass(frozen=True)
class ReaderSettings:
    """What readers share.

    Attributes:
        snapshots: folder below which a remote source keeps its snapshot.
        max_field_bytes: a row with a larger field is quarantined.
    """

    snapshots: Path
    max_field_bytes: int
