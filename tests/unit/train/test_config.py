from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.core.artifacts import ArtifactRef
from tasks.core.config import ModelSource
from tasks.train.config import TrainConfig
from tasks.train.train import TrainJob, planned_steps, worker_environment

REFERENCE: dict[str, Any] = {
    "method": "qlora",
    "backend": "unsloth",
    "chat_template": "chatml",
    "max_length": 1024,
    "rank": 8,
    "alpha": 16,
    "dropout": 0.0,
    "bias": "none",
    "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "batch_size": 2,
    "accumulation_steps": 4,
    "warmup_steps": 5,
    "max_steps": 60,
    "learning_rate": 2e-4,
    "optimizer": "adamw_8bit",
    "weight_decay": 0.01,
    "schedule": "linear",
    "compute_dtype": "auto",
    "packing": False,
}


def test_the_reference_run_can_be_expressed() -> None:
    config = TrainConfig.model_validate(REFERENCE)
    assert {name: getattr(config, name) for name in REFERENCE if name != "target_modules"} == {
        name: value for name, value in REFERENCE.items() if name != "target_modules"
    }
    assert len(config.target_modules) == 7


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "exactly one of epochs and max_steps"),
        ({"epochs": 1, "max_steps": 10}, "exactly one of epochs and max_steps"),
        ({"max_steps": 10, "quant_type": "fp4"}, "backend transformers"),
        ({"max_steps": 10, "double_quantisation": False}, "backend transformers"),
        ({"max_steps": 10, "warmup_steps": 10}, "smaller than max_steps"),
        ({"max_steps": 10, "target_modules": []}, "all-linear"),
        ({"max_steps": 10, "ranks": 8}, "Extra inputs"),
    ],
)
def test_what_cannot_run_is_refused_with_what_to_use_instead(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        TrainConfig.model_validate(changes)


def test_the_other_backend_takes_other_quantisation() -> None:
    assert TrainConfig(max_steps=10, backend="transformers", quant_type="fp4", double_quantisation=False)


def test_planned_steps_round_up_to_whole_batches() -> None:
    assert planned_steps(TrainConfig(epochs=2, batch_size=4, accumulation_steps=2), rows=33) == 10
    assert planned_steps(TrainConfig(max_steps=7), rows=33) == 7


def test_the_key_follows_what_shapes_the_adapter_and_nothing_else(tiny_model: Path, tmp_path: Path) -> None:
    ref = ArtifactRef("validate", "k", str(tmp_path), "digest", 3)
    job = TrainJob(TrainConfig(max_steps=10), ModelSource(path=str(tiny_model)), ref, seed=1)

    def with_config(**changes: Any) -> str:
        return replace(job, config=job.config.model_copy(update=changes)).key().hex

    assert with_config(timeout_minutes=5, save_steps=3) == job.key().hex
    assert replace(job, training_set=replace(ref, path="/elsewhere")).key().hex == job.key().hex
    others = {
        with_config(rank=8),
        with_config(chat_template="chatml"),
        with_config(backend="transformers"),
        with_config(rows="control"),
        replace(job, seed=2).key().hex,
        replace(job, training_set=replace(ref, digest="other")).key().hex,
        replace(job, model=ModelSource(path="hub/model", revision="abc")).key().hex,
        job.key().hex,
    }
    assert len(others) == 8


def test_only_local_models_are_kept_off_the_network(tmp_path: Path) -> None:
    assert worker_environment(ModelSource(path=str(tmp_path)), tmp_path)["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in worker_environment(ModelSource(path="Qwen/Qwen2.5-0.5B"), tmp_path)


def test_importing_the_stage_loads_no_training_library() -> None:
    heavy = "{'torch', 'transformers', 'trl', 'mlflow', 'pandas', 'datasets', 'unsloth'}"
    code = f"import sys, tasks.train.config, tasks.train.train; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
