"""A teacher for the stage's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.generate import generate, own_server
from tests.unit.generate.stage import Teacher


@pytest.fixture
def teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Teacher:
    one = Teacher(tmp_path)
    monkeypatch.setattr(own_server, "serving", one.serving)
    monkeypatch.setattr(generate, "vllm_version", lambda: "vllm-1.0")
    return one
