"""Which documents of a training set measure the loss and are not trained on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks.core.errors import TrainingError
from tasks.train.config import TrainConfig
from tasks.train.mixing import REPLAY, groups_of, hashes, takes_part

MINIMUM_ROWS = 10
"""The mean of fewer rows moves more with the rows that were drawn than with what was learned."""


def validation_split(frame: pd.DataFrame, config: TrainConfig, seed: int) -> npt.NDArray[np.bool_]:
    """Whether a row of the training set belongs to the validation split.

    A hash of the document's id and the seed decides, so all rows of a document, generated ones too, are on one side,
    and new documents move no other. A row without a document counts as its own. Replay rows, and rows that the mix does
    not use, measure something else than what is learned: they are never in the split.
    """
    hashed = hashes(documents_of(frame), f"{seed}:validation").astype(np.float64) / 2**64
    is_replay = (groups_of(frame, config.mix.replay) == REPLAY).to_numpy(dtype=np.bool_)
    return (hashed < config.validation_fraction) & ~is_replay & takes_part(frame, config.mix)


def documents_of(frame: pd.DataFrame) -> pd.Series:
    return frame["document_id"].fillna("").mask(lambda ids: ids == "", frame["example_id"])


def require_enough(usable: int, split: pd.DataFrame, rows: int, fraction: float) -> None:
    """Raise a TrainingError if the split has too few rows that can be used, or nothing is left to train on.

    Args:
        usable: rows of the split that fit and that the template accepts.
        split: all of its rows.
        rows: of the training set.
    """
    documents = documents_of(split).nunique()
    has = f"train.validation_fraction {fraction:g} sets {len(split)} of {rows} rows aside ({documents} documents)"
    if len(split) == rows:
        raise TrainingError(f"{has}, and none are left to train on", remedy="lower it, or add documents")
    if usable < MINIMUM_ROWS:
        used = f", {usable} of which can be used" if usable < len(split) else ""
        raise TrainingError(
            f"{has}{used}, and a validation loss needs at least {MINIMUM_ROWS}",
            where="train.validation_fraction",
            remedy="raise it, add documents, or remove it with train.early_stopping and train.keep",
        )
