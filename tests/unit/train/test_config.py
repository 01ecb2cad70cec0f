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
from tasks.train.config import Device, TrainConfig, device_refusals, first_backend
from tasks.train.train import InitialAdapter, TrainJob, with_smaller_batches, worker_environment

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


UNSLOTH: dict[str, Any] = {"max_steps": 10, "backend": "unsloth"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "exactly one of epochs and max_steps"),
        ({"epochs": 1, "max_steps": 10}, "exactly one of epochs and max_steps"),
        ({"max_steps": 10, "warmup_steps": 10}, "smaller than max_steps"),
        ({"max_steps": 10, "target_modules": []}, "all-linear"),
        ({"max_steps": 10, "ranks": 8}, "Extra inputs"),
        ({"max_steps": 10, "fractions": [0.5]}, "fractions must increase"),
        ({"max_steps": 10, "fractions": [0.5, 0.25, 1.0]}, "fractions must increase"),
        ({"max_steps": 10, "mix": {"shares": {"collected": 0.5}}}, "sum to 0.5"),
        ({"max_steps": 10, "mix": {"shares": {"collected": 0.5, "replay": 0.5}}}, "replay has a share but no source"),
        ({**UNSLOTH, "quant_type": "fp4"}, "nf4 only: use backend transformers"),
        ({**UNSLOTH, "double_quantisation": False}, "double quantisation: use backend transformers"),
        ({**UNSLOTH, "use_dora": True}, "DoRA's magnitudes: use backend transformers"),
        ({**UNSLOTH, "init_weights": "loftq"}, "loftq: use backend transformers"),
        ({**UNSLOTH, "method": "full"}, "low-rank adapters only, not method full: use backend transformers"),
        ({**UNSLOTH, "method": "prompt_tuning"}, "not method prompt_tuning: use backend transformers"),
        (
            {"max_steps": 10, "method": "full", "rank": 8},
            "qlora or lora, not of method full: remove it, or use method lora",
        ),
        ({"max_steps": 10, "method": "full", "target_modules": ["q_proj"]}, "target_modules is an option"),
        ({"max_steps": 10, "method": "prompt_tuning", "use_dora": True}, "use_dora is an option"),
        ({"max_steps": 10, "method": "lora", "quant_type": "fp4"}, "option of method qlora, not .*use method qlora"),
        (
            {"max_steps": 10, "method": "full", "double_quantisation": False},
            "option of method qlora, not .*use method qlora",
        ),
        ({"max_steps": 10, "virtual_tokens": 8}, "option of method prompt_tuning"),
        ({"max_steps": 10, "method": "lora", "init_weights": "loftq"}, "use method qlora, or pissa"),
        ({"max_steps": 10, "init_weights": "pissa"}, "use method lora, or loftq"),
        ({"max_steps": 10, "method": "full", "initial_adapter": "champion"}, "use initial_adapter fresh"),
        ({"max_steps": 10, "init_weights": "loftq", "initial_adapter": "champion"}, "use init_weights default"),
        ({"max_steps": 10, "method": "prompt_tuning", "packing": True}, "use packing false"),
        ({**UNSLOTH, "processes": 2}, "one process only: use backend transformers"),
        ({"max_steps": 10, "sharding": "fsdp"}, "use processes 2 or more"),
        ({"max_steps": 10, "sharding": "fsdp", "processes": 2, "method": "full"}, "use sharding none"),
        ({"max_steps": 10, "sharding": "fsdp", "processes": 2, "lora_plus_ratio": 16}, "lora_plus_ratio 16.0 cannot"),
        ({"max_steps": 10, "sharding": "fsdp", "processes": 2, "bias": "all"}, "bias all cannot be used"),
        ({"max_steps": 10, "sharding": "fsdp", "processes": 2, "init_weights": "loftq"}, "init_weights loftq cannot"),
        (
            {"max_steps": 10, "method": "lora", "init_weights": "pissa", "use_dora": True},
            "use use_dora false, bias none",
        ),
        ({"max_steps": 10, "method": "lora", "init_weights": "pissa", "bias": "all"}, "use use_dora false, bias none"),
        ({"max_steps": 10, "over_length": "split", "train_on": "last_turn"}, "use train_on assistant"),
        ({"max_steps": 10, "early_stopping": {}}, "early_stopping needs a validation loss: set validation_fraction"),
        ({"max_steps": 10, "keep": "best"}, "keep best needs a validation loss: set validation_fraction"),
        (
            {"max_steps": 10, "save_steps": 4, "validation_fraction": 0.1, "early_stopping": {"patience": 3}},
            "patience 3 is never reached before the last step: 10 steps have 3 evaluations",
        ),
        ({"max_steps": 10, "validation_fraction": 0.6}, "less than or equal to 0.5"),
    ],
)
def test_what_cannot_run_is_refused_with_what_to_use_instead(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        TrainConfig.model_validate(changes)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"optimizer": "paged_adamw_8bit"}, "use adamw_8bit, or auto"),
        ({"optimizer": "paged_adamw_32bit"}, "use adamw_torch_fused, or auto"),
        ({"backend": "unsloth", "packing": True}, "use backend transformers, or auto"),
    ],
)
def test_what_only_a_gpu_can_do_is_refused_on_a_cpu(changes: dict[str, Any], says: str) -> None:
    config = TrainConfig.model_validate({"max_steps": 10, **changes})
    assert says in next(device_refusals(config, "cpu"))
    assert not list(device_refusals(config, "cuda"))


@pytest.mark.parametrize(
    ("changes", "device", "backend"),
    [
        ({}, "cpu", "unsloth"),
        ({"method": "lora", "use_rslora": True}, "cuda", "unsloth"),
        ({"packing": True}, "cpu", "transformers"),
        ({"packing": True}, "cuda", "unsloth"),
        ({"use_dora": True}, "cuda", "transformers"),
        ({"method": "full"}, "cuda", "transformers"),
        ({"optimizer": "adamw_8bit"}, "cpu", "transformers"),
        ({"optimizer": "adamw_8bit"}, "cuda", "unsloth"),
        ({"quant_type": "fp4"}, "cpu", "transformers"),
    ],
)
def test_auto_takes_unsloth_where_it_supports_all_that_is_asked_for(
    changes: dict[str, Any], device: Device, backend: str
) -> None:
    assert first_backend(TrainConfig.model_validate({"max_steps": 10, **changes}), device) == backend


def test_a_config_survives_being_handed_to_the_worker() -> None:
    config = TrainConfig(max_steps=10, method="full")
    assert TrainConfig.model_validate(config.model_dump(mode="json")) == config


def test_the_other_backend_takes_other_quantisation() -> None:
    assert TrainConfig(max_steps=10, backend="transformers", quant_type="fp4", double_quantisation=False)


@pytest.mark.parametrize(
    ("batch", "then"), [((4, 1), (2, 2)), ((6, 2), (3, 4)), ((3, 1), (1, 3)), ((9, 2), (3, 6)), ((1, 8), None)]
)
def test_smaller_batches_keep_the_rows_of_a_step(batch: tuple[int, int], then: tuple[int, int] | None) -> None:
    config = TrainConfig(max_steps=10, batch_size=batch[0], accumulation_steps=batch[1])
    smaller = with_smaller_batches(config)
    assert (smaller and (smaller.batch_size, smaller.accumulation_steps)) == then


def test_the_key_follows_what_shapes_the_adapter_and_nothing_else(tiny_model: Path, tmp_path: Path) -> None:
    ref = ArtifactRef("validate", "k", str(tmp_path), "digest", 3)
    job = TrainJob(TrainConfig(max_steps=10), ModelSource(path=str(tiny_model)), ref, seed=1)

    def with_config(**changes: Any) -> str:
        return replace(job, config=job.config.model_copy(update=changes)).key().hex

    assert with_config(timeout_minutes=5, save_steps=3, fractions=(0.5, 1.0)) == job.key().hex
    assert with_config(initial_adapter="champion") == job.key().hex
    # The steps that are evaluated are those of checkpoints.
    assert with_config(validation_fraction=0.1) != with_config(validation_fraction=0.1, save_steps=3)
    assert replace(job, training_set=replace(ref, path="/elsewhere")).key().hex == job.key().hex
    others = {
        with_config(rank=8),
        with_config(chat_template="chatml"),
        with_config(backend="transformers"),
        with_config(rows="control"),
        with_config(validation_fraction=0.1),
        with_config(validation_fraction=0.1, keep="best"),
        replace(job, seed=2).key().hex,
        replace(job, fraction=0.5).key().hex,
        replace(job, initial=InitialAdapter("/adapter", "digest", "3")).key().hex,
        replace(job, training_set=replace(ref, digest="other")).key().hex,
        replace(job, model=ModelSource(path="hub/model", revision="abc")).key().hex,
        job.key().hex,
    }
    assert len(others) == 12


def test_only_local_models_are_kept_off_the_network(tmp_path: Path) -> None:
    assert worker_environment(ModelSource(path=str(tmp_path)), tmp_path)["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in worker_environment(ModelSource(path="Qwen/Qwen2.5-0.5B"), tmp_path)


def test_importing_the_stage_loads_no_training_library() -> None:
    heavy = "{'torch', 'transformers', 'trl', 'mlflow', 'pandas', 'datasets', 'unsloth'}"
    code = f"import sys, tasks.train.config, tasks.train.train; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
