"""A training in this process: what an option does to model, optimizer and data; or all that the worker does.

And the memory of one in a process of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.core.artifacts import ArtifactRef
from tasks.core.config import ModelSource
from tasks.train.config import TrainConfig
from tasks.train.train import TrainJob

SEED = 7


@dataclass(frozen=True)
class Trial:
    """A trainer that has not run yet, and what it was made of."""

    trainer: Any
    config: TrainConfig
    rows: Any
    loaded: Any
    validation: Any = None

    @property
    def model(self) -> Any:
        return self.trainer.model

    def run(self) -> list[float]:
        """Train to the end; the loss of every step."""
        from transformers import set_seed

        set_seed(SEED)
        self.trainer.train()
        return self.logged("loss")

    def logged(self, name: str) -> list[float]:
        return [float(entry[name]) for entry in self.trainer.state.log_history if name in entry]

    def trained(self) -> dict[str, Any]:
        """Copies of the parameters that are trained, by name."""
        return {
            name: parameter.detach().clone()
            for name, parameter in self.model.named_parameters()
            if parameter.requires_grad
        }


def settings(**changes: Any) -> TrainConfig:
    """Four steps of four rows with plain transformers."""
    defaults: dict[str, Any] = {
        "backend": "transformers",
        "rank": 4,
        "alpha": 8,
        "target_modules": "all-linear",
        "batch_size": 4,
        "accumulation_steps": 1,
        "max_steps": 4,
        "warmup_steps": 0,
        "learning_rate": 1e-3,
        "max_length": 128,
    }
    if changes.get("method", "qlora") not in ("qlora", "lora"):
        for name in ("rank", "alpha", "target_modules"):
            del defaults[name]
    return TrainConfig.model_validate({**defaults, **changes})


def new_trial(
    model: Path, training_set: ArtifactRef, folder: Path, initial: str | None = None, seed: int = SEED, **changes: Any
) -> Trial:
    """Load, tokenise and set up, as the worker does."""
    from tasks.train.backends import load_trainable
    from tasks.train.chat_templates import with_chat_template
    from tasks.train.trainer import new_trainer
    from tasks.train.training_rows import prepare_rows

    folder.mkdir(parents=True, exist_ok=True)
    config = settings(**changes)
    loaded = load_trainable(config, ModelSource(path=str(model)), seed, folder, initial)
    tokenizer = with_chat_template(loaded.tokenizer, config.chat_template)
    prepared = prepare_rows(training_set.folder / "training_set.parquet", config, tokenizer, seed, 1.0, folder)
    trainer = new_trainer(config, loaded, tokenizer, prepared.rows, folder, seed, prepared.validation)
    return Trial(trainer, config, prepared.rows, loaded, prepared.validation)


def train_here(job: TrainJob, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Do the worker's job in this process, where the libraries are imported already."""
    from tasks.train import worker
    from tasks.train.worker import StopRequest

    work, out = folder / "work", folder / "out"
    work.mkdir(parents=True)
    out.mkdir()
    monkeypatch.chdir(work)
    result = worker.train(
        {
            "config": job.config.model_dump(mode="json"),
            "model": job.model.model_dump(mode="json"),
            "seed": job.seed,
            "training_set": str(job.training_set.folder / "training_set.parquet"),
            "out": str(out),
            "work": str(work),
            "mlflow": {"uri": f"sqlite:///{folder}/mlflow/mlflow.db", "experiment": "retune", "name": "here"},
        },
        StopRequest(),
    )
    assert result is not None
    return result


@contextmanager
def highest_memory_of_children() -> Iterator[list[int]]:
    """The high-water marks of new descendants of this process, in bytes, as Linux keeps them (VmHWM in its status)."""
    marks: list[int] = []
    ended = threading.Event()
    older = {child.pid for child in psutil.Process().children(recursive=True)}  # such as the server of ``forked``

    def watch() -> None:
        while not ended.wait(0.02):
            for child in psutil.Process().children(recursive=True):
                if child.pid in older:
                    continue
                try:
                    status = Path(f"/proc/{child.pid}/status").read_text(encoding="utf-8")
                except OSError:
                    continue
                marks.extend(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield marks
    finally:
        ended.set()
        watcher.join()
