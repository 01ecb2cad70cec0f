"""A RETUNE_HOME whose MLflow database has its tables already: making them takes two seconds of processor time."""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path

from tasks.core.home import Home
from tasks.publish.registry import Registry

_kept: list[tempfile.TemporaryDirectory[str]] = []
"""Removed when the process ends."""


@functools.cache
def _empty() -> Path:
    _kept.append(tempfile.TemporaryDirectory(prefix="mlflow-"))
    home = Home(Path(_kept[-1].name))
    assert Registry(home, "any").versions() == []
    return home.root


def home_with_store(root: Path) -> Home:
    """A new home with an empty MLflow store."""
    shutil.copytree(_empty(), root, dirs_exist_ok=True)
    return Home(root)
