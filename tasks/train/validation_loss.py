"""The loss of the validation split: measured per trained token, and when it says to stop and which step to keep.

The trainer's log has every evaluation, and a checkpoint has the log: a resumed run stops and keeps what an undisturbed
one does, without further state. transformers keeps the checkpoint of the lowest loss (``metric_for_best_model``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tasks.core.processes import emit
from tasks.train.checkpoints import checkpoint_of, damage
from tasks.train.config import EarlyStopping, TrainConfig
from tasks.train.masking import IGNORED

LOSS = "eval_loss"
History = Iterable[Mapping[str, Any]]


def evaluations(history: History) -> list[tuple[int, float]]:
    """Step and validation loss (nats per trained token) of each evaluation in a trainer's log; 0: before training."""
    return [(int(entry["step"]), float(entry[LOSS])) for entry in history if LOSS in entry]


def best_step(history: History) -> int:
    """The step after which the validation loss was lowest, the first of equals, as transformers counts."""
    return min((pair for pair in evaluations(history) if pair[0] > 0), key=lambda pair: pair[1])[0]


def has_stopped_falling(history: History, settings: EarlyStopping | None) -> bool:
    """Whether so many evaluations in a row brought no improvement over the best before them, with that of step 0."""
    if settings is None:
        return False
    best, waited = math.inf, 0
    for _, loss in evaluations(history):
        is_better = loss < best - settings.min_improvement
        best, waited = (loss, 0) if is_better else (best, waited + 1)
    return waited >= settings.patience


def keep_step(trainer: Any, config: TrainConfig, work: Path) -> dict[str, Any]:
    """Load the weights of the step to keep into a trained model, and report the losses that decided.

    If the checkpoint of the lowest loss is damaged, the model stays as the last step left it.

    Returns:
        the details of the validation without its split; empty without evaluations.
    """
    found = dict(evaluations(trainer.state.log_history))
    if not found:
        return {}
    best, last, fault = best_step(trainer.state.log_history), trainer.state.global_step, ""
    kept = best if config.keep == "best" else last
    if kept != last:
        checkpoint = checkpoint_of(work, best)
        if fault := damage(checkpoint) or "":
            emit(note=f"the checkpoint of step {best}, which had the lowest validation loss, {fault}")
            kept = last
        else:
            trainer._load_from_checkpoint(str(checkpoint))
    return {
        "losses": {"before": found[0], "lowest": found[best], "final": found[max(found)]},
        "lowest_step": best,
        "planned_steps": trainer.state.max_steps,
        "kept_step": kept,
        "fault": fault,
    }


def with_validation(trainer_class: type[Any]) -> type[Any]:
    """A Trainer class whose validation loss is the mean over all trained tokens.

    transformers averages the means of batches, in which a token of a short batch weighs more than one of a long batch.
    """
    import torch

    class ValidatingTrainer(trainer_class):  # type: ignore[misc]
        def evaluation_loop(self, *args: Any, **options: Any) -> Any:
            self._sums = torch.zeros(2, dtype=torch.float64)
            padding = getattr(self.data_collator, "padding", None)
            output = super().evaluation_loop(*args, **options)
            if padding is not None:
                self.data_collator.padding = padding  # it counts that of the training
            loss, tokens = self.accelerator.reduce(self._sums.to(self.args.device)).tolist()
            output.metrics[LOSS] = loss / tokens
            return output

        def prediction_step(self, model: Any, inputs: Any, *args: Any, **options: Any) -> Any:
            tokens = (inputs["labels"][..., 1:] != IGNORED).sum().to(self.args.device)
            of_all = self.accelerator.reduce(tokens)
            loss, *rest = super().prediction_step(model, inputs, *args, **options)
            # Of several processes, each gets its part of the mean over all their tokens, times their number.
            self._sums += torch.stack([loss.double() * of_all, of_all.double()]).cpu() / self.args.world_size
            return (loss, *rest)

    return ValidatingTrainer


def in_whole_batches(rows: Any, count: int) -> Any:
    """Rows (a ``datasets.Dataset``) filled up to a multiple of ``count`` by rows without a trained token.

    Several processes get equally many batches; accelerate would fill up with rows that then count twice.
    """
    from datasets import concatenate_datasets

    missing = -len(rows) % count
    if not missing:
        return rows
    empty = rows.select([0] * missing).map(lambda row: {"labels": [IGNORED] * len(row["labels"])})
    return concatenate_datasets([rows, empty.cast(rows.features)])
