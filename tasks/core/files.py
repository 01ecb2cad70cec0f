"""JSON files, atomic writes, digests, and free disk space."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tasks.core.errors import MachineError, NotFinite


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and without white space: equal values give the same text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def digest_of(value: Any) -> str:
    """SHA-256 (hex) of a JSON-like value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def storable(text: str) -> str:
    """A text that UTF-8 can hold: undecodable bytes and halves of surrogate pairs become escapes."""
    try:
        content = text.encode("utf-8", errors="surrogateescape")
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell
        content = text.encode("utf-8", errors="backslashreplace")
    return content.decode("utf-8", errors="backslashreplace")


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digests(folder: Path, skip: Iterable[str] = ()) -> dict[str, str]:
    """SHA-256 of every file below a folder, by POSIX path relative to it."""
    skipped = set(skip)
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: file_digest(path) for name, path in files.items() if name not in skipped}


def readable_as_umask_allows(folder: Path) -> None:
    """Give everything below a folder the permissions that the umask leaves.

    Libraries that write to a temporary file first (safetensors) leave files that only their owner can read.
    """
    probe = folder / f".{os.getpid()}.umask"
    probe.touch()  # the umask itself can only be read by setting it
    allowed = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    for path in folder.rglob("*"):
        if path.is_symlink():
            continue
        mode = stat.S_IMODE(path.stat().st_mode)
        to_enter = (allowed & 0o444) >> 2 if path.is_dir() else 0
        if mode | allowed | to_enter != mode:
            path.chmod(mode | allowed | to_enter)


def write_text(path: Path, text: str) -> None:
    """Write a file atomically: temporary name, fsync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises OSError: the file cannot be read; ValueError: it is not UTF-8 or not valid JSON.
    """
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write a value as a JSON file.

    Raises NotFinite: it holds NaN or an infinity, which JSON has no form for and other readers refuse.
    """
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, default=str, allow_nan=False)
    except ValueError as error:
        if (place := _not_finite(value)) is None:
            raise
        raise NotFinite(
            f"{path.name} would hold a figure that is not finite: {place}",
            where=str(path),
            remedy="find in the log what computed it; if it is a fault of Retune, report it",
        ) from error
    write_text(path, text + "\n")


def _not_finite(value: Any, place: str = "") -> str | None:
    """Where a JSON-like value holds NaN or an infinity, and which; None if it does not."""
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{place} is {value}"
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    found = (_not_finite(entry, f"{place}.{key}".lstrip(".")) for key, entry in entries)
    return next(filter(None, found), None)


def require_free_space(folder: Path, needed: int, purpose: str) -> None:
    """Raise a MachineError if less than ``needed`` bytes are free; the folder need not exist yet."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise MachineError(
            f"Not enough disk space for {purpose}: {needed // 2**20:,} MiB needed, {free // 2**20:,} MiB free",
            where=str(existing),
            remedy="free some space, or point RETUNE_HOME at a larger disk",
        )
