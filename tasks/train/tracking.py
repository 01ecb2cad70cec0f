"""What a training records: progress events, its MLflow run, sealed checkpoints and the loss curve."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tasks.core.processes import emit
from tasks.train.checkpoints import checkpoint_of, seal
from tasks.train.config import EarlyStopping
from tasks.train.loss_watch import LossWatch, require_finite
from tasks.train.throughput import Pace, mfu, peak_memory_bytes
from tasks.train.validation_loss import LOSS, evaluations, has_stopped_falling

CURVE = ("loss", "learning_rate", "grad_norm")
FLUSH_SECONDS = 10.0
Logs = Mapping[str, Any] | None


class MlflowRun:
    """An MLflow run, which a resumed training continues; ``id_file`` keeps its id between attempts."""

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
        else:
            self._client.update_run(self.id, status="RUNNING")

    def log_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Store parameters that no earlier attempt stored: MLflow does not change them."""
        from mlflow.entities import Param

        known = self._client.get_run(self.id).data.params
        new = [Param(name, str(value)) for name, value in parameters.items() if name not in known]
        self._client.log_batch(self.id, params=new)

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Queue a step's metrics, which are written every few seconds."""
        self._waiting.append((step, dict(metrics)))
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            try:
                self.flush()
            except Exception as error:  # a tracking store must not stop a training; the next flush tries again
                self._flushed = time.monotonic()
                emit(note=f"MLflow could not log the curve: {type(error).__name__}: {error}")

    def flush(self) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        batch = [Metric(name, value, now, step) for step, metrics in self._waiting for name, value in metrics.items()]
        for first in range(0, len(batch), 1000):
            self._client.log_batch(self.id, metrics=batch[first : first + 1000])
        self._waiting, self._flushed = [], time.monotonic()

    def end(self, status: str) -> None:
        self.flush()
        self._client.set_terminated(self.id, status=status)


@dataclass(frozen=True)
class Cost:
    """Peak memory of a process, non-padding tokens per second of all processes (None for a single step), and MFU."""

    peak_memory_bytes: int
    tokens_per_second: float | None
    mfu: float | None


class Recorder(TrainerCallback):
    """Reports progress, logs the curve, seals checkpoints, and stops a run on request, on a bad loss or early.

    A resumed run adds ``{"resumed": step}`` to the trainer's log, which checkpoints keep. Several processes share the
    loss and all check it; only process 0 has a ``run`` and reports. ``tokens`` counts those of this process so far.
    """

    def __init__(
        self,
        run: MlflowRun | None,
        tokens: Callable[[], int],
        stop_requested: Callable[[], bool] = lambda: False,
        continues: bool = False,
        early_stopping: EarlyStopping | None = None,
    ) -> None:
        self._run, self._tokens = run, tokens
        self._stop_requested, self._continues = stop_requested, continues
        self._early_stopping = early_stopping
        self._evaluated: dict[str, float] = {}
        self._evaluation_seconds = 0.0
        self._watch: LossWatch | None = None
        self._pace = Pace()
        self._processes = 1

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._processes = args.world_size
        self._watch = LossWatch(state.max_steps, args.get_warmup_steps(state.max_steps), self._continues)
        if state.global_step:
            self._watch.recall(state.log_history)
            state.log_history.append({"resumed": state.global_step, "step": state.global_step})

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._pace.note(state.global_step, self._tokens())
        if _any_process(self._stop_requested()):
            control.should_save = True
            control.should_training_stop = True

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Logs = None, **_: Any
    ) -> None:
        if not logs or "loss" not in logs:
            return
        metrics = {name: float(logs[name]) for name in CURVE if name in logs}
        if self._watch is not None:
            self._watch.check(state.global_step, metrics["loss"], metrics.get("grad_norm"))
        if not state.is_world_process_zero:
            return
        if (speed := self._pace.recent_tokens_per_second) is not None:
            metrics["tokens_per_second"] = speed * self._processes  # their batches are about equal
        emit(
            step=state.global_step,
            total=state.max_steps,
            seconds_left=self._seconds_left(state),
            **{name: value for name, value in metrics.items() if name != "grad_norm"},
            **self._evaluated,
        )
        if self._run is not None:
            self._run.log_metrics(state.global_step, metrics)

    def _seconds_left(self, state: TrainerState) -> float | None:
        steps = self._pace.seconds_left(state.max_steps)
        if steps is None or not self._evaluated:
            return steps
        every = int(state.eval_steps)
        evaluations_left = math.ceil(state.max_steps / every) - (state.global_step - 1) // every
        return float(steps + evaluations_left * self._evaluation_seconds)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: Logs = None, **_: Any
    ) -> None:
        found = metrics or {}
        loss = float(found[LOSS])
        require_finite(state.global_step, {"validation loss": loss})
        self._evaluated = {"validation_loss": loss}
        self._evaluation_seconds = float(found["eval_runtime"])
        self._pace.pause(self._evaluation_seconds)
        if self._run is not None:
            self._run.log_metrics(state.global_step, self._evaluated)
        if state.global_step < state.max_steps and has_stopped_falling(state.log_history, self._early_stopping):
            control.should_training_stop = True
            if state.is_world_process_zero:
                emit(note=f"the validation loss stopped falling: the training ends after step {state.global_step}")

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        PartialState().wait_for_everyone()  # each process writes files of the checkpoint
        if state.is_world_process_zero:
            seal(checkpoint_of(Path(args.output_dir or ""), state.global_step))

    def finish(self, step: int, parameters: int, device: str, trains_all: bool, trained_token_share: float) -> Cost:
        """What the training took, logged with the last step; ``parameters`` and ``device`` as for :func:`mfu`."""
        speed = self._pace.tokens_per_second
        used = None if speed is None else mfu(speed, parameters, device, trains_all)
        cost = Cost(peak_memory_bytes(), None if speed is None else speed * self._processes, used)
        found = {**asdict(cost), "trained_token_share": trained_token_share}
        if self._run is not None:
            self._run.log_metrics(step, {name: float(value) for name, value in found.items() if value is not None})
        return cost


def _any_process(wanted: bool) -> bool:
    """True in all processes if it is true in one: they must stop after the same step."""
    state = PartialState()
    if state.num_processes == 1:
        return wanted
    import torch

    flag = torch.tensor(int(wanted), device=state.device)
    torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
    return bool(flag.item())


def write_loss_curve(path: Path, history: Sequence[Mapping[str, Any]]) -> list[float]:
    """Write the loss, learning rate and validation loss of every step; returns the losses.

    Where a training was evaluated, step 0 has the validation loss before training.
    """
    rows, measured = [entry for entry in history if "loss" in entry], dict(evaluations(history))
    first = [{"step": 0}] if 0 in measured else []
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("step", "loss", "learning_rate", "validation_loss"))
        for row in [*first, *rows]:
            step = row["step"]
            writer.writerow((step, row.get("loss", ""), row.get("learning_rate", ""), measured.get(step, "")))
    return [float(row["loss"]) for row in rows]
