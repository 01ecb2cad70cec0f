"""One run at a time in a RETUNE_HOME, and who it is."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

from filelock import FileLock, Timeout

from tasks.core.errors import BusyError
from tasks.core.files import read_json, write_json
from tasks.core.home import Home

LOCK, HOLDER = "run.lock", "run.json"


@contextlib.contextmanager
def run_lock(home: Home, flow_run_id: str = "") -> Iterator[None]:
    """Hold the lock of a RETUNE_HOME while the block runs. Raises BusyError: another process holds it.

    ``flow_run_id``: of the run in Prefect.
    """
    with _acquired(home):
        holder = {"pid": os.getpid(), "host": os.uname().nodename, "since": time.time(), "flow_run_id": flow_run_id}
        write_json(home.root / HOLDER, holder)
        try:
            yield
        finally:
            (home.root / HOLDER).unlink(missing_ok=True)


def require_unlocked(home: Home) -> None:
    """Raise BusyError if a run is in progress, before anything is started for another."""
    if (home.root / LOCK).exists():
        with _acquired(home):
            pass


def is_locked(home: Home) -> bool:
    """Whether a run is in progress."""
    try:
        require_unlocked(home)
    except BusyError:
        return True
    return False


def running_flow(home: Home) -> str | None:
    """The id in Prefect of the run that is in progress; None if there is none.

    The kernel ends the lock with its process, also when the machine stops: process ids are not compared.
    """
    if not is_locked(home):
        return None
    try:
        return str(read_json(home.root / HOLDER)["flow_run_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextlib.contextmanager
def _acquired(home: Home) -> Iterator[None]:
    home.root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(home.root / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise BusyError(
            f"Another run is under way{_holder(home)}",
            where=str(home.root),
            remedy="wait for it, or set RETUNE_HOME to another folder",
        ) from error
    try:
        yield
    finally:
        lock.release()


def _holder(home: Home) -> str:
    """The process of the run that holds the lock, as far as it is known."""
    try:
        found = read_json(home.root / HOLDER)
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found["since"]))
        return f": process {found['pid']} on {found['host']}, since {since}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
