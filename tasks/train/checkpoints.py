"""Checkpoints with a manifest of their files' SHA-256, written last.

transformers does not detect a flipped bit, and does not fall back to an older checkpoint when the newest is truncated.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from tasks.core.files import folder_digests, write_json
from tasks.train.config import TrainConfig

MANIFEST = "checkpoint.json"
NAME = re.compile(r"^checkpoint-(\d+)$")


def kept(config: TrainConfig) -> int:
    """How many checkpoints are kept while a model trains: the two newest, and that of the lowest validation loss."""
    return 3 if config.validation_fraction else 2


def seal(checkpoint: Path) -> None:
    write_json(checkpoint / MANIFEST, {"files": folder_digests(checkpoint, skip=[MANIFEST])})


def damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint: unfinished, or a file is missing, changed or extra; None if intact."""
    files = _sealed_files(checkpoint)
    if files is None:
        return f"has a damaged {MANIFEST}" if (checkpoint / MANIFEST).exists() else "was not finished"
    found = folder_digests(checkpoint, skip=[MANIFEST])
    differing = sorted(name for name in {*files, *found} if files.get(name) != found.get(name))
    if not differing:
        return None
    name = differing[0]
    fault = "is missing" if name not in found else "does not belong to it" if name not in files else "has changed"
    return f"is damaged: {name} {fault}"


def newest_intact(folder: Path, say: Callable[[str], None] = lambda text: None) -> Path | None:
    """The newest intact checkpoint in a folder; newer damaged ones are reported and deleted.

    Older ones that a killed training was pruning are deleted too: their new modification time would make transformers
    keep them and prune a good one.
    """
    found = [path for path in folder.iterdir() if NAME.match(path.name)] if folder.is_dir() else []
    checkpoints = sorted(found, key=step_of, reverse=True)
    for number, checkpoint in enumerate(checkpoints):
        fault = damage(checkpoint)
        if fault is None:
            for older in checkpoints[number + 1 :]:
                if not all((older / name).is_file() for name in _sealed_files(older) or [MANIFEST]):
                    shutil.rmtree(older)
            return checkpoint
        say(f"the checkpoint of step {step_of(checkpoint)} {fault}; it is not used")
        shutil.rmtree(checkpoint)
    return None


def checkpoint_of(folder: Path, step: int) -> Path:
    return folder / f"checkpoint-{step}"


def step_of(checkpoint: Path) -> int:
    found = NAME.match(checkpoint.name)
    if found is None:
        raise ValueError(f"not a checkpoint: {checkpoint}")
    return int(found[1])


def _sealed_files(checkpoint: Path) -> dict[str, str] | None:
    try:
        files = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return files if isinstance(files, dict) and files else None
