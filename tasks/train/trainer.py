"""TRL's SFTTrainer over tokenised rows, configured by a recipe."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import pad

from tasks.train.backends import Trainable, current_device
from tasks.train.checkpoints import kept
from tasks.train.config import TrainConfig
from tasks.train.masking import IGNORED
from tasks.train.validation_loss import in_whole_batches, with_validation

ON_CPU = "adamw_torch_fused"
ON_GPU = "adamw_8bit"


def new_trainer(
    config: TrainConfig,
    loaded: Trainable,
    tokenizer: Any,
    rows: Any,
    work: Path,
    seed: int,
    validation: Any = None,
) -> Any:
    """A trainer for rows (a ``datasets.Dataset``) with ``input_ids`` and ``labels``; checkpoints go to ``work``.

    Rows of ``validation`` are evaluated before the first step, at every checkpoint and after the last step.
    """
    from trl import SFTConfig, SFTTrainer

    on_cpu = current_device() == "cpu"
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
        optim=(ON_CPU if on_cpu else ON_GPU) if config.optimizer == "auto" else config.optimizer,
        neftune_noise_alpha=config.neftune_alpha,
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
        save_total_limit=kept(config),
        **({} if validation is None else evaluated(config)),
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=not on_cpu,
    )
    with kept_in_float32(loaded.model):
        trainer = with_validation(SFTTrainer)(
            model=loaded.model,
            processing_class=tokenizer,
            train_dataset=rows,
            eval_dataset=validation,
            args=arguments,
        )
    if validation is not None:
        trainer.eval_dataset = in_whole_batches(trainer.eval_dataset, config.batch_size * config.processes)
    if trainer.args.packing and on_cpu:
        trainer.data_collator = PackedSequences(trainer.data_collator, tokenizer.pad_token_id)
    if config.sharding == "fsdp":
        from peft.utils.other import fsdp_auto_wrap_policy

        trainer.accelerator.state.fsdp_plugin.auto_wrap_policy = fsdp_auto_wrap_policy(trainer.model)
    if config.lora_plus_ratio is not None:
        trainer.optimizer = lora_plus_optimizer(trainer, config.lora_plus_ratio)
    return trainer


def evaluated(config: TrainConfig) -> dict[str, Any]:
    """Settings of transformers: evaluate before the first step and at each checkpoint, and keep the best checkpoint."""
    return {
        "eval_strategy": "steps",
        "eval_steps": config.save_steps,
        "eval_on_start": True,
        "per_device_eval_batch_size": config.batch_size,
        "metric_for_best_model": "loss",
        "greater_is_better": False,
    }


class PackedSequences:
    """Collates packed sequences as the rows of a batch, (sequences, tokens), padded to the longest.

    TRL concatenates them for kernels that take rows of any length. A CPU has none, and the attention mask over the
    concatenation would cost (sequences x tokens) squared instead of sequences x tokens squared. Padding continues the
    positions of the last row, so that it does not begin a new one; ``padding`` counts its tokens so far.
    """

    def __init__(self, collate: Callable[[Any], Any], pad_token_id: int) -> None:
        self._collate, self._pad_token_id = collate, pad_token_id
        self.padding = 0

    def __call__(self, sequences: Sequence[Any]) -> dict[str, Any]:
        parts = [self._collate([sequence]) for sequence in sequences]
        lengths = [part["input_ids"].shape[1] for part in parts]
        missing = [max(lengths) - length for length in lengths]
        self.padding += sum(missing)

        def filled(name: str, value: int) -> Any:
            return torch.cat(
                [pad(part[name], (0, count), value=value) for part, count in zip(parts, missing, strict=True)]
            )

        positions = filled("position_ids", 0)
        for sequence, (length, count) in enumerate(zip(lengths, missing, strict=True)):
            positions[sequence, length:] = positions[sequence, length - 1] + torch.arange(1, count + 1)
        labels = filled("labels", IGNORED)
        return {"input_ids": filled("input_ids", self._pad_token_id), "labels": labels, "position_ids": positions}


@contextlib.contextmanager
def kept_in_float32(model: Any) -> Iterator[None]:
    """Undo TRL's cast of a QLoRA adapter to bfloat16.

    bfloat16 cannot represent the small updates of late training, and PEFT restores a checkpoint's adapter in float32:
    a resumed run would differ. Unsloth trains in float32 on a GPU as well.
    """
    before = [(parameter, parameter.data) for parameter in model.parameters() if parameter.requires_grad]
    yield
    for parameter, data in before:
        parameter.data = data.to(parameter.device).float()


def lora_plus_optimizer(trainer: Any, ratio: float) -> Any:
    """The trainer's optimizer with a learning rate for B that is ``ratio`` times that for A (Hayou et al. 2024)."""
    from peft.optimizers import create_loraplus_optimizer
    from transformers import Trainer

    kind, settings = Trainer.get_optimizer_cls_and_kwargs(trainer.args, trainer.model)
    decay = trainer.args.weight_decay
    return create_loraplus_optimizer(
        trainer.model, kind, loraplus_lr_ratio=ratio, loraplus_weight_decay=decay, **settings
    )
