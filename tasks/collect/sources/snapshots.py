"""What a remote source gave, kept in a folder of its own: immutable parts, and a state file that names them.

The state file is written last. A fetch that dies leaves the former snapshot whole; what the state does not name is
swept when the next fetch begins, and not before, so that whoever still reads the former parts is not disturbed.
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
"""Of the state file; a snapshot of another layout is fetched anew."""
STATE, LOCK = "state.json", "lock"
LOCK_SECONDS = 600.0


@dataclass(frozen=True)
class Part:
    """One immutable file of a snapshot.

    Attributes:
        label: what the source calls it, such as a page's number or an object's key.
        file: its name in the snapshot's folder: its digest and the ending that tells its format.
        digest: SHA-256 of its bytes.
        details: what its reader must know the next time, as JSON.
    """

    label: str
    file: str
    digest: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class State:
    """A whole snapshot.

    Attributes:
        origin: digest of where it came from, with the environment's values; one from elsewhere is not built upon.
        parts: in the order in which they are read.
        details: what its reader must know the next time, as JSON.
    """

    origin: str
    parts: tuple[Part, ...]
    details: dict[str, Any] = field(default_factory=dict)


class Snapshot:
    """The folder of one source.

    Args:
        root: the folder of all snapshots.
        kind: of the source, such as ``sql``.
        identity: what makes it this source, as JSON; variables are not expanded in it.
        where: the source as messages name it.
    """

    def __init__(self, root: Path, kind: str, identity: Any, where: str) -> None:
        self.folder = root / f"{kind}-{digest_of(identity)[:16]}"
        self.where = where
        self._numbers = itertools.count()

    @contextmanager
    def update(self, origin: str) -> Iterator[State | None]:
        """Hold the snapshot's lock and give its state: None where there is none, it is damaged or of another origin.

        Raises:
            SourceUnavailable: another process holds the lock for too long.
            MachineError: the disk is full.
        """
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
            raise MachineError(
                "The disk is full",
                where=str(self.folder),
                remedy="free some space, or point RETUNE_HOME at a larger disk",
            ) from error
        finally:
            lock.release()

    def new_file(self) -> Path:
        """A name for a file that is being written; it is garbage until ``keep`` makes it a part."""
        return self.folder / f"{os.getpid()}-{next(self._numbers)}.tmp"

    def keep(self, file: Path, label: str, ending: str, details: dict[str, Any] | None = None) -> Part:
        """Make a finished file a part; of the same bytes there is only one, so that an unchanged source is seen."""
        digest = file_digest(file)
        name = f"{digest[:32]}{ending}"
        with file.open("rb+") as written:
            os.fsync(written.fileno())
        file.replace(self.folder / name)
        return Part(label, name, digest, details or {})

    def commit(self, state: State) -> None:
        """Make a state the current one."""
        write_json(self.folder / STATE, {"layout": LAYOUT, **asdict(state)})

    def current(self) -> State:
        """The state that a fetch left.

        Raises:
            SourceError: there is none.
        """
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
