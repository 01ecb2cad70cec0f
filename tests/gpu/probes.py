"""Train a tiny model on a GPU and write down what was seen: python -m tests.gpu.probes BACKEND FOLDER [PROBE ...]

Every probe runs alone; one that fails leaves its traceback in place of its findings. All of it goes to found.json.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.arms.train_stage import without_mlflow

SHAPE: dict[str, float] = {
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 2048,
    # Large enough that a row's loss depends on what stands before it.
    "initializer_range": 0.05,
}
SETTINGS: dict[str, Any] = {
    "rank": 16,
    "target_modules": "all-linear",
    "batch_size": 4,
    "accumulation_steps": 1,
    "learning_rate": 2e-3,
    "max_length": 512,
    "optimizer": "adamw_8bit",
    "schedule": "constant",
    "warmup_steps": 2,
    "save_steps": 5,
}


class Stopped(Exception):
    """Thrown in the middle of training, as a kill would."""


class Probes:
    """A tiny model, rows, and what is found about them."""

    def __init__(self, backend: str, folder: Path) -> None:
        from benchmarks.arms.train_rows import write_model, write_rows

        self.backend, self.folder, self.runs = backend, folder, 0
        self.model = folder / "model"
        write_model(self.model, {"vocab_size": 3072, **SHAPE}, seed=0)
        self.rows = write_rows(folder, 96, median=24, max_length=512, batch_size=4, seed=0)

    def config(self, **changes: Any) -> Any:
        from tasks.train.config import TrainConfig

        return TrainConfig.model_validate({"backend": self.backend, **SETTINGS, **changes})

    def job(self, place: str, **changes: Any) -> dict[str, Any]:
        """The worker's job; two of the same place share their checkpoints."""
        work, out = self.folder / place / "work", self.folder / place / "out"
        work.mkdir(parents=True, exist_ok=True)
        out.mkdir(exist_ok=True)
        return {
            "config": self.config(**changes).model_dump(mode="json"),
            "model": {"path": str(self.model)},
            "seed": 7,
            "training_set": str(self.rows.path),
            "out": str(out),
            "work": str(work),
            "mlflow": {"uri": f"sqlite:///{self.folder}/mlflow.db", "experiment": "gpu", "name": place},
        }

    def train(self, place: str, watch: Any = None, **changes: Any) -> dict[str, Any]:
        """What the worker returns, with the losses and the peak of what was allocated."""
        import torch

        from tasks.train.worker import StopRequest, train

        torch.cuda.reset_peak_memory_stats()
        job = self.job(place, **changes)
        with watching(watch):
            result = train(job, StopRequest())
        assert result is not None
        lines = (Path(job["out"]) / "loss.csv").read_text(encoding="utf-8").splitlines()[1:]
        losses = [float(line.split(",")[1]) for line in lines]
        peak = torch.cuda.max_memory_allocated()
        return {"details": result["details"], "losses": losses, "peak_allocated": peak, "out": job["out"]}


@contextmanager
def watching(callback: Any) -> Iterator[None]:
    """Give every Trainer a callback."""
    from transformers import trainer

    if callback is None:
        yield
        return
    trainer.DEFAULT_CALLBACKS.append(callback)
    try:
        yield
    finally:
        trainer.DEFAULT_CALLBACKS.remove(callback)


def probe_learning(probes: Probes) -> dict[str, Any]:
    """Loss, layers and the optimizer's state of a run of 40 steps."""
    from transformers import TrainerCallback

    seen: dict[str, Any] = {}

    class Watch(TrainerCallback):
        def on_train_end(
            self, args: Any, state: Any, control: Any, model: Any = None, optimizer: Any = None, **_: Any
        ) -> None:
            seen.update(layers_of(model))
            seen["optimizer"] = states_of(optimizer)

    return {**probes.train("learning", Watch, max_steps=40), **seen}


def layers_of(model: Any) -> dict[str, Any]:
    """The 4-bit layers' types, devices and dtypes of computation, and the dtypes of what is trained."""
    from bitsandbytes.nn import Linear4bit

    layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
    return {
        "linear4bit": len(layers),
        "quant_types": sorted({layer.weight.quant_state.quant_type for layer in layers}),
        "double": all(layer.weight.quant_state.nested for layer in layers),
        "devices": sorted({layer.weight.device.type for layer in layers}),
        "compute": sorted({str(layer.compute_dtype) for layer in layers}),
        "trained": sorted({str(p.dtype) for p in model.parameters() if p.requires_grad}),
    }


def states_of(optimizer: Any) -> dict[str, Any]:
    """Which dtypes the first moments have, by whether a parameter is large enough for 8 bit, and whether any pages."""
    inner = getattr(optimizer, "optimizer", optimizer)
    found: dict[str, Any] = {"class": type(inner).__name__, "large": [], "small": [], "paged": False}
    for parameter, state in inner.state.items():
        moment = state.get("state1", state.get("exp_avg"))
        found["large" if parameter.numel() >= 4096 else "small"].append(str(moment.dtype))
        found["paged"] = found["paged"] or bool(getattr(moment, "is_paged", False))
    return {**found, "large": sorted(set(found["large"])), "small": sorted(set(found["small"]))}


def probe_paging(probes: Probes) -> dict[str, Any]:
    """The paged optimizer's state after a few steps; bitsandbytes pages tensors of at least 100,000 elements."""
    from transformers import TrainerCallback

    seen: dict[str, Any] = {}

    class Watch(TrainerCallback):
        def on_train_end(self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any) -> None:
            seen["optimizer"] = states_of(optimizer)

    return {**probes.train("paging", Watch, max_steps=5, optimizer="paged_adamw_8bit", rank=256, alpha=256), **seen}


def probe_packing(probes: Probes) -> dict[str, Any]:
    """Rows of one packed batch, as the trainer feeds it, and each of them alone.

    ``alone`` and ``packed`` are losses by row; ``others_changed`` is the packed loss of the row after every token of
    the other rows was replaced; ``seeing`` is its loss where nothing keeps the rows apart. Labels of all other rows are
    masked, so that a batch's loss is that of one row.
    """
    import torch

    found: dict[str, Any] = {"alone": [], "packed": [], "others_changed": [], "seeing": []}

    def measure(trainer: Any) -> None:
        model = trainer.model
        model.eval()
        batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
        found["keys"] = sorted(batch)
        ids, labels = batch["input_ids"], batch["labels"]
        starts = (batch["position_ids"].flatten() == 0).nonzero().flatten().tolist()
        bounds = list(zip(starts, [*starts[1:], ids.numel()], strict=True))[:6]
        found["shape"], found["rows"] = list(ids.shape), len(starts)

        def loss(inputs: dict[str, Any]) -> float:
            with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
                return float(model(**inputs).loss)

        for start, end in bounds:
            own = torch.zeros_like(ids, dtype=torch.bool)
            own.view(-1)[start:end] = True
            only = torch.where(own, labels, -100)
            other = torch.where(own, ids, (ids * 7 + 11) % 3000 + 3)
            row = {"input_ids": ids.view(1, -1)[:, start:end], "labels": labels.view(1, -1)[:, start:end].clone()}
            row["labels"][:, 0] = -100
            found["alone"].append(loss(row))
            found["packed"].append(loss({**batch, "labels": only}))
            found["others_changed"].append(loss({**batch, "labels": only, "input_ids": other}))
            found["seeing"].append(loss({"input_ids": ids, "labels": only}))

    stopped_before_training(probes, "packing", measure)
    return found


def stopped_before_training(probes: Probes, place: str, measure: Callable[[Any], None]) -> None:
    """Let the worker build its trainer with packing, measure it, and go no further."""
    from trl import SFTTrainer

    plain = SFTTrainer.train

    def train(self: Any, *_: Any, **__: Any) -> None:
        measure(self)
        raise Stopped

    SFTTrainer.train = train
    try:
        with suppress(Stopped):
            probes.train(place, max_steps=3, packing=True, batch_size=2)
    finally:
        SFTTrainer.train = plain


def probe_packed_training(probes: Probes) -> dict[str, Any]:
    """The same rows once, packed and not: losses of the first step, before anything was learned, and the peaks."""
    packed = probes.train("packed", max_steps=30, packing=True, batch_size=2)
    plain = probes.train("unpacked", max_steps=30, batch_size=16)
    return {"packed": packed, "plain": plain}


def probe_checkpointing(probes: Probes) -> dict[str, Any]:
    """Peaks of what was allocated, with and without recomputing activations."""
    sizes = {"max_steps": 3, "batch_size": 32}
    return {
        "without": probes.train("kept", use_gradient_checkpointing=False, **sizes)["peak_allocated"],
        "with": probes.train("recomputed", use_gradient_checkpointing="unsloth", **sizes)["peak_allocated"],
    }


def probe_resuming(probes: Probes) -> dict[str, Any]:
    """A run of 20 steps, one that is stopped at step 12 and gone on from, and the distance of their adapters."""
    import torch
    from safetensors.torch import load_file
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 12:
                raise Stopped

    whole = probes.train("whole", max_steps=20)
    with suppress(Stopped):
        probes.train("stopped", Stop, max_steps=20)
    resumed = probes.train("stopped", max_steps=20)
    names = "adapter/adapter_model.safetensors"
    one, other = (load_file(Path(run["out"]) / names) for run in (whole, resumed))
    # B begins at zero, so its norm is what was learned.
    learned = torch.cat([one[name].flatten() for name in sorted(one) if "lora_B" in name])
    again = torch.cat([other[name].flatten() for name in sorted(one) if "lora_B" in name])
    return {"whole": whole, "resumed": resumed, "distance": float((learned - again).norm() / learned.norm())}


PROBES = {
    "learning": probe_learning,
    "paging": probe_paging,
    "packing": probe_packing,
    "packed_training": probe_packed_training,
    "checkpointing": probe_checkpointing,
    "resuming": probe_resuming,
}


def main() -> None:
    backend, folder = sys.argv[1], Path(sys.argv[2])
    if backend == "unsloth":
        import unsloth  # noqa: F401  it patches transformers and trl, so it comes before them
    without_mlflow()
    probes = Probes(backend, folder)
    found: dict[str, Any] = {}
    for name in sys.argv[3:] or PROBES:
        try:
            found[name] = PROBES[name](probes)
        except Exception:
            found[name] = {"error": traceback.format_exc()}
        (folder / "found.json").write_text(json.dumps(found, default=str), encoding="utf-8")


if __name__ == "__main__":
    main()
