"""The training process: ``python -m tasks.train.worker job.json``.

It runs in its own process so that all memory is given back when it ends, and in its own folder so that whatever the
libraries leave in the current one (compiled kernels, caches) goes with the job's work.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks.core.base_model import quantised_layers
from tasks.core.config import ModelSource
from tasks.core.errors import MemoryShortage, TrainingError
from tasks.core.files import write_json
from tasks.core.messages import for_template, plain
from tasks.core.processes import emit, worker_main
from tasks.train.chat_templates import CHOICES, with_chat_template
from tasks.train.checkpoints import KEPT, newest_intact, step_of
from tasks.train.config import TrainConfig
from tasks.train.masking import TokenisedRow, masking_proof, row_tokeniser

QUARANTINE = ("row_id", "rule", "value", "raw", "prompt", "document_id")


def train(job: dict[str, Any]) -> dict[str, Any]:
    """Train an adapter.

    Args:
        job: ``config``, ``model``, ``seed``, ``training_set`` (a Parquet file), ``out`` (where adapter, loss curve,
            masking proof and quarantine go), ``work`` (checkpoints and caches), ``mlflow`` (uri, experiment, name).

    Returns:
        row counts, and the details of the stage's summary.
    """
    config, source = TrainConfig.model_validate(job["config"]), ModelSource.model_validate(job["model"])
    out, work, seed = Path(job["out"]), Path(job["work"]), int(job["seed"])
    os.chdir(work)
    if config.backend == "unsloth":
        import unsloth  # noqa: F401  it patches transformers and trl, so it comes before them
    import torch
    from transformers import set_seed

    from tasks.train.backends import load_trainable

    torch.set_num_threads(os.cpu_count() or 1)
    set_seed(seed)
    with memory_shortage_named():
        emit(note="loading the model")
        loaded = load_trainable(config, source, seed)
        tokenizer = with_chat_template(loaded.tokenizer, config.chat_template)
        rows, counts = prepare_rows(Path(job["training_set"]), tokenizer, config.max_length, out, work)
        trainer = new_trainer(config, loaded, tokenizer, rows, work, seed)
        proof = masking_proof(trainer, rows, tokenizer)
        write_json(out / "masking.json", proof)
        details = run(trainer, job, config, work, out, seed)
    save_adapter(trainer.model, tokenizer, out / "adapter")
    trainable, total = trainer.model.get_nb_trainable_parameters()
    return {
        **counts,
        "details": {
            "backend": config.backend,
            "method": config.method,
            "quantised_layers": quantised_layers(trainer.model),
            "trainable_parameters": trainable,
            "total_parameters": total,
            "trained_token_share": proof["trained_token_share"],
            "tokens": sum(len(row["input_ids"]) for row in rows),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "dtype": str(loaded.dtype).removeprefix("torch."),
            **details,
        },
    }


def prepare_rows(
    training_set: Path, tokenizer: Any, max_length: int, out: Path, work: Path
) -> tuple[Any, dict[str, int]]:
    """Tokenise the training set; rows that cannot be trained on go to ``quarantine.parquet``.

    Returns:
        a ``datasets.Dataset`` with ``input_ids`` and ``labels``, and ``rows_in``, ``accepted``, ``quarantined``.

    Raises:
        TrainingError: no row is left.
    """
    import pandas as pd
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    frame = pd.read_parquet(training_set, columns=["example_id", "messages", "tools", "prompt", "document_id"])
    tokenise = row_tokeniser(tokenizer, max_length)
    tokenised = [
        tokenise(for_template(messages), json.loads(tools) if tools else None)
        for messages, tools in zip(frame["messages"], frame["tools"], strict=True)
    ]
    refused = [
        {
            "row_id": row["example_id"],
            "rule": done.problem,
            "value": done.detail,
            "raw": json.dumps(plain(row["messages"]), ensure_ascii=False),
            "prompt": row["prompt"],
            "document_id": row["document_id"],
        }
        for row, done in zip(frame.to_dict("records"), tokenised, strict=True)
        if done.problem
    ]
    pd.DataFrame(refused, columns=list(QUARANTINE)).astype("string").to_parquet(out / "quarantine.parquet", index=False)
    kept = [{"input_ids": done.input_ids, "labels": done.labels} for done in tokenised if not done.problem]
    if not kept:
        raise _nothing_left(tokenised, max_length, str(training_set))
    return Dataset.from_list(kept), {"rows_in": len(frame), "accepted": len(kept), "quarantined": len(refused)}


def _nothing_left(tokenised: Sequence[TokenisedRow], max_length: int, where: str) -> TrainingError:
    """Names the problem that most rows have; a template's own words are shown once."""
    (problem, count), *_ = Counter(row.problem for row in tokenised).most_common(1) or [("no rows", 0)]
    shown = next((f": {row.detail}" for row in tokenised if row.problem == "template_refuses" == problem), "")
    return TrainingError(
        f"None of the {len(tokenised)} training rows can be used, most often for {problem} ({count} rows{shown})",
        where=where,
        remedy=f"raise train.max_length (now {max_length} tokens)"
        if problem == "too_long"
        else f"set train.chat_template: {CHOICES}; or change the conversations to what the template supports",
    )


def new_trainer(config: TrainConfig, loaded: Any, tokenizer: Any, rows: Any, work: Path, seed: int) -> Any:
    """TRL's SFTTrainer over pre-tokenised rows, whose ``labels`` it takes as they are."""
    import torch
    from trl import SFTConfig, SFTTrainer

    on_cpu = not torch.cuda.is_available()
    optimizer = "adamw_torch_fused" if on_cpu and "8bit" in config.optimizer else config.optimizer
    constant = "constant_with_warmup" if config.warmup_steps else "constant"
    arguments = SFTConfig(
        output_dir=str(work),
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accumulation_steps,
        num_train_epochs=config.epochs or 1.0,
        max_steps=config.max_steps or -1,
        learning_rate=config.learning_rate,
        lr_scheduler_type=constant if config.schedule == "constant" else config.schedule,
        warmup_steps=config.warmup_steps,
        weight_decay=config.weight_decay,
        optim=optimizer,
        max_length=config.max_length,
        packing=config.packing,
        gradient_checkpointing=loaded.checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if loaded.checkpointing else None,
        bf16=loaded.dtype == torch.bfloat16,
        fp16=False,
        use_cpu=on_cpu,
        seed=seed,
        data_seed=seed,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=config.save_steps,
        save_total_limit=KEPT,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=not on_cpu,
    )
    trainer = SFTTrainer(model=loaded.model, processing_class=tokenizer, train_dataset=rows, args=arguments)
    keep_adapter_in_float32(trainer.model)
    return trainer


def keep_adapter_in_float32(model: Any) -> None:
    """Undo TRL's cast of a QLoRA adapter to bfloat16.

    bfloat16 cannot hold the small updates of late training, and PEFT restores a checkpoint's adapter in float32, so
    that a resumed run would be another than an undisturbed one. Unsloth trains in float32 on a GPU as well.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def run(trainer: Any, job: dict[str, Any], config: TrainConfig, work: Path, out: Path, seed: int) -> dict[str, Any]:
    """Train to the end, from the newest intact checkpoint if there is one."""
    from transformers import set_seed

    from tasks.train.tracking import MlflowRun, Recorder, write_loss_curve

    tracked = MlflowRun(**job["mlflow"], id_file=work / "mlflow_run_id")
    tracked.log_parameters({"model": job["model"]["path"], "seed": seed, **config.model_dump(mode="json")})
    trainer.add_callback(Recorder(tracked))
    checkpoint = newest_intact(work)
    if checkpoint is not None:
        emit(note=f"resuming from step {step_of(checkpoint)}", resumed_from=step_of(checkpoint))
    # Whatever was drawn while loading, a resumed and an undisturbed run begin alike.
    set_seed(seed)
    status = "FAILED"
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        status = "FINISHED"
    finally:
        tracked.end(status)
    losses = write_loss_curve(out / "loss.csv", trainer.state.log_history)
    return {
        "steps": trainer.state.global_step,
        "final_loss": losses[-1],
        "optimizer": str(getattr(trainer.args.optim, "value", trainer.args.optim)),
        "packing": bool(trainer.args.packing),
        "batch_size": config.batch_size,
        "accumulation_steps": config.accumulation_steps,
        "resumed_from": step_of(checkpoint) if checkpoint else None,
        "mlflow_run_id": tracked.id,
    }


def save_adapter(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write adapter and tokenizer with its chat template; every weight must be a finite number."""
    import torch

    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not torch.isfinite(parameter).all():
            raise TrainingError("The trained adapter has weights that are no numbers", where=name)
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty model card; publish writes a real one


@contextmanager
def memory_shortage_named() -> Iterator[None]:
    """Turn the libraries' many out-of-memory errors into one typed error."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        text = str(error)
        short = isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text
        if not short:
            raise
        raise MemoryShortage(
            f"Out of memory while training: {text.splitlines()[0] if text else type(error).__name__}",
            remedy="lower train.batch_size or train.max_length, or use_gradient_checkpointing: true",
        ) from error


if __name__ == "__main__":
    worker_main(train)
