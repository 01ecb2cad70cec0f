"""The training process: ``python -m tasks.train.worker job.json``.

It runs in its own process so that all memory is given back when it ends, and in its own folder so that whatever the
libraries leave in the current one (compiled kernels, caches) goes with the job's work.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tasks.core.base_model import quantised_layers
from tasks.core.config import ModelSource
from tasks.core.errors import ChildError, MemoryShortage, TrainingError
from tasks.core.files import write_json
from tasks.core.merging.trained import ADAPTER, MODEL
from tasks.core.processes import emit, worker_main
from tasks.train.chat_templates import with_chat_template
from tasks.train.checkpoints import newest_intact, step_of
from tasks.train.config import TrainConfig, first_backend
from tasks.train.guards import (
    is_out_of_memory,
    require_memory,
    require_room,
    say_if_batches_may_not_fit,
    shape_of,
)
from tasks.train.launch import rank
from tasks.train.masking import masking_proof
from tasks.train.stopping import StopRequest

TRAINER_STATE = "trainer_state.json"


def train(job: dict[str, Any], stop: StopRequest) -> dict[str, Any] | None:
    """Train an adapter, or with method full a whole model.

    Of several processes that train together each does all of this, and what the first one writes and returns counts.

    Args:
        job: ``config``, ``model``, ``seed``, ``training_set`` (a Parquet file), ``fraction`` of it, ``initial`` (the
            adapter to go on from, or None), ``out`` (where ``adapter/`` or ``model/``, loss curve, masking proof, mix,
            token ids and quarantine go), ``work`` (checkpoints and caches), ``mlflow`` (uri, experiment, name).
        stop: asked after each step.

    Returns:
        row counts, and the details of the stage's summary; None of another than the first process.
    """
    config, source = TrainConfig.model_validate(job["config"]), ModelSource.model_validate(job["model"])
    out, work, seed = Path(job["out"]), Path(job["work"]), int(job["seed"])
    os.chdir(work)
    if rank() > 0:
        out = work / f"process-{rank()}"
        out.mkdir(exist_ok=True)
    if config.backend != "transformers" and unsloth_comes_first(config):
        import unsloth  # noqa: F401  it patches transformers and trl, so it comes before them
    import torch
    from transformers import set_seed

    from tasks.train.backends import load_trainable
    from tasks.train.trainer import new_trainer
    from tasks.train.training_rows import prepare_rows

    torch.set_num_threads(os.cpu_count() or 1)
    set_seed(seed)
    initial = job.get("initial")
    shape = shape_of(config, source)
    require_room(work, config, source, shape.total_parameters if shape else None)
    if shape is not None:
        require_memory(config, shape)
    with memory_shortage_named():
        emit(note="loading the model")
        loaded = load_trainable(config, source, seed, work, initial["path"] if initial else None)
        tokenizer = with_chat_template(loaded.tokenizer, config.chat_template)
        fraction = float(job.get("fraction", 1.0))
        prepared = prepare_rows(Path(job["training_set"]), config, tokenizer, seed, fraction, out)
        if shape is not None:
            say_if_batches_may_not_fit(config, shape, prepared.longest)
        trainer = new_trainer(config, loaded, tokenizer, prepared.rows, work, seed)
        proof = masking_proof(trainer, prepared.rows, tokenizer, config.train_on)
        write_json(out / "masking.json", proof)
        write_json(out / "mix.json", prepared.mix)
        write_json(out / "tokens.json", {"end_of_turn": tokenizer.eos_token_id, "samples": prepared.samples})
        details = run(trainer, job, config, work, out, stop, proof["trained_token_share"])
    save(trainer, tokenizer, config, out, work)
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
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "dtype": str(loaded.dtype).removeprefix("torch."),
            **details,
        },
    }


def unsloth_comes_first(config: TrainConfig) -> bool:
    """Whether Unsloth is tried: it must be imported before transformers, so torch alone is asked for the device."""
    from tasks.train.backends import current_device

    return first_backend(config, current_device()) == "unsloth"


def run(
    trainer: Any,
    job: dict[str, Any],
    config: TrainConfig,
    work: Path,
    out: Path,
    stop: StopRequest,
    trained_token_share: float,
) -> dict[str, Any]:
    """Train to the end, from the newest intact checkpoint if there is one.

    Raises:
        ChildError: the process was asked to stop; the checkpoint it wrote is gone on from.
        TrainingError: the loss says that going on is of no use.
    """
    import torch
    from accelerate import PartialState
    from transformers import set_seed

    from tasks.train.curves import draw_loss_curve
    from tasks.train.speed import TokenCounter
    from tasks.train.tracking import MlflowRun, Recorder, UntrackedRun, write_loss_curve

    optimizer = str(getattr(trainer.args.optim, "value", trainer.args.optim))
    if config.optimizer not in ("auto", optimizer):
        emit(note=f"the backend takes the optimizer {optimizer} in place of {config.optimizer}")
    with PartialState().main_process_first():
        checkpoint = newest_intact(work, say=lambda text: emit(note=text))
    if checkpoint is not None:
        emit(note=f"resuming from step {step_of(checkpoint)}", resumed_from=step_of(checkpoint))
    tracked = UntrackedRun() if rank() else MlflowRun(**job["mlflow"], id_file=work / "mlflow_run_id")
    tracked.log_parameters({"model": job["model"]["path"], "seed": job["seed"], **config.model_dump(mode="json")})
    parameters, counter = count_parameters(trainer.model)[1], TokenCounter(trainer.model)
    goes_on = job.get("initial") is not None
    padded_before = getattr(trainer.data_collator, "padding", 0)

    def tokens() -> int:
        return counter.total - (getattr(trainer.data_collator, "padding", 0) - padded_before)

    recorder = Recorder(tracked, tokens, lambda: stop.requested, goes_on)
    trainer.add_callback(recorder)
    # Whatever was drawn while loading, a resumed and an undisturbed run begin alike.
    set_seed(int(job["seed"]))
    status = "FAILED"
    started = time.monotonic()
    try:
        if checkpoint is not None and has_ended(checkpoint):
            emit(note="the training had ended: its last checkpoint is taken")
            take_checkpoint(trainer, checkpoint)
        else:
            with stop.at_next_step():
                trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if stop.requested and trainer.state.global_step < trainer.state.max_steps:
            status = "KILLED"
            raise ChildError(
                f"The training was asked to stop and did so after step {trainer.state.global_step}",
                where=str(work),
                remedy="run again: it goes on from there",
            )
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        cost = recorder.finish(
            trainer.state.global_step,
            parameters,
            device,
            config.training_method.trains_all_weights,
            trained_token_share,
        )
        status = "FINISHED"
    finally:
        tracked.end(status)
    losses = write_loss_curve(out / "loss.csv", trainer.state.log_history)
    draw_loss_curve(trainer.state.log_history, out / "report" / "loss.png")
    resumed = step_of(checkpoint) if checkpoint else None
    return {
        "steps": trainer.state.global_step,
        "final_loss": losses[-1],
        "optimizer": optimizer,
        "packing": bool(trainer.args.packing),
        "batch_size": config.batch_size,
        "accumulation_steps": config.accumulation_steps,
        "resumed_from": resumed,
        **asdict(cost),
        "seconds": round(time.monotonic() - started, 3),
        "mlflow_run_id": tracked.id,
    }


def has_ended(checkpoint: Path) -> bool:
    """Whether a checkpoint is that of the last step: transformers would train one more from it."""
    state = json.loads((checkpoint / TRAINER_STATE).read_text(encoding="utf-8"))
    return bool(state["global_step"] >= state["max_steps"])


def take_checkpoint(trainer: Any, checkpoint: Path) -> None:
    """Give the trainer the weights and the log of a checkpoint, and train nothing."""
    from transformers import TrainerState

    trainer._load_from_checkpoint(str(checkpoint))
    trainer.state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE))


def save(trainer: Any, tokenizer: Any, config: TrainConfig, out: Path, work: Path) -> None:
    """Write what was trained, and the tokenizer with its chat template; every weight must be a finite number."""
    import torch

    from tasks.train.adapters import save_adapter

    model = trainer.model
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not torch.isfinite(parameter).all():
            raise TrainingError(
                "The trained model has weights that are no numbers",
                where=name,
                remedy="lower train.learning_rate, or try compute_dtype: float32",
            )
    folder = out / (MODEL if config.training_method.trains_all_weights else ADAPTER)
    shutil.rmtree(folder, ignore_errors=True)
    if config.training_method.trains_all_weights:
        model.config.use_cache = True
        model.save_pretrained(folder)
    else:
        shards = trainer.accelerator.get_state_dict(trainer.model_wrapped) if config.sharding == "fsdp" else None
        save_adapter(model, config, folder, work, shards)
    tokenizer.save_pretrained(folder)


def count_parameters(model: Any) -> tuple[int, int]:
    """Trained parameters and all of them, quantised ones counted as what they stand for."""
    if hasattr(model, "get_nb_trainable_parameters"):
        trainable, total = model.get_nb_trainable_parameters()
        return int(trainable), int(total)
    total = sum(parameter.numel() for parameter in model.parameters())
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad), total


@contextmanager
def memory_shortage_named() -> Iterator[None]:
    """Turn the libraries' many out-of-memory errors into one typed error."""
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        text = str(error)
        if not is_out_of_memory(error):
            raise
        raise MemoryShortage(
            f"Out of memory while training: {text.splitlines()[0] if text else type(error).__name__}",
            remedy="lower train.batch_size or train.max_length, or use_gradient_checkpointing: true",
        ) from error


if __name__ == "__main__":
    worker_main(lambda job: train(job, StopRequest.on_sigterm()))
