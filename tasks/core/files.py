"""Atomic writes and digests."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tasks.core.errors import MachineError


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no white space: the same text for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def digest_of(value: Any) -> str:
    """SHA-256 (hex) of a JSON-like value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def storable(text: str) -> str:
    """A text whose undecodable bytes and half surrogate pairs are written as escapes, so that UTF-8 can hold it."""
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
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    relative = ((path.relative_to(folder).as_posix(), path) for path in files)
    return {name: file_digest(path) for name, path in relative if name not in skipped}


def write_text(path: Path, text: str) -> None:
    """Write a whole file or none of it: temporary name, fsync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def require_free_space(folder: Path, needed: int, purpose: str) -> None:
    """Stop before writing starts when the disk cannot hold it.

    Args:
        folder: where will be written; it need not exist yet.
        needed: bytes.
        purpose: what the room is for, for the message.

    Raises:
        MachineError: less than ``needed`` bytes are free.
    """
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise MachineError(
            f"Not enough room on the disk for {purpose}: {needed // 2**20:,} MiB needed, {free // 2**20:,} MiB free",
            where=str(existing),
            remedy="free some space, or point RETUNE_HOME at a larger disk",
        )
