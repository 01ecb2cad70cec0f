"""What is written down while a model trains: progress events, the MLflow run, sealed checkpoints."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tasks.core.errors import TrainingError
from tasks.core.processes import emit
from tasks.train.checkpoints import seal

CURVE = ("loss", "learning_rate", "grad_norm")
FLUSH_SECONDS = 10.0


class MlflowRun:
    """One MLflow run, found again by the run that resumes a killed one.

    Args:
        uri: the tracking store.
        experiment: name of the experiment; made if it is missing.
        name: name of the run.
        id_file: where the run's id is kept between attempts.
    """

    def __init__(self, uri: str, experiment: str, name: str, id_file: Path) -> None:
        from mlflow import MlflowClient

        if uri.startswith("sqlite:///"):
            Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        self._client = MlflowClient(tracking_uri=uri)
        self._waiting: list[tuple[int, dict[str, float]]] = []
        self._flushed = time.monotonic()
        self.id = id_file.read_text(encoding="utf-8").strip() if id_file.is_file() else ""
        if not self.id:
            found = self._client.get_experiment_by_name(experiment)
            experiment_id = found.experiment_id if found else self._client.create_experiment(experiment)
            self.id = self._client.create_run(experiment_id, run_name=name).info.run_id
            id_file.write_text(self.id, encoding="utf-8")

    def log_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Store parameters; those of an earlier attempt stay, as MLflow demands."""
        from mlflow.entities import Param

        known = self._client.get_run(self.id).data.params
        new = [Param(name, str(value)) for name, value in parameters.items() if name not in known]
        self._client.log_batch(self.id, params=new)

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Queue a step's metrics; they are written every few seconds."""
        self._waiting.append((step, dict(metrics)))
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is queued."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        batch = [Metric(name, value, now, step) for step, metrics in self._waiting for name, value in metrics.items()]
        for first in range(0, len(batch), 1000):
            self._client.log_batch(self.id, metrics=batch[first : first + 1000])
        self._waiting, self._flushed = [], time.monotonic()

    def end(self, status: str) -> None:
        """Close the run as FINISHED or FAILED."""
        self.flush()
        self._client.set_terminated(self.id, status=status)


class Recorder(TrainerCallback):
    """Sends progress, logs the curve, seals checkpoints, and stops a run whose loss is no number."""

    def __init__(self, run: MlflowRun) -> None:
        self._run = run

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if not logs or "loss" not in logs:
            return
        metrics = {name: float(logs[name]) for name in CURVE if name in logs}
        check_finite(metrics, state.global_step)
        emit(step=state.global_step, total=state.max_steps, loss=metrics["loss"])
        self._run.log_metrics(state.global_step, metrics)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        seal(Path(args.output_dir or "") / f"checkpoint-{state.global_step}")


def check_finite(metrics: Mapping[str, float], step: int) -> None:
    """Raise a TrainingError when loss or gradient is no finite number."""
    for name in ("loss", "grad_norm"):
        if not math.isfinite(metrics.get(name, 0.0)):
            raise TrainingError(
                f"The {name.replace('_norm', 'ient')} became {metrics[name]} at step {step}",
                where=f"step {step}",
                remedy="lower train.learning_rate, raise train.warmup_steps, or try compute_dtype: float32",
            )


def write_loss_curve(path: Path, history: Sequence[Mapping[str, Any]]) -> list[float]:
    """Write ``step, loss, learning_rate`` of every logged step, and return the losses."""
    rows = [entry for entry in history if "loss" in entry]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("step", "loss", "learning_rate"))
        writer.writerows((row["step"], row["loss"], row.get("learning_rate", "")) for row in rows)
    return [float(row["loss"]) for row in rows]
