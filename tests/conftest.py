"""What holds for all tests: the threads of their processes, and the order of their files."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

import pytest

# Two workers of pytest run side by side, and the models are tiny: more threads wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

MARKERS = ("slow", "e2e")
"""From quick to long."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files with whole nights first, then those with slow tests; needs ``--no-loadscope-reorder``.

    A long file that starts last would leave the other worker idle.
    """
    weights: dict[Path, int] = defaultdict(int)
    for item in items:
        weight = max((MARKERS.index(mark.name) + 1 for mark in item.iter_markers() if mark.name in MARKERS), default=0)
        weights[item.path] = max(weights[item.path], weight)
    items.sort(key=lambda item: -weights[item.path])
