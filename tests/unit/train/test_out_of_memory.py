"""A training whose process may not have as much memory as it wants takes smaller batches, and finishes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.core.artifacts import ArtifactRef
from tasks.core.config import ModelSource
from tasks.core.home import Home
from tasks.core.stage import run_stage
from tasks.train import train
from tasks.train.train import TrainJob
from tests.unit.train.conftest import write_training_set
from tests.unit.train.trial import settings

pytestmark = [pytest.mark.slow, pytest.mark.faults]

MOST_BYTES = 2_300 * 2**20
ROWS, LENGTH = 128, 512


@pytest.fixture
def long_rows(tmp_path: Path) -> ArtifactRef:
    return write_training_set(tmp_path / "set", rows=ROWS, words=LENGTH // 3)


@pytest.fixture
def little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every child process may hold so much private memory (RLIMIT_DATA), the training's libraries included."""
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nexec prlimit --data={MOST_BYTES} {sys.executable} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


def test_a_memory_limit_on_the_child_takes_the_smaller_batch_and_finishes(
    tiny_model: Path, long_rows: ArtifactRef, little_memory: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(train, "say", said.append)
    config = settings(batch_size=ROWS, max_steps=2, max_length=LENGTH, use_gradient_checkpointing=False)
    job = TrainJob(config, ModelSource(path=str(tiny_model)), long_rows, seed=7)
    result = run_stage(job, Home(tmp_path / "home"), "night")
    found: dict[str, Any] = result.ref.manifest()["summary"]["details"]
    assert found["batch_size"] < ROWS
    assert found["batch_size"] * found["accumulation_steps"] == ROWS
    assert found["steps"] == 2
    assert any("Out of memory while training" in line for line in said)
    assert any(f"trying again with batches of {found['batch_size']}" in line for line in said)
