"""The order of test files: a long file that starts last would leave the other worker idle."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

MARKERS = ("slow", "e2e")
"""From quick to long."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files with whole nights first, then those with slow tests; needs ``--no-loadscope-reorder``."""
    weights: dict[Path, int] = defaultdict(int)
    for item in items:
        weight = max((MARKERS.index(mark.name) + 1 for mark in item.iter_markers() if mark.name in MARKERS), default=0)
        weights[item.path] = max(weights[item.path], weight)
    items.sort(key=lambda item: -weights[item.path])
