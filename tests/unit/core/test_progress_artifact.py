"""Progress of a stage as Prefect shows it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.core import task as core_task
from tasks.core.artifacts import StageKey, Summary
from tasks.core.stage import StageContext
from tasks.core.task import progress_artifact
from tasks.generate.task import generate_rows
from tasks.train.task import train_adapter

KEY = "some-progress"


def test_the_stage_has_one_progress_artifact_that_ends_with_the_last_news(monkeypatch: pytest.MonkeyPatch) -> None:
    """That Prefect keeps it is seen in tests/e2e/test_nightly.py."""
    monkeypatch.setattr(core_task, "PROGRESS_EVERY_SECONDS", 0.05)
    made: list[tuple[float, str, str]] = []
    renewed: list[tuple[str, float, str]] = []

    def create(progress: float, *, key: str, description: str) -> str:
        made.append((progress, key, description))
        return "id"

    def update(artifact: str, progress: float, *, description: str) -> None:
        renewed.append((artifact, progress, description))

    monkeypatch.setattr(core_task, "create_progress_artifact", create)
    monkeypatch.setattr(core_task, "update_progress_artifact", update)

    async def inside_a_loop() -> None:
        for step in range(10):
            on_progress(step / 10, f"step {step}")
            await asyncio.sleep(0.02)
        on_progress(1.0, "all done")

    with progress_artifact(KEY) as on_progress:
        asyncio.run(inside_a_loop())
    assert made == [(0, KEY, "step 0")]
    assert len(renewed) > 1 and renewed[-1] == ("id", 100, "all done")


class Job:
    """Tells of its progress while it fills its folder."""

    def key(self) -> StageKey:
        return StageKey(stage="some", version=1, config={}, inputs=[])

    def fill(self, folder: Path, context: StageContext) -> Summary:
        (folder / "done").touch()
        context.on_progress(0.5, "step 5: loss 1.000")
        return Summary(rows_in=0, accepted=0, quarantined=0)


@pytest.mark.parametrize(
    ("work", "key"), [(generate_rows.fn, "generate-progress"), (train_adapter.fn, "train-progress")]
)
def test_what_a_stage_tells_goes_to_its_own_artifact(
    work: Callable[..., Any], key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETUNE_HOME", str(tmp_path))
    made: list[tuple[float, str, str]] = []

    def create(progress: float, *, key: str, description: str) -> str:
        made.append((progress, key, description))
        return "id"

    monkeypatch.setattr(core_task, "create_progress_artifact", create)
    work(Job(), "night-1")
    assert made == [(50, key, "step 5: loss 1.000")]


def test_an_artifact_that_cannot_be_written_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = threading.Event()

    def fail(*arguments: object, **named: object) -> None:
        tried.set()
        raise ConnectionError("no server")

    monkeypatch.setattr(core_task, "create_progress_artifact", fail)
    with progress_artifact(KEY) as on_progress:
        on_progress(0.5, "half")
        assert tried.wait(5)
        on_progress(1.0, "all")


def test_a_slow_api_holds_nobody_up_and_gets_one_update_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[float] = []

    def create(progress: float, **named: object) -> str:
        calls.append(progress)
        time.sleep(0.5)
        return "id"

    def update(artifact: str, progress: float, **named: object) -> None:
        calls.append(progress)

    monkeypatch.setattr(core_task, "PROGRESS_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(core_task, "create_progress_artifact", create)
    monkeypatch.setattr(core_task, "update_progress_artifact", update)
    started = time.monotonic()
    with progress_artifact(KEY) as on_progress:
        for step in range(100):
            on_progress(step / 100, "going")
        assert time.monotonic() - started < 0.4
    assert calls == [0.0, 99.0], "the first and the last news"
