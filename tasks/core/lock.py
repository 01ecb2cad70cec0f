"""One run at a time in a RETUNE_HOME."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from filelock import FileLock, Timeout

from tasks.core.errors import BusyError
from tasks.core.home import Home

LOCK = "run.lock"


@contextlib.contextmanager
def run_lock(home: Home) -> Iterator[None]:
    """Hold the lock of a RETUNE_HOME while the block runs. Raises BusyError: another process holds it."""
    home.root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(home.root / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise BusyError(
            "Another run is under way",
            where=str(home.root),
            remedy="wait for it, or use another folder: RETUNE_HOME=... retune run",
        ) from error
    try:
        yield
    finally:
        lock.release()


def is_locked(home: Home) -> bool:
    """Whether a run is in progress."""
    try:
        with run_lock(home):
            return False
    except BusyError:
        return True
