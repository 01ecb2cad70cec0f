"""Write what a training made: the adapter or the model, with its tokenizer, stop tokens, and rows to compare it on."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.core.config import ModelSource
from tasks.core.errors import TrainingError
from tasks.core.merging.trained import ADAPTER, COMPARED_ROWS, COMPARED_TOKENS, MODEL
from tasks.core.reasoning import reasoning_mark, without_reasoning
from tasks.core.stops import stopping_at
from tasks.train.chat_templates import published_tokenizer
from tasks.train.config import TrainConfig
from tasks.train.masking import IGNORED

if TYPE_CHECKING:
    from tasks.train.training_rows import PreparedRows


def tokens_report(prepared: PreparedRows, tokenizer: Any) -> dict[str, Any]:
    """The tokens that end turns, conversations with their text and ids, and rows as they were trained on.

    ``thought_tokens``: the most tokens of these rows that are reasoning, which an answer needs in addition.
    """
    rows = [*islice(prepared.rows, COMPARED_ROWS)]
    learned = [[label for label in row["labels"] if label != IGNORED] for row in rows]
    thoughts = [len(ids) - answer_tokens(tokenizer, ids) for ids in learned]
    return {
        "end_of_turn": next(iter(prepared.ends), None),
        "stop_token_ids": prepared.ends,
        "thought_tokens": max(thoughts),
        "samples": prepared.samples,
        "trained_ids": [list(row["input_ids"][:COMPARED_TOKENS]) for row in rows],
    }


def answer_tokens(tokenizer: Any, learned: Sequence[int]) -> int:
    """How many of a row's learned tokens are its answer; all, if it has no reasoning."""
    text = tokenizer.decode(learned)
    if reasoning_mark(text) is None:
        return len(learned)
    return len(tokenizer(without_reasoning(text) or "", add_special_tokens=False)["input_ids"])


def save(trainer: Any, source: ModelSource, config: TrainConfig, out: Path, work: Path, ends: Sequence[int]) -> None:
    """Write the adapter or model with its stop tokens, and the base's tokenizer with the template of the training.

    Every weight must be finite.
    """
    import torch

    from tasks.train.adapters import save_adapter

    model, trains_all = trainer.model, config.training_method.trains_all_weights
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not torch.isfinite(parameter).all():
            remedy = "lower train.learning_rate, or try compute_dtype: float32"
            raise TrainingError("The trained model has weights that are not finite", where=name, remedy=remedy)
    folder = out / (MODEL if trains_all else ADAPTER)
    shutil.rmtree(folder, ignore_errors=True)
    generation = stopping_at(model.generation_config, ends)
    if trains_all:
        model.config.use_cache = True
        model.generation_config = generation
        model.save_pretrained(folder)
    else:
        shards = trainer.accelerator.get_state_dict(trainer.model_wrapped) if config.sharding == "fsdp" else None
        save_adapter(model, config, folder, work, shards)
    generation.save_pretrained(folder)
    published_tokenizer(source, config.chat_template, ends).save_pretrained(folder)
