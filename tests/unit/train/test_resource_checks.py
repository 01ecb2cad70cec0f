from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.core import processes
from tasks.core.config import ModelSource
from tasks.core.errors import MachineError
from tasks.train import resource_checks
from tasks.train.config import Device
from tasks.train.devices import MIB, MemoryDevice
from tasks.train.model_shape import ModelShape
from tasks.train.resource_checks import (
    out_of_memory_kills,
    require_memory,
    require_quiet_machine,
    require_room,
    warn_if_batches_may_not_fit,
)
from tests.hub_cache import in_hub_cache
from tests.unit.train.trial import settings


def device(free: int, kind: Device = "cpu") -> MemoryDevice:
    return MemoryDevice("a device", kind, 64 * 2**30, free)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(resource_checks, "emit", lambda note: found.append(note))
    return found


def shape(model: Path, **changes: Any) -> ModelShape:
    found = resource_checks.shape_of(settings(**changes), ModelSource(path=str(model)))
    assert found is not None
    return found


def test_too_little_memory_stops_with_the_numbers(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource_checks, "device_here", lambda: device(100 * MIB, "cuda"))
    with pytest.raises(MachineError, match=r"needs at least [\d,]+ MiB of memory, and 100 MiB of 65,536 MiB are free"):
        require_memory(settings(), shape(tiny_model))


def test_long_rows_that_may_never_come_stop_nothing(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource_checks, "device_here", lambda: device(1300 * MIB, "cuda"))
    long = settings(batch_size=4096, max_length=1_000_000)
    require_memory(long, shape(tiny_model))
    monkeypatch.setattr(resource_checks, "device_here", lambda: device(100 * MIB, "cuda"))
    with pytest.raises(MachineError):
        require_memory(long, shape(tiny_model))


def test_a_batch_that_may_not_fit_is_only_said(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    monkeypatch.setattr(resource_checks, "device_here", lambda: device(1300 * MIB, "cuda"))
    warn_if_batches_may_not_fit(settings(), shape(tiny_model), longest=128)
    assert said == []
    warn_if_batches_may_not_fit(settings(batch_size=4096), shape(tiny_model), longest=512)
    assert len(said) == 1
    assert said[0].startswith("batches of 4096 may need")


def test_a_model_without_attention_heads_is_not_held_up(tmp_path: Path, said: list[str]) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "mamba", "num_hidden_layers": 2, "hidden_size": 64}')
    assert resource_checks.shape_of(settings(), ModelSource(path=str(tmp_path))) is None
    assert said[0].startswith("the memory was not planned: The planner does not support models of this kind")


@pytest.fixture
def orphan(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    """A process that carries the mark of a command which is gone."""
    ended = subprocess.Popen([sys.executable, "-c", "pass"])
    ended.wait()
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"],
        start_new_session=True,
        env={**os.environ, processes.MARK: "a stage's mark"},
    )
    monkeypatch.setitem(processes._ended, "a stage's mark", (ended.pid, time.time()))
    yield process
    process.kill()
    process.wait()


def test_a_process_that_outlived_its_stage_stops_the_training(orphan: subprocess.Popen[bytes]) -> None:
    with pytest.raises(MachineError, match=f"still alive: {orphan.pid}"):
        require_quiet_machine()


def test_a_process_that_began_after_the_stage_ended_is_another_one(
    orphan: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    pid, _ = processes._ended["a stage's mark"]
    monkeypatch.setitem(processes._ended, "a stage's mark", (pid, time.time() - 3600))
    assert processes.survivors() == []
    require_quiet_machine()


def test_a_zombie_holds_nothing_and_stops_nothing(orphan: subprocess.Popen[bytes]) -> None:
    orphan.kill()
    while psutil.Process(orphan.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert processes.survivors() == []
    require_quiet_machine()


def test_a_command_that_ended_leaves_no_survivors(tmp_path: Path) -> None:
    with processes.running([sys.executable, "-c", "pass"], log=tmp_path / "log") as process:
        process.wait()
    assert processes.survivors() == []


def test_a_full_disk_stops_with_the_numbers(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ModelSource(path=str(tiny_model))
    require_room(tmp_path, settings(), source, None)
    needed: list[int] = []
    monkeypatch.setattr(resource_checks, "require_free_space", lambda folder, size, what: needed.append(size))
    require_room(tmp_path, settings(), source, None)
    require_room(tmp_path, settings(method="full"), source, None)
    require_room(tmp_path, settings(method="full", validation_fraction=0.1), source, None)
    size = (tiny_model / "model.safetensors").stat().st_size
    assert needed[0] > 300 * MIB + 5 * size
    assert needed[1] - needed[0] == int(5.5 * size * 3)
    assert needed[2] - needed[1] == 6 * size, "the best checkpoint is kept as well"


def test_a_hub_models_room_follows_from_its_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed: list[int] = []
    monkeypatch.setattr(resource_checks, "require_free_space", lambda folder, size, what: needed.append(size))
    for parameters in (8_000_000_000, 70_000_000_000):
        require_room(tmp_path, settings(), ModelSource(path="hub/model"), parameters)
    assert needed[1] > 8 * needed[0] > 8 * 100e9


def test_the_kernel_says_how_many_processes_it_ended_for_want_of_memory() -> None:
    assert out_of_memory_kills() >= 0


def test_the_memory_of_a_hub_model_is_planned_without_code_of_another_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    config = {"model_type": "baichuan", "auto_map": {"AutoConfig": "other/code--configuration_x.XConfig"}}
    model = in_hub_cache(tmp_path, monkeypatch, {"config.json": config}, trust_remote_code=True)
    assert resource_checks.shape_of(settings(), model) is None
    (note,) = said
    assert "not planned" in note and "another repository" in note
