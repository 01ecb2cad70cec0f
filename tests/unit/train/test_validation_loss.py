"""What the evaluations of a training say, and that they measure the mean over all trained tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.core.artifacts import ArtifactRef
from tasks.train.config import EarlyStopping
from tasks.train.masking import IGNORED
from tasks.train.validation_loss import best_step, evaluations, has_stopped_falling, in_whole_batches
from tests.unit.train.trial import new_trial


def history(*losses: float) -> list[dict[str, Any]]:
    return [
        entry
        for step, loss in enumerate(losses)
        for entry in ({"step": step, "loss": 1.0}, {"step": step, "eval_loss": loss})
    ]


@pytest.mark.parametrize(
    ("losses", "patience", "least", "stops"),
    [
        ((), 1, 0.0, False),
        ((2.0,), 1, 0.0, False),
        ((2.0, 1.9, 1.8), 1, 0.0, False),
        ((2.0, 1.9, 1.9), 1, 0.0, True),
        ((2.0, 2.1), 1, 0.0, True),
        ((2.0, 1.0, 1.1, 1.2), 3, 0.0, False),
        ((2.0, 1.0, 1.1, 1.2, 1.3), 3, 0.0, True),
        ((2.0, 1.0, 1.1, 0.9, 1.2), 2, 0.0, False),
        ((2.0, 1.95, 1.91), 2, 0.1, True),
        # Slow progress counts from the last step that improved.
        ((2.0, 1.95, 1.89, 1.85, 1.78), 2, 0.1, False),
    ],
)
def test_a_training_stops_after_so_many_evaluations_without_improvement(
    losses: tuple[float, ...], patience: int, least: float, stops: bool
) -> None:
    settings = EarlyStopping(patience=patience, min_improvement=least)
    assert has_stopped_falling(history(*losses), settings) is stops
    assert not has_stopped_falling(history(*losses), None)


def test_the_best_step_is_the_first_of_the_lowest_and_never_that_before_training() -> None:
    assert best_step(history(1.0, 3.0, 2.0, 2.0)) == 2
    assert evaluations(history(1.0, 3.0)) == [(0, 1.0), (1, 3.0)]


def test_rows_are_filled_up_by_rows_without_a_trained_token() -> None:
    from datasets import Dataset

    rows = Dataset.from_dict({"input_ids": [[1, 2], [3, 4, 5], [6]], "labels": [[1, 2], [IGNORED, 4, 5], [6]]})
    filled = in_whole_batches(rows, 4)
    assert filled[3] == {"input_ids": [1, 2], "labels": [IGNORED, IGNORED]}
    assert filled.select(range(3))[:] == rows[:]
    assert in_whole_batches(rows, 3) is rows


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"accumulation_steps": 2},
        {"packing": True, "batch_size": 2, "max_length": 128},
        {"method": "prompt_tuning", "train_on": "completion"},
        {"method": "full", "batch_size": 3},
    ],
    ids=["accumulated", "packed", "prompt_tuning", "full"],
)
def test_the_validation_loss_is_the_mean_over_the_trained_tokens(
    changes: dict[str, Any], tiny_model: Path, training_set: ArtifactRef, tmp_path: Path
) -> None:
    import torch

    settings: dict[str, Any] = {
        "method": "lora",
        "validation_fraction": 0.4,
        "save_steps": 4,
        "over_length": "truncate",
    }
    trial = new_trial(tiny_model, training_set, tmp_path, **{**settings, **changes})
    padding = getattr(trial.trainer.data_collator, "padding", 0)
    trial.run()
    model = trial.model.eval()
    total, tokens = 0.0, 0
    for row in trial.validation:
        ids, labels = (torch.tensor([row[name]]) for name in ("input_ids", "labels"))
        with torch.no_grad():
            loss = float(model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss)
        count = sum(label != IGNORED for label in row["labels"][1:])
        total, tokens = total + loss * count, tokens + count
    step, loss = evaluations(trial.trainer.state.log_history)[-1]
    assert step == 4 and loss == pytest.approx(total / tokens, abs=1e-5)
    assert len({len(row["input_ids"]) for row in trial.validation}) > 3, "batches of one length would not show it"
    if "packing" in changes:  # what the collator counts is the training's padding alone
        positions = sum(len(row["input_ids"]) for row in trial.trainer.train_dataset)
        assert trial.trainer.data_collator.padding - padding < positions
