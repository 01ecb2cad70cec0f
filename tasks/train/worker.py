"""The training process: ``python -m tasks.train.worker job.json``.

When it ends it gives all memory back, and what libraries write to the current folder goes to one of its own.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tasks.core.base_model import quantised_layers
from tasks.core.config import ModelSource
from tasks.core.errors import ChildError, MemoryShortage
from tasks.core.files import write_json
from tasks.core.merging.trained import TOKENS
from tasks.core.processes import emit, worker_main
from tasks.train import resource_checks
from tasks.train.chat_templates import ending_at, with_chat_template
from tasks.train.checkpoints import newest_intact, step_of
from tasks.train.config import TrainConfig, first_backend
from tasks.train.devices import rank
from tasks.train.masking import masking_proof
from tasks.train.saving import save, tokens_report

TRAINER_STATE = "trainer_state.json"


@dataclass
class StopRequest:
    """A request to stop; while it ``waits``, it takes effect at the end of a step, with a checkpoint."""

    requested: bool = False
    waits: bool = False

    @classmethod
    def on_sigterm(cls) -> StopRequest:
        request = cls()
        signal.signal(signal.SIGTERM, request._request)
        return request

    def _request(self, *_: Any) -> None:
        self.requested = True
        if not self.waits:
            raise SystemExit(128 + signal.SIGTERM)

    @contextmanager
    def at_next_step(self) -> Iterator[None]:
        self.waits = True
        try:
            yield
        finally:
            self.waits = False


def train(job: dict[str, Any], stop: StopRequest) -> dict[str, Any] | None:
    """Train an adapter, or with method full a whole model; of several processes, process 0 writes the result.

    The job has ``config``, ``model``, ``seed``, ``training_set`` (a Parquet file), ``fraction`` of it, ``initial`` (the
    adapter to continue, or None), ``out`` (for ``adapter/`` or ``model/``, loss curve, masking proof, mix, token ids
    and quarantine), ``work`` (checkpoints and caches), ``mlflow`` (uri, experiment, name). Returns row counts and the
    details of the stage's summary; None in other processes than process 0.
    """
    config, source = TrainConfig.model_validate(job["config"]), ModelSource.model_validate(job["model"])
    out, work, seed = Path(job["out"]), Path(job["work"]), int(job["seed"])
    os.chdir(work)
    if rank() > 0:
        out = work / f"process-{rank()}"
        out.mkdir(exist_ok=True)
    from tasks.train.backends import current_device, load_trainable

    if first_backend(config, current_device()) == "unsloth":
        import unsloth  # noqa: F401  it patches transformers and trl, so it comes before them
    from transformers import set_seed

    from tasks.train.trainer import new_trainer
    from tasks.train.training_rows import prepare_rows
    from tasks.train.validation_loss import keep_step

    set_seed(seed)
    initial = job.get("initial")
    shape = resource_checks.shape_of(config, source)
    resource_checks.require_room(work, config, source, shape.total_parameters if shape else None)
    if shape is not None:
        resource_checks.require_memory(config, shape)
    with typed_memory_errors():
        emit(note="loading the model")
        loaded = load_trainable(config, source, seed, work, initial["path"] if initial else None)
        tokenizer = with_chat_template(loaded.tokenizer, config.chat_template)
        fraction = float(job.get("fraction", 1.0))
        prepared = prepare_rows(Path(job["training_set"]), config, tokenizer, seed, fraction, out)
        if shape is not None:
            resource_checks.warn_if_batches_may_not_fit(config, shape, prepared.longest)
        ending_at(tokenizer, prepared.ends)
        for rows in filter(None, (prepared.rows, prepared.validation)):
            resource_checks.require_embeddings(loaded.model, rows["input_ids"], source.path)
        resource_checks.warn_if_ends_never_learned(loaded.model, tokenizer, config, prepared.ends)
        trainer = new_trainer(config, loaded, tokenizer, prepared.rows, work, seed, prepared.validation)
        proof = masking_proof(trainer, prepared.rows, tokenizer, config.train_on)
        write_json(out / "masking.json", proof)
        write_json(out / "mix.json", prepared.mix)
        write_json(out / TOKENS, tokens_report(prepared, tokenizer))
        details = run(trainer, job, config, work, out, stop, proof["trained_token_share"])
        if kept := keep_step(trainer, config, work):
            details["validation"] = {"split": prepared.split, **kept}
    save(trainer, source, config, out, work, prepared.ends)
    if rank() > 0:
        return None
    trainable, total = count_parameters(trainer.model)
    return {
        **prepared.counts,
        "details": {
            "backend": loaded.backend,
            "method": config.method,
            "quantised_layers": quantised_layers(trainer.model),
            "trainable_parameters": trainable,
            "total_parameters": total,
            "trained_token_share": proof["trained_token_share"],
            "training_rows": len(prepared.rows),
            "tokens": sum(len(row["input_ids"]) for row in prepared.rows),
            "over_length": asdict(prepared.over_length),
            "mix": prepared.mix["groups"],
            "fraction": fraction,
            "processes": config.processes,
            "initial_adapter": {"version": initial["version"], "digest": initial["digest"]} if initial else None,
            "device": device_name(),
            "dtype": str(loaded.dtype).removeprefix("torch."),
            **details,
        },
    }


def run(
    trainer: Any, job: dict[str, Any], config: TrainConfig, work: Path, out: Path, stop: StopRequest, token_share: float
) -> dict[str, Any]:
    """Train to the end, from the newest intact checkpoint, or raise a ChildError after a request to stop."""
    from accelerate import PartialState
    from transformers import set_seed

    from tasks.train.loss_curve import draw_loss_curve
    from tasks.train.throughput import TokenCounter
    from tasks.train.tracking import MlflowRun, Recorder, write_loss_curve

    optimizer = str(getattr(trainer.args.optim, "value", trainer.args.optim))
    if config.optimizer not in ("auto", optimizer):
        emit(note=f"the backend uses the optimizer {optimizer} instead of {config.optimizer}")
    with PartialState().main_process_first():
        checkpoint = newest_intact(work, say=lambda text: emit(note=text))
    if checkpoint is not None:
        emit(note=f"resuming from step {step_of(checkpoint)}", resumed_from=step_of(checkpoint))
    tracked = None if rank() else MlflowRun(**job["mlflow"], id_file=work / "mlflow_run_id")
    if tracked:
        tracked.log_parameters({"model": job["model"]["path"], "seed": job["seed"], **config.model_dump(mode="json")})
    parameters, counter = count_parameters(trainer.model)[1], TokenCounter(trainer.model)
    padded_before = getattr(trainer.data_collator, "padding", 0)

    def tokens() -> int:
        return counter.total - (getattr(trainer.data_collator, "padding", 0) - padded_before)

    recorder = Recorder(tracked, tokens, lambda: stop.requested, job.get("initial") is not None, config.early_stopping)
    trainer.add_callback(recorder)
    # Loading draws random numbers: a resumed run must start training like an uninterrupted one.
    set_seed(int(job["seed"]))
    status = "FAILED"
    started = time.monotonic()
    try:
        if checkpoint is not None and has_ended(state_of(checkpoint), config):
            emit(note="the training was complete: its last checkpoint is used")
            restore_checkpoint(trainer, checkpoint)
        else:
            trainer.args.eval_on_start &= checkpoint is None
            with stop.at_next_step():
                trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if stop.requested and not has_ended(trainer.state, config):
            status = "KILLED"
            what = f"The training was asked to stop, and stopped after step {trainer.state.global_step}"
            raise ChildError(what, where=str(work), remedy="run again: it continues from there")
        trains_all = config.training_method.trains_all_weights
        cost = recorder.finish(trainer.state.global_step, parameters, device_name(), trains_all, token_share)
        status = "FINISHED"
    finally:
        if tracked:
            tracked.end(status)
    losses = write_loss_curve(out / "loss.csv", trainer.state.log_history)
    draw_loss_curve(trainer.state.log_history, out / "report" / "loss.png")
    return {
        "steps": trainer.state.global_step,
        "final_loss": losses[-1],
        "optimizer": optimizer,
        "packing": bool(trainer.args.packing),
        "batch_size": config.batch_size,
        "accumulation_steps": config.accumulation_steps,
        "resumed_from": step_of(checkpoint) if checkpoint else None,
        **asdict(cost),
        "seconds": round(time.monotonic() - started, 3),
        "mlflow_run_id": tracked.id if tracked else "",
    }


def device_name() -> str:
    import torch

    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else "cpu"


def state_of(checkpoint: Path) -> Any:
    from transformers import TrainerState

    return TrainerState.load_from_json(str(checkpoint / TRAINER_STATE))


def has_ended(state: Any, config: TrainConfig) -> bool:
    """Whether a trainer's state is that of the last step, after which transformers would train one step more."""
    from tasks.train.validation_loss import has_stopped_falling

    stopped_early = has_stopped_falling(state.log_history, config.early_stopping)
    return bool(state.global_step >= state.max_steps) or stopped_early


def restore_checkpoint(trainer: Any, checkpoint: Path) -> None:
    trainer._load_from_checkpoint(str(checkpoint))
    trainer.state = state_of(checkpoint)


def count_parameters(model: Any) -> tuple[int, int]:
    """Trained and total parameters; a quantised weight counts as the parameters it stands for."""
    if hasattr(model, "get_nb_trainable_parameters"):
        trainable, total = model.get_nb_trainable_parameters()
        return int(trainable), int(total)
    total = sum(parameter.numel() for parameter in model.parameters())
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad), total


@contextmanager
def typed_memory_errors() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        if not resource_checks.is_out_of_memory(error):
            raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        remedy = "lower train.batch_size or train.max_length, or use_gradient_checkpointing: true"
        raise MemoryShortage(f"Out of memory while training: {reason}", remedy=remedy) from error


if __name__ == "__main__":
    worker_main(lambda job: train(job, StopRequest.on_sigterm()))
