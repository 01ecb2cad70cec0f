"""Two processes that train together by ``accelerate launch``: here on the CPU (gloo), on GPUs by the same code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.core.artifacts import ArtifactRef
from tasks.core.config import ModelSource
from tasks.core.home import Home
from tasks.core.stage import run_stage
from tasks.train.train import TrainJob, launcher
from tests.unit.train.trial import settings, train_here

pytestmark = pytest.mark.slow


def new_job(model: Path, training_set: ArtifactRef, **changes: Any) -> TrainJob:
    config = settings(max_steps=None, epochs=1, save_steps=1, validation_fraction=0.35, **changes)
    return TrainJob(config, ModelSource(path=str(model)), training_set, seed=7)


def test_two_processes_learn_what_one_learns_from_the_same_rows(
    tiny_model: Path, training_set: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file

    alone = train_here(new_job(tiny_model, training_set, batch_size=8), tmp_path / "alone", monkeypatch)
    job = new_job(tiny_model, training_set, batch_size=4, processes=2, keep="best")
    together = run_stage(job, Home(tmp_path / "together"), "night").ref
    found = [alone["details"], together.manifest()["summary"]["details"]]
    folders = [tmp_path / "alone" / "out", together.folder]
    assert [one["steps"] for one in found] == [2, 2]
    assert [one["processes"] for one in found] == [1, 2]
    weights = [load_file(folder / "adapter" / "adapter_model.safetensors") for folder in folders]
    assert all((value - weights[1][name]).abs().max() < 1e-4 for name, value in weights[0].items())
    curves = [(folder / "loss.csv").read_text().splitlines() for folder in folders]
    assert len(curves[0]) == len(curves[1]) == 4
    # 14 rows are evaluated in batches of 8 or twice 4, the last of them incomplete.
    measured = [[float(line.split(",")[3]) for line in curve[1:] if line.split(",")[3]] for curve in curves]
    assert len(measured[0]) == 3 and measured[1] == pytest.approx(measured[0], abs=1e-4)
    assert found[1]["validation"]["kept_step"] == found[0]["validation"]["kept_step"] == 2


def test_shards_are_asked_for_where_the_recipe_asks_for_them() -> None:
    assert launcher(settings()) == ("-m",)
    sharded = launcher(settings(processes=4, sharding="fsdp"))
    assert sharded[1] == "accelerate.commands.launch"
    assert "--use_fsdp" in sharded
    assert sharded[sharded.index("--num_processes") + 1] == "4"
    assert "--multi_gpu" in launcher(settings(processes=2))
