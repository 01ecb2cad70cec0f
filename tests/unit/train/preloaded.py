"""All that a training imports, loaded once by the server of ``forked``, whose children inherit it."""

from __future__ import annotations

import gc
from importlib import import_module

from sqlalchemy.orm import configure_mappers

MODULES = (
    "bitsandbytes",
    "datasets",
    "matplotlib.pyplot",
    "mlflow.store.tracking.sqlalchemy_store",
    "transformers.models.qwen2.modeling_qwen2",
    "trl.trainer.sft_trainer",
    "tasks.train.loss_curve",
    "tasks.train.tracking",
    "tasks.train.trainer",
    "tasks.train.worker",
)

for name in MODULES:
    import_module(name)
configure_mappers()
gc.freeze()  # a collection of garbage in a child then looks at the child's own objects only
