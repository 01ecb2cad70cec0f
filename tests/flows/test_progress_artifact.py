"""Progress of the generate stage as Prefect shows it."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.testing.utilities import prefect_test_harness

from tasks.generate import task as generate_task
from tasks.generate.task import PROGRESS_KEY, progress_artifact


@pytest.mark.slow
def test_the_stage_has_one_progress_artifact_that_ends_with_the_last_news(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate_task, "PROGRESS_EVERY_SECONDS", 0.2)

    @task
    def work() -> None:
        async def inside_a_loop() -> None:
            for step in range(10):
                on_progress(step / 10, f"step {step}")
                await asyncio.sleep(0.1)
            on_progress(1.0, "all done")

        with progress_artifact() as on_progress:
            asyncio.run(inside_a_loop())

    @flow
    def night() -> None:
        work()

    with prefect_test_harness(), get_client(sync_client=True) as client:
        night()
        (artifact,) = client.read_artifacts()
    assert (artifact.type, artifact.key, artifact.data) == ("progress", PROGRESS_KEY, 100)
    assert artifact.description == "all done" and artifact.task_run_id is not None


def test_an_artifact_that_cannot_be_written_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = threading.Event()

    def fail(*arguments: object, **named: object) -> None:
        tried.set()
        raise ConnectionError("no server")

    monkeypatch.setattr(generate_task, "create_progress_artifact", fail)
    with progress_artifact() as on_progress:
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

    monkeypatch.setattr(generate_task, "PROGRESS_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(generate_task, "create_progress_artifact", create)
    monkeypatch.setattr(generate_task, "update_progress_artifact", update)
    started = time.monotonic()
    with progress_artifact() as on_progress:
        for step in range(100):
            on_progress(step / 100, "going")
        assert time.monotonic() - started < 0.4
    assert calls == [0.0, 99.0], "the first and the last news"
