"""Checkpoints that can be trusted: each has a manifest, written last, with the SHA-256 of its files.

transformers neither notices a flipped bit in a checkpoint nor falls back to an older one when the newest is truncated.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from tasks.core.files import folder_digests, write_json

MANIFEST = "checkpoint.json"
NAME = re.compile(r"^checkpoint-(\d+)$")
KEPT = 2


def seal(checkpoint: Path) -> None:
    """Write a finished checkpoint's manifest."""
    write_json(checkpoint / MANIFEST, {"files": folder_digests(checkpoint, skip=[MANIFEST])})


def is_intact(checkpoint: Path) -> bool:
    """Whether a checkpoint was finished and has not changed since."""
    try:
        manifest = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(manifest.get("files")) and folder_digests(checkpoint, skip=[MANIFEST]) == manifest["files"]


def newest_intact(folder: Path) -> Path | None:
    """The newest checkpoint below a folder that verifies; newer ones that do not are deleted."""
    for checkpoint in sorted(_checkpoints(folder), key=step_of, reverse=True):
        if is_intact(checkpoint):
            return checkpoint
        shutil.rmtree(checkpoint)
    return None


def step_of(checkpoint: Path) -> int:
    """The optimizer step that a checkpoint was written after."""
    found = NAME.match(checkpoint.name)
    if found is None:
        raise ValueError(f"not a checkpoint: {checkpoint}")
    return int(found[1])


def _checkpoints(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if NAME.match(path.name)] if folder.is_dir() else []
