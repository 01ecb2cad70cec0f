"""What holds for all tests: the threads of their processes, the examples of properties, and the order of files."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# Two workers of pytest run side by side, and the models are tiny: more threads wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

hypothesis.settings.register_profile("commit", max_examples=30, deadline=None)
hypothesis.settings.register_profile("long", max_examples=1000, deadline=None)  # pytest --hypothesis-profile long
hypothesis.settings.load_profile("commit")

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


@pytest.fixture(scope="module")
def no_picture() -> Iterator[None]:
    """An empty ``waterfall.png``: drawing it takes as long as the rest of a small validation, and has its own tests."""

    def touch(found: object, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.validate.waterfall.picture.draw_waterfall", touch)
        yield
