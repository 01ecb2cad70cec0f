"""All that a training imports, loaded once by the server of ``forked``, whose children inherit it."""

from __future__ import annotations

import gc

import bitsandbytes  # noqa: F401
import datasets  # noqa: F401
import matplotlib.pyplot  # noqa: F401
import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
import torch  # noqa: F401
import transformers.models.qwen2.modeling_qwen2  # noqa: F401
import trl.trainer.sft_trainer  # noqa: F401
from sqlalchemy.orm import configure_mappers

import tasks.train.loss_curve
import tasks.train.tracking
import tasks.train.trainer
import tasks.train.worker  # noqa: F401

configure_mappers()
gc.freeze()  # a collection of garbage in a child then looks at the child's own objects only
