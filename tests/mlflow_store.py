"""A RETUNE_HOME whose MLflow database has its tables already: making them takes two seconds of processor time."""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path

from tasks.core.home import Home
from tasks.publish.registry import Registry


@functools.cache
def _empty() -> tempfile.TemporaryDirectory[str]:
    """Removed when the process ends, as the cache lets go of it."""
    folder = tempfile.TemporaryDirectory(prefix="mlflow-")
    assert Registry(Home(Path(folder.name)), "any").versions() == []
    return folder


def home_with_store(root: Path) -> Home:
    """A new home with an empty MLflow store."""
    shutil.copytree(_empty().name, root, dirs_exist_ok=True)
    return Home(root)
