"""Snapshots of remote sources: immutable parts, and a state file that names them.

The state file is written last. A fetch that dies leaves the former snapshot intact; files that the state does not name
are removed when the next fetch begins, and not earlier, so that readers of the former parts are not disturbed.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tasks.core.errors import MachineError, SourceError, SourceUnavailable
from tasks.core.files import digest_of, file_digest, write_json

LAYOUT = 1
"""Version of the state file; a snapshot with another version is fetched again."""
STATE, LOCK = "state.json", "lock"
LOCK_SECONDS = 600.0


@dataclass(frozen=True)
class Part:
    """An immutable file of a snapshot.

    Attributes:
        label: the source's name for it, such as a page number or an object's key.
        file: its file name: digest and ending.
        digest: SHA-256 of its bytes.
        details: notes of its reader for the next fetch, as JSON.
    """

    label: str
    file: str
    digest: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class State:
    """A whole snapshot.

    Attributes:
        origin: digest of the source's address with the environment's values; a snapshot of another origin is not
            reused.
        parts: in reading order.
        details: notes of its reader for the next fetch, as JSON.
    """

    origin: str
    parts: tuple[Part, ...]
    details: dict[str, Any] = field(default_factory=dict)


class Snapshot:
    """The folder of one source, identified by its kind and JSON whose variables are not expanded."""

    def __init__(self, root: Path, kind: str, identity: Any, where: str) -> None:
        self.folder = root / f"{kind}-{digest_of(identity)[:16]}"
        self.where = where
        self._numbers = itertools.count()

    @contextmanager
    def update(self, origin: str) -> Iterator[State | None]:
        """Hold the snapshot's lock and yield its state: None if it is missing, damaged or of another origin."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / LOCK)
        try:
            lock.acquire(timeout=LOCK_SECONDS)
        except Timeout as error:
            raise SourceUnavailable(
                "Another process is fetching the same source", where=self.where, remedy="wait until it has ended"
            ) from error
        try:
            state = self._load()
            self._sweep(state)
            yield state if state and state.origin == origin and self._is_whole(state) else None
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            remedy = "free some space, or point RETUNE_HOME at a larger disk"
            raise MachineError("The disk is full", where=str(self.folder), remedy=remedy) from error
        finally:
            lock.release()

    def new_file(self) -> Path:
        """A path for a file being written; ``keep`` makes it a part."""
        return self.folder / f"{os.getpid()}-{next(self._numbers)}.tmp"

    def keep(self, file: Path, label: str, ending: str, details: dict[str, Any] | None = None) -> Part:
        """Make a finished file a part; equal bytes give one file, so that an unchanged source is recognised."""
        digest = file_digest(file)
        name = f"{digest[:32]}{ending}"
        with file.open("rb+") as written:
            os.fsync(written.fileno())
        file.replace(self.folder / name)
        return Part(label, name, digest, details or {})

    def commit(self, state: State) -> None:
        write_json(self.folder / STATE, {"layout": LAYOUT, **asdict(state)})

    def current(self) -> State:
        state = self._load()
        if state is None:
            raise SourceError("The source has not been fetched", where=self.where, remedy="fetch it first")
        return state

    def path(self, part: Part) -> Path:
        return self.folder / part.file

    def _load(self) -> State | None:
        try:
            plain = json.loads((self.folder / STATE).read_text(encoding="utf-8"))
            if plain.pop("layout") != LAYOUT:
                return None
            return State(plain["origin"], tuple(Part(**part) for part in plain["parts"]), plain["details"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def _is_whole(self, state: State) -> bool:
        paths = ((self.path(part), part.digest) for part in state.parts)
        return all(path.is_file() and file_digest(path) == digest for path, digest in paths)

    def _sweep(self, state: State | None) -> None:
        named = {STATE, LOCK, *(part.file for part in (state.parts if state else ()))}
        for path in self.folder.iterdir():
            if path.name not in named:
                path.unlink(missing_ok=True)
