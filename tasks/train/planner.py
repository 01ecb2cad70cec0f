"""Whether a model fits: the parameters and memory of a training, compared with devices before anything is loaded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core.config import ModelSource, ServerSettings
from tasks.train.config import TrainConfig, first_backend
from tasks.train.devices import MemoryDevice, training_device
from tasks.train.memory import MemoryEstimate, inference_memory, trainable_parameters, training_memory
from tasks.train.model_shape import ModelShape, catalogue, model_shape, read_config

GB = 10**9
GPU_SIZES = (16, 24, 40, 48, 80, 141)
TABLE_ROWS = (
    "Qwen/Qwen2.5-0.5B", "meta-llama/Llama-3.2-1B", "Qwen/Qwen2.5-1.5B", "meta-llama/Llama-3.2-3B", "Qwen/Qwen2.5-7B",
    "meta-llama/Llama-3.1-8B", "Qwen/Qwen2.5-14B", "Qwen/Qwen2.5-32B", "meta-llama/Llama-3.1-70B",
)  # fmt: skip
TABLE_METHODS = {
    "full": TrainConfig(method="full", max_steps=60, batch_size=2, max_length=1024, use_gradient_checkpointing=True),
    "LoRA": TrainConfig(method="lora", max_steps=60, batch_size=2, max_length=1024, target_modules="all-linear"),
    "QLoRA": TrainConfig(method="qlora", max_steps=60, batch_size=2, max_length=1024, target_modules="all-linear"),
}
TABLE_CACHE = 2 * 1024


@dataclass(frozen=True)
class TrainingPlan:
    """What a recipe's model needs (``training`` and ``inference`` per process), and whether it fits."""

    shape: ModelShape
    method: str
    backend: str
    trainable_parameters: int
    training: MemoryEstimate
    inference: MemoryEstimate
    processes: int
    devices: tuple[MemoryDevice, ...]

    @property
    def device(self) -> MemoryDevice:
        return training_device(self.devices)

    @property
    def fits_training(self) -> bool:
        if self.device.kind == "cpu":
            return self.training.needed * self.processes <= self.device.free
        used = [device for device in self.devices if device.kind == "cuda"][: self.processes]
        return len(used) == self.processes and all(self.training.needed <= device.free for device in used)

    @property
    def fits_inference(self) -> bool:
        return self.inference.needed <= self.device.free

    @property
    def fits(self) -> bool:
        return self.fits_training and self.fits_inference

    def as_json(self) -> dict[str, Any]:
        return {
            "family": self.shape.family,
            "method": self.method,
            "backend": self.backend,
            "processes": self.processes,
            "total_parameters": self.shape.total_parameters,
            "trainable_parameters": self.trainable_parameters,
            "memory_bytes": {"inference": self.inference.total, "training": self.training.total},
            "memory_splits": {"inference": self.inference.splits(), "training": self.training.splits()},
            "device": self.device.name,
            "devices": [vars(device) for device in self.devices],
            "fits": self.fits,
            "fits_each": {"inference": self.fits_inference, "training": self.fits_training},
        }


def plan_training(
    model: ModelSource,
    config: TrainConfig,
    server: ServerSettings,
    devices: tuple[MemoryDevice, ...],
    config_file: Path | None = None,
) -> TrainingPlan:
    """Plan a training without weights and network; or a ModelError, without the config or a named layer."""
    settings = read_config(model, config_file)
    shape = model_shape(settings, config)
    kind = training_device(devices).kind
    longest = server.max_model_len or int(settings.get("max_position_embeddings", config.max_length))
    served_bytes = {"auto": shape.stored_bytes, "float32": 4}.get(server.dtype, 2)
    cache = int(server.cpu_kv_cache_gib * 2**30) if kind == "cpu" else None
    return TrainingPlan(
        shape=shape,
        method=config.method,
        backend=first_backend(config, kind),
        trainable_parameters=trainable_parameters(shape, config),
        training=training_memory(shape, config, kind),
        inference=inference_memory(shape, served_bytes, kind, longest, cache),
        processes=config.processes,
        devices=devices,
    )


def planned_steps(config: TrainConfig, rows: int) -> int:
    """Optimizer steps of a training over ``rows`` rows; an upper bound with packing."""
    if config.max_steps is not None:
        return config.max_steps
    per_epoch = math.ceil(math.ceil(rows / (config.batch_size * config.processes)) / config.accumulation_steps)
    return max(1, math.ceil(per_epoch * (config.epochs or 1)))


def planned_evaluations(config: TrainConfig, steps: int) -> int:
    """Evaluations of a training of so many steps: before the first, every ``save_steps``, and after the last."""
    return 1 + math.ceil(steps / config.save_steps) if config.validation_fraction else 0


def size_table() -> str:
    """The tables of docs/planning.md, in Markdown: model sizes against GPU sizes."""
    figures = {model: _figures(model) for model in TABLE_ROWS}
    kinds = list(next(iter(figures.values()))[1])
    peaks = [
        [model, f"{total:,}", f"{trained:,}", *(f"{found[kind] / GB:.1f}" for kind in kinds)]
        for model, ((total, trained), found) in figures.items()
    ]
    fitting = [[model, *(_fitting(found, size) for size in GPU_SIZES)] for model, (_, found) in figures.items()]
    first = _markdown(["model", "parameters", "trained by (Q)LoRA", *(f"{kind}, GB" for kind in kinds)], peaks)
    return "\n".join([*first, "", *_markdown(["model", *(f"{size} GB" for size in GPU_SIZES)], fitting)])


def _figures(model: str) -> tuple[tuple[int, int], dict[str, int]]:
    peaks = {}
    for name, config in TABLE_METHODS.items():
        shape = model_shape(catalogue()[model], config)
        peaks[name] = training_memory(shape, config, "cuda").total
        trained = trainable_parameters(shape, config)
    peaks["serve 16 bit"] = inference_memory(shape, 2, "cuda", TABLE_CACHE).total
    return (shape.total_parameters, trained), peaks


def _fitting(peaks: dict[str, int], size: int) -> str:
    return next((name for name in TABLE_METHODS if peaks[name] <= size * GB), "-")


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for cells in (heads, ["---", *["--:"] * (len(heads) - 1)], *rows):
        yield f"| {' | '.join(cells)} |"
