"""This project's training worker: ``python -m benchmarks.arms.train_stage READY BACKEND [METHOD]``; see train_arm.py.

It is the function that ``python -m tasks.train.worker job.json`` runs: rows read, masked and proven, checkpoints
sealed, curves written, the adapter saved. Where MLflow is not installed (benchmarks/train_gpu.py), nothing is tracked.
"""

from __future__ import annotations

import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.arms.train_arm import Round, serve


class NoTracking:
    """Stands for the MLflow run where MLflow is not installed."""

    id = ""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def log_parameters(self, *_: Any, **__: Any) -> None:
        """Nothing is tracked."""

    def log_metrics(self, *_: Any, **__: Any) -> None:
        """Nothing is tracked."""

    def flush(self) -> None:
        """Nothing is tracked."""

    def end(self, *_: Any) -> None:
        """Nothing is tracked."""


def without_mlflow() -> None:
    """Let the worker run where MLflow is not installed."""
    if find_spec("mlflow") is None:
        from tasks.train import tracking

        tracking.MlflowRun = NoTracking  # type: ignore[misc,assignment]


def job_of(one: Round, backend: str, method: str = "qlora") -> dict[str, Any]:
    """The worker's job for a round."""
    from tasks.train.config import TrainConfig

    on_gpu = _on_gpu()
    config = TrainConfig.model_validate(
        {
            "backend": backend,
            "method": method,
            "rank": one.rank,
            "alpha": one.rank,
            "target_modules": "all-linear",
            "use_gradient_checkpointing": ("unsloth" if on_gpu else True) if one.checkpointing else False,
            "optimizer": "adamw_8bit" if on_gpu else "adamw_torch_fused",
            "batch_size": one.batch_size,
            "accumulation_steps": one.accumulation_steps,
            "epochs": one.epochs,
            "learning_rate": one.learning_rate,
            "max_length": one.max_length,
            "packing": one.packing,
            "save_steps": 500,
        }
    )
    work, out = Path(one.work) / "work", Path(one.work) / "out"
    work.mkdir()
    out.mkdir()
    return {
        "config": config.model_dump(mode="json"),
        "model": {"path": one.model},
        "seed": one.seed,
        "training_set": one.rows,
        "out": str(out),
        "work": str(work),
        "mlflow": {"uri": f"sqlite:///{one.work}/mlflow.db", "experiment": "benchmark", "name": "round"},
    }


def _on_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def train(one: Round, backend: str, method: str = "qlora") -> None:
    """Train a round."""
    from tasks.train.worker import StopRequest
    from tasks.train.worker import train as work

    work(job_of(one, backend, method), StopRequest())


if __name__ == "__main__":
    ready, backend, *rest = Path(sys.argv[1]), *sys.argv[2:]
    if backend == "unsloth":
        import unsloth  # noqa: F401  it patches transformers and trl, so it comes before them
    from trl import SFTTrainer  # noqa: F401  its import is start-up

    without_mlflow()
    serve(partial(train, backend=backend, method=rest[0] if rest else "qlora"), ready)
