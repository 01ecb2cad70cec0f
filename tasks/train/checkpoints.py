"""Checkpoints that can be trusted: each has a manifest, written last, with the SHA-256 of its files.

transformers neither notices a flipped bit in a checkpoint nor falls back to an older one when the newest is truncated.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from tasks.core.files import folder_digests, write_json

MANIFEST = "checkpoint.json"
NAME = re.compile(r"^checkpoint-(\d+)$")
KEPT = 2


def seal(checkpoint: Path) -> None:
    """Write a finished checkpoint's manifest."""
    write_json(checkpoint / MANIFEST, {"files": folder_digests(checkpoint, skip=[MANIFEST])})


def damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint: it was never finished, or a file is missing, changed or strange; else None."""
    try:
        files = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))["files"]
    except FileNotFoundError:
        return "was not finished"
    except (OSError, ValueError, KeyError, TypeError):
        return f"has a damaged {MANIFEST}"
    found = folder_digests(checkpoint, skip=[MANIFEST])
    if not isinstance(files, dict) or not files:
        return f"has a damaged {MANIFEST}"
    differing = sorted(name for name in {*files, *found} if files.get(name) != found.get(name))
    if not differing:
        return None
    name = differing[0]
    fault = "is missing" if name not in found else "does not belong to it" if name not in files else "has changed"
    return f"is damaged: {name} {fault}"


def newest_intact(folder: Path, say: Callable[[str], None] = lambda text: None) -> Path | None:
    """The newest checkpoint below a folder that verifies; all that do not are deleted, and that is said.

    The older ones too: one that a killed training was just pruning has a new time of change, by which transformers
    would keep it and prune a good one in its stead.
    """
    intact = []
    for checkpoint in sorted(_checkpoints(folder), key=step_of):
        fault = damage(checkpoint)
        if fault is None:
            intact.append(checkpoint)
        else:
            say(f"the checkpoint of step {step_of(checkpoint)} {fault}; it is not used")
            shutil.rmtree(checkpoint)
    return intact[-1] if intact else None


def step_of(checkpoint: Path) -> int:
    """The optimizer step that a checkpoint was written after."""
    found = NAME.match(checkpoint.name)
    if found is None:
        raise ValueError(f"not a checkpoint: {checkpoint}")
    return int(found[1])


def _checkpoints(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if NAME.match(path.name)] if folder.is_dir() else []
